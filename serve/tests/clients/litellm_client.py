"""Drives a running server with LiteLLM's client of OpenAI: see README.md."""

import base64
import os
import pathlib
import sys

# Its list of prices is not fetched.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm  # noqa: E402

litellm.suppress_debug_info = True

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "qwen2"
PICTURE = pathlib.Path(__file__).parents[3] / "tests/parity/media/a7.png"
SERVER = dict(api_base=f"{URL}/v1", api_key="none", num_retries=0)
TALK = [{"role": "system", "content": "Count."}, {"role": "user", "content": "12 34"}]
GREEDY = dict(temperature=0, max_tokens=8)

whole = litellm.completion(model=f"openai/{MODEL}", messages=TALK, **GREEDY, **SERVER)
assert whole.usage.completion_tokens <= 8 and whole.choices[0].finish_reason in ("stop", "length"), whole
pieces = list(litellm.completion(model=f"openai/{MODEL}", messages=TALK, stream=True, stream_options={"include_usage": True}, **GREEDY, **SERVER))
text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
assert text == whole.choices[0].message.content, (text, whole)
assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens, pieces[-1]

data = base64.b64encode(PICTURE.read_bytes()).decode()
picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
shown = [{"role": "user", "content": [picture, {"type": "text", "text": "What is this?"}]}]
seen = litellm.completion(model="openai/gemma3", messages=shown, max_tokens=4, **SERVER)
assert seen.usage.prompt_tokens > 4, seen

continued = litellm.text_completion(model=f"text-completion-openai/{MODEL}", prompt="12 34", **GREEDY, **SERVER)
assert continued.choices[0].finish_reason in ("stop", "length"), continued
vectors = litellm.embedding(model="openai/vectors", input=["red", "blue"], **SERVER).data
assert len(vectors) == 2 and abs(sum(x * x for x in vectors[0]["embedding"]) - 1) < 1e-4
try:
    litellm.completion(model="openai/none", messages=TALK, **SERVER)
    raise AssertionError("a model that is not there answers")
except litellm.NotFoundError as error:
    assert "there are:" in str(error), error
try:
    litellm.completion(model=f"openai/{MODEL}", messages=TALK, temperature=5, **SERVER)
    raise AssertionError("a temperature of 5 is taken")
except litellm.BadRequestError as error:
    assert "temperature" in str(error), error
print("as it must be")
