"""Loads a server for long with clients that behave badly, and holds its memory and its cache to what they were: see README.md."""

import argparse
import asyncio
import collections
import json
import random
import statistics
import time

import client
import material
from service import PARITY, Service, metrics, small

VISION, AUDIO = "gemma3", "qwen2-audio"
# Images and audio that there are: a server keeps what encoders made of the last ones, and is to have all of it early.
MEDIA = 40
ADAPTER = ("--adapter", f"tuned={PARITY.parent / 'adapters/lora-only'}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("percept", help="the program")
    parser.add_argument("--model", help="a language model beside the small ones, such as SmolLM2.gguf")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--before", type=int, default=3000, help="requests before the minutes begin")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


class Soak:
    def __init__(self, service, models, options):
        self.service, self.models = service, models
        self.minutes, self.before = options.minutes, options.before
        # A server keeps the programs of the last shapes of a step (0.3 MB each of a model of 30 layers) and what encoders made of the last
        # media, as many as their limits let it. It is full of them before the minutes begin.
        self.end = None
        self.done = collections.Counter()

    def question(self, draw, **more):
        words = draw.choice([4, 12, 40, 150])
        return {"model": draw.choice(self.models), "messages": material.said(material.text(draw, words)), "max_tokens": draw.choice([4, 16, 48]), "temperature": 1, **more}

    async def ask(self, document, path="/v1/chat/completions", **more):
        status, _, body = await client.ask(self.service, path, document, **more)
        assert status in (200, 429), f"{status}: {body.decode(errors='replace')}"

    async def whole(self, draw):
        await self.ask(self.question(draw, n=draw.choice([1, 1, 3])))

    async def stream(self, draw):
        answer = await client.send(self.service, "/v1/chat/completions", self.question(draw, stream=True))
        if answer.status == 200:
            assert [event async for event in answer.events()]
        answer.close()

    async def leave(self, draw, how):
        """Streams for a while, and leaves before the end."""
        document = self.question(draw, stream=True, max_tokens=400, ignore_eos=True)
        answer = await client.send(self.service, "/v1/chat/completions", document)
        if answer.status == 200:
            left = draw.randrange(12)
            async for _ in answer.events():
                left -= 1
                if left < 0:
                    break
        how(answer)

    async def cancel(self, draw):
        await self.leave(draw, client.Answer.close)

    async def vanish(self, draw):
        await self.leave(draw, client.Answer.vanish)

    async def vanish_while_waiting(self, draw):
        """Leaves a request that is not streamed, before anything of it is answered."""
        body = json.dumps(self.question(draw, max_tokens=400, ignore_eos=True)).encode()
        _, writer = await asyncio.open_connection(self.service.host, self.service.port)
        head = client.head("POST", "/v1/chat/completions", len(body), "application/json", {})
        # Sometimes not even the request is whole.
        writer.write(head + body[: draw.choice([len(body), len(body) // 2])])
        await asyncio.sleep(draw.random())
        client.Answer(None, writer).vanish()

    async def read_slowly(self, draw):
        document = self.question(draw, stream=True, logprobs=True, top_logprobs=20, max_tokens=32, ignore_eos=True)
        answer = await client.send(self.service, "/v1/chat/completions", document)
        if answer.status == 200:
            async for _ in answer.events():
                await asyncio.sleep(draw.uniform(0, 0.2))
        answer.close()

    async def image(self, draw):
        part = material.image_part(material.png(random.Random(draw.randrange(MEDIA)), draw.choice([32, 64, 200])))
        messages = material.shown(material.text(draw, 4), part)
        await self.ask({"model": VISION, "messages": messages, "max_tokens": 8, "ignore_eos": True})

    async def audio(self, draw):
        part = material.audio_part(material.wav(random.Random(draw.randrange(MEDIA)), draw.choice([0.2, 0.7, 1.5])))
        messages = material.shown(material.text(draw, 4), part)
        await self.ask({"model": AUDIO, "messages": messages, "max_tokens": 8, "ignore_eos": True})

    async def transcribe(self, draw):
        fields = {"model": "whisper", "stream": draw.choice(["true", "false"])}
        body, kind = material.form(fields, material.wav(draw, draw.uniform(0.2, 1.5)))
        await self.ask(None, "/v1/audio/transcriptions", body=body, kind=kind)

    async def embed(self, draw):
        texts = [material.text(draw, draw.randrange(1, 30)) for _ in range(draw.randrange(1, 5))]
        await self.ask({"model": "clip", "input": [text[:20] for text in texts]}, "/v1/embeddings")

    async def be_refused(self, draw):
        wrong = draw.choice([{"temperature": 9}, {"frobnicate": 1}, {"model": "none"}, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}]}])
        status, _, body = await client.ask(self.service, "/v1/chat/completions", self.question(draw, **wrong))
        assert 400 <= status < 500, f"{status}: {body}"

    async def form(self, draw):
        schema = {"type": "object", "properties": {f"p{draw.randrange(50)}": {"type": "integer"}}, "additionalProperties": False}
        form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
        await self.ask(self.question(draw, response_format=form, max_tokens=24))

    async def client(self, number, seed):
        """One after the other, until the end."""
        draw = random.Random(seed * 1000 + number)
        ways = [self.whole, self.stream, self.cancel, self.vanish, self.vanish_while_waiting, self.read_slowly, self.image, self.audio, self.transcribe, self.embed, self.be_refused, self.form]
        while self.end is None or time.monotonic() < self.end:
            way = draw.choice(ways)
            await way(draw)
            self.done[way.__name__] += 1

    async def watch(self):
        """The memory of the server, every second of the minutes."""
        while self.done.total() < self.before:
            await asyncio.sleep(1)
        self.end = time.monotonic() + self.minutes * 60
        samples = []
        while time.monotonic() < self.end:
            samples.append(self.service.memory())
            await asyncio.sleep(1)
        return samples

    async def counts(self):
        status, _, body = await client.ask(self.service, "/metrics")
        assert status == 200, status
        return metrics(body.decode())


async def run(service, models, options):
    soak = Soak(service, models, options)
    clients = [soak.client(number, options.seed) for number in range(options.clients)]
    samples, *_ = await asyncio.gather(soak.watch(), *clients)
    # Who left last is noticed before the next step; the one connection left is that of the client who asks.
    for _ in range(100):
        counts = await soak.counts()
        if counts["percept_requests_running"] + counts["percept_requests_waiting"] == 0 and counts["percept_connections"] == 1:
            break
        await asyncio.sleep(0.1)
    third = len(samples) // 3
    first, second, last = (statistics.mean(samples[i * third : (i + 1) * third]) for i in range(3))
    print(json.dumps({
        "requests": dict(soak.done), "in all": soak.done.total(),
        "mean MB of each third": [round(mean / 1e6, 1) for mean in (first, second, last)],
        "last over second": round(last / second, 4), "most MB": round(service.memory("VmHWM") / 1e6, 1),
        "share of the cache held at the end": counts["percept_cache_usage_ratio"], "pages": counts["percept_cache_pages"],
        "connections at the end": counts["percept_connections"],
        "tokens": counts["percept_generation_tokens_total"], "preemptions": counts["percept_preemptions_total"],
    }, indent=1))
    assert abs(last / second - 1) <= 0.02, "the memory of the server is not flat"
    assert counts["percept_cache_usage_ratio"] == 0, "pages are held by nobody"
    assert counts["percept_requests_running"] == counts["percept_requests_waiting"] == 0, counts
    assert counts["percept_connections"] == 1, counts


def main():
    options = arguments()
    models = ["qwen2", "tuned"] + (["large"] if options.model else [])
    more = ["--model", f"large={options.model}"] if options.model else []
    given = [*small("qwen2", VISION, AUDIO, "whisper", "clip"), *ADAPTER, *more]
    # A cache of this size is full in the first third, and then one prompt takes the place of another.
    with Service(options.percept, *given, "--cache-rows", 4096) as service:
        asyncio.run(run(service, models, options))
        code = service.stop()
        assert code == 0, f"the server ended with code {code}"
    print("as it must be")


if __name__ == "__main__":
    main()
