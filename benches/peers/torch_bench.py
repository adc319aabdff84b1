#!/usr/bin/env python3
"""PyTorch CPU, eager, as a peer of `percept bench matmul|op`.

Without --serve it measures every row of its default list and prints one JSON document.
With --serve it first prints one line that describes the peer, then reads one row a line from
standard input, {"bench": ..., "settings": {...}}, and answers each with one line, so that
`cargo xtask bench --peers` can take turns between Percept and the peer, row by row.

A row's answer has the shape of `percept bench --json`:
{"bench", "device", "settings", "median_ms", "min_ms", "runs", "rate", "rate_unit"}.
"""

import argparse
import json
import os
import statistics
import sys
import time

import torch
import torch.nn.functional as F

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def chain10(x):
    """Ten elementwise operations, one call each: what an eager framework runs for a fused chain."""
    y = x * 0.5
    y = y + 1.0
    y = y * x
    y = y - 0.25
    y = torch.abs(y)
    y = torch.sqrt(y)
    y = torch.maximum(y, x)
    y = torch.neg(y)
    y = torch.clamp_max(y, 2.0)
    return y * x


def make_op(op, shape, dtype):
    """The call that a row times, and how many bytes (or operations) it must move (or do)."""
    x = torch.randn(*shape).to(dtype)
    width = shape[-1]
    moved = 2 * x.numel() * x.element_size()
    if op in ("attention", "attention_causal"):
        k, v = torch.randn(*shape).to(dtype), torch.randn(*shape).to(dtype)
        causal = op == "attention_causal"
        batch, heads, rows, depth = shape
        pairs = rows * (rows + 1) // 2 if causal else rows * rows
        return (
            lambda: F.scaled_dot_product_attention(x, k, v, is_causal=causal),
            4 * batch * heads * pairs * depth,
            "GFLOP/s",
        )
    if op == "sum":
        return lambda: x.sum(), moved // 2, "GB/s"
    weight, bias = torch.randn(width).to(dtype), torch.randn(width).to(dtype)
    calls = {
        "softmax": lambda: torch.softmax(x, -1),
        "layer_norm": lambda: F.layer_norm(x, (width,), weight, bias, 1e-5),
        "rms_norm": lambda: F.rms_norm(x, (width,), weight, 1e-5),
        "gelu_erf": lambda: F.gelu(x),
        "gelu_tanh": lambda: F.gelu(x, approximate="tanh"),
        "chain10": lambda: chain10(x),
    }
    return calls[op], moved, "GB/s"


def make_call(row):
    """The call of a row, its work in operations or bytes, and the unit of its rate."""
    settings = row["settings"]
    dtype = DTYPES[settings["dtype"]]
    if row["bench"] == "matmul":
        m, n, k = settings["m"], settings["n"], settings["k"]
        a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
        return lambda: a @ b, 2 * m * n * k, "GFLOP/s"
    if row["bench"] == "op":
        return make_op(settings["op"], settings["shape"], dtype)
    raise ValueError(f"unknown bench {row['bench']!r}: matmul and op exist")


def measure(row, seconds):
    """Warm up, then time single calls for `seconds`: ten at least, unless they are very slow.

    PyTorch's f16 matmul takes seconds on a CPU without AVX512-FP16; it gets fewer runs.
    """
    call, work, unit = make_call(row)
    start = time.perf_counter()
    for _ in range(3):
        call()
        if time.perf_counter() - start > seconds:
            break
    times = []
    start = time.perf_counter()
    while True:
        before = time.perf_counter()
        call()
        after = time.perf_counter()
        times.append(after - before)
        if after - start > seconds and (len(times) >= 10 or after - start > 4 * seconds):
            break
    median = statistics.median(times)
    return {
        "bench": row["bench"],
        "device": "torch-cpu",
        "settings": row["settings"],
        "median_ms": median * 1e3,
        "min_ms": min(times) * 1e3,
        "runs": len(times),
        "rate": work / median / 1e9,
        "rate_unit": unit,
    }


def default_rows():
    """The rows that are compared with Percept's cpu device."""
    for dtype, sizes in (("f32", (512, 1024, 2048)), ("bf16", (512, 1024, 2048)), ("f16", (512, 1024))):
        for n in sizes:
            yield {"bench": "matmul", "settings": {"m": n, "n": n, "k": n, "dtype": dtype}}
    for op in ("softmax", "layer_norm", "rms_norm", "gelu_erf", "gelu_tanh", "chain10"):
        yield {"bench": "op", "settings": {"op": op, "shape": [4096, 1024], "dtype": "f32"}}
    yield {"bench": "op", "settings": {"op": "sum", "shape": [8192, 8192], "dtype": "f32"}}
    for op in ("attention", "attention_causal"):
        yield {"bench": "op", "settings": {"op": op, "shape": [1, 8, 512, 64], "dtype": "f32"}}


def describe(threads):
    return {
        "peer": "torch",
        "version": torch.__version__,
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "load": os.getloadavg()[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="time spent on a row")
    parser.add_argument("--serve", action="store_true", help="take rows from standard input")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    with torch.inference_mode():
        if args.serve:
            print(json.dumps(describe(args.threads)), flush=True)
            for line in sys.stdin:
                try:
                    answer = measure(json.loads(line), args.seconds)
                except (KeyError, ValueError, RuntimeError) as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
                print(json.dumps(answer), flush=True)
            return
        about = describe(args.threads)
        print(json.dumps({**about, "results": [measure(r, args.seconds) for r in default_rows()]}, indent=1))


if __name__ == "__main__":
    main()
