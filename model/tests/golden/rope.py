"""Cosines and sines of transformers' rotary embeddings, for model/tests/it/rope.rs. Prints JSON.

Run with transformers 5.23: python model/tests/golden/rope.py > model/tests/golden/rope.json
"""
import json

import torch
from transformers import LlamaConfig, Qwen2VLConfig, Qwen3VLConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextRotaryEmbedding

HEAD = 16
COMMON = dict(hidden_size=64, num_attention_heads=4, num_key_value_heads=4, head_dim=HEAD, num_hidden_layers=1)
POSITIONS = [0, 1, 7, 100, 1500]
PLAIN = {
    "default": dict(rope_type="default", rope_theta=10000.0),
    "linear": dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
    "dynamic": dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0),
    "yarn": dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=256),
    "yarn_scaled": dict(rope_type="yarn", rope_theta=1e6, factor=8.0, original_max_position_embeddings=128, beta_fast=16.0,
                        beta_slow=2.0, mscale=0.7, mscale_all_dim=1.2),
    "llama3": dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=512),
    "longrope": dict(rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=256,
                     short_factor=[1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6], long_factor=[1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 9.0, 9.5]),
    "longrope_short": dict(rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=2048, factor=4.0,
                           short_factor=[1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6], long_factor=[2.0] * 8),
}


def half(x):
    """One row per position, the first half of the features: the second repeats it."""
    x = x[0]
    return x[:, : x.shape[1] // 2].double().tolist()


cases = []
for name, parameters in PLAIN.items():
    config = LlamaConfig(**COMMON, max_position_embeddings=1024, rope_parameters=parameters)
    rope = LlamaRotaryEmbedding(config)
    cos, sin = rope(torch.zeros(1), torch.tensor([POSITIONS]))
    cases.append(dict(name=name, parameters=parameters, positions=[POSITIONS], cos=half(cos), sin=half(sin)))

axes = [[0, 1, 5, 40], [0, 3, 6, 41], [0, 2, 9, 900]]
ids = torch.tensor(axes)[:, None]
for name, family, config, sections in [
    ("chunked", Qwen2VLRotaryEmbedding, Qwen2VLConfig, [2, 3, 3]),
    ("interleaved", Qwen3VLTextRotaryEmbedding, Qwen3VLConfig, [4, 2, 2]),
]:
    parameters = dict(rope_type="default", rope_theta=1e4, mrope_section=sections)
    if name == "interleaved":
        parameters["mrope_interleaved"] = True
    text = config(text_config=dict(COMMON, rope_parameters=parameters)).text_config
    cos, sin = family(text)(torch.zeros(1), ids)
    if cos.dim() == 4:  # Qwen2-VL leaves the choice of the axis to the attention.
        pick = lambda x: torch.cat([m[i % 3] for i, m in enumerate(x.split(sections * 2, dim=-1))], dim=-1)
        cos, sin = pick(cos), pick(sin)
    cases.append(dict(name=name, parameters=parameters, positions=axes, cos=half(cos), sin=half(sin)))

json.dump(dict(head_dim=HEAD, max_position_embeddings=1024, cases=cases), __import__("sys").stdout)
