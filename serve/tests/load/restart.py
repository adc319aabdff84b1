"""A server that is asked to stop, and one that is killed, both under load: see README.md."""

import argparse
import asyncio
import json
import random
import signal
import time

import client
import material
from service import Service

CHAT = "/v1/chat/completions"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("percept", help="the program")
    parser.add_argument("model", help="a language model, such as SmolLM2.gguf")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    return parser.parse_args()


def question(number, tokens):
    messages = material.said(material.text(random.Random(number), 24))
    return {"model": "model", "messages": messages, "max_tokens": tokens, "ignore_eos": True, "temperature": 0, "stream": True}


async def stream(service, number, tokens):
    """How a stream ended."""
    answer = await client.send(service, CHAT, question(number, tokens))
    if answer.status != 200:
        await answer.body()
        return "refused"
    # One that is cut raises.
    events = [event async for event in answer.events()]
    if "error" in events[-1]:
        assert "stopping" in events[-1]["error"]["message"], events[-1]
        return "told"
    assert events[-1]["choices"][0]["finish_reason"] == "length", events[-1]
    return "finished"


async def terminated(options, grace, tokens):
    """SIGTERM while all clients stream: how they ended, and how long the server took."""
    with Service(options.percept, "--model", f"model={options.model}", "--grace", grace) as service:
        streams = [asyncio.create_task(stream(service, number, tokens)) for number in range(options.clients)]
        await asyncio.sleep(3)
        began = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        try:
            late = await stream(service, 0, tokens)
        except (OSError, client.Cut):
            late = "not connected"
        ends = await asyncio.gather(*streams)
        code = await asyncio.to_thread(service.process.wait, 120)
        took = time.monotonic() - began
    counts = {end: ends.count(end) for end in sorted(set(ends))}
    print(json.dumps({"grace": grace, "streams": counts, "one that came later": late, "seconds": round(took, 2), "code": code}))
    assert code == 0 and took < grace + 5, (code, took)
    assert late in ("refused", "not connected"), late
    return counts


async def killed(options):
    """SIGKILL while all clients wait, and the server started again: what they were told in the end."""
    given = ["--model", f"model={options.model}"]
    with Service(options.percept, *given) as service:
        alone = [await client.until_answered(service, CHAT, question(number, options.tokens)) for number in range(options.clients)]
        expected = [client.text_of(answer) for answer, _ in alone]
        asked = [
            asyncio.create_task(client.until_answered(service, CHAT, question(number, options.tokens)))
            for number in range(options.clients)
        ]
        await asyncio.sleep(2)
        service.kill()
        unanswered = sum(not task.done() for task in asked)
        again = await asyncio.to_thread(Service, options.percept, *given, port=service.port)
    with again:
        answers = await asyncio.gather(*asked)
        tries = [tries for _, tries in answers]
        same = sum(client.text_of(answer) == text for (answer, _), text in zip(answers, expected))
        print(json.dumps({"clients": len(asked), "unanswered when it was killed": unanswered, "tries at most": max(tries), "answers as expected": same}))
        assert unanswered > 0 and max(tries) > 1, "the server was killed too late to tell"
        assert same == len(asked)
        assert again.stop() == 0


async def run(options):
    counts = await terminated(options, 60, options.tokens)
    assert set(counts) == {"finished"}, counts
    counts = await terminated(options, 2, 2000)
    assert set(counts) == {"told"}, counts
    await killed(options)


def main():
    asyncio.run(run(arguments()))
    print("as it must be")


if __name__ == "__main__":
    main()
