"""HAProxy in front of several servers, configured as docs/serving.md says, and one of them killed under load: see README.md."""

import argparse
import asyncio
import json
import pathlib
import random
import re
import socket
import subprocess
import tempfile
import time

import client
import material
from service import ROOT, Service, metrics

CHAT = "/v1/chat/completions"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("percept", help="the program")
    parser.add_argument("model", help="a language model, such as SmolLM2.gguf")
    parser.add_argument("--haproxy", default="haproxy", help="the program of HAProxy")
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=24)
    parser.add_argument("--turns", type=int, default=4)
    return parser.parse_args()


def configuration(port, services):
    """The one of the documentation, with the addresses of these servers."""
    page = (ROOT / "docs/serving.md").read_text()
    text = next(block for block in page.split("```")[1::2] if "frontend" in block)
    servers = re.findall(r"^ +server .*$", text, re.M)
    options = servers[0].split(maxsplit=3)[3]
    lines = "\n".join(f"    server s{i} {service.host}:{service.port} {options}" for i, service in enumerate(services))
    for server in servers[1:]:
        text = text.replace(server + "\n", "")
    text, count = re.subn(r"bind :\d+", f"bind 127.0.0.1:{port}", text.replace(servers[0], lines))
    assert count == 1 and servers, text
    return text


class Balancer:
    """HAProxy, which clients ask as if it were a server."""

    def __init__(self, program, services):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.host, self.port = free.getsockname()
        self.folder = tempfile.TemporaryDirectory()
        file = pathlib.Path(self.folder.name) / "haproxy.cfg"
        file.write_text(configuration(self.port, services))
        subprocess.run([program, "-c", "-f", file], check=True, stdout=subprocess.DEVNULL)
        self.process = subprocess.Popen([program, "-db", "-f", file])

    async def begin(self):
        for _ in range(100):
            try:
                if (await client.ask(self, "/ready"))[0] == 200:
                    return
            except (OSError, client.Cut):
                pass
            await asyncio.sleep(0.1)
        raise SystemExit("HAProxy does not answer")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


async def session(balancer, number, options):
    """A conversation of some turns, each of which says all before it again."""
    draw = random.Random(number)
    talk, turns, before = [], [], 0
    for _ in range(options.turns):
        talk.append({"role": "user", "content": material.text(draw, 40)})
        document = {
            "model": "model", "messages": talk, "max_tokens": 24, "temperature": 0, "ignore_eos": True,
            "stream": number % 2 == 0, **({"stream_options": {"include_usage": True}} if number % 2 == 0 else {}),
        }
        began = time.monotonic()
        answer, tries = await client.until_answered(balancer, CHAT, document, {"X-Session-Id": f"session-{number}"})
        usage = (answer[-1] if isinstance(answer, list) else answer)["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        turns.append({"read before": before, "cached": cached, "tries": tries, "seconds": time.monotonic() - began})
        before = usage["prompt_tokens"]
        talk.append({"role": "assistant", "content": client.text_of(answer)})
    return [message["content"] for message in talk], turns


async def counts(services):
    alive = [service for service in services if service.process.poll() is None]
    return [metrics((await client.ask(service, "/metrics"))[2].decode()) for service in alive]


async def busy(services, tokens, again):
    """Waits until the first server, which has answered with `tokens` before, has answered some more and is answering: what runs."""
    while not again.done():
        count = (await counts(services))[0]
        running = count["percept_requests_running"]
        if running > 0 and count["percept_generation_tokens_total"] > tokens:
            return running
        await asyncio.sleep(0.02)
    raise AssertionError("the first server had nothing to do")


async def conversations(balancer, options):
    return await asyncio.gather(*(session(balancer, number, options) for number in range(options.sessions)))


def summary(held):
    later = [turn for _, turns in held for turn in turns[1:]]
    return {
        "sessions": len(held), "turns": sum(len(turns) for _, turns in held),
        "tries at most": max(turn["tries"] for _, turns in held for turn in turns),
        "slowest turn in seconds": round(max(turn["seconds"] for _, turns in held for turn in turns), 2),
        "share in the cache of the prompts before": round(sum(t["cached"] for t in later) / sum(t["read before"] for t in later), 3),
    }


async def run(services, options):
    with Balancer(options.haproxy, services) as balancer:
        await balancer.begin()
        held = await conversations(balancer, options)
        quiet = summary(held)
        quiet["tokens of each server"] = [count["percept_generation_tokens_total"] for count in await counts(services)]
        print(json.dumps({"all servers": quiet}, indent=1))
        assert quiet["tries at most"] == 1, quiet
        assert all(quiet["tokens of each server"]), "a server was asked nothing"
        # The end of a prompt that fills no page is read again.
        assert quiet["share in the cache of the prompts before"] > 0.6, quiet
        # The same conversations again, and a server is gone in their midst.
        again = asyncio.create_task(conversations(balancer, options))
        running = await busy(services, quiet["tokens of each server"][0], again)
        services[0].kill()
        killed = await again
        told = summary(killed)
        told["running on the server when it was killed"] = running
        told["texts as before"] = sum(a == b for (a, _), (b, _) in zip(held, killed))
        print(json.dumps({"one server killed": told}, indent=1))
        assert told["texts as before"] == options.sessions, "an answer is not what it was"
        # Without the header, servers are asked in turn.
        before = [count["percept_generation_tokens_total"] for count in await counts(services)]
        for number in range(8):
            await client.until_answered(balancer, CHAT, {"model": "model", "messages": material.said(f"{number}?"), "max_tokens": 2})
        after = [count["percept_generation_tokens_total"] for count in await counts(services)]
        assert all(b > a for a, b in zip(before, after)), (before, after)


def main():
    options = arguments()
    services = [Service(options.percept, "--model", f"model={options.model}") for _ in range(options.servers)]
    try:
        asyncio.run(run(services, options))
    finally:
        for service in services:
            service.kill()
    print("as it must be")


if __name__ == "__main__":
    main()
