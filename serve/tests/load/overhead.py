"""What a server adds to the time of the engine: one client, the same greedy answer as `percept generate`, in turns; see README.md."""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import subprocess
import tempfile
import time

import client
import material
from service import Service


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("percept", help="the program")
    parser.add_argument("model", help="a language model, such as SmolLM2.gguf")
    parser.add_argument("--tokens", type=int, default=256, help="tokens of an answer, at most")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--most", type=float, default=0.03, help="the share of the engine's time that a server may add")
    return parser.parse_args()


def engine(messages, options):
    """Milliseconds of the prompt and the answer in the engine, and its tokens."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(messages, file)
        file.flush()
        command = [options.percept, "generate", "--device", "cpu", "--json", "--temperature", "0", "--max-tokens", str(options.tokens)]
        run = subprocess.run([*command, "--messages", file.name, "--model", options.model], capture_output=True, text=True, check=True)
    document = json.loads(run.stdout)
    return document["timings"]["prefill_ms"] + document["timings"]["decode_ms"], document["text"]


async def served(service, messages, options):
    """Milliseconds from the request to the last token of a stream, and what it said."""
    document = {"model": "model", "messages": messages, "temperature": 0, "max_tokens": options.tokens, "stream": True}
    began = time.monotonic()
    answer = await client.send(service, "/v1/chat/completions", document)
    assert answer.status == 200, await answer.body()
    text = "".join([event["choices"][0]["delta"].get("content") or "" async for event in answer.events() if event["choices"]])
    answer.close()
    return (time.monotonic() - began) * 1000, text


def main():
    options = arguments()
    draw = random.Random(7)
    # A beginning of its own for each prompt: nothing of it is in the cache.
    prompts = [material.said(f"{number}. {material.text(draw, 60)}") for number in range(options.rounds)]
    ratios = []
    with Service(options.percept, "--model", f"model={options.model}") as service:
        asyncio.run(served(service, material.said("Hello"), options))
        for messages, first in zip(prompts, itertools.cycle([True, False])):
            # Who begins changes from round to round.
            if first:
                alone, text = engine(messages, options)
            through, said = asyncio.run(served(service, messages, options))
            if not first:
                alone, text = engine(messages, options)
            assert said == text, (said, text)
            ratios.append(through / alone)
            print(json.dumps({"engine, ms": round(alone, 1), "server, ms": round(through, 1), "ratio": round(ratios[-1], 3)}), flush=True)
    middle = statistics.median(ratios)
    print(json.dumps({"median ratio": round(middle, 3), "rounds": options.rounds}))
    assert middle < 1 + options.most, f"the server adds {middle - 1:.1%} to the engine's time; at most {options.most:.0%} is promised"


if __name__ == "__main__":
    main()
