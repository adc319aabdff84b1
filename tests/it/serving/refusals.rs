//! What is wrong with a request is told by name, in OpenAI's shape.

use std::sync::Arc;

use percept::serve::{Limits, Options};
use serde_json::{Value, json};

use super::client::{Running, ask, language, talk};

/// A PNG of one pixel.
const PIXEL: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

fn show(url: &str) -> Value {
    json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": url } }, { "type": "text", "text": "?" }] }])
}

#[test]
fn every_fault_of_a_request_is_told_with_its_field() {
    let server = Running::of(&["qwen2", "gemma3"]);
    let chat = "/v1/chat/completions";
    let hello = |more: Value| ask("qwen2", "hello", more);
    let rows: Vec<(&str, Value, u16, Option<&str>, &str)> = vec![
        (chat, json!({}), 400, Some("model"), "`model` is missing"),
        (chat, json!({ "model": "qwen2" }), 400, Some("messages"), "`messages` is missing"),
        (chat, ask("gpt-4", "a", json!({})), 404, Some("model"), "there are: qwen2, gemma3"),
        (chat, talk("qwen2", json!([]), json!({})), 400, Some("messages"), "empty"),
        (chat, talk("qwen2", json!("hello"), json!({})), 400, Some("messages"), "list"),
        (chat, talk("qwen2", json!([{ "content": "a" }]), json!({})), 400, Some("messages[0]"), "role"),
        (
            chat,
            talk("qwen2", json!([{ "role": "user", "content": 5 }]), json!({})),
            400,
            Some("messages[0]"),
            "not 5",
        ),
        (chat, hello(json!({ "frobnicate": 1 })), 400, Some("frobnicate"), "not known"),
        (chat, hello(json!({ "temperature": 3 })), 400, Some("temperature"), "from 0 to 2"),
        (chat, hello(json!({ "temperature": "hot" })), 400, Some("temperature"), "\"hot\""),
        (chat, hello(json!({ "top_p": 0 })), 400, Some("top_p"), "above 0"),
        (chat, hello(json!({ "top_k": -2 })), 400, Some("top_k"), "whole number"),
        (chat, hello(json!({ "min_p": 2 })), 400, Some("min_p"), "from 0 to 1"),
        (chat, hello(json!({ "n": 0 })), 400, Some("n"), "from 1 to 16"),
        (chat, hello(json!({ "n": 17 })), 400, Some("n"), "from 1 to 16"),
        (chat, hello(json!({ "max_tokens": 0 })), 400, Some("max_tokens"), "from 1"),
        (
            chat,
            hello(json!({ "max_tokens": 1, "max_completion_tokens": 2 })),
            400,
            Some("max_tokens"),
            "differ",
        ),
        (chat, hello(json!({ "stop": ["a", ""] })), 400, Some("stop"), "none of them empty"),
        (chat, hello(json!({ "stop": 5 })), 400, Some("stop"), "a text or a list"),
        (chat, hello(json!({ "seed": 1.5 })), 400, Some("seed"), "whole number"),
        (chat, hello(json!({ "logit_bias": { "a": 1 } })), 400, Some("logit_bias"), "token ids"),
        (chat, hello(json!({ "logit_bias": { "5": 101 } })), 400, Some("logit_bias"), "-100 to 100"),
        (chat, hello(json!({ "logit_bias": { "100000": 1 } })), 400, None, "100000"),
        (chat, hello(json!({ "top_logprobs": 2 })), 400, Some("top_logprobs"), "logprobs"),
        (chat, hello(json!({ "logprobs": true, "top_logprobs": 21 })), 400, Some("top_logprobs"), "20"),
        (
            chat,
            hello(json!({ "stream_options": { "include_usage": true } })),
            400,
            Some("stream_options"),
            "stream",
        ),
        (
            chat,
            hello(json!({ "stream": true, "stream_options": { "more": 1 } })),
            400,
            Some("stream_options.more"),
            "not known",
        ),
        (chat, hello(json!({ "presence_penalty": -3 })), 400, Some("presence_penalty"), "from -2 to 2"),
        (chat, hello(json!({ "store": true })), 400, Some("store"), "keeps nothing"),
        (chat, hello(json!({ "service_tier": "priority" })), 400, Some("service_tier"), "one tier"),
        (
            chat,
            hello(json!({ "modalities": ["text", "audio"] })),
            400,
            Some("modalities"),
            "answers are text",
        ),
        (chat, hello(json!({ "audio": {} })), 400, Some("audio"), "not supported"),
        (chat, hello(json!({ "functions": [] })), 400, Some("functions"), "`tools`"),
        (chat, hello(json!({ "prediction": {} })), 400, Some("prediction"), "not supported"),
        (
            chat,
            hello(json!({ "web_search_options": {} })),
            400,
            Some("web_search_options"),
            "searches nothing",
        ),
        (
            chat,
            hello(json!({ "reasoning_effort": "high" })),
            400,
            Some("reasoning_effort"),
            "chat_template_kwargs",
        ),
        (
            chat,
            hello(json!({ "chat_template_kwargs": { "messages": 1 } })),
            400,
            Some("chat_template_kwargs"),
            "messages",
        ),
        (
            chat,
            talk("qwen2", show(PIXEL), json!({})),
            400,
            Some("messages[0].content[0]"),
            "takes no images; it takes text alone",
        ),
        (
            chat,
            talk("gemma3", show("https://example.org/a.png"), json!({})),
            400,
            Some("messages[0].content[0]"),
            "not fetched",
        ),
        (
            chat,
            talk("gemma3", show("/etc/passwd"), json!({})),
            400,
            Some("messages[0].content[0]"),
            "not read",
        ),
        (
            chat,
            talk("gemma3", show("file:///etc/passwd"), json!({})),
            400,
            Some("messages[0].content[0]"),
            "not read",
        ),
        (
            chat,
            talk("gemma3", show("data:image/png;base64,@@"), json!({})),
            400,
            Some("messages[0].content[0]"),
            "data: URL is damaged",
        ),
        (
            chat,
            talk("gemma3", show("data:image/png;base64,aGVsbG8="), json!({})),
            400,
            Some("messages[0].content[0]"),
            "messages[0].content[0]",
        ),
        (
            chat,
            talk(
                "gemma3",
                json!([{ "role": "user", "content": [{ "type": "file", "file": {} }] }]),
                json!({}),
            ),
            400,
            Some("messages[0].content[0]"),
            "`file`",
        ),
        (
            chat,
            talk(
                "gemma3",
                json!([{ "role": "user", "content": [{ "type": "input_audio", "input_audio": { "data": "aGk=", "format": "wav" } }] }]),
                json!({}),
            ),
            400,
            Some("messages[0].content[0]"),
            "takes no audio; it takes text, images",
        ),
        (chat, ask("qwen2", &"12 34 ".repeat(3000), json!({})), 400, None, "4096"),
        ("/v1/completions", json!({ "model": "qwen2" }), 400, Some("prompt"), "missing"),
        ("/v1/completions", json!({ "model": "qwen2", "prompt": [] }), 400, Some("prompt"), "not empty"),
        (
            "/v1/completions",
            json!({ "model": "qwen2", "prompt": [1, "a"] }),
            400,
            Some("prompt"),
            "token ids",
        ),
        ("/v1/completions", json!({ "model": "qwen2", "prompt": [100_000] }), 400, None, "100000"),
        (
            "/v1/completions",
            json!({ "model": "qwen2", "prompt": "a", "suffix": "b" }),
            400,
            Some("suffix"),
            "gaps",
        ),
        (
            "/v1/completions",
            json!({ "model": "qwen2", "prompt": "a", "n": 3, "best_of": 2 }),
            400,
            Some("best_of"),
            "smaller",
        ),
        (
            "/v1/completions",
            json!({ "model": "qwen2", "prompt": "a", "echo": true, "stream": true }),
            400,
            Some("echo"),
            "stream",
        ),
        ("/v1/nothing", json!({}), 404, None, "docs/serving.md"),
        ("/v1/models", json!({}), 405, None, "another method"),
    ];
    for (path, document, status, param, says) in rows {
        let reply = server.post(path, &document);
        let shown: String = document.to_string().chars().take(200).collect();
        let error = reply.error();
        assert_eq!(reply.status, status, "{shown}: {error}");
        assert_eq!(error["param"].as_str(), param, "{shown}: {error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{shown}: {error}");
    }
    let error = server.post(chat, &ask("qwen2", &"12 34 ".repeat(3000), json!({}))).error();
    assert_eq!(error["code"], "context_length_exceeded");
    assert_eq!(server.post(chat, &ask("gpt-4", "a", json!({}))).error()["code"], "model_not_found");
}

#[test]
fn fields_that_change_nothing_are_accepted() {
    let server = Running::of(&["qwen2"]);
    let more = json!({
        "user": "u", "metadata": { "a": "b" }, "safety_identifier": "s", "prompt_cache_key": "k", "store": false,
        "service_tier": "auto", "modalities": ["text"], "verbosity": "medium", "max_tokens": 2, "frequency_penalty": null,
        "top_k": -1, "chat_template_kwargs": {},
    });
    server.post("/v1/chat/completions", &ask("qwen2", "hello", more)).good();
}

#[test]
fn models_are_listed_and_ids_go_through() {
    let server = Running::of(&["qwen2", "gemma3", "qwen2-audio"]);
    let list = server.get("/v1/models").good();
    let of = |i: usize, field: &str| list["data"][i][field].clone();
    assert_eq!((of(0, "id"), of(0, "object")), (json!("qwen2"), json!("model")));
    assert_eq!(of(0, "input_modalities"), json!(["text"]));
    assert_eq!(of(1, "input_modalities"), json!(["text", "image"]));
    assert_eq!(of(2, "input_modalities"), json!(["text", "audio"]));
    assert_eq!(server.get("/v1/models/gemma3").good()["id"], "gemma3");
    assert_eq!(server.get("/v1/models/none").error()["code"], "model_not_found");
    assert_eq!((server.get("/health").status, server.get("/ready").status), (200, 200));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = format!("X-Request-Id: mine-1\r\ntraceparent: {trace}\r\n");
    let body = ask("qwen2", "a secret", json!({ "max_tokens": 3, "ignore_eos": true })).to_string();
    let reply = server.post_with("/v1/chat/completions", &headers, body.as_bytes());
    assert_eq!(
        (reply.headers["x-request-id"].as_str(), reply.headers["traceparent"].as_str()),
        ("mine-1", trace)
    );
    assert_eq!(server.get("/health").headers["x-request-id"].len(), 32);
    let log = server.log.lock().unwrap().clone();
    let line = log.iter().find(|line| line["request"] == "mine-1").expect("a line of the log");
    assert_eq!(
        (&line["model"], &line["completion_tokens"], &line["status"]),
        (&json!("qwen2"), &json!(3), &json!(200))
    );
    assert_eq!(line["traceparent"], trace);
    assert!(log.iter().all(|line| !line.to_string().contains("secret")));
}

#[test]
fn keys_are_asked_for_everywhere_but_for_health() {
    let options = Options { keys: vec!["key-one-1".into(), "key-two-2".into()], ..Options::default() };
    let server = Running::start(vec![language("qwen2")], options);
    assert_eq!((server.get("/health").status, server.get("/ready").status), (200, 200));
    for path in ["/v1/models", "/metrics", "/nothing"] {
        let reply = server.get(path);
        assert_eq!((reply.status, &reply.error()["code"]), (401, &json!("invalid_api_key")), "{path}");
    }
    let body = ask("qwen2", "a", json!({ "max_tokens": 1 })).to_string();
    let status = |headers: &str| server.post_with("/v1/chat/completions", headers, body.as_bytes()).status;
    assert_eq!(status(""), 401);
    assert_eq!(status("Authorization: Bearer key-one\r\n"), 401);
    assert_eq!(status("Authorization: Basic key-one-1\r\n"), 401);
    assert_eq!(status("Authorization: Bearer key-one-1\r\n"), 200);
    assert_eq!(status("authorization: bearer key-two-2\r\n"), 200);
    assert_eq!(status("x-api-key: key-two-2\r\n"), 200);
}

#[test]
fn pages_of_other_sites_are_let_in_only_where_they_are_named() {
    let preflight = "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
        Origin: https://example.org\r\nAccess-Control-Request-Method: POST\r\n\r\n";
    let allowed = |server: &Running| {
        let reply = super::client::Reply::of(&server.raw(preflight.as_bytes()));
        reply.headers.get("access-control-allow-origin").cloned()
    };
    let closed = Running::of(&["qwen2"]);
    assert_eq!(allowed(&closed), None);
    let options = Options { origins: vec!["https://example.org".into()], ..Options::default() };
    let open = Running::start(vec![language("qwen2")], options);
    assert_eq!(allowed(&open).as_deref(), Some("https://example.org"));
    // A page may send text to any server without asking first; such requests are not looked at.
    let body = ask("qwen2", "a", json!({})).to_string();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: text/plain\r\n\
        Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(super::client::Reply::of(&closed.raw(request.as_bytes())).status, 415);
}

#[test]
fn a_model_that_cannot_be_loaded_ends_the_server_with_its_name() {
    let broken = percept::serve::Source {
        name: "broken".into(),
        parent: None,
        open: Box::new(|| Err("no such file".into())),
        over: None,
    };
    let run = |sources| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let log: percept::serve::Log = Arc::new(|_| {});
        let options = Options { log: Some(log), limits: Limits::default(), ..Options::default() };
        runtime.block_on(async {
            let server = percept::serve::Server::start(sources, "127.0.0.1:0", options).await?;
            server.run(|| (), std::future::pending()).await
        })
    };
    let error = run(vec![language("qwen2"), broken]).unwrap_err().to_string();
    assert!(error.contains("'broken'") && error.contains("no such file"), "{error}");
    let error = run(vec![language("qwen2"), language("qwen2")]).unwrap_err().to_string();
    assert!(error.contains("two models are called 'qwen2'"), "{error}");
    assert!(run(Vec::new()).unwrap_err().to_string().contains("no model"));
}

#[test]
fn media_are_fetched_only_by_what_the_operator_gives() {
    let png =
        std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/media/a7.png"))
            .unwrap();
    let fetch: percept::serve::Fetch = Arc::new(move |url: &str| match url {
        "https://good.example/a.png" => Ok(png.clone()),
        _ => Err("nothing is fetched from there".into()),
    });
    let options = Options { fetch: Some(fetch), ..Options::default() };
    let server = Running::start(vec![language("gemma3")], options);
    let post = |url: &str| {
        server.post("/v1/chat/completions", &talk("gemma3", show(url), json!({ "max_tokens": 1 })))
    };
    post("https://good.example/a.png").good();
    let error = post("https://evil.example/a.png").error();
    assert!(
        error["message"].as_str().unwrap().contains("cannot be fetched: nothing is fetched from there"),
        "{error}"
    );
    assert_eq!(error["param"], "messages[0].content[0]");
}
