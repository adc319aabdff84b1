#!/usr/bin/env python3
"""PyTorch as a peer of `percept bench embed`: the image tower of SigLIP-base/16-224 with random weights, float32.

Prints one JSON document of the shape of `percept bench --json`; `--save DIR` writes the model for percept to read. Needs
torch and transformers 5.23.0.
"""

import argparse
import json
import statistics
import time

import torch
from transformers import SiglipConfig, SiglipModel


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--save", metavar="DIR")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig()).eval()
    if options.save:
        model.save_pretrained(options.save)
    pixels = torch.rand(options.batch, 3, 224, 224) * 2 - 1
    times = []
    with torch.inference_mode():
        for _ in range(options.runs + 1):
            start = time.perf_counter()
            model.get_image_features(pixels)
            times.append((time.perf_counter() - start) * 1e3)
    times = times[1:]
    print(json.dumps({
        "bench": "embed", "device": f"torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()}",
        "settings": {"batch": options.batch, "threads": options.threads}, "median_ms": statistics.median(times),
        "min_ms": min(times), "runs": len(times), "rate": options.batch * 1e3 / statistics.median(times),
        "rate_unit": "pictures/s",
    }))


if __name__ == "__main__":
    main()
