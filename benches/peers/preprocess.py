#!/usr/bin/env python3
"""PIL and NumPy as a peer of `percept bench preprocess`: decode, resize bicubically, normalize, as the PIL image
processors of transformers do, one picture after another.

Prints one JSON document of the shape of `percept bench --json`. Needs pillow and numpy.
"""

import argparse
import io
import json
import statistics
import time

import numpy as np
from PIL import Image


def prepare(data, size, mean, std):
    image = Image.open(io.BytesIO(data)).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    planes = np.moveaxis(np.array(image), -1, 0)
    planes = (planes.astype(np.float64) * (1 / 255)).astype(np.float32)
    return np.ascontiguousarray(((planes.T - mean) / std).T)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    data = open(options.image, "rb").read()
    half = np.full(3, 0.5, np.float32)
    times = []
    begin = time.perf_counter()
    while len(times) < options.runs or time.perf_counter() - begin < options.seconds:
        start = time.perf_counter()
        for _ in range(options.batch):
            prepare(data, options.size, half, half)
        times.append((time.perf_counter() - start) * 1e3)
    median = statistics.median(times)
    settings = {"image": options.image, "size": options.size, "batch": options.batch, "threads": 1}
    report = {"bench": "preprocess", "device": "cpu", "settings": settings, "median_ms": median,
              "min_ms": min(times), "runs": len(times), "rate": options.batch / median * 1e3, "rate_unit": "images/s"}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
