#!/usr/bin/env python3
"""PyTorch as the peer of `percept bench train-step`: a llama decoder of transformers, eager, one AdamW step at a time.

Without --serve it measures f32 and bf16 autocast of the default decoder and prints one JSON document. With --serve it
first prints one line that describes the peer, then reads one row a line from standard input,
{"bench": "train-step", "settings": {"layers": 6, "hidden": 384, ...}}, and answers each in the shape of
`percept bench --json`. `peak_memory_bytes` is that of the process, so it means something for the first row alone.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time

DEFAULTS = dict(layers=6, hidden=384, intermediate=1024, heads=6, vocab=8192, rows=8, length=256, dtype="f32",
                rematerialize=False)


def measure(settings, runs):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    s = {**DEFAULTS, **settings}
    config = LlamaConfig(
        vocab_size=s["vocab"], hidden_size=s["hidden"], intermediate_size=s["intermediate"],
        num_hidden_layers=s["layers"], num_attention_heads=s["heads"], num_key_value_heads=s["heads"],
        max_position_embeddings=s["length"], rms_norm_eps=1e-6, tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    if s["rematerialize"]:
        model.gradient_checkpointing_enable()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    half = {"bf16": torch.bfloat16, "f16": torch.float16}.get(s["dtype"])

    def step(seed):
        start = time.perf_counter()
        ids = [[((seed * s["rows"] + r) * 7919 + i * 104729 + i * i * 31) % s["vocab"] for i in range(s["length"])]
               for r in range(s["rows"])]
        ids = torch.tensor(ids)
        with torch.autocast("cpu", dtype=half, enabled=half is not None):
            logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, s["vocab"]).float(), ids[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()
        return (time.perf_counter() - start) * 1e3

    first = step(0)
    step(1)
    times = [step(2 + i) for i in range(runs)]
    median = statistics.median(times)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return dict(bench="train-step", device="cpu", settings=s, median_ms=median, min_ms=min(times), runs=runs,
                rate=s["rows"] * s["length"] / median * 1e3, rate_unit="tokens/s", first_call_ms=first,
                peak_memory_bytes=memory)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--serve", action="store_true")
    args = parser.parse_args()
    import torch
    import transformers

    torch.set_num_threads(args.threads)
    about = dict(peer="torch", torch=torch.__version__, transformers=transformers.__version__,
                 isa=torch.backends.cpu.get_cpu_capability(), threads=torch.get_num_threads())
    if args.serve:
        print(json.dumps(about), flush=True)
        for line in sys.stdin:
            print(json.dumps(measure(json.loads(line)["settings"], args.runs)), flush=True)
        return
    rows = [measure(dict(dtype=dtype), args.runs) for dtype in ("f32", "bf16")]
    print(json.dumps(dict(about=about, rows=rows)))


if __name__ == "__main__":
    main()
