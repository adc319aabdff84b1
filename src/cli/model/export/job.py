"""What a script for a vendor's compiler is given, and what it answers.

The one argument names a JSON file: `model` is the ONNX file, `out` the file to write, `target` the chip, `work` a folder
for what comes in between, `answer` the file of the answer, and `inputs` a list of `name`, `dtype`, `shape` and the `file`
with the values. The answer names the `tool`, and for each output the file of its values as f32, in the model's order;
or what is `missing`; or the `fault`.
"""

import json
import os
import sys
import traceback

with open(sys.argv[1], encoding="utf-8") as file:
    JOB = json.load(file)


def answer(**what):
    """Write the answer and end."""
    with open(JOB["answer"], "w", encoding="utf-8") as file:
        json.dump(what, file)
    sys.stdout.flush()
    # Some tools crash when they are taken down.
    os._exit(0)


def arrays():
    """The inputs by name, in order."""
    import numpy

    kinds = {"f32": "<f4", "f16": "<f2", "i32": "<i4", "u32": "<u4", "u8": "u1", "bool": "?"}
    values = {}
    for given in JOB["inputs"]:
        if given["dtype"] not in kinds:
            answer(fault=f"input '{given['name']}' is {given['dtype']}, which numpy has no arrays of")
        flat = numpy.fromfile(given["file"], dtype=kinds[given["dtype"]])
        values[given["name"]] = flat.reshape(given["shape"])
    return values


def written(outputs):
    """The files of arrays in the model's order of outputs."""
    import numpy

    files = []
    for i, output in enumerate(outputs):
        files.append(os.path.join(JOB["work"], f"output.{i}"))
        numpy.asarray(output).astype("<f4").tofile(files[-1])
    return files


def run(main):
    """Run a script's function: a package that is not there and any other failure is an answer."""
    try:
        main()
    except ImportError as error:
        answer(missing=str(error))
    except BaseException as error:  # tools call sys.exit
        traceback.print_exc()
        answer(fault=f"{type(error).__name__}: {error}")
