"""Answers of a server beside those of `percept generate` alone, bit for bit: see README.md."""

import argparse
import asyncio
import concurrent.futures
import itertools
import json
import pathlib
import random
import struct
import subprocess
import tempfile

import client
import material
from service import PARITY, Service

TEXT = ["qwen2", "qwen3", "llama", "gemma2", "gemma3-text"]
IMAGE = ["gemma3", "llava", "llava-onevision", "qwen2-vl-image", "qwen2-5-vl-image", "qwen3-vl-image", "smolvlm-image"]
VIDEO = ["qwen2-vl-video", "qwen2-5-vl-video", "qwen3-vl-video"]
AUDIO = ["qwen2-audio"]
# Adapters, and the parity case that each stands on.
ADAPTERS = {"lora-only": "qwen2", "biases": "qwen2", "parts-qwen2-audio": "qwen2-audio", "parts-qwen2-vl-image": "qwen2-vl-image"}
TOP = 3


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("percept", help="the program")
    parser.add_argument("model", help="a language model beside the small ones, such as SmolLM2.gguf")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--processes", type=int, default=2, help="`percept generate` at once")
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--lookup", type=int, nargs="*", default=[0, 4], help="guessed tokens; 0 is off")
    parser.add_argument("--prefill-chunk", nargs="*", default=["512", "64", "off"], help="rows of prompts a step")
    parser.add_argument("--prefix-reuse", nargs="*", choices=["on", "off"], default=["on", "off"])
    parser.add_argument("--images", type=pathlib.Path, nargs="*", default=[], help="more images to show")
    return parser.parse_args()


def weights(name, options):
    """`percept generate`'s arguments for a model, and `percept serve`'s."""
    if name == "large":
        return ["--model", options.model], ["--model", f"large={options.model}"]
    if name in ADAPTERS:
        base = PARITY / ADAPTERS[name] / "model"
        adapter = PARITY.parent / "adapters" / name
        return ["--model", base, "--adapter", adapter], ["--adapter", f"{name}={adapter}"]
    return ["--model", PARITY / name / "model"], ["--model", f"{name}={PARITY / name / 'model'}"]


def conversations(options):
    """Models and what they are asked: text, images, video, audio and mixtures; short, long, and with common beginnings."""
    draw = random.Random(7)
    images = [material.picture("a7.png"), material.picture("b7.png")]
    images += [material.image_part(file.read_bytes(), f"image/{file.suffix[1:]}") for file in options.images]
    images += [material.image_part(material.png(draw, side)) for side in (48, 64, 150, 224)]
    sounds = [material.audio_part((PARITY / "media/chirp7.wav").read_bytes())]
    sounds += [material.audio_part(material.wav(draw, seconds)) for seconds in (0.3, 1.1, 2.5)]
    video = material.video_part((PARITY / "media/k24.mkv").read_bytes())
    system = {"role": "system", "content": material.text(draw, 60)}

    def text(words):
        return material.said(material.text(draw, words))

    def begun(words):
        return [system, *text(words)]

    def turns(words):
        return [system, *text(words), {"role": "assistant", "content": material.text(draw, 9)}, *text(words)]

    def quoting():
        said = material.text(draw, 12)
        return material.said(f"{said} {said} {said} Repeat: {said[:20]}")

    def image():
        return material.shown(material.text(draw, 6), draw.choice(images))

    def two_images():
        # Media of turns before, and text between.
        return [*image(), {"role": "assistant", "content": "a ship"}, *image()]

    def sound():
        return material.shown(material.text(draw, 6), draw.choice(sounds))

    def two_sounds():
        return [*sound(), {"role": "assistant", "content": "a bell"}, *sound()]

    # In the order in which kinds take turns.
    kinds = [
        (["large"], lambda: text(draw.choice([3, 20, 80]))), (["large"], lambda: turns(20)), (TEXT, lambda: text(draw.choice([2, 30, 300]))),
        (IMAGE, image), (AUDIO, sound), (["large"], lambda: begun(12)), (TEXT, lambda: begun(10)), (IMAGE, two_images),
        (VIDEO, lambda: material.shown(material.text(draw, 5), video)), (list(ADAPTERS)[:2], lambda: begun(10)), (["large"], quoting), (TEXT, quoting),
        (AUDIO, two_sounds), (["parts-qwen2-audio"], sound), (["parts-qwen2-vl-image"], image), (["large"], lambda: text(600)), (IMAGE, lambda: text(30)), (AUDIO, lambda: text(30)),
    ]
    turn = {id(models): itertools.cycle(models) for models, _ in kinds}
    for number in range(options.prompts):
        models, make = kinds[number % len(kinds)]
        yield next(turn[id(models)]), make()


def bits(logprob):
    return struct.pack("<f", logprob)


def offline(asked, options):
    """What the program answers alone: the text, and for each token the bits of its and of the likeliest log-probabilities."""
    model, messages = asked
    given, _ = weights(model, options)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(messages, file)
        file.flush()
        command = [options.percept, "generate", "--device", "cpu", "--json", "--temperature", 0, "--logprobs", TOP]
        command += ["--max-tokens", options.tokens, "--messages", file.name, *given]
        run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert run.returncode == 0, f"{model}: {run.stderr}"
    document = json.loads(run.stdout)
    tokens = [(bits(token["logprob"]), [bits(logprob) for _, logprob in token["top"]]) for token in document["logprobs"]]
    return document["text"], document["prompt_tokens"], tokens


async def served(service, asked, options, gate):
    model, messages = asked
    document = {
        "model": model, "messages": messages, "temperature": 0, "max_tokens": options.tokens, "logprobs": True, "top_logprobs": TOP,
    }
    async with gate:
        answer, _ = await client.until_answered(service, "/v1/chat/completions", document)
    choice = answer["choices"][0]
    tokens = [(bits(t["logprob"]), [bits(top["logprob"]) for top in t["top_logprobs"]]) for t in choice["logprobs"]["content"]]
    assert answer["usage"]["completion_tokens"] == len(tokens), answer["usage"]
    usage = answer["usage"]
    return (choice["message"]["content"], usage["prompt_tokens"], tokens), usage["prompt_tokens_details"]["cached_tokens"]


async def compare(service, asked, expected, concurrency, options):
    gate = asyncio.Semaphore(concurrency)
    answers = await asyncio.gather(*(served(service, one, options, gate) for one in asked))
    differ = [number for number, ((answer, _), alone) in enumerate(zip(answers, expected)) if answer != alone]
    for number in differ[:3]:
        print(asked[number][0], json.dumps(asked[number][1])[:300], "\n alone ", expected[number][0], "\n served", answers[number][0][0])
    return len(differ), sum(cached for _, cached in answers)


def main():
    options = arguments()
    asked = list(conversations(options))
    with concurrent.futures.ThreadPoolExecutor(options.processes) as pool:
        expected = list(pool.map(lambda one: offline(one, options), asked))
    tokens = sum(len(tokens) for _, _, tokens in expected)
    models = sorted({model for model, _ in asked} | {ADAPTERS[model] for model, _ in asked if model in ADAPTERS})
    print(f"{len(asked)} prompts of {len(models)} models, {sum(n for _, n, _ in expected)} tokens, {tokens} tokens answered alone", flush=True)
    wrong = 0
    given = [argument for model in models for argument in weights(model, options)[1]]
    for lookup, chunk, reuse in itertools.product(options.lookup, options.prefill_chunk, options.prefix_reuse):
        switches = ["--prefill-chunk", chunk, *(["--lookup", lookup] if lookup else []), *(["--no-prefix-reuse"] if reuse == "off" else [])]
        with Service(options.percept, *given, *switches, "--running", max(options.concurrency)) as service:
            for concurrency in options.concurrency:
                differ, cached = asyncio.run(compare(service, asked, expected, concurrency, options))
                print(f"{' '.join(map(str, switches))}, {concurrency} at once: {differ} of {len(asked)} differ; {cached} tokens of prompts were in the cache", flush=True)
                assert reuse == "on" or cached == 0, "prefixes were reused"
                wrong += differ
            assert service.stop() == 0
    assert wrong == 0, f"{wrong} answers differ"
    print("as it must be")


if __name__ == "__main__":
    main()
