"""What clients ask and show: texts, images and audio, made from a number, and the small media of the parity cases."""

import base64
import io
import math
import random
import struct
import wave
import zlib

from service import PARITY

WORDS = (
    "the a one two three seven nine red blue green ship harbour river mountain bread coffee engine window letter number "
    "opens closes carries answers counts writes reads before after under over why how when which whose and or but because"
).split()


def text(draw, words):
    """A text of so many words, with a question at its end."""
    return " ".join(draw.choice(WORDS) for _ in range(words)) + "?"


def png(draw, side=64):
    """A PNG of coloured squares."""
    colours = [[bytes(draw.randrange(256) for _ in range(3)) for _ in range(4)] for _ in range(4)]
    rows = b"".join(
        b"\0" + b"".join(colours[y * 4 // side][x * 4 // side] for x in range(side)) for y in range(side)
    )

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def wav(draw, seconds=1.0, rate=16000):
    """A wave file of a tone with a glide."""
    f, g = draw.uniform(100, 900), draw.uniform(-300, 300)
    samples = (math.sin(2 * math.pi * (f + g * i / rate) * i / rate) for i in range(int(seconds * rate)))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(b"".join(struct.pack("<h", int(12000 * s)) for s in samples))
    return out.getvalue()


def data_url(data, kind):
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def image_part(data, kind="image/png"):
    return {"type": "image_url", "image_url": {"url": data_url(data, kind)}}


def audio_part(data):
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"}}


def video_part(data):
    return {"type": "video_url", "video_url": {"url": data_url(data, "video/x-matroska")}}


def shown(question, *parts):
    """A conversation in which media are shown and asked about."""
    return [{"role": "user", "content": [*parts, {"type": "text", "text": question}]}]


def said(question):
    return [{"role": "user", "content": question}]


def picture(name):
    return image_part((PARITY / "media" / name).read_bytes())


def form(fields, file):
    """A multipart form with an audio file, and its content type."""
    mark = f"----{random.randrange(1 << 60):x}"
    parts = [f'--{mark}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    start = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    return b"".join(parts) + start.encode() + file + f"\r\n--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"
