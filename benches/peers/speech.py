#!/usr/bin/env python3
"""faster-whisper as a peer of `percept bench transcribe`: greedy, timestamps, one try, float32.

Prints one JSON document of the shape of `percept bench --json`. Needs faster-whisper 1.2.1 and soundfile. The model is a
CTranslate2 folder such as the one that `cargo xtask assets` fetches.
"""

import argparse
import importlib.metadata
import json
import statistics
import time

import numpy as np
import soundfile
from faster_whisper import WhisperModel


def timed(runs, work):
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--file", required=True, help="mono, 16 kHz")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    samples, rate = soundfile.read(options.file, dtype="float32")
    assert rate == 16000 and samples.ndim == 1, "the peer takes mono sound at 16 kHz"
    sound = np.resize(samples, int(options.seconds * rate))
    model = WhisperModel(options.model, compute_type="float32", cpu_threads=options.threads)
    features = model.feature_extractor(sound)[:, :3000]
    features = np.pad(features, ((0, 0), (0, 3000 - features.shape[1])))
    encoder = timed(options.runs, lambda: np.asarray(model.encode(features)).sum())
    text = []

    def transcribe():
        segments, _ = model.transcribe(sound, beam_size=1, temperature=0.0, condition_on_previous_text=False)
        text[:] = [s.text for s in segments]

    whole = timed(options.runs, transcribe)
    print(json.dumps({
        "bench": "transcribe", "device": "faster-whisper " + importlib.metadata.version("faster-whisper"),
        "settings": {"seconds": options.seconds, "threads": options.threads}, "median_ms": statistics.median(whole),
        "min_ms": min(whole), "runs": len(whole), "rate": options.seconds * 1e3 / statistics.median(whole),
        "rate_unit": "seconds of sound/s", "encoder_min_ms": min(encoder),
        "encoder_median_ms": statistics.median(encoder), "words": len(" ".join(text).split()),
    }))


if __name__ == "__main__":
    main()
