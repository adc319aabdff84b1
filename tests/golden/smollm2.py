"""Greedy continuations of SmolLM2-135M-Instruct by Hugging Face transformers, for tests/smollm2.rs. Prints JSON.

The weights are those of the GGUF file, dequantized to f32; prompts are rendered with the chat template in the file.
Run with transformers 5.23: python tests/golden/smollm2.py MODEL.gguf > tests/golden/smollm2.json
"""
import json
import pathlib
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = ["What is the capital of France?", "Write two sentences about the sea.", "Count from one to ten in words."]
MOST = 48

path = pathlib.Path(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()
end = tokenizer.eos_token_id

cases = []
for prompt in PROMPTS:
    messages = [dict(role="user", content=prompt)]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)["input_ids"]
    start, tokens, margins = ids.shape[1], [], []
    with torch.no_grad():
        cache = None
        step = ids
        while len(tokens) < MOST and end not in tokens:
            out = model(step, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            best = out.logits[0, -1].topk(2)
            tokens.append(int(best.indices[0]))
            margins.append(round(float(best.values[0] - best.values[1]), 5))
            step = best.indices[:1][None]
    cases.append(dict(prompt=prompt, prompt_ids=ids[0].tolist(), tokens=tokens, margins=margins,
                      text=tokenizer.decode(tokens, skip_special_tokens=True)))

made_with = dict(transformers=transformers.__version__, torch=torch.__version__)
json.dump(dict(file=path.name, made_with=made_with, end=end, cases=cases), sys.stdout)
