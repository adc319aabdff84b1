"""Rockchip: rknn-toolkit2 compiles the model and simulates the chip."""

from importlib.metadata import version

from job import JOB, answer, arrays, run, written


def main():
    from rknn.api import RKNN

    def well(step, code):
        if code != 0:
            answer(fault=f"{step} ended with {code}")

    rknn = RKNN()
    # Nothing is quantized: the chip computes in f16.
    well("config", rknn.config(target_platform=JOB["target"].lower()) or 0)
    well("load_onnx", rknn.load_onnx(model=JOB["model"]))
    well("build", rknn.build(do_quantization=False))
    well("export_rknn", rknn.export_rknn(JOB["out"]))
    well("init_runtime", rknn.init_runtime(target=None))
    values = list(arrays().values())
    # As the model has them: the simulator would turn inputs of four dimensions.
    outputs = rknn.inference(inputs=values, data_format=["nchw"] * len(values))
    if outputs is None:
        answer(fault="the simulator gave nothing")
    answer(tool=f"rknn-toolkit2 {version('rknn-toolkit2')}", outputs=written(outputs))


run(main)
