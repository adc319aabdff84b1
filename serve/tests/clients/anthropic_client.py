"""Drives a running server with the package of Anthropic: see README.md."""

import base64
import pathlib
import sys

import anthropic

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "qwen2"
PICTURE = pathlib.Path(__file__).parents[3] / "tests/parity/media/a7.png"
client = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
TALK = [{"role": "user", "content": "12 34"}]
# Newer packages have no argument for it.
GREEDY = {"temperature": 0}

whole = client.messages.create(model=MODEL, system="Count.", messages=TALK, max_tokens=6, extra_body=GREEDY)
assert whole.type == "message" and whole.content[0].type == "text" and whole.usage.output_tokens <= 6, whole
with client.messages.stream(model=MODEL, system="Count.", messages=TALK, max_tokens=6, extra_body=GREEDY) as stream:
    text = "".join(stream.text_stream)
    last = stream.get_final_message()
assert text == whole.content[0].text and last.stop_reason == whole.stop_reason, (text, last)
assert client.messages.count_tokens(model=MODEL, system="Count.", messages=TALK).input_tokens > 2
source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PICTURE.read_bytes()).decode()}
shown = [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]}]
assert client.messages.create(model="gemma3", messages=shown, max_tokens=4).usage.input_tokens > 4
try:
    client.messages.create(model="none", messages=TALK, max_tokens=1)
    raise AssertionError("a model that is not there answers")
except anthropic.NotFoundError as error:
    assert "there are:" in str(error), error
try:
    client.messages.create(model=MODEL, messages=TALK, max_tokens=0)
    raise AssertionError("no tokens are generated")
except anthropic.BadRequestError as error:
    assert "max_tokens" in str(error), error
print("as it must be")
