"""Output tokens a second and times to the first token of many clients, beside llama.cpp's server: see README.md."""

import argparse
import asyncio
import json
import random
import socket
import subprocess
import time
import urllib.request

import client
from service import Service, percentile


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("percept", help="the program")
    parser.add_argument("model", help="a language model as a GGUF file, such as SmolLM2.gguf")
    parser.add_argument("--peer", help="llama.cpp's llama-server, which takes turns with ours")
    parser.add_argument("--clients", type=int, nargs="*", default=[16, 64])
    parser.add_argument("--requests", type=int, default=2, help="of each client, one after the other")
    parser.add_argument("--prompt", type=int, default=256, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--threads", type=int, default=2, help="of the peer; ours has one for each core")
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


class Peer:
    """A llama-server process, driven as ours is."""

    def __init__(self, program, model, clients, options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host, self.port = free.getsockname()
        rows = clients * (options.prompt + options.tokens + 64)
        command = [program, "-m", model, "--host", self.host, "--port", self.port, "-t", options.threads, "-np", clients, "-c", rows]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://{self.host}:{self.port}/health", timeout=1).read()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("llama-server did not become ready")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


async def one(service, draw, options, firsts):
    """One streamed request of a prompt that no other has; gives the tokens of its answer."""
    prompt = [draw.randrange(1000, 30000) for _ in range(options.prompt)]
    document = {"model": "model", "prompt": prompt, "max_tokens": options.tokens, "ignore_eos": True, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    began, first, made = time.monotonic(), None, 0
    answer = await client.send(service, "/v1/completions", document)
    assert answer.status == 200, await answer.body()
    async for event in answer.events():
        if first is None and any(choice.get("text") for choice in event["choices"]):
            first = time.monotonic() - began
        made = max(made, (event.get("usage") or {}).get("completion_tokens", 0))
    answer.close()
    assert made == options.tokens, made
    firsts.append(first or time.monotonic() - began)
    return made


async def load(service, clients, options, seed):
    """The rate over all clients, and the times to the first token."""
    firsts = []

    async def talk(number):
        draw = random.Random(seed * 1000 + number)
        return sum([await one(service, draw, options, firsts) for _ in range(options.requests)])

    await one(service, random.Random(seed), options, [])
    began = time.monotonic()
    made = sum(await asyncio.gather(*(talk(number) for number in range(clients))))
    rate = made / (time.monotonic() - began)
    return {"tokens/s": round(rate, 1), "first token, s": {f"p{share}": round(percentile(firsts, share / 100), 2) for share in (50, 99)}}


def main():
    options = arguments()
    for clients in options.clients:
        ours = lambda: Service(options.percept, "--model", f"model={options.model}", "--running", clients, "--cache-rows", clients * (options.prompt + options.tokens + 64))
        peer = lambda: Peer(options.peer, options.model, clients, options)
        rates = {}
        for round_ in range(options.rounds):
            for name, start in {"percept": ours, **({"llama.cpp": peer} if options.peer else {})}.items():
                with start() as service:
                    found = asyncio.run(load(service, clients, options, round_ + 1))
                print(json.dumps({"clients": clients, "server": name, **found}), flush=True)
                rates.setdefault(name, []).append(found["tokens/s"])
        if options.peer:
            ratio = max(rates["percept"]) / max(rates["llama.cpp"])
            print(json.dumps({"clients": clients, "tokens/s of ours over llama.cpp's, best of each": round(ratio, 2)}), flush=True)


if __name__ == "__main__":
    main()
