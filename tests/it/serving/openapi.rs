//! The document of the interface says what the server does: its paths, and every field of every object.

use std::collections::BTreeSet;
use std::path::Path;

use percept::serve::{Limits, Loaded, Source};
use serde_json::{Value, json};

use super::client::{Running, language, with};

fn server() -> Running {
    let open = || {
        let percept::model::Model::Causal(model) = super::client::model("qwen3") else {
            panic!("qwen3 is no text model")
        };
        let device = crate::devices::device("cpu");
        let embedder = percept::infer::TextEmbedder::new(model, device, Default::default()).unwrap();
        Ok(Loaded::Texts(Box::new(embedder), percept::infer::Pooling::Last))
    };
    let vectors = Source { name: "vectors".into(), parent: None, open: Box::new(open), over: None };
    let sources = vec![language("qwen2"), language("gemma3"), language("qwen2-audio"), vectors];
    let limits = Limits { tokens: Some(1), ..Limits::default() };
    let open = std::sync::Arc::new(|_: &percept::serve::Wanted| panic!("nothing is loaded"));
    let admin = Some(percept::serve::Admin { keys: vec!["admin-key-1".into()], open });
    Running::start(sources, percept::serve::Options { limits, admin, ..Default::default() })
}

fn source(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

#[test]
fn every_route_is_in_the_document_and_the_reverse() {
    let server = server();
    let document = server.get("/openapi.json").good();
    assert_eq!(document["openapi"], "3.1.0");
    let mut told = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            told.insert((path.clone(), method.clone()));
            let reply = match method.as_str() {
                "get" => server.get(&path.replace("{name}", "qwen2")),
                // Without a key nothing is unloaded.
                "delete" => server.delete(&path.replace("{name}", "qwen2")),
                _ => server.post(path, &json!({})),
            };
            assert!(!matches!(reply.status, 404 | 405), "{method} {path}: {}", reply.text());
        }
    }
    let router = source("serve/src/router.rs");
    let routes = router.split(".route(\"").skip(1).map(|route| {
        let (path, rest) = route.split_once("\", ").unwrap();
        (path.replace("{*name}", "{name}"), rest.split_once('(').unwrap().0.to_owned())
    });
    assert_eq!(told, routes.collect());
    let names = &document["components"]["schemas"];
    assert_eq!(names["LanguageModel"]["enum"], json!(["qwen2", "gemma3", "qwen2-audio"]));
    assert_eq!(names["EmbeddingModel"]["enum"], json!(["vectors"]));
}

/// What a schema, or one of those that it refers to or chooses from, says of objects like this one.
fn of_object<'d>(document: &'d Value, schema: &'d Value, instance: &Value) -> Option<&'d Value> {
    if let Some(place) = schema["$ref"].as_str() {
        return of_object(document, document.pointer(place.strip_prefix('#')?)?, instance);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return choices.iter().find_map(|choice| of_object(document, choice, instance));
    }
    let properties = schema["properties"].as_object()?;
    let fits = |(name, schema): (&String, &Value)| match instance.get(name) {
        None => true,
        Some(value) => {
            let constant = schema.get("const").is_none_or(|one| one == value);
            constant && schema["enum"].as_array().is_none_or(|all| all.contains(value))
        }
    };
    let has = |name: &Value| instance.get(name.as_str().unwrap_or_default()).is_some();
    let whole = schema["required"].as_array().is_none_or(|names| names.iter().all(has));
    (whole && properties.iter().all(fits)).then_some(schema)
}

/// The schema of the object at a place of a body.
fn at<'d>(document: &'d Value, schema: &'d Value, body: &Value, place: &[&str]) -> &'d Value {
    let mut found = schema;
    let mut here = body;
    for step in place {
        let of = of_object(document, found, here);
        here = &here[*step];
        found = &of.unwrap_or_else(|| panic!("no schema fits {here} before {step} of {body}"))["properties"]
            [*step];
        while here.is_array() {
            here = &here[0];
            found = items(document, found).unwrap_or_else(|| panic!("{step} of {body} is no list"));
        }
    }
    of_object(document, found, here).unwrap_or_else(|| panic!("no schema fits {here}, of {found}"))
}

fn items<'d>(document: &'d Value, schema: &'d Value) -> Option<&'d Value> {
    if let Some(place) = schema["$ref"].as_str() {
        return items(document, document.pointer(place.strip_prefix('#')?)?);
    }
    match schema["anyOf"].as_array() {
        Some(choices) => choices.iter().find_map(|choice| items(document, choice)),
        None => schema.get("items"),
    }
}

/// The object at a place of a body; of a list its first.
fn place_of<'v>(body: &'v mut Value, place: &[&str]) -> &'v mut Value {
    place.iter().fold(body, |here, step| {
        let mut here = &mut here[*step];
        while here.is_array() {
            here = &mut here[0];
        }
        here
    })
}

/// Bodies that are answered, with the places of their objects.
fn bodies() -> Vec<(&'static str, Value, Vec<Vec<&'static str>>)> {
    let tool = json!({ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } });
    let pixel =
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    let url = format!("data:image/png;base64,{pixel}");
    let wave =
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/media/chirp7.wav")).unwrap();
    let sound = json!({ "data": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, wave), "format": "wav" });
    let user = |content: Value| json!([{ "role": "user", "content": content }]);
    let schema = json!({ "name": "a", "schema": { "type": "object" } });
    let chat = |model: &str, content: Value, more: Value| {
        with(json!({ "model": model, "messages": user(content), "max_tokens": 1 }), more)
    };
    let response = |input: Value, more: Value| {
        with(json!({ "model": "qwen2", "input": input, "max_output_tokens": 1 }), more)
    };
    let message = |content: Value, more: Value| chat("gemma3", content, more);
    let path = "/v1/chat/completions";
    let chosen = json!({ "tools": [tool], "tool_choice": "none" });
    let mut all = vec![
        (path, chat("qwen2", json!("a"), json!({})), vec![vec![]]),
        (path, chat("qwen2", json!("a"), chosen), vec![vec!["tools"], vec!["tools", "function"]]),
        (
            path,
            chat("qwen2", json!("a"), json!({ "stream": true, "stream_options": {} })),
            vec![vec!["stream_options"]],
        ),
        (
            path,
            chat("qwen2", json!([{ "type": "text", "text": "a" }]), json!({})),
            vec![vec!["messages", "content"]],
        ),
        (
            path,
            chat("gemma3", json!([{ "type": "image_url", "image_url": { "url": url } }]), json!({})),
            vec![vec!["messages", "content"], vec!["messages", "content", "image_url"]],
        ),
        (
            path,
            chat("qwen2-audio", json!([{ "type": "input_audio", "input_audio": sound }]), json!({})),
            vec![vec!["messages", "content"], vec!["messages", "content", "input_audio"]],
        ),
        ("/v1/completions", json!({ "model": "qwen2", "prompt": "a", "max_tokens": 1 }), vec![vec![]]),
        ("/v1/responses", response(json!("a"), json!({})), vec![vec![]]),
        (
            "/v1/responses",
            response(
                json!([{ "role": "user", "content": [{ "type": "input_text", "text": "a" }] }]),
                json!({ "text": {}, "reasoning": {} }),
            ),
            vec![vec!["input"], vec!["input", "content"], vec!["text"], vec!["reasoning"]],
        ),
        (
            "/v1/responses",
            response(
                json!([{ "role": "user", "content": [{ "type": "input_image", "image_url": url }] }]),
                json!({ "model": "gemma3" }),
            ),
            vec![vec!["input", "content"]],
        ),
        (
            "/v1/responses",
            response(
                json!("a"),
                json!({ "text": { "format": with(schema.clone(), json!({ "type": "json_schema" })) } }),
            ),
            vec![vec!["text", "format"]],
        ),
        (
            "/v1/responses",
            response(
                json!("a"),
                json!({ "tools": [{ "type": "function", "name": "f" }], "tool_choice": "none" }),
            ),
            vec![vec!["tools"]],
        ),
        ("/v1/embeddings", json!({ "model": "vectors", "input": "a" }), vec![vec![]]),
        (
            "/v1/messages",
            message(json!("a"), json!({ "thinking": { "type": "disabled" } })),
            vec![vec![], vec!["messages"], vec!["thinking"]],
        ),
        (
            "/v1/messages",
            message(
                json!([{ "type": "image", "source": { "type": "base64", "data": pixel } }]),
                json!({ "system": [{ "type": "text", "text": "a" }], "tools": [{ "name": "f" }], "tool_choice": { "type": "none" } }),
            ),
            vec![
                vec!["messages", "content"],
                vec!["messages", "content", "source"],
                vec!["system"],
                vec!["tools"],
                vec!["tool_choice"],
            ],
        ),
        (
            "/v1/messages",
            message(json!([{ "type": "tool_result", "tool_use_id": "1" }]), json!({})),
            vec![vec!["messages", "content"]],
        ),
        (
            "/v1/messages/count_tokens",
            json!({ "model": "qwen2", "messages": user(json!("a")) }),
            vec![vec![]],
        ),
        (
            "/api/chat",
            with(json!({ "model": "qwen2", "messages": user(json!("a")), "options": {} }), json!({})),
            vec![vec![], vec!["options"]],
        ),
        (
            "/api/generate",
            json!({ "model": "qwen2", "prompt": "a", "options": {} }),
            vec![vec![], vec!["options"]],
        ),
        ("/tokenize", json!({ "model": "qwen2", "prompt": "a" }), vec![vec![]]),
        ("/tokenize", json!({ "model": "qwen2", "messages": user(json!("a")) }), vec![vec![]]),
        ("/detokenize", json!({ "model": "qwen2", "tokens": [5] }), vec![vec![]]),
    ];
    for (kind, more, places) in [
        (
            "json_schema",
            json!({ "json_schema": schema }),
            vec![vec!["response_format"], vec!["response_format", "json_schema"]],
        ),
        ("regex", json!({ "regex": "a" }), vec![vec!["response_format"]]),
    ] {
        let format = with(json!({ "type": kind }), more);
        all.push((path, chat("qwen2", json!("a"), json!({ "response_format": format })), places));
    }
    all
}

/// All words that the server's sources have in quotes: whatever a handler reads is among them.
fn words() -> BTreeSet<String> {
    fn visit(folder: &Path, all: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, all);
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            let plain = |word: &&str| {
                !word.is_empty()
                    && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
            };
            all.extend(text.split('"').filter(plain).map(str::to_owned));
        }
    }
    let mut all = BTreeSet::new();
    visit(&Path::new(env!("CARGO_MANIFEST_DIR")).join("serve/src"), &mut all);
    all
}

#[test]
fn every_field_that_is_read_is_in_the_document_and_the_reverse() {
    let server = server();
    let document = server.get("/openapi.json").good();
    let mut words = words();
    assert!(
        words.len() > 200 && words.contains("temperature") && words.contains("repeat_penalty"),
        "{}",
        words.len()
    );
    words.insert("no_such_field".into());
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for (path, body, places) in bodies() {
        let reply = server.post(path, &body);
        assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text());
        let content = &document["paths"][path]["post"]["requestBody"]["content"];
        let schema = &content["application/json"]["schema"];
        for place in places {
            let object = at(&document, schema, &body, &place);
            assert_eq!(object["additionalProperties"], json!(false), "{path} {place:?}");
            let told = object["properties"].as_object().unwrap();
            let all: BTreeSet<&String> = words.iter().chain(told.keys()).collect();
            for word in all {
                let mut odd = body.clone();
                let object = place_of(&mut odd, &place);
                // Tokens are those of a prompt or of messages, and each has fields of its own.
                let other_form = path == "/tokenize" && matches!(word.as_str(), "prompt" | "messages");
                if object.get(word).is_some() || other_form {
                    continue;
                }
                object[word] = json!({ "odd": [] });
                asked += 1;
                let reply = server.post(path, &odd);
                let (text, field) = (reply.text(), format!("{word}`"));
                let unknown = reply.status == 400
                    && [" is not known here", " is not supported"]
                        .iter()
                        .any(|why| text.contains(&format!("{field}{why}")));
                if told.contains_key(word) == unknown {
                    wrong.push(format!("{path} {place:?} {word}: {text}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {asked} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn numbers_are_taken_up_to_their_bounds_and_no_further() {
    let server = server();
    let document = server.get("/openapi.json").good();
    let mut bounds = 0;
    for (path, body, places) in bodies() {
        let schema = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
        for place in places {
            let properties = at(&document, schema, &body, &place)["properties"].as_object().unwrap();
            for (name, schema) in properties {
                for (bound, beyond) in [("minimum", -1.0), ("maximum", 1.0)] {
                    // Further than a double can tell, nothing is beyond.
                    let Some(most) = schema[bound].as_f64().filter(|most| most.abs() < 1e15) else {
                        continue;
                    };
                    let mut odd = body.clone();
                    let whole =
                        schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("integer")));
                    let number = |x: f64| if whole { json!(x as i64) } else { json!(x) };
                    place_of(&mut odd, &place)[name] = number(most + beyond);
                    let reply = server.post(path, &odd);
                    assert!(
                        reply.status == 400 && reply.text().contains(&format!("{name}`")),
                        "{path} {odd}: {}",
                        reply.text()
                    );
                    place_of(&mut odd, &place)[name] = number(most);
                    let reply = server.post(path, &odd);
                    let refused = reply.status == 400 && reply.text().contains(&format!("`{name}` must be"));
                    assert!(!refused, "{path} {odd}: {}", reply.text());
                    bounds += 1;
                }
            }
        }
    }
    assert!(bounds > 60, "{bounds}");
}
