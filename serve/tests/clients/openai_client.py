"""Drives a running server with the package of OpenAI: see README.md."""

import base64
import json
import pathlib
import sys

import openai

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
MODEL = sys.argv[2] if len(sys.argv) > 2 else "qwen2"
MEDIA = pathlib.Path(__file__).parents[3] / "tests/parity/media"
client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
TALK = [{"role": "user", "content": "12 34"}]
SCHEMA = {
    "type": "object",
    "properties": {"size": {"type": "integer"}, "colour": {"enum": ["red", "blue"]}},
    "required": ["size", "colour"],
    "additionalProperties": False,
}


def data(name):
    return base64.b64encode((MEDIA / name).read_bytes()).decode()


def refused(call, kind, says):
    try:
        call()
    except kind as error:
        assert says in str(error), error
        return
    raise AssertionError(f"{says}: nothing was refused")


def models():
    listed = [model.id for model in client.models.list()]
    assert MODEL in listed and client.models.retrieve(MODEL).id == MODEL, listed
    return listed


def chat():
    given = dict(model=MODEL, messages=TALK, max_tokens=8, temperature=0, extra_body={"ignore_eos": True})
    whole = client.chat.completions.create(**given, logprobs=True, top_logprobs=2)
    choice = whole.choices[0]
    assert choice.finish_reason == "length" and whole.usage.completion_tokens == 8, whole
    assert len(choice.logprobs.content) == 8 and len(choice.logprobs.content[0].top_logprobs) == 2
    text, usage = "", None
    for chunk in client.chat.completions.create(**given, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert text == choice.message.content and usage.completion_tokens == 8, (text, usage)
    again = client.chat.completions.create(**{**given, "temperature": 1}, n=3, seed=1)
    assert [choice.index for choice in again.choices] == [0, 1, 2]


def media():
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data('a7.png')}"}}
    sound = {"type": "input_audio", "input_audio": {"data": data("chirp7.wav"), "format": "wav"}}
    for model, part in (("gemma3", picture), ("audio", sound)):
        talk = [{"role": "user", "content": [part, {"type": "text", "text": "What is this?"}]}]
        whole = client.chat.completions.create(model=model, messages=talk, max_tokens=4)
        assert whole.usage.prompt_tokens > 4, whole


def forms():
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}}
    whole = client.chat.completions.create(model=MODEL, messages=TALK, response_format=form, max_tokens=200)
    if whole.choices[0].finish_reason == "stop":
        thing = json.loads(whole.choices[0].message.content)
        assert isinstance(thing["size"], int) and thing["colour"] in ("red", "blue"), thing


def tools():
    given = [{"type": "function", "function": {"name": "paint", "description": "Paints.", "parameters": SCHEMA}}]
    try:
        given = dict(model=MODEL, messages=TALK, tools=given, tool_choice="required", max_tokens=300, temperature=0)
        whole = client.chat.completions.create(**given)
    except openai.BadRequestError as error:
        assert "chat template knows no tools" in str(error), error
        return "its template knows no tools"
    call = whole.choices[0].message.tool_calls[0]
    assert call.function.name == "paint", whole
    name, arguments = None, ""
    for chunk in client.chat.completions.create(**given, stream=True):
        for choice in chunk.choices:
            for piece in choice.delta.tool_calls or []:
                name = piece.function.name or name
                arguments += piece.function.arguments or ""
    assert (name, arguments) == ("paint", call.function.arguments), (name, arguments)
    return json.loads(arguments)


def completions():
    whole = client.completions.create(model=MODEL, prompt=["12", "34"], max_tokens=4, logprobs=1)
    assert len(whole.choices) == 2 and len(whole.choices[0].logprobs.tokens) >= 1, whole
    pieces = client.completions.create(model=MODEL, prompt="12", max_tokens=4, stream=True)
    assert all(chunk.object == "text_completion" for chunk in pieces)


def embeddings():
    for model in ("vectors", "clip"):
        # The package asks for base64 by itself, and decodes it.
        vectors = client.embeddings.create(model=model, input=["red", "blue"]).data
        floats = client.embeddings.create(model=model, input="red", encoding_format="float").data[0].embedding
        assert len(vectors) == 2 and abs(sum(x * x for x in vectors[0].embedding) - 1) < 1e-4
        assert max(abs(a - b) for a, b in zip(vectors[0].embedding, floats)) < 1e-6


def transcriptions():
    with open(MEDIA / "chirp7.wav", "rb") as file:
        plain = client.audio.transcriptions.create(model="whisper", file=file)
    with open(MEDIA / "chirp7.wav", "rb") as file:
        verbose = client.audio.transcriptions.create(
            model="whisper", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"]
        )
    assert verbose.text == plain.text and verbose.duration > 0 and verbose.segments is not None, verbose
    with open(MEDIA / "chirp7.wav", "rb") as file:
        events = list(client.audio.transcriptions.create(model="whisper", file=file, stream=True))
    assert events[-1].type == "transcript.text.done" and events[-1].text == plain.text, events


def responses():
    whole = client.responses.create(model=MODEL, input="12 34", instructions="Count.", max_output_tokens=6, temperature=0)
    assert whole.output[0].type == "message" and whole.usage.output_tokens <= 6, whole
    last, text = None, ""
    with client.responses.stream(model=MODEL, input="12 34", instructions="Count.", max_output_tokens=6, temperature=0) as stream:
        for event in stream:
            last = event
            if event.type == "response.output_text.delta":
                text += event.delta
    assert text == whole.output_text and last.type in ("response.completed", "response.incomplete"), (text, last)


def refusals():
    def ask(**more):
        return lambda: client.chat.completions.create(**{"model": MODEL, "messages": TALK, **more})

    refused(ask(model="none"), openai.NotFoundError, "there are:")
    refused(ask(temperature=5), openai.BadRequestError, "temperature")
    refused(ask(extra_body={"frobnicate": 1}), openai.BadRequestError, "frobnicate")
    refused(lambda: client.responses.create(model=MODEL, input="a", previous_response_id="r"), openai.BadRequestError, "previous_response_id")


for check in (models, chat, media, forms, tools, completions, embeddings, transcriptions, responses, refusals):
    print(f"{check.__name__}: {check() or 'as it must be'}")
