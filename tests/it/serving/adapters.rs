//! Adapters of one base on one server: they ride in its steps, and each answers as alone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use percept::infer::GenerateOptions;
use percept::modalities::{Content, Message};
use percept::model::{CausalModel, LayerAdapter};
use percept::serve::{Limits, Options, Source};
use serde_json::{Value, json};

use super::client::{Running, ask, language};
use crate::adapters::{apart, make, saved};
use crate::devices;
use crate::sessions::case;

/// An adapter that has no session of its own.
pub fn rider(name: &str, base: &str, folder: &Path) -> Source {
    let folder = folder.to_path_buf();
    let over = move |model: &dyn CausalModel| LayerAdapter::open(model, &folder).map_err(|e| e.to_string());
    let open = || Err("it was to ride with its base".to_owned());
    Source { name: name.into(), parent: Some(base.into()), open: Box::new(open), over: Some(Box::new(over)) }
}

/// The text and the bits of the log-probabilities of an answer.
pub type Answer = (String, Vec<u32>);

/// What a session of a case with an adapter alone answers.
pub fn expected(name: &str, adapter: Option<&Path>, text: &str, tokens: usize) -> Answer {
    let mut session = apart(&case(name), &devices::device("cpu"), adapter);
    let messages = [Message::new("user", Content::Text(text.into()))];
    let inputs = session.model().processor().chat(&messages, &Default::default()).unwrap();
    let options = GenerateOptions {
        max_tokens: Some(tokens),
        ignore_ends: true,
        logprobs: Some(0),
        ..GenerateOptions::default()
    };
    let made = session.generate(&inputs, &options, &mut |_| {}).unwrap();
    (made.text, made.logprobs.iter().map(|token| token.logprob.to_bits()).collect())
}

/// How [`expected`] is asked for.
pub fn asked(model: &str, text: &str, tokens: usize) -> Value {
    let more = json!({ "max_tokens": tokens, "ignore_eos": true, "temperature": 0, "logprobs": true });
    ask(model, text, more)
}

/// What was answered.
pub fn answer(document: &Value) -> Answer {
    let choice = &document["choices"][0];
    let logprobs = choice["logprobs"]["content"].as_array().unwrap();
    let bits = |token: &Value| (token["logprob"].as_f64().unwrap() as f32).to_bits();
    (choice["message"]["content"].as_str().unwrap().into(), logprobs.iter().map(bits).collect())
}

const TOKENS: usize = 12;

#[test]
fn adapters_of_one_base_ride_in_one_batch_and_answer_as_alone_at_any_concurrency() {
    let place = tempfile::tempdir().unwrap();
    let made = |name: &str, rank: usize, dora: bool| {
        let folder = place.path().join(name);
        make(&folder, &case("qwen2"), "model.", rank, dora);
        folder
    };
    let adapters: Vec<(&str, Option<PathBuf>)> = vec![
        ("qwen2", None),
        ("dora", Some(saved("dora-bias"))),
        ("biased", Some(saved("lora-bias"))),
        ("one", Some(made("one", 1, false))),
        ("five", Some(made("five", 5, false))),
        ("sixteen", Some(made("sixteen", 16, true))),
    ];
    let texts = ["12 34", "red square", "a"];
    let all: Vec<(&str, &str, Answer)> = adapters
        .iter()
        .flat_map(|(name, folder)| {
            texts.map(|text| (*name, text, expected("qwen2", folder.as_deref(), text, TOKENS)))
        })
        .collect();
    let differ = all.iter().filter(|(name, text, found)| {
        all.iter()
            .any(|(other, same, base)| *other == "qwen2" && same == text && base != found && name != other)
    });
    assert!(differ.count() >= 12, "the adapters change nothing");
    let mut sources = vec![language("qwen2")];
    sources.extend(adapters[1..].iter().map(|(name, folder)| rider(name, "qwen2", folder.as_ref().unwrap())));
    let server = Running::start(sources, Options { limits: Limits::default(), ..Options::default() });
    let mut sent = 0;
    for (clients, requests) in [(1, all.len()), (8, 48), (64, 128)] {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..clients {
                scope.spawn(|| {
                    loop {
                        let i = next.fetch_add(1, Ordering::Relaxed);
                        if i >= requests {
                            return;
                        }
                        let (model, text, expected) = &all[i % all.len()];
                        let found = server.post("/v1/chat/completions", &asked(model, text, TOKENS)).good();
                        assert_eq!(found["model"], *model);
                        assert_eq!(answer(&found), *expected, "{model} {text:?}, {clients} clients");
                    }
                });
            }
        });
        sent += requests;
    }
    // One session, which all answers went through, and each name has its own counts. They are told after the step.
    let total = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("percept_generation_tokens_total{"));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum::<f64>()
    };
    let all_told = || {
        let text = server.get("/metrics").text();
        (total(&text) as usize == sent * TOKENS).then_some(text)
    };
    let text = (0..100).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        all_told()
    });
    let text = text.unwrap_or_else(|| panic!("not {sent} answers:\n{}", server.get("/metrics").text()));
    let count = |metric: &str, model: &str| -> f64 {
        let start = format!("{metric}{{model=\"{model}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {start} in\n{text}")).parse().unwrap()
    };
    assert!(adapters.iter().all(|(name, _)| count("percept_generation_tokens_total", name) > 0.0));
    assert!(count("percept_cache_pages", "qwen2") > 0.0 && count("percept_cache_pages", "dora") == 0.0);
    let list = server.get("/v1/models").good();
    let list = list["data"].as_array().unwrap();
    assert_eq!(list.len(), adapters.len());
    assert!(list[1..].iter().all(|model| model["parent"] == "qwen2" && model["task"] == "generate"));
    let unknown = server.post("/v1/chat/completions", &asked("none", "a", 1));
    assert!(unknown.status == 404 && unknown.error()["message"].as_str().unwrap().contains("sixteen"));
}

#[test]
fn an_adapter_that_cannot_ride_has_a_session_of_its_own_which_the_log_says() {
    let folder = saved("biases");
    let place = folder.clone();
    let open = move || {
        let session = apart(&case("qwen2"), &devices::device("cpu"), Some(&place));
        Ok(percept::serve::Loaded::Language(Box::new(session)))
    };
    let source = Source { open: Box::new(open), ..rider("biases", "qwen2", &folder) };
    let server = Running::start(vec![language("qwen2"), source], Options::default());
    let wanted = expected("qwen2", Some(&folder), "12 34", TOKENS);
    let found = server.post("/v1/chat/completions", &asked("biases", "12 34", TOKENS)).good();
    assert_eq!(answer(&found), wanted);
    let log = server.log.lock().unwrap();
    let says = |line: &Value| {
        let message = line["message"].as_str().unwrap_or_default();
        line["model"] == "biases" && message.contains("session of its own") && message.contains("replaces '")
    };
    assert!(log.iter().any(says), "{log:?}");
}
