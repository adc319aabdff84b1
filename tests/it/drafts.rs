//! A draft model guesses, and answers stay what they are: to the bit, whatever it is and whatever happens meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use percept::graph::TensorType;
use percept::infer::{
    Draft, Error, GenerateOptions, NotDrafted, Request, RequestId, Sampling, Scheduler, SchedulerOptions,
    Session, SessionOptions,
};
use percept::modalities::Inputs;
use percept::model::checkpoint::Checkpoint;
use percept::model::{CausalModel, Model, PAGE};
use serde_json::Value;

use crate::devices;
use crate::scheduler::{Found, LOOKUP, alone, drain, found, of_ids, requests, step};
use crate::sessions::{Dice, case, model, own_prompt, session, text};

fn opened(checkpoint: Checkpoint) -> Box<dyn CausalModel> {
    match percept::model::open(Arc::new(checkpoint)).unwrap() {
        Model::Causal(model) => model,
        _ => panic!("it continues text"),
    }
}

fn fixed(cache_rows: Option<usize>) -> SessionOptions {
    SessionOptions { strict: true, batch_invariant: true, cache_rows, ..SessionOptions::default() }
}

/// A session of one model with another as its draft model, with caches of so many rows.
fn pair(name: &str, draft: Box<dyn CausalModel>, rows: Option<usize>, draft_rows: Option<usize>) -> Session {
    let (case, cpu) = (case(name), devices::device("cpu"));
    let draft = Session::new(cpu.clone(), draft, fixed(draft_rows)).unwrap();
    session(&case, &cpu, fixed(rows)).with_draft(draft).unwrap()
}

/// Pages that sequences hold in both sessions.
fn held(session: &Session) -> usize {
    let draft = session.draft().unwrap();
    session.held_pages().iter().chain(&draft.held_pages()).sum()
}

/// The text part of Gemma 3 with its vision.
fn gemma_without_vision() -> Box<dyn CausalModel> {
    let whole = Checkpoint::open(case("gemma3").folder.join("model")).unwrap();
    let config = whole.config()["text_config"].clone();
    opened(whole.with_config(config).renamed(|name| name.replace("language_model.model.", "model.")))
}

#[test]
fn answers_are_those_without_a_draft_model_bit_for_bit() {
    let tiny = Some(7 * PAGE);
    // Requests at a time, rows of prompts a step, rows of the caches, guesses.
    let settings = [
        (1, 512, None, None, 4),
        (8, 40, tiny, tiny, 6),
        (64, 512, None, Some(9 * PAGE), 3),
        (8, 64, tiny, None, 1),
        (16, 100, None, None, 7),
    ];
    for (name, draft) in [
        ("llama", "qwen2"),
        ("llama", "llama"),
        ("gemma3-text", "llama"),
        ("qwen2", "gemma3-text"),
        ("gemma3", "gemma3"),
        ("gemma4-text", "gemma4-text"),
        ("qwen2-vl-image", "qwen2-vl-image"),
        ("qwen2-audio", "qwen2-audio"),
        ("qwen3-5-text", "qwen3-5-text"),
    ] {
        let case_of = case(name);
        let count = 32;
        let plain = session(&case_of, &devices::device("cpu"), SessionOptions::default());
        let asked = requests(&case_of, &plain, count);
        let expected = alone(&case_of, &asked);
        let mut seen = [0; 5];
        for (running, prompt_rows, rows, draft_rows, tokens) in settings {
            let session = pair(name, model(&case(draft)), rows, draft_rows);
            let batching = SchedulerOptions { running, waiting: count, prompt_rows };
            let mut scheduler = Scheduler::new(session, batching).unwrap();
            let submit = |(inputs, options): &(Inputs, GenerateOptions)| {
                let options = GenerateOptions { draft: Some(Draft::Model { tokens }), ..options.clone() };
                scheduler.submit(Request::new(inputs.clone(), options)).unwrap()
            };
            let submitted: Vec<RequestId> = asked.iter().map(submit).collect();
            let ended = drain(&mut scheduler);
            let mut guessed = (0, 0);
            for (i, (id, expected)) in submitted.iter().zip(&expected).enumerate() {
                let generation = ended[id].as_ref().unwrap();
                assert_eq!(
                    found(generation),
                    *expected,
                    "{draft} for {name}: request {i}, {running} at a time"
                );
                if name == draft && asked[i].1.sampling.temperature == 0.0 {
                    assert_eq!(generation.accepted_tokens, generation.drafted_tokens, "{name}: request {i}");
                }
                guessed.0 += generation.drafted_tokens as u64;
                guessed.1 += generation.accepted_tokens as u64;
            }
            let s = scheduler.statistics();
            println!("{draft} for {name}, {running} at a time: {s:?}");
            assert_eq!((s.drafted_tokens, s.accepted_tokens), guessed);
            assert_eq!((s.pages_used, held(scheduler.session())), (0, 0), "{draft} for {name}");
            assert_eq!((s.undrafted_unread, s.undrafted_long), (0, 0), "{draft} for {name}");
            seen[0] += s.preemptions;
            seen[1] += s.undrafted_full;
            seen[2] += s.drafted_tokens;
            seen[3] += s.accepted_tokens;
            seen[4] += s.drafted_tokens - s.accepted_tokens;
        }
        assert!(seen[0] > 0 && seen[1] > 0 && seen[2] > 0, "{draft} for {name}: {seen:?}");
        // Another model is seldom right, and the model itself is wrong where tokens are drawn alone.
        assert!(seen[4] > 0 && (name == draft || seen[4] > seen[3]), "{draft} for {name}: {seen:?}");
        assert!(name != draft || seen[3] > 0, "{draft} for {name}: {seen:?}");
    }
}

#[test]
fn all_guesses_of_the_model_itself_are_right_and_counted() {
    let case = case("llama");
    let mut session = pair("llama", model(&case), None, None);
    let vocab = session.model().decoder().vocab;
    let options = |most: usize, tokens: usize| GenerateOptions {
        max_tokens: Some(most),
        ignore_ends: true,
        draft: Some(Draft::Model { tokens }),
        ..GenerateOptions::default()
    };
    // The first token comes from the prompt. Each step then gives its guesses and one more, and guesses no further than the
    // last but one.
    for (most, tokens, guesses) in [(21, 4, 16), (20, 4, 15), (2, 4, 0), (1, 4, 0), (41, 7, 35), (9, 64, 7)] {
        let inputs = text(&case, vocab, 100, most);
        let made = session.generate(&inputs, &options(most, tokens), &mut |_| {}).unwrap();
        assert_eq!(made.tokens.len(), most);
        let counts = (made.drafted_tokens, made.accepted_tokens, made.not_drafted);
        assert_eq!(counts, (guesses, guesses, None), "{most} tokens, {tokens} guesses");
    }
    assert_eq!(held(&session), 0);
    // Side by side, with prompts that are read in pieces, and some that begin alike.
    let batching = SchedulerOptions { running: 8, waiting: 32, prompt_rows: 50 };
    let mut scheduler = Scheduler::new(session, batching).unwrap();
    for i in 0..24 {
        let inputs = if i % 3 == 0 { text(&case, vocab, 150, 1) } else { text(&case, vocab, 1 + 9 * i, i) };
        scheduler.submit(Request::new(inputs, options(30 + i, 1 + i % 6))).unwrap();
    }
    drain(&mut scheduler);
    let s = scheduler.statistics();
    assert!(s.drafted_tokens > 400 && s.accepted_tokens == s.drafted_tokens, "{s:?}");
    assert_eq!(held(scheduler.session()), 0);
}

#[test]
fn no_row_is_read_twice_by_the_draft_model() {
    let case = case("llama");
    for (draft, tokens) in [("llama", 1), ("llama", 4), ("qwen2", 1), ("qwen2", 5), ("gemma3-text", 3)] {
        // Caches that grow are read again.
        let session = pair("llama", model(&crate::sessions::case(draft)), Some(16 * PAGE), Some(16 * PAGE));
        let batching = SchedulerOptions { running: 4, waiting: 8, prompt_rows: 70 };
        let mut scheduler = Scheduler::new(session, batching).unwrap();
        let vocab = scheduler.session().model().decoder().vocab;
        // Two prompts of three pages are the same: their whole pages are read once.
        let prompts = [(180, 1), (180, 1), (33, 2), (1, 3)];
        for (rows, seed) in prompts {
            let options = GenerateOptions {
                max_tokens: Some(40),
                ignore_ends: true,
                draft: Some(Draft::Model { tokens }),
                ..GenerateOptions::default()
            };
            let inputs = text(&case, vocab, rows, seed);
            scheduler.submit(Request::new(inputs, options)).unwrap();
        }
        drain(&mut scheduler);
        let s = scheduler.statistics();
        let read = scheduler.session().draft().unwrap().rows_read();
        // Rows of prompts, one of each token that was certain, and one of each guess that was wrong, but not of the last ones
        // of a round.
        let prompts: usize = prompts.iter().map(|(rows, _)| rows).sum::<usize>() - 2 * PAGE;
        let most = (prompts + 4 * 40) as u64 + s.drafted_tokens - s.accepted_tokens;
        println!("{draft}, {tokens} guesses: {read} rows of at most {most}; {s:?}");
        assert!(read <= most && read > most / 2, "{draft}: {read} rows of at most {most}; {s:?}");
    }
}

#[test]
fn an_end_is_not_guessed_and_what_stops_a_text_is_found_among_guesses() {
    let case = case("llama");
    let mut plain = session(&case, &devices::device("cpu"), SessionOptions::default());
    let mut drafted = pair("llama", model(&case), None, None);
    let vocab = plain.model().decoder().vocab;
    let end = plain.model().ends().unwrap()[0];
    let mut ended = 0;
    for seed in 0..12 {
        let inputs = text(&case, vocab, 10 + seed, seed);
        // Ends come sooner where they are more likely; the draft model does not know of it.
        let base = GenerateOptions {
            max_tokens: Some(40),
            logit_bias: vec![(end, 4.0)],
            logprobs: Some(1),
            ..GenerateOptions::default()
        };
        let whole = plain.generate(&inputs, &base, &mut |_| {}).unwrap();
        let mut all = vec![base.clone()];
        let piece: String = whole.text.chars().skip(whole.text.chars().count() / 2).take(2).collect();
        if !piece.is_empty() {
            all.push(GenerateOptions { stop: vec![piece], ..base });
        }
        for options in all {
            let expected = plain.generate(&inputs, &options, &mut |_| {}).unwrap();
            let with = GenerateOptions { draft: Some(Draft::Model { tokens: 5 }), ..options };
            let made = drafted.generate(&inputs, &with, &mut |_| {}).unwrap();
            assert_eq!(found(&made), found(&expected), "seed {seed}");
            assert!(made.accepted_tokens <= made.drafted_tokens && made.accepted_tokens < 40);
            ended += usize::from(made.stopped_by.is_some());
        }
    }
    assert!(ended > 3, "{ended} answers were stopped");
    assert_eq!(held(&drafted), 0);
}

#[test]
fn drawn_answers_are_those_without_a_draft_model() {
    for draft in ["llama", "qwen3"] {
        let case = case("llama");
        let mut plain = session(&case, &devices::device("cpu"), SessionOptions::default());
        let vocab = plain.model().decoder().vocab;
        let batching = SchedulerOptions { running: 12, waiting: 64, prompt_rows: 64 };
        let session = pair("llama", model(&crate::sessions::case(draft)), None, None);
        let mut scheduler = Scheduler::new(session, batching).unwrap();
        let mut expected = HashMap::new();
        for seed in 0..48 {
            // From draws that are nearly always the likeliest token to those that are hardly ever.
            let sampling = Sampling {
                temperature: [0.05, 0.2, 0.7, 1.5][seed % 4],
                top_k: [0, 20][seed % 2],
                repetition_penalty: [1.0, 1.2][seed / 2 % 2],
                seed: seed as u64,
                ..Sampling::default()
            };
            let options = GenerateOptions {
                max_tokens: Some(24),
                sampling,
                logprobs: Some(2),
                ignore_ends: true,
                ..GenerateOptions::default()
            };
            let inputs = text(&case, vocab, 3 + 5 * seed, seed / 3);
            let alone = found(&plain.generate(&inputs, &options, &mut |_| {}).unwrap());
            let options = GenerateOptions { draft: Some(Draft::Model { tokens: 1 + seed % 5 }), ..options };
            expected.insert(scheduler.submit(Request::new(inputs, options)).unwrap(), alone);
        }
        let ended = drain(&mut scheduler);
        for (id, expected) in &expected {
            assert_eq!(found(ended[id].as_ref().unwrap()), *expected, "{draft}: request {id}");
        }
        let s = scheduler.statistics();
        assert!(s.drafted_tokens > s.accepted_tokens, "{draft}: {s:?}");
        assert!(draft != "llama" || s.accepted_tokens > 50, "{s:?}");
        assert_eq!(held(scheduler.session()), 0);
    }
}

#[test]
fn requests_come_go_and_give_way_while_a_draft_model_guesses() {
    let (mut cancelled, mut preemptions, mut accepted, mut full) = (0, 0, 0, 0);
    for (name, draft, rounds) in [
        ("llama", "llama", 20),
        ("llama", "gemma3-text", 12),
        ("gemma3-text", "qwen3", 12),
        ("qwen2-vl-image", "qwen2-vl-image", 8),
    ] {
        let case_of = case(name);
        let session = pair(name, model(&case(draft)), Some(5 * PAGE), Some(4 * PAGE));
        let batching = SchedulerOptions { running: 6, waiting: 64, prompt_rows: 48 };
        let mut scheduler = Scheduler::new(session, batching).unwrap();
        let asked = requests(&case_of, scheduler.session(), 16);
        let expected: Vec<Found> = alone(&case_of, &asked);
        for seed in 0..rounds {
            let mut dice = Dice(seed);
            let mut live: HashMap<RequestId, usize> = HashMap::new();
            for turn in 0..40 {
                if turn < 30 && dice.below(2) == 0 {
                    let which = dice.below(asked.len());
                    let (inputs, options) = asked[which].clone();
                    let sources = [None, Some(LOOKUP), Some(Draft::Model { tokens: 1 + dice.below(6) })];
                    let draft = sources[dice.below(5).min(2)];
                    let request = Request::new(inputs, GenerateOptions { draft, ..options });
                    live.insert(scheduler.submit(request).unwrap(), which);
                }
                if dice.below(4) == 0 && !live.is_empty() {
                    let mut all: Vec<RequestId> = live.keys().copied().collect();
                    all.sort();
                    let id = all[dice.below(all.len())];
                    assert!(scheduler.cancel(id));
                    live.remove(&id);
                    cancelled += 1;
                }
                step(&mut scheduler, &mut live, &expected);
            }
            while step(&mut scheduler, &mut live, &expected) {}
            assert!(live.is_empty(), "{name} {seed}: requests did not end");
            assert_eq!(held(scheduler.session()), 0, "{draft} for {name}, {seed}");
        }
        let s = scheduler.statistics();
        preemptions += s.preemptions;
        accepted += s.accepted_tokens;
        full += s.undrafted_full;
    }
    assert!(
        cancelled > 100 && preemptions > 5 && accepted > 100 && full > 5,
        "{cancelled} cancelled, {preemptions} preemptions, {accepted} accepted, {full} times full"
    );
}

#[test]
fn pages_of_the_draft_model_are_free_when_an_answer_is_cancelled() {
    let case = case("llama");
    let session = pair("llama", model(&case), Some(16 * PAGE), Some(16 * PAGE));
    let mut scheduler = Scheduler::new(session, SchedulerOptions::default()).unwrap();
    let vocab = scheduler.session().model().decoder().vocab;
    let mut submit = |rows: usize| {
        let draft = Some(Draft::Model { tokens: 3 });
        let options = GenerateOptions { ignore_ends: true, draft, ..GenerateOptions::default() };
        scheduler.submit(Request::new(text(&case, vocab, rows, rows), options)).unwrap()
    };
    let (long, short) = (submit(5 * PAGE + 1), submit(PAGE + 1));
    for _ in 0..3 {
        scheduler.step(&mut |_, _| {}).unwrap();
    }
    let pages = |scheduler: &Scheduler| scheduler.session().draft().unwrap().held_pages();
    assert_eq!(pages(&scheduler), [6 + 2]);
    assert!(scheduler.cancel(long));
    assert_eq!(pages(&scheduler), [2]);
    assert!(scheduler.cancel(short));
    assert_eq!((pages(&scheduler), held(scheduler.session())), (vec![0], 0));
}

#[test]
fn a_full_cache_of_the_draft_model_leaves_the_youngest_without_guesses() {
    let case = case("llama");
    let session = pair("llama", model(&case), None, Some(4 * PAGE));
    let mut scheduler = Scheduler::new(session, SchedulerOptions::default()).unwrap();
    let vocab = scheduler.session().model().decoder().vocab;
    let mut submit = |rows: usize| {
        let draft = Some(Draft::Model { tokens: 3 });
        let options =
            GenerateOptions { max_tokens: Some(30), ignore_ends: true, draft, ..Default::default() };
        scheduler.submit(Request::new(text(&case, vocab, rows, rows), options)).unwrap()
    };
    // The first has room, the second never, and the third beside the first.
    let all = [submit(PAGE + 5), submit(5 * PAGE), submit(PAGE + 7)];
    let mut ended = drain(&mut scheduler);
    let [first, never, third] = all.map(|id| ended.remove(&id).unwrap().unwrap());
    assert_eq!((first.not_drafted, third.not_drafted), (None, None));
    assert!(first.accepted_tokens > 15 && third.accepted_tokens > 15);
    assert_eq!((never.not_drafted, never.drafted_tokens), (Some(NotDrafted::Full), 0));
    let s = scheduler.statistics();
    assert_eq!(s.undrafted_full, 28, "{s:?}");
    assert_eq!(held(scheduler.session()), 0);
}

#[test]
fn a_draft_model_with_a_shorter_context_stops_at_its_end() {
    let case = case("llama");
    let short = || {
        let checkpoint = Checkpoint::open(case.folder.join("model")).unwrap();
        let mut config = checkpoint.config().clone();
        config["max_position_embeddings"] = 100.into();
        opened(checkpoint.with_config(config))
    };
    let session = pair("llama", short(), None, None);
    let mut scheduler = Scheduler::new(session, SchedulerOptions::default()).unwrap();
    let vocab = scheduler.session().model().decoder().vocab;
    let ask = |rows: usize, most: usize| {
        let options = GenerateOptions { max_tokens: Some(most), ignore_ends: true, ..Default::default() };
        (text(&case, vocab, rows, rows), options)
    };
    let asked = [ask(60, 80), ask(101, 20), ask(50, 50)];
    let expected = alone(&case, &asked);
    let submit = |(inputs, options): &(Inputs, GenerateOptions)| {
        let options = GenerateOptions { draft: Some(Draft::Model { tokens: 4 }), ..options.clone() };
        scheduler.submit(Request::new(inputs.clone(), options)).unwrap()
    };
    let ids: Vec<RequestId> = asked.iter().map(submit).collect();
    let mut ended = drain(&mut scheduler);
    let made: Vec<_> = ids.iter().map(|id| ended.remove(id).unwrap().unwrap()).collect();
    assert!(made.iter().map(found).eq(expected));
    // Rows 60 to 99 of the first are guessed for; the second has none that it could read, and the third ends in time.
    let why: Vec<_> = made.iter().map(|made| made.not_drafted).collect();
    assert_eq!(why, [Some(NotDrafted::Long), Some(NotDrafted::Long), None]);
    assert!(
        (25..=40).contains(&made[0].accepted_tokens) && made[0].accepted_tokens == made[0].drafted_tokens
    );
    assert_eq!(made[1].drafted_tokens, 0);
    let s = scheduler.statistics();
    assert_eq!((s.undrafted_long, s.undrafted_unread, s.undrafted_full), (2, 0, 0));
    assert_eq!(held(scheduler.session()), 0);
}

#[test]
fn a_prompt_with_media_that_the_draft_model_lacks_is_not_guessed_for() {
    let case = case("gemma3");
    let session = pair("gemma3", gemma_without_vision(), None, None);
    let mut scheduler = Scheduler::new(session, SchedulerOptions::default()).unwrap();
    let vocab = scheduler.session().model().decoder().vocab;
    let options = GenerateOptions { max_tokens: Some(12), ignore_ends: true, ..GenerateOptions::default() };
    let own = own_prompt(&case, scheduler.session().model());
    let asked = [(own, options.clone()), (text(&case, vocab, 30, 1), options)];
    let expected = alone(&case, &asked);
    let submit = |(inputs, options): &(Inputs, GenerateOptions)| {
        let options = GenerateOptions { draft: Some(Draft::Model { tokens: 4 }), ..options.clone() };
        scheduler.submit(Request::new(inputs.clone(), options)).unwrap()
    };
    let ids: Vec<RequestId> = asked.iter().map(submit).collect();
    let mut ended = drain(&mut scheduler);
    let made: Vec<_> = ids.iter().map(|id| ended.remove(id).unwrap().unwrap()).collect();
    assert!(made.iter().map(found).eq(expected));
    assert_eq!((made[0].not_drafted, made[0].drafted_tokens), (Some(NotDrafted::Unread), 0));
    // Of text it is the model itself.
    assert_eq!((made[1].not_drafted, made[1].accepted_tokens), (None, made[1].drafted_tokens));
    assert!(made[1].accepted_tokens > 0);
    assert_eq!(scheduler.statistics().undrafted_unread, 1);
}

/// The tokens of a checkpoint's `tokenizer.json`, and whether each is special.
fn tokens(name: &str) -> BTreeMap<u64, (String, bool)> {
    let file = case(name).folder.join("model/tokenizer.json");
    let json: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let pieces = json["model"]["vocab"].as_object().unwrap().iter();
    let mut all: BTreeMap<_, _> =
        pieces.map(|(token, id)| (id.as_u64().unwrap(), (token.clone(), false))).collect();
    for added in json["added_tokens"].as_array().unwrap() {
        let token = added["content"].as_str().unwrap().to_owned();
        all.insert(added["id"].as_u64().unwrap(), (token, added["special"].as_bool().unwrap()));
    }
    all
}

#[test]
fn another_tokenizer_is_refused_with_the_first_token_that_differs() {
    let cpu = devices::device("cpu");
    let with = |name: &str, draft: Box<dyn CausalModel>| {
        let draft = Session::new(cpu.clone(), draft, fixed(None)).unwrap();
        session(&case(name), &cpu, fixed(None)).with_draft(draft).err()
    };
    for (name, draft) in [("llama", "gemma3"), ("qwen2-vl-image", "qwen2-audio"), ("gemma3", "llama")] {
        let [own, other] = [name, draft].map(tokens);
        let first = (0..500).find(|id| own.get(id) != other.get(id)).unwrap();
        let refused = with(name, model(&case(draft))).unwrap();
        let told = refused.to_string();
        assert!(matches!(refused, Error::OtherTokenizer { id, .. } if u64::from(id) == first), "{told}");
        for token in [own.get(&first), other.get(&first)].into_iter().flatten() {
            assert!(told.contains(&format!("{:?}", token.0)), "{told}");
        }
    }
    // The same tokens, one of which is special to one of both alone.
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(case("llama").folder.join("model")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    let file = folder.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let last = json["added_tokens"].as_array_mut().unwrap().last_mut().unwrap();
    last["special"] = false.into();
    let id = last["id"].as_u64().unwrap();
    std::fs::write(&file, json.to_string()).unwrap();
    let config = folder.path().join("tokenizer_config.json");
    std::fs::write(config, "{}").unwrap();
    let told = with("llama", opened(Checkpoint::open(folder.path()).unwrap())).unwrap().to_string();
    assert!(
        told.contains(&format!("token {id} is the special token")) && told.contains("the text"),
        "{told}"
    );
    // A draft model has none itself.
    let twice = pair("llama", model(&case("llama")), None, None);
    let refused = session(&case("llama"), &cpu, fixed(None)).with_draft(twice).err().unwrap();
    assert!(refused.to_string().contains("no draft model of its own"), "{refused}");
}

/// The text part of Gemma 3 with a table of so many rows.
fn gemma_with_rows(rows: usize) -> Box<dyn CausalModel> {
    let whole = Checkpoint::open(case("gemma3").folder.join("model")).unwrap();
    let mut config = whole.config()["text_config"].clone();
    config["vocab_size"] = rows.into();
    let part = whole.with_config(config).renamed(|name| name.replace("language_model.model.", "model."));
    let name = "model.embed_tokens.weight";
    let table = part.weight(name).unwrap();
    let width = table.ty.bytes() / table.ty.dims[0];
    let mut bytes = table.bytes().to_vec();
    bytes.resize(rows * width, 0);
    let ty = TensorType::new(table.ty.dtype, [rows, table.ty.dims[1]]);
    opened(part.with_tensors("a table", [(name.into(), ty, bytes)]).unwrap())
}

#[test]
fn tables_of_other_lengths_guess_for_the_tokens_that_both_have() {
    let case = case("gemma3");
    let cpu = devices::device("cpu");
    let ask = |bias: Vec<(i32, f32)>, draft: Option<Draft>| {
        let options = GenerateOptions {
            max_tokens: Some(12),
            ignore_ends: true,
            logit_bias: bias,
            draft,
            ..GenerateOptions::default()
        };
        (of_ids(&[50, 60, 70, 80, 90]), options)
    };
    let draft = Some(Draft::Model { tokens: 3 });
    let last = tokens("gemma3").len() as i32 - 1;
    let all_last = vec![(last, 1e4)];
    let expected = alone(&case, &[ask(Vec::new(), None), ask(all_last.clone(), None)]);
    assert_eq!(expected[1].0, [last; 12]);
    // With more rows, all is guessed for.
    let more = Session::new(cpu.clone(), gemma_with_rows(last as usize + 9), fixed(None)).unwrap();
    let mut more = session(&case, &cpu, fixed(None)).with_draft(more).unwrap();
    // With fewer, a token that has none ends the guesses.
    let fewer = Session::new(cpu.clone(), gemma_with_rows(last as usize), fixed(None)).unwrap();
    let mut fewer = session(&case, &cpu, fixed(None)).with_draft(fewer).unwrap();
    for (bias, expected) in [(Vec::new(), &expected[0]), (all_last, &expected[1])] {
        let (inputs, options) = ask(bias.clone(), draft);
        let made = more.generate(&inputs, &options, &mut |_| {}).unwrap();
        assert_eq!((&found(&made), made.not_drafted), (expected, None));
        assert!(made.drafted_tokens > 0);
        let made = fewer.generate(&inputs, &options, &mut |_| {}).unwrap();
        assert_eq!(found(&made), *expected);
        let unread = expected.0.contains(&last).then_some(NotDrafted::Unread);
        assert_eq!(made.not_drafted, unread);
        assert!(unread.is_none() || made.drafted_tokens == 0);
    }
}
