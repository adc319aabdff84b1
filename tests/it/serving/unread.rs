//! What a chat template does not read changes nothing, and is refused by name in the words of each protocol.

use percept::serve::Options;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Running, ask, talk};
use super::forms::{source, with_template};

const CHAT: &str = "/v1/chat/completions";

/// Reads the name of a speaker, a beginning of the answer, calls, and whether to think.
const READING: &str = "{% for m in messages %}{{ m.role }} {{ m.name }}: {{ m.content }}{% for c in m.tool_calls or [] %}\
    {{ c.function.name }}{% endfor %}{% if not m.prefix %}.{% endif %}{% endfor %}{% if enable_thinking %}<think></think>{% endif %}";
/// Prints every message whole.
const PRINTING: &str = "{% for m in messages %}{{ m | tojson }}{% endfor %}";

/// The field that a failure names, in the shape of the path's protocol.
fn named(path: &str, reply: &Value) -> (String, String) {
    let error = &reply["error"];
    let message = error["message"].as_str().or(error.as_str()).unwrap_or_default().to_owned();
    let param = match path {
        "/v1/messages" | "/v1/messages/count_tokens" => {
            assert_eq!((&reply["type"], &error["type"]), (&json!("error"), &json!("invalid_request_error")));
            message.split('`').nth(1).unwrap_or_default().to_owned()
        }
        "/api/chat" | "/api/generate" => message.split('`').nth(1).unwrap_or_default().to_owned(),
        _ => error["param"].as_str().unwrap_or_default().to_owned(),
    };
    (param, message)
}

fn turn(more: Value) -> Value {
    let mut turn = json!({ "role": "user", "content": "12" });
    more.as_object().unwrap().iter().for_each(|(name, value)| turn[name] = value.clone());
    turn
}

fn call(more: Value) -> Value {
    let mut call = json!({ "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" } });
    more.as_object().unwrap().iter().for_each(|(name, value)| call[name] = value.clone());
    json!([turn(json!({})), { "role": "assistant", "content": "a", "tool_calls": [call] }])
}

/// A server of two models, whose templates read fields and print messages whole; and their folders.
fn of_templates() -> (Running, [TempDir; 2]) {
    let folders = [READING, PRINTING].map(with_template);
    let [reading, printing] = folders.each_ref().map(|folder| folder.path().to_owned());
    let sources = vec![source("reading", reading), source("printing", printing)];
    (Running::start(sources, Options::default()), folders)
}

#[test]
fn what_no_template_reads_is_refused_by_name_in_every_protocol() {
    let (server, _folders) = of_templates();
    let plain = Running::of(&["qwen2"]);
    let of = |model: &str| if model == "qwen2" { &plain } else { &server };
    let said = |more: Value| json!([turn(more)]);
    let kwargs = json!({ "chat_template_kwargs": { "enable_thinknig": true } });
    let with = |mut body: Value, more: &Value| {
        more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        body
    };
    let slip = "chat_template_kwargs.enable_thinknig";
    for (path, body, field) in [
        (CHAT, talk("qwen2", said(json!({ "prefix": true })), json!({})), "messages[0].prefix"),
        (CHAT, talk("qwen2", said(json!({ "prefix": false })), json!({})), "messages[0].prefix"),
        (CHAT, talk("qwen2", said(json!({ "name": "ann" })), json!({})), "messages[0].name"),
        (CHAT, talk("qwen2", said(json!({ "cache": 1 })), json!({})), "messages[0].cache"),
        (CHAT, talk("qwen2", said(json!({ "weight": 0 })), json!({})), "messages[0].weight"),
        (CHAT, talk("qwen2", call(json!({})), json!({})), "messages[1].tool_calls"),
        (CHAT, talk("reading", said(json!({ "cache": 1 })), json!({})), "messages[0].cache"),
        (CHAT, talk("reading", call(json!({ "more": 1 })), json!({})), "messages[1].tool_calls[0].more"),
        (
            CHAT,
            talk(
                "reading",
                call(json!({ "function": { "name": "f", "arguments": "{}", "strict": 1 } })),
                json!({}),
            ),
            "messages[1].tool_calls[0].function.strict",
        ),
        (CHAT, ask("reading", "a", kwargs.clone()), slip),
        (
            CHAT,
            ask("qwen2", "a", json!({ "chat_template_kwargs": { "enable_thinking": false } })),
            "chat_template_kwargs.enable_thinking",
        ),
        ("/v1/responses", with(json!({ "model": "reading", "input": "a" }), &kwargs), slip),
        (
            "/v1/responses",
            json!({ "model": "reading", "input": [{ "role": "user", "content": "a", "name": "ann" }] }),
            "input[0].name",
        ),
        ("/v1/messages", ask("reading", "a", with(kwargs.clone(), &json!({ "max_tokens": 1 }))), slip),
        ("/v1/messages/count_tokens", ask("reading", "a", kwargs.clone()), slip),
        (
            "/v1/messages",
            talk("qwen2", said(json!({ "prefix": true })), json!({ "max_tokens": 1 })),
            "messages[0].prefix",
        ),
        (
            "/v1/messages",
            talk(
                "qwen2",
                said(json!({ "content": [{ "type": "text", "text": "a", "citations": [1] }] })),
                json!({ "max_tokens": 1 }),
            ),
            "messages[0].content[0].citations",
        ),
        (
            "/v1/messages",
            talk(
                "qwen2",
                json!([turn(json!({})), { "role": "assistant", "content": [{ "type": "tool_use", "id": "1", "name": "f", "input": {} }] }]),
                json!({ "max_tokens": 1 }),
            ),
            "messages[1].tool_calls",
        ),
        (
            "/api/chat",
            talk("qwen2", said(json!({ "prefix": true })), json!({ "stream": false })),
            "messages[0].prefix",
        ),
        ("/api/chat", ask("qwen2", "a", json!({ "think": true })), "think"),
        ("/api/generate", json!({ "model": "qwen2", "prompt": "a", "think": true }), "think"),
        ("/tokenize", ask("reading", "a", kwargs.clone()), slip),
        ("/tokenize", talk("qwen2", said(json!({ "prefix": true })), json!({})), "messages[0].prefix"),
        (
            "/tokenize",
            ask(
                "reading",
                "a",
                json!({ "tools": [{ "type": "function", "function": { "name": "f", "more": 1 } }] }),
            ),
            "tools[0].function.more",
        ),
        (
            "/tokenize",
            ask("qwen2", "a", json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] })),
            "tools",
        ),
    ] {
        let reply = of(body["model"].as_str().unwrap()).post(path, &body);
        assert_eq!(reply.status, 400, "{path} {body}: {}", reply.text());
        let (param, message) = named(path, &serde_json::from_str(&reply.text()).unwrap());
        assert_eq!(param, field, "{path} {body}: {message}");
    }
}

#[test]
fn what_a_template_reads_and_what_says_nothing_is_taken() {
    let (server, _folders) = of_templates();
    let prompt = |messages: Value, more: Value| {
        let mut body = talk("reading", messages, more);
        body["return_token_strs"] = json!(true);
        let found = server.post("/tokenize", &body).good();
        found["token_strs"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect::<String>()
    };
    let said = |more: Value| json!([turn(more)]);
    assert_eq!(prompt(said(json!({})), json!({})), "user : 12.");
    assert_eq!(prompt(said(json!({ "prefix": true })), json!({})), "user : 12");
    assert_eq!(prompt(said(json!({ "prefix": false, "name": "ann" })), json!({})), "user ann: 12.");
    let thinks = json!({ "chat_template_kwargs": { "enable_thinking": true } });
    assert_eq!(prompt(said(json!({})), thinks), "user : 12.<think></think>");
    assert!(prompt(call(json!({ "index": 0 })), json!({})).contains(": af"));
    // What models said before comes back with all that clients keep of it.
    let kept = json!([
        turn(json!({})),
        { "role": "assistant", "content": "a", "refusal": null, "annotations": [], "audio": null, "reasoning_content": "so" },
        { "role": "tool", "content": "a", "tool_call_id": "1", "name": "f" },
    ]);
    prompt(kept.clone(), json!({}));
    let plain = Running::of(&["qwen2"]);
    plain.post(CHAT, &talk("qwen2", kept, json!({ "max_tokens": 1 }))).good();
    plain
        .post(
            "/api/chat",
            &ask("qwen2", "a", json!({ "think": false, "stream": false, "options": { "num_predict": 1 } })),
        )
        .good();
    // A message that is printed whole is read whole.
    server.post(CHAT, &talk("printing", said(json!({ "mood": "glad" })), json!({ "max_tokens": 1 }))).good();
    // Ollama and Anthropic have words of their own for what the template is told.
    let think = |path: &str, more: Value| {
        let mut body = ask("reading", "a", more);
        body["stream"] = json!(false);
        let found = server.post(path, &body).good();
        let usage = ["input_tokens", "cache_read_input_tokens"].map(|name| found["usage"][name].as_u64());
        found["prompt_eval_count"].as_u64().or_else(|| usage.into_iter().sum()).unwrap()
    };
    let one = json!({ "num_predict": 1 });
    let [on, off] = [true, false].map(|on| think("/api/chat", json!({ "think": on, "options": one })));
    assert!(on > off, "{on} {off}");
    let off = json!({ "max_tokens": 1, "thinking": { "type": "disabled" } });
    let on = json!({ "max_tokens": 1, "chat_template_kwargs": { "enable_thinking": true } });
    assert!(think("/v1/messages", on) > think("/v1/messages", off));
}
