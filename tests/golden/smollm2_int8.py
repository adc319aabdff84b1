"""Greedy continuations of SmolLM2-135M-Instruct by llama.cpp, which rounds what quantized weights multiply to int8, for
tests/smollm2.rs. Prints JSON.

The prompts' tokens are those of tests/golden/smollm2.json.
Run with llama-cpp-python 0.3.36: python tests/golden/smollm2_int8.py MODEL.gguf > tests/golden/smollm2_int8.json
"""
import json
import pathlib
import sys

import llama_cpp
import numpy as np

MOST = 32

path = pathlib.Path(sys.argv[1])
exact = json.loads((pathlib.Path(__file__).parent / "smollm2.json").read_text())
model = llama_cpp.Llama(str(path), n_ctx=512, n_threads=2, logits_all=False, verbose=False)

cases = []
for case in exact["cases"]:
    model.reset()
    step, tokens, margins = case["prompt_ids"], [], []
    while len(tokens) < MOST and exact["end"] not in tokens:
        model.eval(step)
        logits = np.ctypeslib.as_array(model._ctx.get_logits(), shape=(model.n_vocab(),))
        second, best = np.argsort(logits)[-2:]
        tokens.append(int(best))
        margins.append(round(float(logits[best] - logits[second]), 5))
        step = tokens[-1:]
    cases.append(dict(prompt=case["prompt"], tokens=tokens, margins=margins,
                      text=model.detokenize(tokens).decode("utf-8", "ignore")))

json.dump(dict(file=path.name, made_with=dict(llama_cpp_python=llama_cpp.__version__), cases=cases), sys.stdout)
