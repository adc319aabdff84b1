#!/usr/bin/env python3
"""PyAV as a peer of `cargo bench -p percept-modalities -- video FILE`: a video to RGB, with FFmpeg's threads on.

Usage: pyav_bench.py FILE [RUNS]. Prints one JSON document in the shape of `percept bench --json`.
"""

import json
import statistics
import sys
import time

import av


def decode(path):
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return sum(frame.to_ndarray(format="rgb24").shape[2] == 3 for frame in container.decode(stream))


path, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7
frames = decode(path)
times = []
for _ in range(runs):
    start = time.perf_counter()
    decode(path)
    times.append(1000 * (time.perf_counter() - start))
median = statistics.median(times)
print(json.dumps(dict(bench="video", device=f"PyAV {av.__version__}", settings=dict(file=path), median_ms=median,
                      min_ms=min(times), runs=runs, rate=1000 * frames / median, rate_unit="frames/s")))
