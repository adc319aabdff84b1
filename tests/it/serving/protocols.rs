//! The same answers in the shapes of other protocols.

use serde_json::{Value, json};

use super::client::{Running, ask, with};

/// The events of a stream whose events have names.
fn named(text: &str) -> Vec<(String, Value)> {
    let one = |block: &str| {
        let (first, second) = block.split_once('\n').unwrap_or_else(|| panic!("{block}"));
        let (name, data) = (first.strip_prefix("event: ").unwrap(), second.strip_prefix("data: ").unwrap());
        (name.to_owned(), serde_json::from_str::<Value>(data).unwrap())
    };
    text.split("\n\n").filter(|block| !block.is_empty()).map(one).collect()
}

/// The greedy answer, as a chat gives it.
fn expected(server: &Running, system: Option<&str>) -> (String, Value) {
    let mut messages = vec![json!({ "role": "user", "content": "12 34" })];
    if let Some(system) = system {
        messages.insert(0, json!({ "role": "system", "content": system }));
    }
    let document = json!({ "model": "qwen2", "messages": messages, "max_tokens": 8, "ignore_eos": true, "temperature": 0 });
    let whole = server.post("/v1/chat/completions", &document).good();
    (whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned(), whole["usage"].clone())
}

#[test]
fn messages_of_anthropic_are_answered() {
    let server = Running::of(&["qwen2", "gemma3"]);
    let (text, usage) = expected(&server, Some("Count."));
    let base = json!({
        "model": "qwen2", "system": "Count.", "messages": [{ "role": "user", "content": [{ "type": "text", "text": "12 34" }] }],
        "max_tokens": 8, "temperature": 0, "ignore_eos": true, "metadata": { "user_id": "u" },
    });
    let whole = server.post("/v1/messages", &base).good();
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["stop_reason"]),
        (&json!("message"), &json!("assistant"), &json!("max_tokens"))
    );
    assert_eq!(whole["content"], json!([{ "type": "text", "text": text }]));
    let used = &whole["usage"];
    let read = used["input_tokens"].as_u64().unwrap() + used["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!((json!(read), &used["output_tokens"]), (usage["prompt_tokens"].clone(), &json!(8)));

    let reply = server.post("/v1/messages", &with(base.clone(), json!({ "stream": true })));
    let events = named(&reply.text());
    let kinds: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((kinds[0], kinds[1]), ("message_start", "content_block_start"));
    assert_eq!(&kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert!(events.iter().all(|(name, event)| event["type"] == name.as_str()));
    let told: String = events.iter().filter_map(|(_, event)| event["delta"]["text"].as_str()).collect();
    assert_eq!(told, text);
    let last = &events[events.len() - 2].1;
    assert_eq!(
        (&last["delta"]["stop_reason"], &last["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(8))
    );

    let stop: String = text.chars().skip(2).take(2).collect();
    let stopped =
        server.post("/v1/messages", &with(base.clone(), json!({ "stop_sequences": [stop] }))).good();
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!(stop)));
    let counted = json!({ "model": "qwen2", "system": "Count.", "messages": base["messages"] });
    let count = server.post("/v1/messages/count_tokens", &counted).good();
    assert_eq!(count["input_tokens"], usage["prompt_tokens"]);

    for (more, status, kind, says) in [
        (json!({ "model": "none" }), 404, "not_found_error", "there are: qwen2, gemma3"),
        (json!({ "messages": [] }), 400, "invalid_request_error", "empty"),
        (
            json!({ "messages": [{ "role": "system", "content": "a" }] }),
            400,
            "invalid_request_error",
            "`system`",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "document" }] }] }),
            400,
            "invalid_request_error",
            "document",
        ),
        (
            json!({ "thinking": { "type": "enabled", "budget_tokens": 9 } }),
            400,
            "invalid_request_error",
            "thinking",
        ),
        (json!({ "stop_sequences": [""] }), 400, "invalid_request_error", "`stop_sequences`"),
        (json!({ "stop": "a" }), 400, "invalid_request_error", "calls it `stop_sequences`"),
        (json!({ "mcp_servers": [] }), 400, "invalid_request_error", "mcp_servers"),
    ] {
        let reply = server.post("/v1/messages", &with(base.clone(), more.clone()));
        let error = reply.json();
        assert_eq!(
            (reply.status, &error["type"], &error["error"]["type"]),
            (status, &json!("error"), &json!(kind)),
            "{more}: {error}"
        );
        assert!(error["error"]["message"].as_str().unwrap().contains(says), "{more}: {error}");
    }
}

#[test]
fn what_says_nothing_changes_nothing() {
    let server = Running::of(&["qwen2"]);
    let (text, _) = expected(&server, None);
    let greedy = json!({ "model": "qwen2", "max_tokens": 8, "temperature": 0, "ignore_eos": true });
    // The fields of a part in another order, and nulls among them.
    let part = json!({ "text": "12 34", "cache_control": null, "type": "text" });
    let talk = json!({ "messages": [{ "role": "user", "content": [part] }] });
    let whole = server.post("/v1/chat/completions", &with(talk, greedy.clone())).good();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    // Lists of nothing.
    let talk = json!({ "messages": [{ "role": "user", "content": "12 34" }], "tools": [], "tool_choice": { "type": "auto" } });
    let whole = server.post("/v1/messages", &with(talk, greedy)).good();
    assert_eq!(whole["content"][0]["text"], text);
    let raw = json!({
        "model": "qwen2", "prompt": "12 34", "raw": true, "images": [], "stream": false, "options": { "num_predict": 1, "ignore_eos": true },
    });
    assert_eq!(server.post("/api/generate", &raw).good()["eval_count"], 1);
}

#[test]
fn responses_are_given_whole_and_in_events() {
    let server = Running::of(&["qwen2"]);
    let (text, usage) = expected(&server, Some("Count."));
    let base = json!({
        "model": "qwen2", "instructions": "Count.", "input": "12 34", "max_output_tokens": 8, "temperature": 0, "ignore_eos": true,
    });
    let whole = server.post("/v1/responses", &base).good();
    assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("incomplete")));
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(whole["output"][0]["content"][0]["text"], text.as_str());
    assert_eq!(whole["usage"]["input_tokens"], usage["prompt_tokens"]);
    let items = json!([{ "role": "user", "content": [{ "type": "input_text", "text": "12 34" }] }]);
    let of_items = server.post("/v1/responses", &with(base.clone(), json!({ "input": items }))).good();
    assert_eq!(of_items["output"][0]["content"][0]["text"], text.as_str());

    let reply = server.post("/v1/responses", &with(base.clone(), json!({ "stream": true })));
    let events = named(&reply.text());
    let kinds: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let first = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ];
    assert_eq!(kinds[..4], first);
    let last = [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ];
    assert_eq!(kinds[kinds.len() - 4..], last);
    for (i, (name, event)) in events.iter().enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(i)));
    }
    let told: String = events.iter().filter_map(|(_, event)| event["delta"].as_str()).collect();
    assert_eq!(told, text);
    assert_eq!(events[events.len() - 1].1["response"]["output"][0]["content"][0]["text"], text.as_str());

    let form =
        json!({ "format": { "type": "json_schema", "name": "a", "schema": { "enum": ["yes", "no"] } } });
    let more = json!({ "text": form, "ignore_eos": false, "max_output_tokens": 80 });
    let formed = server.post("/v1/responses", &with(base.clone(), more)).good();
    let text = formed["output"][0]["content"][0]["text"].as_str().unwrap().trim().to_owned();
    assert!(text == "\"yes\"" || text == "\"no\"", "{text}");
    for (more, param) in [
        (json!({ "previous_response_id": "r" }), "previous_response_id"),
        (json!({ "store": true }), "store"),
        (json!({ "background": true }), "background"),
        (json!({ "include": ["reasoning.encrypted_content"] }), "include"),
        (json!({ "truncation": "auto" }), "truncation"),
        (json!({ "reasoning": { "effort": "low" } }), "reasoning.effort"),
        (json!({ "tools": [{ "type": "web_search" }] }), "tools[0].type"),
        (json!({ "input": [{ "type": "item_reference", "id": "a" }] }), "input[0]"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_file" }] }] }),
            "input[0].content[0]",
        ),
        (json!({ "max_tokens": 5 }), "max_tokens"),
    ] {
        let error = server.post("/v1/responses", &with(base.clone(), more.clone())).error();
        assert_eq!(error["param"], param, "{more}: {error}");
    }
}

#[test]
fn clients_of_ollama_are_answered() {
    let server = Running::of(&["qwen2", "gemma3"]);
    let (text, usage) = expected(&server, None);
    let options = json!({ "temperature": 0, "num_predict": 8, "ignore_eos": true, "num_ctx": 2048 });
    let talk = json!([{ "role": "user", "content": "12 34" }]);
    let base = json!({ "model": "qwen2", "messages": talk, "options": options, "keep_alive": "5m" });
    let lines = |reply: super::client::Reply| -> Vec<Value> {
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let whole = server.post("/api/chat", &with(base.clone(), json!({ "stream": false }))).good();
    assert_eq!(
        (&whole["message"]["content"], &whole["done"], &whole["done_reason"]),
        (&json!(text), &json!(true), &json!("length"))
    );
    assert_eq!((&whole["eval_count"], &whole["prompt_eval_count"]), (&json!(8), &usage["prompt_tokens"]));
    // These stream unless they are told not to.
    let streamed = lines(server.post("/api/chat", &base));
    let told: String = streamed.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert_eq!((told.as_str(), &streamed.last().unwrap()["done"]), (text.as_str(), &json!(true)));
    let prompt = json!({ "model": "qwen2", "prompt": "12 34", "options": options });
    let told: String = lines(server.post("/api/generate", &prompt))
        .iter()
        .map(|line| line["response"].as_str().unwrap())
        .collect();
    assert_eq!(told, text);
    let raw = with(prompt.clone(), json!({ "raw": true, "stream": false }));
    let completed = server.post("/api/generate", &raw).good();
    let document =
        json!({ "model": "qwen2", "prompt": "12 34", "max_tokens": 8, "ignore_eos": true, "temperature": 0 });
    assert_eq!(completed["response"], server.post("/v1/completions", &document).good()["choices"][0]["text"]);
    let tags = server.get("/api/tags").good();
    assert_eq!(
        (&tags["models"][0]["name"], &tags["models"][1]["details"]["family"]),
        (&json!("qwen2"), &json!("gemma3"))
    );
    assert!(server.get("/api/version").good()["version"].is_string());
    for (path, document, says) in [
        ("/api/chat", json!({ "model": "none", "messages": [] }), "there are:"),
        ("/api/chat", with(base.clone(), json!({ "template": "x" })), "template"),
        ("/api/chat", with(base.clone(), json!({ "options": { "num_ctx": 100_000 } })), "4096"),
        ("/api/chat", with(base.clone(), json!({ "options": { "mirostat": 1 } })), "options.mirostat"),
        ("/api/chat", with(base, json!({ "options": { "repeat_penalty": 0 } })), "options.repeat_penalty"),
        ("/api/generate", with(prompt, json!({ "suffix": "b" })), "suffix"),
    ] {
        let reply = server.post(path, &document);
        let error = reply.json();
        assert!(
            (400..500).contains(&reply.status) && error["error"].as_str().unwrap().contains(says),
            "{says}: {error}"
        );
    }
}

#[test]
fn the_page_is_served_without_a_key_and_loads_nothing_from_elsewhere() {
    let options = percept::serve::Options { keys: vec!["key-one-1".into()], ..Default::default() };
    let server = Running::start(vec![super::client::language("qwen2")], options);
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(page.headers["content-security-policy"].contains("default-src 'self'"));
    assert!(page.text().contains("<!doctype html>"));
    assert_eq!(server.get("/app.js").headers["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(server.get("/nothing.js").status, 401);
    assert_eq!(server.post("/", &ask("qwen2", "a", json!({}))).status, 404);
}
