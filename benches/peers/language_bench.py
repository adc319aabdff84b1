#!/usr/bin/env python3
"""llama.cpp and PyTorch as peers of `percept bench prefill|decode`: a language model in a GGUF file.

Without --serve it measures every row of its default list and prints one JSON document. With --serve it first prints one
line that describes the peer, then reads one row a line from standard input,
{"bench": "prefill", "settings": {"model": PATH, "tokens": 512}} or
{"bench": "decode", "settings": {"model": PATH, "depth": 0, "tokens": 64, "batch": 1}}, and answers each with one line in the shape
of `percept bench --json`. PyTorch runs the file's weights dequantized to f32 through transformers, eager.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time


class Llama:
    """llama.cpp through llama-cpp-python, its quantized weights as they are."""

    def __init__(self, threads):
        import llama_cpp

        self.module, self.threads, self.path, self.model = llama_cpp, threads, None, None
        self.side_by_side = None

    def about(self):
        info = self.module.llama_print_system_info().decode()
        return dict(peer="llama.cpp", version=self.module.__version__, info=info, threads=self.threads)

    def open(self, path):
        if path != self.path:
            kwargs = dict(n_ctx=2048, n_batch=512, n_threads=self.threads, n_threads_batch=self.threads)
            self.model = self.module.Llama(path, logits_all=False, verbose=False, **kwargs)
            self.path = path
        self.vocabulary = self.model.n_vocab()

    def read(self, ids):
        """From an empty cache; the logits of the last row are computed."""
        self.model.reset()
        self.model.eval(ids)

    def write(self, ids):
        for token in ids:
            self.model.eval([token])

    def write_batch(self, steps, batch):
        """`steps` tokens of each of `batch` sequences, one of each in a step, and all their logits: the engine alone, as
        llama.cpp's own bench of batches has it. Gives milliseconds."""
        api = self.module
        if self.side_by_side != batch:
            options = api.llama_context_default_params()
            options.n_ctx, options.n_batch, options.n_seq_max = batch * 256, max(batch, 512), batch
            options.n_threads = options.n_threads_batch = self.threads
            options.kv_unified = True
            self.context = api.llama_init_from_model(self.model.model, options)
            self.side_by_side = batch
        rows = api.llama_batch_init(batch, 0, 1)
        api.llama_memory_clear(api.llama_get_memory(self.context), True)
        start = time.perf_counter()
        for step in range(steps):
            rows.n_tokens = batch
            for i in range(batch):
                rows.token[i], rows.pos[i], rows.n_seq_id[i], rows.logits[i] = (step + 31 * i) % 1000, step, 1, True
                rows.seq_id[i][0] = i
            if api.llama_decode(self.context, rows) != 0:
                raise RuntimeError("llama_decode failed")
        elapsed = (time.perf_counter() - start) * 1e3
        api.llama_batch_free(rows)
        return elapsed


class Torch:
    """PyTorch through transformers, f32, with the cache that transformers takes by default."""

    def __init__(self, threads):
        import torch
        import transformers

        torch.set_num_threads(threads)
        self.torch, self.module, self.path, self.model = torch, transformers, None, None

    def about(self):
        capability = self.torch.backends.cpu.get_cpu_capability()
        versions = dict(torch=self.torch.__version__, transformers=self.module.__version__)
        return dict(peer="torch", **versions, isa=capability, threads=self.torch.get_num_threads())

    def open(self, path):
        if path != self.path:
            file = pathlib.Path(path)
            load = self.module.AutoModelForCausalLM.from_pretrained
            self.model = load(file.parent, gguf_file=file.name, dtype=self.torch.float32).eval()
            self.path = path
        self.vocabulary = self.model.config.vocab_size

    def step(self, ids):
        with self.torch.inference_mode():
            ids = self.torch.tensor([ids])
            out = self.model(ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
            self.cache = out.past_key_values

    def read(self, ids):
        self.cache = None
        self.step(ids)

    def write(self, ids):
        for token in ids:
            self.step([token])


def measure(peer, row, runs):
    settings = row["settings"]
    peer.open(settings["model"])
    depth = settings["tokens"] if row["bench"] == "prefill" else settings["depth"]
    prompt = [i * 7919 % peer.vocabulary for i in range(max(depth, 1))]
    times, batch = [], settings.get("batch", 1)
    for _ in range(runs + 1):
        if batch > 1:
            times.append(peer.write_batch(settings["tokens"], batch))
            continue
        if row["bench"] == "prefill":
            start = time.perf_counter()
            peer.read(prompt)
        else:
            peer.read(prompt)
            start = time.perf_counter()
            peer.write([i % 1000 for i in range(settings["tokens"])])
        times.append((time.perf_counter() - start) * 1e3)
    first, times = times[0], times[1:]
    median = statistics.median(times)
    rate = settings["tokens"] * batch / median * 1e3
    return dict(bench=row["bench"], device="cpu", settings=settings, median_ms=median, min_ms=min(times), runs=runs,
                rate=rate, rate_unit="tokens/s", first_call_ms=first)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", choices=["llama", "torch"], default="llama")
    parser.add_argument("--model", help="a GGUF file, for the default list")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", action="store_true")
    args = parser.parse_args()
    peer = dict(llama=Llama, torch=Torch)[args.peer](args.threads)
    if args.serve:
        print(json.dumps(peer.about()), flush=True)
        for line in sys.stdin:
            try:
                answer = measure(peer, json.loads(line), args.runs)
            except Exception as error:  # The row fails, the peer goes on.
                answer = dict(error=f"{type(error).__name__}: {error}")
            print(json.dumps(answer), flush=True)
        return
    if not args.model:
        parser.error("--model is needed without --serve")
    rows = [dict(bench="prefill", settings=dict(model=args.model, tokens=512))]
    rows += [dict(bench="decode", settings=dict(model=args.model, depth=d, tokens=64)) for d in (0, 512)]
    print(json.dumps(dict(about=peer.about(), rows=[measure(peer, row, args.runs) for row in rows])))


if __name__ == "__main__":
    main()
