"""Far more clients at once than a server has room for: see README.md."""

import argparse
import asyncio
import collections
import json
import random
import time

import client
import material
from service import Service, metrics, percentile

RUNNING, WAITING = 16, 64


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("percept", help="the program")
    parser.add_argument("model", help="a language model, such as SmolLM2.gguf")
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=32)
    return parser.parse_args()


async def one(service, number, options, results):
    """One request, which is not repeated."""
    draw = random.Random(number)
    messages = material.said(material.text(draw, 32))
    more = {"max_tokens": options.tokens, "ignore_eos": True, "temperature": 0, "stream": number % 2 == 0}
    began = time.monotonic()
    answer = await client.send(service, "/v1/chat/completions", {"model": "model", "messages": messages, **more})
    if answer.status == 200 and more["stream"]:
        events = [event async for event in answer.events()]
        assert events[-1]["choices"][0]["finish_reason"] == "length", events[-1]
    else:
        document = json.loads(await answer.body())
        if answer.status == 200:
            assert document["usage"]["completion_tokens"] == options.tokens, document
        else:
            assert document["error"]["message"], document
    answer.close()
    results.append((answer.status, time.monotonic() - began, answer.headers.get("retry-after")))


async def wave(service, clients, options):
    """So many clients at once: what they were answered, and the memory of the server meanwhile."""
    results, most, before = [], 0, service.memory()
    all_of_them = asyncio.gather(*(one(service, number, options, results) for number in range(clients)))
    while not all_of_them.done():
        most = max(most, service.memory())
        await asyncio.wait([all_of_them], timeout=0.05)
    await all_of_them
    admitted = [seconds for status, seconds, _ in results if status == 200]
    refused = [retry for status, _, retry in results if status in (429, 503)]
    return {
        "clients": clients, "statuses": dict(collections.Counter(status for status, _, _ in results)),
        "seconds of the admitted, p50 and p99": [round(percentile(admitted, share), 2) for share in (0.5, 0.99)],
        "seconds of the refused, p99": round(percentile([s for status, s, _ in results if status != 200], 0.99), 3) if refused else None,
        "Retry-After": sorted({int(retry) for retry in refused}) if all(refused) else None,
        "MB before and at most": [round(before / 1e6, 1), round(most / 1e6, 1)],
    }


async def insist(service, options):
    """All clients at once, who come again when they are told to: every one is answered in the end."""
    began = time.monotonic()
    more = {"max_tokens": options.tokens, "ignore_eos": True, "temperature": 0}

    def of(number):
        messages = material.said(material.text(random.Random(number), 32))
        document = {"model": "model", "messages": messages, **more}
        return client.until_answered(service, "/v1/chat/completions", document, seconds=1200)

    answers = await asyncio.gather(*(of(number) for number in range(options.clients)))
    tries = [tries for _, tries in answers]
    return {"answered": len(answers), "seconds": round(time.monotonic() - began, 1), "tries at most": max(tries), "tries": sum(tries)}


async def run(service, options):
    # The caches and the tables that a full server has.
    await wave(service, RUNNING + WAITING, options)
    full = await wave(service, RUNNING + WAITING, options)
    over = await wave(service, options.clients, options)
    print(json.dumps({"as many as there is room for": full, "over that": over}, indent=1))
    insisted = await insist(service, options)
    counts = metrics((await client.ask(service, "/metrics"))[2].decode())
    most = service.memory("VmHWM")
    print(json.dumps({"coming again": insisted, "most MB": round(most / 1e6, 1)}, indent=1))
    assert full["statuses"] == {200: RUNNING + WAITING}, full
    assert set(over["statuses"]) == {200, 429} and over["statuses"][200] >= RUNNING + WAITING, over
    assert over["Retry-After"], "who is refused is not told when to come again"
    # Whoever is admitted waits for the queue, and not for those who were refused.
    slowest = full["seconds of the admitted, p50 and p99"][1]
    assert over["seconds of the admitted, p50 and p99"][1] <= 1.5 * slowest, (full, over)
    assert over["MB before and at most"][1] - full["MB before and at most"][1] <= 64, (full, over)
    assert insisted["answered"] == options.clients
    assert counts["percept_cache_usage_ratio"] == counts["percept_requests_running"] == 0, counts


def main():
    options = arguments()
    client.lift_the_bound_of_files()
    given = ["--model", f"model={options.model}", "--running", RUNNING, "--waiting", WAITING]
    with Service(options.percept, *given) as service:
        asyncio.run(run(service, options))
        code = service.stop()
        assert code == 0, f"the server ended with code {code}"
    print("as it must be")


if __name__ == "__main__":
    main()
