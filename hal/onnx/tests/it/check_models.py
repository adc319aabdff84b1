"""Checks models with the packages onnx and onnxruntime: check_models.py FOLDER models.json

FOLDER is what the test `models` writes with PERCEPT_WRITE_MODELS: models, and index.json with inputs and the f64
reference's outputs. Every model goes through onnx.checker with full shape inference, is run, and its outputs are
compared. What came out is written to models.json, by which the test knows what was checked.
"""

import json
import sys
from pathlib import Path

import ml_dtypes
import numpy
import onnx
import onnxruntime

DTYPES = {
    "f32": numpy.float32, "f16": numpy.float16, "bf16": ml_dtypes.bfloat16, "i32": numpy.int32,
    "u32": numpy.uint32, "u8": numpy.uint8, "bool": numpy.bool_,
}
# Units in the last place of the output's dtype, at the scale of the output.
UNITS = {"f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
ALLOWED = 128


def array(tensor):
    values = numpy.array([float(v) for v in tensor["values"]], numpy.float64)
    return values.reshape(tensor["dims"])


def run(path, entry):
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    values = {}
    for given in entry["inputs"]:
        tensor = given["tensor"]
        values[given["name"]] = array(tensor).astype(DTYPES[tensor["dtype"]])
    # numpy has no bf16 of its own, so every value is given and taken by its bits.
    binding = session.io_binding()
    wanted = {i.name: i for i in session.get_inputs()}
    for name in wanted:
        value = values[name]
        if value.dtype == ml_dtypes.bfloat16:
            bits = numpy.ascontiguousarray(value).view(numpy.uint16)
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, 16))
        else:
            binding.bind_cpu_input(name, numpy.ascontiguousarray(value))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    session.run_with_iobinding(binding)
    return binding.get_outputs()


def worst(got, want):
    """The largest error in units; a text when it is not a number."""
    reference = array(want)
    if want["dtype"] == "bf16":
        got = numpy.array(got.numpy() if got.element_type() != 16 else bits_of(got)).astype(numpy.float64)
    else:
        got = got.numpy().astype(numpy.float64)
    if list(got.shape) != want["dims"]:
        return f"shape {list(got.shape)} for {want['dims']}"
    if want["dtype"] not in UNITS:
        return 0.0 if numpy.array_equal(got, reference) else f"{got.ravel()[:8]} for {reference.ravel()[:8]}"
    finite = numpy.isfinite(reference)
    if not numpy.array_equal(got[~finite], reference[~finite], equal_nan=True):
        return f"{got[~finite]} for {reference[~finite]}"
    if not finite.any():
        return 0.0
    scale = max(numpy.sqrt((reference[finite] ** 2).mean()), 2.0**-6)
    error = numpy.abs(got[finite] - reference[finite]) / numpy.maximum(numpy.abs(reference[finite]), scale)
    return float(error.max() / UNITS[want["dtype"]])


def bits_of(value):
    """The elements of a bf16 value."""
    size = int(numpy.prod(value.shape()))
    import ctypes

    bits = (ctypes.c_uint16 * size).from_address(value.data_ptr())
    return numpy.array(bits, numpy.uint16).view(ml_dtypes.bfloat16).reshape(value.shape())


def main(folder, report):
    models = {}
    for entry in json.loads((folder / "index.json").read_text()):
        found = {"sha256": entry["sha256"], "refused": entry["refused"]}
        if entry["refused"] is None:
            try:
                outputs = run(str(folder / f"{entry['id']}.onnx"), entry)
                errors = [worst(got, want) for got, want in zip(outputs, entry["outputs"], strict=True)]
                bad = {i: e for i, e in enumerate(errors) if isinstance(e, str) or e > ALLOWED}
                found["ulp"] = round(max([e for e in errors if not isinstance(e, str)], default=0.0), 3)
                if bad:
                    found["fault"] = bad
            except Exception as e:
                found["fault"] = str(e)
        models[entry["id"]] = found
    versions = {p.__name__: p.__version__ for p in (onnx, onnxruntime)}
    report.write_text(json.dumps({"checked_with": versions, "models": models}, indent=1) + "\n")
    faults = {id: m["fault"] for id, m in models.items() if "fault" in m}
    refused = sum(m["refused"] is not None for m in models.values())
    print(f"{len(models)} models, {refused} refused, {len(faults)} with faults")
    for id, fault in faults.items():
        print(id, fault)
    sys.exit(bool(faults))


main(Path(sys.argv[1]), Path(sys.argv[2]))
