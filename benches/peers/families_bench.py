"""Decoding of a mixture beside a dense model of its active size, and of the delta rule at two depths.

    python benches/peers/families_bench.py PERCEPT FOLDER

PERCEPT is a release build of the program. The models, of random weights in float32, are made in FOLDER once (some 1 GB)
with torch and transformers; a tokenizer comes from the repository's own small models. Every measurement takes turns with
the one that it is compared with, and medians of rounds are compared, on two threads.
"""

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROUNDS, RUNS, TOKENS = 3, 3, 32
TEXT = dict(
    vocab_size=2048, hidden_size=1024, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4, head_dim=128,
    max_position_embeddings=16384, tie_word_embeddings=True,
)
EXPERT, CHOSEN, EXPERTS = 512, 4, 32


def make(folder):
    import torch
    import transformers as t

    torch.manual_seed(0)
    delta = dict(
        layer_types=["linear_attention"] * 4, linear_num_value_heads=16, linear_num_key_heads=8, linear_key_head_dim=128,
        linear_value_head_dim=128, intermediate_size=EXPERT * CHOSEN,
    )
    models = {
        "dense": (t.Qwen3ForCausalLM, t.Qwen3Config(**TEXT, intermediate_size=EXPERT * CHOSEN)),
        "mixture": (
            t.Qwen3MoeForCausalLM,
            t.Qwen3MoeConfig(**TEXT, moe_intermediate_size=EXPERT, num_experts=EXPERTS, num_experts_per_tok=CHOSEN),
        ),
        "delta": (t.Qwen3_5ForCausalLM, t.Qwen3_5TextConfig(**TEXT, **delta)),
    }
    for name, (kind, config) in models.items():
        out = folder / name
        if out.exists():
            continue
        kind(config).save_pretrained(out)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(HERE.parent.parent / "tests/parity/qwen3-moe/model" / file, out / file)


def decode(percept, model, depth):
    """Milliseconds of a token: the median of some runs, and the best."""
    words = ["--device", "cpu", "--depth", depth, "--tokens", TOKENS, "--runs", RUNS, "--json"]
    said = subprocess.run([percept, "bench", "decode", "--model", model, *map(str, words)], capture_output=True, text=True)
    if said.returncode:
        sys.exit(said.stderr)
    found = json.loads(said.stdout)
    return found["median_ms"] / TOKENS, found["min_ms"] / TOKENS


def compare(percept, folder, one, other, most):
    times = {one: [], other: []}
    for _ in range(ROUNDS):
        for key in times:
            times[key].append(decode(percept, folder / key[0], key[1]))
    for what, side in (("medians", 0), ("best", 1)):
        pick = statistics.median if side == 0 else min
        a, b = (pick(t[side] for t in times[key]) for key in (one, other))
        said = f"{one[0]} at {one[1]}: {a:.2f} ms a token, {other[0]} at {other[1]}: {b:.2f}"
        print(f"{what}: {said}: {b / a:.3f} times (at most {most})", flush=True)


if __name__ == "__main__":
    percept, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    make(folder)
    which = sys.argv[3:] or ["mixture", "delta"]
    if "mixture" in which:
        compare(percept, folder, ("dense", 64), ("mixture", 64), 1.3)
    if "delta" in which:
        compare(percept, folder, ("delta", 512), ("delta", 8192), 1.05)
