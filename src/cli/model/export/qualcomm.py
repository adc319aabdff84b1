"""Qualcomm: ONNX Runtime's plug-in for QNN compiles the model for Hexagon, and its emulator runs it."""

import os
from importlib.metadata import version

from job import JOB, answer, arrays, run, written


def main():
    import onnxruntime
    import onnxruntime_qnn

    soc, arch = JOB["options"]["soc_model"], JOB["options"]["htp_arch"]
    onnxruntime.register_execution_provider_library("qnn", onnxruntime_qnn.get_library_path())
    devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name != "CPUExecutionProvider"]
    backend = {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "htp_arch": arch, "soc_model": soc}

    def session(model, entries):
        options = onnxruntime.SessionOptions()
        # What the chip does not take is an error, and nothing goes elsewhere in silence.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        for key, value in entries.items():
            options.add_session_config_entry(key, value)
        options.add_provider_for_devices(devices[:1], backend)
        return onnxruntime.InferenceSession(model, sess_options=options)

    if os.path.exists(JOB["out"]):
        os.remove(JOB["out"])
    context = {"ep.context_enable": "1", "ep.context_embed_mode": "1", "ep.context_file_path": JOB["out"]}
    session(JOB["model"], context)
    if not os.path.exists(JOB["out"]):
        answer(fault="the compiler wrote nothing")
    compiled = session(JOB["out"], {})
    model = onnxruntime.InferenceSession(JOB["model"], providers=["CPUExecutionProvider"])
    values = dict(zip((i.name for i in model.get_inputs()), arrays().values()))
    # What the compiler found to be unused is not asked for.
    given = {i.name: values[i.name] for i in compiled.get_inputs()}
    made = compiled.run([o.name for o in model.get_outputs()], given)
    tool = f"onnxruntime-qnn {version('onnxruntime-qnn')} in onnxruntime {version('onnxruntime')}"
    answer(tool=tool, outputs=written(made))


run(main)
