"""Connections that say nothing, say it slowly, or take nothing, and a good request among them: see README.md."""

import argparse
import asyncio
import json
import statistics
import time

import client
import material
from service import Service, small

CHAT = "/v1/chat/completions"
GOOD = {"model": "qwen2", "messages": material.said("12 34"), "max_tokens": 8, "temperature": 0, "ignore_eos": True}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("percept", help="the program")
    parser.add_argument("--connections", type=int, default=10_000)
    return parser.parse_args()


async def times(service, rounds=5, count=40):
    """The median time of a good request in the quietest of some rounds, and the longest of all."""
    medians, most = [], 0
    for _ in range(rounds):
        all_of_them = []
        for _ in range(count):
            began = time.monotonic()
            status, _, _ = await client.ask(service, CHAT, GOOD)
            assert status == 200, status
            all_of_them.append(time.monotonic() - began)
        medians.append(statistics.median(all_of_them))
        most = max(most, *all_of_them)
    return min(medians), most


async def idle(service, number):
    """A connection that says nothing, or the beginning of a request; its address differs, since ports of one are few."""
    _, writer = await asyncio.open_connection(service.host, service.port, local_addr=(f"127.0.{1 + number // 5000}.1", 0))
    if number % 4 == 1:
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost:")
    elif number % 4 == 2:
        writer.write(client.head("POST", CHAT, 1000, "application/json", {}) + b'{"model": "')
    return writer


async def deaf(service):
    """A client that asks for a long stream and takes nothing of it."""
    more = {"stream": True, "logprobs": True, "top_logprobs": 20, "max_tokens": 2000}
    _, writer = await asyncio.open_connection(service.host, service.port)
    writer.transport.pause_reading()
    body = json.dumps({**GOOD, **more}).encode()
    writer.write(client.head("POST", CHAT, len(body), "application/json", {}) + body)
    return writer


async def run(service, options):
    await times(service)
    before, memory = await times(service), service.memory()
    writers = []
    for start in range(0, options.connections, 500):
        numbers = range(start, min(start + 500, options.connections))
        writers += await asyncio.gather(*(idle(service, number) for number in numbers))
    held = await times(service)
    most = service.memory("VmHWM")
    slow = [await deaf(service) for _ in range(4)]
    taken = await times(service)
    for writer in writers + slow:
        writer.transport.abort()
    await asyncio.sleep(1)
    after = await times(service)
    milliseconds = {name: [round(1e3 * t, 2) for t in pair] for name, pair in (
        ("alone", before), ("beside idle connections", held), ("and beside clients who take nothing", taken), ("when they are gone", after),
    )}
    print(json.dumps({"connections": len(writers), "ms, median and most": milliseconds, "MB before and at most": [round(memory / 1e6, 1), round(most / 1e6, 1)]}, indent=1))
    assert held[0] <= 1.5 * before[0] + 0.002, "idle connections cost the others time"
    assert after[0] <= 1.5 * before[0] + 0.002, "connections that are gone cost the others time"


def main():
    options = arguments()
    client.lift_the_bound_of_files()
    given = [*small("qwen2"), "--max-connections", options.connections + 100]
    with Service(options.percept, *given) as service:
        asyncio.run(run(service, options))
        assert service.stop() == 0
    print("as it must be")


if __name__ == "__main__":
    main()
