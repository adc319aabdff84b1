"""Logits as transformers' own processors and warpers leave them.

    python golden.py > golden.json

Needs torch and transformers. Each case is a generation_config.json, the ids so far, the length of the prompt, and logits.
"""

import json
import math
import sys

import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

VOCAB = 20
CONFIGS = [
    {},
    {"suppress_tokens": [3, 7, 99]},
    {"begin_suppress_tokens": [1, 2, 5]},
    {"forced_bos_token_id": 4, "begin_suppress_tokens": [4, 6]},
    {"forced_eos_token_id": [2, 9], "max_length": 8},
    {"forced_eos_token_id": 2, "max_length": 9},
    {"bad_words_ids": [[3], [1, 2], [5, 6, 7], [2]]},
    {"sequence_bias": [[[3], -1.5], [[1, 2], 4.0], [[6, 2], 1.0], [[2], 0.5]]},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"no_repeat_ngram_size": 3},
    {"encoder_no_repeat_ngram_size": 2},
    {"encoder_no_repeat_ngram_size": 3},
    {"min_length": 8},
    {"min_new_tokens": 4},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6},
    {"encoder_repetition_penalty": 1.4},
    {"exponential_decay_length_penalty": [1, 1.5]},
    {"exponential_decay_length_penalty": [20, 1.5]},
    {"remove_invalid_values": True},
    {"renormalize_logits": False, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "suppress_tokens": [0], "min_length": 9},
    {"do_sample": True},
    {"do_sample": True, "temperature": 0.7, "top_k": 0},
    {"do_sample": True, "top_k": 5},
    {"do_sample": True, "top_k": 1},
    {"do_sample": True, "top_k": 0, "top_p": 0.8},
    {"do_sample": True, "top_k": 0, "top_p": 0.05},
    {"do_sample": True, "top_k": 0, "min_p": 0.2},
    {"do_sample": True, "top_k": 0, "typical_p": 0.6},
    {"do_sample": True, "top_k": 0, "typical_p": 0.2},
    {"do_sample": True, "top_k": 0, "epsilon_cutoff": 0.03},
    {"do_sample": True, "top_k": 0, "epsilon_cutoff": 0.9},
    {"do_sample": True, "top_k": 0, "eta_cutoff": 0.05},
    {"do_sample": True, "top_k": 0, "eta_cutoff": 0.6},
    {"do_sample": True, "temperature": 1.3, "top_k": 12, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.95, "epsilon_cutoff": 0.01, "eta_cutoff": 0.01, "repetition_penalty": 1.1},
]
IDS = [([1, 2, 3, 1, 2, 5, 6], 4), ([6, 5, 6, 5, 1], 5), ([8], 1)]
ENDS = [2, 11]


def main():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_embd=8, n_layer=1, n_head=1, n_positions=64))
    cases = []
    for config in CONFIGS:
        for ids, prompt in IDS:
            g = GenerationConfig(**config, eos_token_id=ENDS)
            for key, value in GenerationConfig._get_default_generation_params().items():
                if getattr(g, key, None) is None:
                    setattr(g, key, value)
            g._eos_token_tensor = torch.tensor(ENDS)
            prompt_ids = torch.tensor([ids[:prompt]])
            processors = model._get_logits_processor(g, input_ids_seq_length=prompt, encoder_input_ids=prompt_ids, device="cpu", model_kwargs={})
            scores = torch.randn(1, VOCAB) * 2
            if "remove_invalid_values" in config:
                scores[0, 3] = -math.inf
            expected = processors(torch.tensor([ids]), scores.clone())
            number = lambda x: None if x == -math.inf else float(x)
            cases.append({"config": config, "ids": ids, "prompt": prompt, "ends": ENDS, "scores": [number(x) for x in scores[0].tolist()], "expected": [number(x) for x in expected[0].tolist()]})
    json.dump(cases, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
