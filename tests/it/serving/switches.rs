//! What a server leaves out or does in one go when it is told so changes no bit of its answers: the reuse of prefixes, the
//! chunks of prompts, guesses, adapters.

use percept::infer::{
    Draft, Event, GenerateOptions, PromptLookup, Request, Scheduler, SchedulerOptions, Session,
    SessionOptions,
};
use percept::model::Model;
use percept::serve::{Loaded, Options, Source};

use super::adapters::{Answer, answer, asked, expected, rider};
use super::client::{Running, model};
use crate::adapters::saved;
use crate::devices;
use crate::sessions::{case, text};

/// Rows that a step reads at most: what is usual, fewer than any prompt below has, and as many as there are.
const CHUNKS: [usize; 3] = [512, 24, usize::MAX];
const TOKENS: usize = 12;

fn session(name: &str, chunk: usize, share_prefixes: bool) -> Session {
    let Model::Causal(model) = model(name) else { panic!("{name} generates no text") };
    let options = SessionOptions {
        strict: true,
        batch_invariant: true,
        chunk,
        share_prefixes,
        ..SessionOptions::default()
    };
    Session::new(devices::device("cpu"), model, options).unwrap()
}

fn source(name: &str, chunk: usize, share_prefixes: bool) -> Source {
    let folder = name.to_owned();
    let open = move || Ok(Loaded::Language(Box::new(session(&folder, chunk, share_prefixes))));
    Source { name: name.into(), parent: None, open: Box::new(open), over: None }
}

#[test]
fn answers_are_those_of_a_session_alone_whatever_is_switched_off() {
    // Some begin alike for pages, and some say things again.
    let begin = "12 34 red square ".repeat(8);
    let texts = [format!("{begin}a"), format!("{begin}blue"), "56 78 ".repeat(12)];
    let adapter = saved("lora-bias");
    let mut all: Vec<(&str, &str, Answer)> = Vec::new();
    for text in &texts {
        all.push(("qwen2", text, expected("qwen2", None, text, TOKENS)));
        all.push(("tuned", text, expected("qwen2", Some(&adapter), text, TOKENS)));
        // Some of its layers have a window.
        all.push(("gemma3", text, expected("gemma3", None, text, TOKENS)));
    }
    let guesses = [None, Some(Draft::Lookup(PromptLookup { ngram: 2, tokens: 4 }))];
    let with = |share: usize, chunk: usize, guess: usize| {
        // Each switch meets adapters and does without them.
        let adapters = (share + chunk + guess).is_multiple_of(2);
        let (share, chunk, draft) = (share == 1, CHUNKS[chunk], guesses[guess]);
        let mut sources: Vec<Source> = ["qwen2", "gemma3"].map(|name| source(name, chunk, share)).into();
        if adapters {
            sources.push(rider("tuned", "qwen2", &adapter));
        }
        let server = Running::start(sources, Options { draft, ..Options::default() });
        let switches = format!("sharing {share}, chunks of {chunk}, guesses {draft:?}");
        let check = |(model, text, expected): &(&str, &str, Answer)| {
            let found = server.post("/v1/chat/completions", &asked(model, text, TOKENS)).good();
            assert_eq!(answer(&found), *expected, "{model} {text:?}: {switches}");
        };
        let given: Vec<_> = all.iter().filter(|(model, _, _)| adapters || *model != "tuned").collect();
        for _ in 0..2 {
            std::thread::scope(|scope| given.iter().for_each(|one| drop(scope.spawn(|| check(one)))));
        }
        let metrics = server.get("/metrics").text();
        let count = |metric: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
            lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
        };
        assert_eq!(count("percept_prefix_cache_hits_total") > 0.0, share, "{switches}");
        assert_eq!(count("percept_drafted_tokens_total") > 0.0, draft.is_some(), "{switches}");
    };
    for share in 0..2 {
        for chunk in 0..CHUNKS.len() {
            (0..2).for_each(|guess| with(share, chunk, guess));
        }
    }
}

#[test]
fn a_prompt_takes_as_many_steps_as_it_has_chunks() {
    for (chunk, steps) in [(512, 1), (40, 3), (usize::MAX, 1)] {
        let session = session("llama", chunk, true);
        let vocab = session.model().decoder().vocab;
        let options = SchedulerOptions { prompt_rows: session.chunk(), ..SchedulerOptions::default() };
        let mut scheduler = Scheduler::new(session, options).unwrap();
        let options = GenerateOptions { max_tokens: Some(1), ..GenerateOptions::default() };
        let inputs = text(&case("llama"), vocab, 100, 1);
        scheduler.submit(Request::new(inputs, options)).unwrap();
        let (mut taken, mut ended) = (0, false);
        while !ended {
            taken += 1;
            let told = &mut |_, event| ended |= matches!(event, Event::Finished { .. });
            scheduler.step(told).unwrap();
        }
        assert_eq!(taken, steps, "chunks of {chunk}");
    }
}
