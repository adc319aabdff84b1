//! What conversations are made of, in each protocol.

use serde_json::{Value, json};

use super::bodies::{function, json_schema};
use super::schema::{any_of, anything, flag, list, object, one_word_of, shared, text, together};

/// The schemas that bodies share, by their names.
pub(super) fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("Message", message()),
        ("OllamaMessage", ollama_message()),
        ("Part", part()),
        (
            "Base64",
            json!({ "type": "string", "contentEncoding": "base64", "pattern": "^[A-Za-z0-9+/]*={0,2}$" }),
        ),
        ("Tool", tool()),
        ("ResponseFormat", response_format()),
        ("Item", item()),
        ("ItemContent", item_content()),
        ("UserTurn", turn("user", vec![text_block(), image_block(), result_block()])),
        ("AssistantTurn", turn("assistant", vec![text_block(), use_block(), thinking_block()])),
    ]
}

/// A message. What it holds beside is for the chat template.
fn message() -> Value {
    json!({
        "type": "object", "required": ["role"], "properties": {
            "role": text(), "content": any_of(vec![json!({ "type": ["string", "null"] }), list(shared("Part"))]),
        },
        "description": "What a message has beside, such as tool_calls and tool_call_id, its model's chat template reads.",
    })
}

fn ollama_message() -> Value {
    json!({
        "type": "object", "required": ["role"], "properties": {
            "role": text(), "content": { "type": ["string", "null"] }, "images": any_of(vec![list(shared("Base64")), json!({ "type": "null" })]),
        },
    })
}

/// Data of some type in base64, in an address.
fn data_url() -> Value {
    let what = "A data: URL, or an http(s) URL where the server fetches from its host.";
    json!({ "type": "string", "pattern": "^(data:[^,]*;base64,|https?://)", "description": what })
}

fn part() -> Value {
    let of = |kind: &str, value: Value| {
        let properties = together([json!({ "type": { "const": kind } }), json!({ kind: value })]);
        object(&["type", kind], properties)
    };
    let url = |more: Value| {
        any_of(vec![data_url(), object(&["url"], together([json!({ "url": data_url() }), more]))])
    };
    let audio = json!({ "data": shared("Base64"), "format": text() });
    any_of(vec![
        of("text", text()),
        of("image_url", url(json!({ "detail": { "const": "auto" } }))),
        of("video_url", url(json!({}))),
        of("audio_url", url(json!({}))),
        of("input_audio", object(&["data"], audio)),
    ])
}

fn tool() -> Value {
    object(
        &["type", "function"],
        json!({ "type": { "const": "function" }, "function": object(&["name"], function("parameters")) }),
    )
}

fn response_format() -> Value {
    let of = |kind: &str| {
        let properties = together([json!({ "type": { "const": kind } }), json!({ kind: text() })]);
        object(&["type", kind], properties)
    };
    any_of(vec![
        object(&["type"], json!({ "type": one_word_of(&["text", "json_object"]) })),
        object(
            &["type", "json_schema"],
            json!({ "type": { "const": "json_schema" }, "json_schema": object(&["schema"], json_schema()) }),
        ),
        of("regex"),
        of("grammar"),
    ])
}

/// An item of a Responses request.
fn item() -> Value {
    let of = |kind: &str, required: &[&str], more: Value| {
        let own = json!({ "type": { "const": kind }, "id": anything(), "status": anything() });
        // What has no type is a message.
        let typed: Vec<&str> =
            required.iter().copied().chain((kind != "message").then_some("type")).collect();
        object(&typed, together([own, more]))
    };
    let call = json!({ "call_id": text(), "name": text(), "arguments": text() });
    let thought = json!({ "summary": anything(), "content": anything(), "encrypted_content": anything() });
    any_of(vec![
        of("message", &["role", "content"], json!({ "role": text(), "content": shared("ItemContent") })),
        of("function_call", &["call_id", "name", "arguments"], call),
        of(
            "function_call_output",
            &["call_id", "output"],
            json!({ "call_id": text(), "output": shared("ItemContent") }),
        ),
        of("reasoning", &[], thought),
    ])
}

fn item_content() -> Value {
    let words = json!({
        "type": one_word_of(&["input_text", "output_text", "text"]), "text": text(), "annotations": anything(), "logprobs": anything(),
    });
    let image =
        json!({ "type": { "const": "input_image" }, "image_url": data_url(), "detail": { "const": "auto" } });
    let audio = object(&["data"], json!({ "data": shared("Base64"), "format": text() }));
    let audio = json!({ "type": { "const": "input_audio" }, "input_audio": audio });
    let parts = vec![
        object(&["type", "text"], words),
        object(&["type", "image_url"], image),
        object(&["type", "input_audio"], audio),
    ];
    any_of(vec![text(), list(any_of(parts))])
}

/// A turn of Anthropic's.
fn turn(role: &str, blocks: Vec<Value>) -> Value {
    let content = any_of(vec![text(), list(any_of(blocks))]);
    object(&["role", "content"], json!({ "role": { "const": role }, "content": content }))
}

fn block(kind: &str, required: &[&str], more: Value) -> Value {
    let own = json!({ "type": { "const": kind }, "cache_control": anything(), "citations": anything() });
    let required: Vec<&str> = ["type"].iter().chain(required).copied().collect();
    object(&required, together([own, more]))
}

fn text_block() -> Value {
    block("text", &["text"], json!({ "text": text() }))
}

fn image_block() -> Value {
    let data = json!({ "type": { "const": "base64" }, "media_type": text(), "data": shared("Base64") });
    let url = json!({ "type": { "const": "url" }, "url": data_url() });
    let source = any_of(vec![object(&["type", "data"], data), object(&["type", "url"], url)]);
    block("image", &["source"], json!({ "source": source }))
}

fn result_block() -> Value {
    let content = any_of(vec![text(), list(text_block())]);
    let own = json!({ "tool_use_id": text(), "is_error": flag(), "content": content });
    block("tool_result", &["tool_use_id"], own)
}

fn use_block() -> Value {
    block("tool_use", &["id", "name"], json!({ "id": text(), "name": text(), "input": anything() }))
}

fn thinking_block() -> Value {
    block("thinking", &["thinking"], json!({ "thinking": text(), "signature": anything() }))
}
