"""Drives a running server with the package of Ollama: see README.md."""

import pathlib
import sys

import ollama

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "qwen2"
PICTURE = pathlib.Path(__file__).parents[3] / "tests/parity/media/a7.png"
client = ollama.Client(host=URL)
TALK = [{"role": "user", "content": "12 34"}]
OPTIONS = {"temperature": 0, "num_predict": 6}

assert MODEL in [model.model for model in client.list().models]
whole = client.chat(model=MODEL, messages=TALK, options=OPTIONS)
assert whole.done and whole.eval_count <= 6, whole
text = "".join(piece.message.content for piece in client.chat(model=MODEL, messages=TALK, options=OPTIONS, stream=True))
assert text == whole.message.content, (text, whole)
shown = client.generate(model="gemma3", prompt="What is this?", images=[str(PICTURE)], options=OPTIONS)
assert shown.prompt_eval_count > 4, shown
schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False}
formed = client.generate(model=MODEL, prompt="12", format=schema, options={"num_predict": 100})
assert formed.response.lstrip().startswith("{"), formed
try:
    client.chat(model="none", messages=TALK)
    raise AssertionError("a model that is not there answers")
except ollama.ResponseError as error:
    assert "there are:" in str(error), error
print("as it must be")
