//! Answers that must have a form have it, whatever the model, and calls of tools are read from them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept::infer::{Session, SessionOptions};
use percept::model::Model;
use percept::model::checkpoint::Checkpoint;
use percept::serve::{Loaded, Options, Source};
use serde_json::{Value, json};

use super::client::{Running, ask};
use crate::devices;

const CHAT: &str = "/v1/chat/completions";

/// A template that offers tools as these families' do.
const HERMES: &str = "{% if tools %}Tools: {{ tools | tojson }} Answer <tool_call>{...}</tool_call>\n{% endif %}\
    {% for m in messages %}{{ m.role }}: {{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.arguments.size }}\
    </tool_call>{% endfor %}\n{% endfor %}assistant: ";
const LLAMA: &str = "{% if tools %}<|python_tag|> {{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";
const MISTRAL: &str = "{% if tools %}[TOOL_CALLS] {{ tools | tojson }}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}";

/// The small Qwen with another template, in a folder that is there as long as what is returned.
pub fn with_template(template: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/qwen2/model");
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    std::fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    folder
}

pub fn source(name: &str, folder: PathBuf) -> Source {
    let open = move || {
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let Model::Causal(model) = percept::model::open(Arc::new(checkpoint)).unwrap() else {
            panic!("no text")
        };
        let options = SessionOptions { strict: true, ..SessionOptions::default() };
        Ok(Loaded::Language(Box::new(Session::new(devices::device("cpu"), model, options).unwrap())))
    };
    Source { name: name.into(), parent: None, open: Box::new(open), over: None }
}

/// A schema that a model without sense fills soon: nothing in it has room.
fn schema() -> Value {
    json!({
        "type": "object", "required": ["size", "colours", "round"], "additionalProperties": false,
        "properties": {
            "size": { "enum": ["small", "large"] }, "round": { "$ref": "#/$defs/truth" },
            "colours": { "type": "array", "items": { "enum": ["red", "blue"] }, "maxItems": 2 },
        },
        "$defs": { "truth": { "type": "boolean" } },
    })
}

#[track_caller]
fn check(thing: &Value) {
    assert!(["small", "large"].iter().any(|size| thing["size"] == *size), "{thing}");
    assert!(thing["round"].is_boolean(), "{thing}");
    let colours = thing["colours"].as_array().unwrap();
    assert!(colours.len() <= 2 && colours.iter().all(|c| c == "red" || c == "blue"), "{thing}");
    assert_eq!(thing.as_object().unwrap().len(), 3);
}

#[test]
fn answers_have_the_form_that_is_asked_for() {
    let server = Running::of(&["qwen2"]);
    let of = |format: Value, more: Value| {
        let mut document = ask("qwen2", "12 34", more);
        document["response_format"] = format;
        document["max_tokens"] = json!(600);
        server.post(CHAT, &document)
    };
    let texts = |reply: &Value| -> Vec<String> {
        let choices = reply["choices"].as_array().unwrap();
        assert!(choices.iter().all(|choice| choice["finish_reason"] == "stop"), "{reply}");
        choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap().to_owned()).collect()
    };
    let format = json!({ "type": "json_schema", "json_schema": { "name": "thing", "strict": true, "schema": schema() } });
    let reply = of(format.clone(), json!({ "temperature": 1, "n": 4, "seed": 3 })).good();
    let all = texts(&reply);
    assert_eq!(all.len(), 4);
    all.iter().for_each(|text| check(&serde_json::from_str(text).unwrap()));
    let whole = texts(&of(format.clone(), json!({ "temperature": 0 })).good());
    check(&serde_json::from_str(&whole[0]).unwrap());
    let events = of(format, json!({ "temperature": 0, "stream": true })).events();
    let streamed: String =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(streamed, whole[0]);

    let regex = json!({ "type": "regex", "regex": "[ab]{3,5}c" });
    for text in texts(&of(regex, json!({ "temperature": 1, "n": 4, "seed": 1 })).good()) {
        let body = text.strip_suffix('c').unwrap_or_else(|| panic!("{text}"));
        assert!((3..=5).contains(&body.len()) && body.chars().all(|c| c == 'a' || c == 'b'), "{text}");
    }
    let grammar = json!({ "type": "grammar", "grammar": "start: \"yes\" | \"no\"" });
    let answer = &texts(&of(grammar, json!({})).good())[0];
    assert!(answer == "yes" || answer == "no", "{answer}");
    let reply = of(json!({ "type": "json_object" }), json!({ "temperature": 0 })).good();
    let choice = &reply["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap();
    assert!(text.starts_with('{'), "{text}");
    assert!(choice["finish_reason"] == "length" || serde_json::from_str::<Value>(text).is_ok(), "{text}");
    assert_eq!(of(json!({ "type": "text" }), json!({ "max_tokens": 1 })).status, 200);
}

#[test]
fn forms_that_cannot_be_kept_are_refused_with_the_reason() {
    let server = Running::of(&["qwen2"]);
    let schema =
        |schema: Value| json!({ "type": "json_schema", "json_schema": { "name": "a", "schema": schema } });
    for (format, says) in [
        (json!({ "type": "xml" }), "'xml' is not known"),
        (json!("json"), "must be a JSON object"),
        (json!({}), "`response_format.type` is missing"),
        (json!({ "type": "json_schema" }), "`response_format.json_schema` is missing"),
        (json!({ "type": "json_schema", "json_schema": { "name": "a" } }), "schema` is missing"),
        (json!({ "type": "text", "more": 1 }), "`response_format.more` is not known"),
        (schema(json!({ "type": "strange" })), "cannot be compiled"),
        (schema(json!({ "$ref": "https://example.org/schema.json" })), "cannot be compiled"),
        (schema(json!({ "$ref": "#/nowhere" })), "cannot be compiled"),
        (schema(json!({ "x-guidance": {} })), "x-guidance"),
        (schema(json!(5)), "must be an object"),
        (json!({ "type": "regex", "regex": "(" }), "cannot be compiled"),
        (json!({ "type": "grammar", "grammar": "start: nothing" }), "cannot be compiled"),
    ] {
        let mut document = ask("qwen2", "a", json!({ "max_tokens": 5 }));
        document["response_format"] = format.clone();
        let reply = server.post(CHAT, &document);
        let error = reply.error();
        assert_eq!(reply.status, 400, "{format}: {error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{format}: {error}");
    }
    // Nested so deeply that it would take a machine's memory elsewhere.
    let mut bomb = json!({ "type": "string" });
    for _ in 0..60 {
        bomb = json!({ "anyOf": [bomb.clone(), { "type": "array", "items": bomb }] , "x": 1 });
        if bomb.to_string().len() > 1 << 20 {
            break;
        }
    }
    let mut document = ask("qwen2", "a", json!({ "max_tokens": 2 }));
    document["response_format"] = schema(bomb);
    let reply = server.post(CHAT, &document);
    assert!(reply.status == 200 || reply.status == 400, "{}", reply.text());
    server.post(CHAT, &ask("qwen2", "a", json!({ "max_tokens": 1 }))).good();
}

fn tools() -> Value {
    let function = |name: &str| json!({ "type": "function", "function": { "name": name, "description": "d", "parameters": schema() } });
    json!([function("paint"), function("mould")])
}

#[test]
fn calls_that_are_asked_for_are_made_and_read_in_every_format() {
    let folders = [
        ("hermes", with_template(HERMES)),
        ("llama", with_template(LLAMA)),
        ("mistral", with_template(MISTRAL)),
    ];
    let sources = folders.iter().map(|(name, folder)| source(name, folder.path().to_owned())).collect();
    let server = Running::start(sources, Options::default());
    for (name, _) in &folders {
        for (choice, parallel) in [
            (json!({ "type": "function", "function": { "name": "mould" } }), true),
            (json!("required"), false),
        ] {
            let is_named = choice.is_object();
            let more = json!({
                "tools": tools(), "tool_choice": choice, "parallel_tool_calls": parallel, "temperature": 0, "max_tokens": 900,
            });
            let whole = server.post(CHAT, &ask(name, "12 34", more.clone())).good();
            let answer = &whole["choices"][0];
            assert_eq!(answer["finish_reason"], "tool_calls", "{name}: {whole}");
            assert!(answer["message"]["content"].is_null(), "{name}: {whole}");
            let calls = answer["message"]["tool_calls"].as_array().unwrap();
            assert_eq!((calls.len(), &calls[0]["type"]), (1, &json!("function")));
            let function = &calls[0]["function"];
            assert!(function["name"] == "mould" || (!is_named && function["name"] == "paint"), "{whole}");
            check(&serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap());

            let mut streamed = more;
            streamed["stream"] = json!(true);
            let events = server.post(CHAT, &ask(name, "12 34", streamed)).events();
            let (mut told, mut arguments, mut pieces) = (Value::Null, String::new(), 0);
            for event in &events {
                for call in event["choices"][0]["delta"]["tool_calls"].as_array().into_iter().flatten() {
                    assert_eq!(call["index"], 0);
                    if call["function"]["name"].is_string() {
                        assert!(call["id"].is_string() && call["type"] == "function", "{call}");
                        told = call["function"]["name"].clone();
                    }
                    let piece = call["function"]["arguments"].as_str().unwrap();
                    pieces += usize::from(!piece.is_empty());
                    arguments.push_str(piece);
                }
            }
            assert_eq!(
                (&told, arguments.as_str()),
                (&function["name"], function["arguments"].as_str().unwrap())
            );
            assert!(pieces > 1, "arguments are streamed");
            let last = events.iter().rev().find_map(|event| event["choices"][0]["finish_reason"].as_str());
            assert_eq!(last, Some("tool_calls"));
        }
    }
}

#[test]
fn what_tools_gave_comes_back_to_the_model() {
    let folder = with_template(HERMES);
    let server = Running::start(vec![source("m", folder.path().to_owned())], Options::default());
    let call = json!({ "id": "123456789", "type": "function", "function": { "name": "paint", "arguments": "{\"size\": \"a size\"}" } });
    let messages = json!([
        { "role": "user", "content": "12" },
        { "role": "assistant", "content": "so", "tool_calls": [call] },
        { "role": "tool", "tool_call_id": "123456789", "content": "34" },
    ]);
    let document = json!({ "model": "m", "messages": messages, "tools": tools(), "return_token_strs": true });
    let whole = server.post("/tokenize", &document).good();
    let prompt: String =
        whole["token_strs"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    assert!(prompt.contains("<tool_call>a size</tool_call>") && prompt.contains("\"mould\""), "{prompt}");
    let document = json!({ "model": "m", "messages": messages, "tools": tools(), "max_tokens": 3 });
    server.post(CHAT, &document).good();
    // No tools, as some clients say it.
    server.post(CHAT, &ask("m", "a", json!({ "tools": [], "max_tokens": 1 }))).good();
    for (more, param) in [
        (json!({ "tools": [], "tool_choice": "required" }), "tool_choice"),
        (json!({ "tools": [{ "type": "web_search" }] }), "tools[0].type"),
        (json!({ "tools": [{ "type": "function" }] }), "tools[0].function"),
        (
            json!({ "tools": [{ "type": "function", "function": { "name": "a b" } }] }),
            "tools[0].function.name",
        ),
        (json!({ "tools": tools(), "tool_choice": "always" }), "tool_choice"),
        (
            json!({ "tools": tools(), "tool_choice": { "type": "function", "function": { "name": "x" } } }),
            "tool_choice",
        ),
        (json!({ "tool_choice": "required" }), "tool_choice"),
        (json!({ "tools": tools(), "parallel_tool_calls": false }), "parallel_tool_calls"),
        (
            json!({ "tools": tools(), "tool_choice": "required", "response_format": { "type": "json_object" } }),
            "response_format",
        ),
    ] {
        let error = server.post(CHAT, &ask("m", "a", more.clone())).error();
        assert_eq!(error["param"], param, "{more}: {error}");
    }
    let plain = Running::of(&["qwen2"]);
    let error = plain.post(CHAT, &ask("qwen2", "a", json!({ "tools": tools() }))).error();
    assert!(error["message"].as_str().unwrap().contains("template knows no tools"), "{error}");
}
