"""Drives a running server with LangChain's clients of OpenAI: see README.md."""

import base64
import pathlib
import sys

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "qwen2"
PICTURE = pathlib.Path(__file__).parents[3] / "tests/parity/media/a7.png"
SERVER = dict(base_url=f"{URL}/v1", api_key="none", max_retries=0)
TALK = [SystemMessage("Count."), HumanMessage("12 34"), AIMessage("56"), HumanMessage("78")]
SCHEMA = {
    "title": "thing", "type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": False,
}

chat = ChatOpenAI(model=MODEL, temperature=0, max_tokens=8, **SERVER)
whole = chat.invoke(TALK)
assert whole.usage_metadata["output_tokens"] <= 8 and whole.response_metadata["finish_reason"] in ("stop", "length"), whole
pieces = list(chat.stream(TALK, stream_usage=True))
assert "".join(piece.content for piece in pieces) == whole.content, (pieces, whole)
assert sum(piece.usage_metadata["output_tokens"] for piece in pieces if piece.usage_metadata) == whole.usage_metadata["output_tokens"]
assert [answer.content for answer in chat.batch([TALK, TALK])] == [whole.content] * 2

token = chat.bind(logprobs=True, top_logprobs=2).invoke(TALK).response_metadata["logprobs"]["content"][0]
assert len(token["top_logprobs"]) == 2, token

data = base64.b64encode(PICTURE.read_bytes()).decode()
shown = [{"type": "text", "text": "What is this?"}, {"type": "image", "base64": data, "mime_type": "image/png"}]
seen = ChatOpenAI(model="gemma3", max_tokens=4, **SERVER).invoke([HumanMessage(shown)])
assert seen.usage_metadata["input_tokens"] > 4, seen

formed = ChatOpenAI(model=MODEL, temperature=0, max_tokens=200, **SERVER).with_structured_output(SCHEMA, method="json_schema", include_raw=True)
answer = formed.invoke(TALK)
if answer["raw"].response_metadata["finish_reason"] == "stop":
    assert isinstance(answer["parsed"]["ok"], bool), answer

# Its check of lengths cuts texts into OpenAI's tokens, which are not the model's.
vectors = OpenAIEmbeddings(model="vectors", check_embedding_ctx_length=False, **SERVER).embed_documents(["red", "blue"])
assert len(vectors) == 2 and abs(sum(x * x for x in vectors[0]) - 1) < 1e-4

answered = ChatOpenAI(model=MODEL, temperature=0, max_tokens=8, use_responses_api=True, **SERVER).invoke(TALK)
assert answered.text == whole.content, (answered, whole)
try:
    ChatOpenAI(model="none", **SERVER).invoke(TALK)
    raise AssertionError("a model that is not there answers")
except openai.NotFoundError as error:
    assert "there are:" in str(error), error
print("as it must be")
