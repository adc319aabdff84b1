"""A client that sees what happens on its connection: one request a connection, over asyncio's streams."""

import asyncio
import json
import socket
import struct


class Cut(Exception):
    """The connection ended before the answer did."""


class Answer:
    """The head of a response, and its body as it comes."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.status, self.headers = 0, {}

    async def begin(self):
        line = await self._line()
        self.status = int(line.split(b" ", 2)[1])
        while line := await self._line():
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()

    async def _line(self):
        line = await self.reader.readline()
        if not line.endswith(b"\n"):
            raise Cut("the head of the response ended early")
        return line.rstrip(b"\r\n")

    async def pieces(self):
        """The body, piece by piece."""
        try:
            if self.headers.get("transfer-encoding") == "chunked":
                while length := int(await self._line(), 16):
                    yield await self.reader.readexactly(length)
                    await self.reader.readexactly(2)
                await self.reader.readexactly(2)
            elif length := int(self.headers.get("content-length", 0)):
                yield await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ValueError) as error:
            raise Cut("the body of the response ended early") from error

    async def body(self):
        return b"".join([piece async for piece in self.pieces()])

    async def events(self):
        """The documents of a stream of server-sent events. One that ends without `[DONE]` was cut."""
        kept = b""
        async for piece in self.pieces():
            *lines, kept = (kept + piece).split(b"\n")
            for line in lines:
                if line == b"data: [DONE]":
                    return
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        raise Cut("the stream ended without [DONE]")

    def close(self):
        self.writer.close()

    def vanish(self):
        """Ends the connection as a client does that crashed: with a reset."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


def head(method, path, length, kind, headers):
    lines = [f"{method} {path} HTTP/1.1", "Host: load", "Connection: close", f"Content-Type: {kind}"]
    lines += [f"Content-Length: {length}"] + [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def send(service, path, document=None, headers={}, body=None, kind="application/json"):
    """The answer to a request, of which the head has come. A document or a body is posted."""
    if document is not None:
        body = json.dumps(document).encode()
    method = "GET" if body is None else "POST"
    reader, writer = await asyncio.open_connection(service.host, service.port)
    try:
        writer.write(head(method, path, len(body or b""), kind, headers) + (body or b""))
        await writer.drain()
        answer = Answer(reader, writer)
        await answer.begin()
        return answer
    except BaseException:
        writer.close()
        raise


async def ask(service, path, document=None, **more):
    """Status, headers and body of a whole answer."""
    answer = await send(service, path, document, **more)
    try:
        return answer.status, answer.headers, await answer.body()
    finally:
        answer.close()


async def until_answered(service, path, document, headers={}, seconds=300):
    """The whole answer, asked for again when the server is full, away or gone; and how often it was asked for."""
    clock = asyncio.get_running_loop().time
    last, tries = clock() + seconds, 0
    while True:
        tries += 1
        wait = 0.5
        try:
            answer = await send(service, path, document, headers)
            try:
                if answer.status == 200:
                    if document.get("stream"):
                        events = [event async for event in answer.events()]
                        # An answer that the server gave up says so in its stream.
                        if not any("error" in event for event in events):
                            return events, tries
                    else:
                        return json.loads(await answer.body()), tries
                elif answer.status in (429, 502, 503, 504):
                    wait = float(answer.headers.get("retry-after", wait))
                    await answer.body()
                else:
                    raise AssertionError(f"{answer.status}: {(await answer.body()).decode(errors='replace')}")
            finally:
                answer.close()
        except (OSError, Cut):
            pass
        if clock() > last:
            raise AssertionError(f"no answer within {seconds} s and {tries} tries")
        await asyncio.sleep(wait)


def text_of(answer):
    """What a chat completion says, streamed or whole."""
    if isinstance(answer, list):
        deltas = [choice["delta"] for event in answer for choice in event["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)
    return answer["choices"][0]["message"]["content"]


def lift_the_bound_of_files():
    """Lets this process, and those that it starts, hold as many connections as the system allows."""
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
