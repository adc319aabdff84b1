//! What the server answers is what a session alone generates.

use percept::infer::{GenerateOptions, Generation};
use percept::modalities::{Content, Message, Part};
use serde_json::{Value, json};

use super::client::{Running, ask, session, talk};
use crate::parity_case::{Case, cases};

/// A parity case by its name.
fn case(name: &str) -> Case {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    cases(&folder).into_iter().find(|case| case.name == name).unwrap()
}

/// A file as a data: URL.
fn data_url(kind: &str, file: &std::path::Path) -> String {
    use base64::Engine as _;
    let bytes = std::fs::read(file).unwrap();
    format!("data:{kind};base64,{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// What a session alone makes of a case's own conversation, and the conversation as clients send it.
fn own(name: &str, tokens: usize) -> (Generation, Value) {
    let case = case(name);
    let mut session = session(name);
    let messages: Vec<Message> = case.messages().unwrap();
    let media = case.media(session.model().processor()).unwrap();
    let inputs = session.model().processor().chat(&messages, &media).unwrap();
    let options =
        GenerateOptions { max_tokens: Some(tokens), ignore_ends: true, ..GenerateOptions::default() };
    let generation = session.generate(&inputs, &options, &mut |_| {}).unwrap();

    let given = &case.description["media"];
    let mut images = given["images"].as_array().cloned().unwrap_or_default().into_iter();
    let mut part = |part: &Part| match part {
        Part::Text { text } => json!({ "type": "text", "text": text }),
        Part::Image { .. } => {
            let file = case.medium(images.next().unwrap().as_str().unwrap());
            json!({ "type": "image_url", "image_url": { "url": data_url("image/png", &file) } })
        }
        Part::Audio { .. } => {
            let url = data_url("audio/wav", &case.medium(given["audio"].as_str().unwrap()));
            let data = url.split_once(',').unwrap().1;
            json!({ "type": "input_audio", "input_audio": { "data": data, "format": "wav" } })
        }
        other => panic!("{other:?}"),
    };
    let sent = messages.iter().map(|message| {
        let content = match &message.content {
            Content::Text(text) => json!(text),
            Content::Parts(parts) => parts.iter().map(&mut part).collect(),
            Content::Nothing => Value::Null,
        };
        json!({ "role": message.role, "content": content })
    });
    (generation, sent.collect())
}

/// The text, the logprobs and the finish of a stream's answer of a number.
fn told(events: &[Value], choice: usize) -> (String, Vec<Value>, Value) {
    let (mut text, mut logprobs, mut finish) = (String::new(), Vec::new(), Value::Null);
    for event in events {
        for found in event["choices"].as_array().unwrap().iter().filter(|c| c["index"] == choice) {
            text.push_str(found["delta"]["content"].as_str().unwrap_or_default());
            logprobs.extend(found["logprobs"]["content"].as_array().cloned().unwrap_or_default());
            if !found["finish_reason"].is_null() {
                finish = found["finish_reason"].clone();
            }
        }
    }
    (text, logprobs, finish)
}

#[test]
fn greedy_answers_are_those_of_a_session_streamed_or_not_with_media_and_many_at_once() {
    let names = ["qwen2", "gemma3", "qwen2-vl-image", "qwen2-audio", "smolvlm-two-images"];
    let server = Running::of(&names);
    let expected: Vec<(Generation, Value)> = names.iter().map(|name| own(name, 12)).collect();
    let check = |name: &str, (generation, messages): &(Generation, Value)| {
        let more = json!({ "max_tokens": 12, "ignore_eos": true, "temperature": 0 });
        let whole = server.post("/v1/chat/completions", &talk(name, messages.clone(), more)).good();
        let choice = &whole["choices"][0];
        assert_eq!(choice["message"]["content"], generation.text.as_str(), "{name}");
        assert_eq!(choice["finish_reason"], "length", "{name}");
        let usage = &whole["usage"];
        assert_eq!(usage["prompt_tokens"], generation.prompt_tokens, "{name}");
        assert_eq!(usage["completion_tokens"], 12, "{name}");
        assert_eq!(usage["total_tokens"], generation.prompt_tokens + 12, "{name}");
        let more = json!({
            "max_completion_tokens": 12, "ignore_eos": true, "temperature": 0, "stream": true,
            "stream_options": { "include_usage": true },
        });
        let reply = server.post("/v1/chat/completions", &talk(name, messages.clone(), more));
        assert_eq!(reply.headers["content-type"], "text/event-stream");
        let events = reply.events();
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let (last, chunks) = events.split_last().unwrap();
        assert_eq!(
            (last["choices"].as_array().unwrap().len(), &last["usage"]["completion_tokens"]),
            (0, &json!(12))
        );
        assert!(
            chunks.iter().all(|chunk| chunk["usage"].is_null() && chunk["object"] == "chat.completion.chunk")
        );
        let (text, _, finish) = told(chunks, 0);
        assert_eq!((text.as_str(), finish), (generation.text.as_str(), json!("length")), "{name}");
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            for (name, expected) in names.iter().zip(&expected) {
                scope.spawn(move || check(name, expected));
            }
        }
    });
}

#[test]
fn logprobs_are_those_of_a_session_bit_for_bit() {
    let server = Running::of(&["qwen2"]);
    let mut session = session("qwen2");
    let messages = [Message::new("user", Content::Text("12 34".into()))];
    let inputs = session.model().processor().chat(&messages, &Default::default()).unwrap();
    let options = GenerateOptions {
        max_tokens: Some(6),
        ignore_ends: true,
        logprobs: Some(3),
        ..GenerateOptions::default()
    };
    let expected = session.generate(&inputs, &options, &mut |_| {}).unwrap().logprobs;
    let more =
        json!({ "max_tokens": 6, "ignore_eos": true, "temperature": 0, "logprobs": true, "top_logprobs": 3 });
    let whole = server.post("/v1/chat/completions", &ask("qwen2", "12 34", more.clone())).good();
    let found = whole["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(found.len(), 6);
    for (found, expected) in found.iter().zip(&expected) {
        let bits = |v: &Value| (v.as_f64().unwrap() as f32).to_bits();
        assert_eq!(bits(&found["logprob"]), expected.logprob.to_bits());
        let top = found["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        for (found, expected) in top.iter().zip(&expected.top) {
            assert_eq!(bits(&found["logprob"]), expected.1.to_bits());
        }
        // Greedy: the chosen token is the likeliest.
        assert_eq!(found["token"], top[0]["token"]);
        let bytes: Vec<u8> =
            found["bytes"].as_array().unwrap().iter().map(|b| b.as_u64().unwrap() as u8).collect();
        assert_eq!(found["token"], String::from_utf8_lossy(&bytes).as_ref());
    }
    let mut streamed = more;
    streamed["stream"] = json!(true);
    let events = server.post("/v1/chat/completions", &ask("qwen2", "12 34", streamed)).events();
    assert_eq!(told(&events, 0).1, found);
}

#[test]
fn several_answers_differ_by_their_draws_and_a_seed_gives_them_again() {
    let server = Running::of(&["qwen2"]);
    let more = json!({ "max_tokens": 8, "ignore_eos": true, "temperature": 1.5, "seed": 7, "n": 4 });
    let texts = || -> Vec<String> {
        let whole = server.post("/v1/chat/completions", &ask("qwen2", "12", more.clone())).good();
        assert_eq!(whole["usage"]["completion_tokens"], 32);
        let choices = whole["choices"].as_array().unwrap();
        choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap().to_owned()).collect()
    };
    let first = texts();
    assert_eq!(first.len(), 4);
    assert!(first.iter().any(|text| *text != first[0]), "{first:?}");
    assert_eq!(texts(), first);
    let mut streamed = more.clone();
    streamed["stream"] = json!(true);
    let events = server.post("/v1/chat/completions", &ask("qwen2", "12", streamed)).events();
    let streamed: Vec<String> = (0..4).map(|choice| told(&events, choice).0).collect();
    assert_eq!(streamed, first);
}

#[test]
fn texts_are_continued_as_they_stand() {
    let server = Running::of(&["llama"]);
    let mut session = session("llama");
    let tokenizer = session.model().processor().tokenizer();
    let ids = tokenizer.encode("red square", true).unwrap();
    let mut inputs = percept::modalities::Inputs::default();
    let values = percept::modalities::Values::I64(ids.iter().map(|&id| i64::from(id)).collect());
    let array = percept::modalities::Array { dims: vec![1, ids.len()], values };
    inputs.arrays.insert("input_ids".into(), array);
    let options = GenerateOptions { max_tokens: Some(8), ignore_ends: true, ..GenerateOptions::default() };
    let expected = session.generate(&inputs, &options, &mut |_| {}).unwrap().text;
    let complete = |prompt: Value, more: Value| {
        let document = json!({ "model": "llama", "prompt": prompt, "max_tokens": 8, "ignore_eos": true, "temperature": 0 });
        server.post("/v1/completions", &super::client::with(document, more))
    };
    for prompt in [json!("red square"), json!(["red square"]), json!(ids), json!([ids])] {
        let whole = complete(prompt, json!({})).good();
        assert_eq!(whole["choices"][0]["text"], expected.as_str());
        assert_eq!(whole["usage"]["prompt_tokens"], ids.len());
    }
    let events = complete(json!("red square"), json!({ "stream": true })).events();
    let text: String = events.iter().map(|e| e["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(text, expected);

    let whole =
        complete(json!(["red square", "12"]), json!({ "n": 2, "best_of": 3, "seed": 1, "temperature": 1 }))
            .good();
    assert_eq!(whole["choices"].as_array().unwrap().len(), 4);
    let echoed = complete(json!("red square"), json!({ "echo": true, "logprobs": 2 })).good();
    let choice = &echoed["choices"][0];
    assert_eq!(choice["text"], format!("red square{expected}"));
    let logprobs = &choice["logprobs"];
    let count = |field: &str| logprobs[field].as_array().unwrap().len();
    assert_eq!(count("tokens"), ids.len() + 8);
    assert_eq!(["token_logprobs", "top_logprobs", "text_offset"].map(count), [ids.len() + 8; 3]);
    assert!(logprobs["token_logprobs"][0].is_null() && logprobs["token_logprobs"][1].is_number());
    assert_eq!(logprobs["top_logprobs"][1].as_object().unwrap().len(), 2);
}

#[test]
fn stop_texts_and_biases_are_honoured() {
    let server = Running::of(&["qwen2"]);
    let base = json!({ "max_tokens": 8, "ignore_eos": true, "temperature": 0 });
    let content = |more: Value| {
        let more = super::client::with(base.clone(), more);
        server.post("/v1/chat/completions", &ask("qwen2", "12 34", more)).good()["choices"][0].clone()
    };
    let whole = content(json!({}));
    let text = whole["message"]["content"].as_str().unwrap().to_owned();
    let stop: String = text.chars().skip(3).take(2).collect();
    let stopped = content(json!({ "stop": [stop] }));
    assert_eq!(stopped["finish_reason"], "stop");
    assert_eq!(stopped["message"]["content"], text.split(&stop).next().unwrap());
    let tokenizer = session("qwen2");
    let id = tokenizer.model().processor().tokenizer().encode("q", false).unwrap()[0];
    let biased = content(json!({ "logit_bias": { id.to_string(): 100 } }));
    assert_eq!(biased["message"]["content"], "q".repeat(8));
    // What was said once is said no more.
    let penalized = content(
        json!({ "logit_bias": { id.to_string(): 100 }, "presence_penalty": 2, "frequency_penalty": 2 }),
    );
    assert_eq!(penalized["message"]["content"].as_str().unwrap().chars().next(), Some('q'));
}
