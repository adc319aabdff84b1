"""MiniLM beside sentence-transformers: 32 texts of 24 words at once, on two threads, in turns.

    python benches/peers/sentence_bench.py PERCEPT FOLDER

PERCEPT is a release build of the program, FOLDER the model in sentence-transformers' layout. Needs sentence-transformers.
The texts are those of `percept bench embed`. Both sides cut texts into tokens in the time that is taken.
"""

import json
import statistics
import subprocess
import sys
import time

import torch
from sentence_transformers import SentenceTransformer

BATCH, LENGTH, ROUNDS, RUNS = 32, 24, 5, 10
# As in src/cli/bench/media.rs.
WORDS = "harbour wall morning boat net people water fish bread coffee child wind north day winter story".split()


def ours(percept, folder):
    words = [percept, "bench", "embed", "--model", folder, "--device", "cpu", "--batch", BATCH, "--words", LENGTH, "--runs", RUNS]
    said = subprocess.run([str(w) for w in words] + ["--json"], capture_output=True, text=True, check=True)
    return json.loads(said.stdout)["median_ms"]


def theirs(model, texts):
    model.encode(texts, batch_size=BATCH)
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        model.encode(texts, batch_size=BATCH)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


if __name__ == "__main__":
    percept, folder = sys.argv[1:3]
    torch.set_num_threads(2)
    model = SentenceTransformer(folder, device="cpu")
    texts = [" ".join(WORDS[(7 * i + 3 * k + i * k) % len(WORDS)] for k in range(LENGTH)) for i in range(BATCH)]
    times = [(ours(percept, folder), theirs(model, texts)) for _ in range(ROUNDS)]
    for one, other in times:
        print(f"percept {one:.1f} ms, sentence-transformers {other:.1f} ms: {other / one:.2f} times as fast")
    one, other = (statistics.median(side) for side in zip(*times))
    print(f"medians {one:.1f} and {other:.1f} ms: {other / one:.2f} times as fast (at least 1.2)")
