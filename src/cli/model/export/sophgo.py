"""Sophgo: TPU-MLIR compiles the model, and its model of the chip in C runs it."""

import os
import subprocess
import sys
from importlib.metadata import version

from job import JOB, answer, arrays, run, written


def main():
    import tpu_mlir  # sets the paths of what is called below
    import numpy
    import onnx

    work = JOB["work"]
    tools = os.path.join(os.environ["TPUC_ROOT"], "python", "tools")

    def call(tool, *options):
        line = [sys.executable, os.path.join(tools, tool + ".py"), *options]
        ended = subprocess.run(line, cwd=work, stdin=subprocess.DEVNULL)
        if ended.returncode != 0:
            answer(fault=f"{tool} ended with {ended.returncode}")

    graph = onnx.load(JOB["model"], load_external_data=False).graph
    shapes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input]
    given = arrays()
    inputs = os.path.join(work, "inputs.npz")
    numpy.savez(inputs, **{i.name: value for i, value in zip(graph.input, given.values())})
    mlir, results = os.path.join(work, "model.mlir"), os.path.join(work, "results.npz")
    call(
        "model_transform", "--model_name", "model", "--model_def", JOB["model"], "--mlir", mlir,
        "--input_shapes", str(shapes).replace(" ", ""),
    )
    call(
        "model_deploy", "--mlir", mlir, "--quantize", "F16", "--chip", JOB["target"].lower(),
        "--model", JOB["out"], "--skip_validation",
    )
    call("model_runner", "--input", inputs, "--model", JOB["out"], "--output", results)
    made = numpy.load(results)

    def of(i, name):
        # The tool adds an operation's name to that of an output.
        names = [n for n in made.files if n == name or n.startswith(name + "_")]
        if len(names) != 1 and len(made.files) == len(graph.output):
            names = [made.files[i]]
        if len(names) != 1:
            answer(fault=f"output '{name}' is not among {', '.join(made.files)}")
        return made[names[0]]

    outputs = [of(i, output.name) for i, output in enumerate(graph.output)]
    answer(tool=f"tpu-mlir {version('tpu_mlir')}", outputs=written(outputs))


run(main)
