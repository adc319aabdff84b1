//! Requests that join and leave: each is answered as if it were alone, to the bit, whatever runs beside it.

use std::collections::{HashMap, HashSet};

use percept::infer::{
    Constraint, Draft, Error, Event, Finish, GenerateOptions, Generation, PromptLookup, Request, RequestId,
    Result, Sampling, Scheduler, SchedulerOptions, Session, SessionOptions, StoppedBy, TokenLogprob,
};
use percept::modalities::{Array, Inputs, Media, Values};
use percept::model::PAGE;

use crate::devices;
use crate::parity_case::Case;
use crate::sessions::{Dice, case, own_prompt, session, text};

/// What a request gave, with the bits of its numbers.
pub type Found = (Vec<i32>, String, Finish, Option<StoppedBy>, Vec<Logprob>, Vec<Option<Logprob>>);
type Logprob = (i32, u32, Vec<(i32, u32)>);

pub fn found(g: &Generation) -> Found {
    let top = |top: &[(i32, f32)]| top.iter().map(|(id, x)| (*id, x.to_bits())).collect();
    let bits = |t: &TokenLogprob| (t.id, t.logprob.to_bits(), top(&t.top));
    let prompt = g.prompt_logprobs.iter().map(|t| t.as_ref().map(bits)).collect();
    let logprobs = g.logprobs.iter().map(bits).collect();
    (g.tokens.clone(), g.text.clone(), g.finish, g.stopped_by.clone(), logprobs, prompt)
}

fn scheduler(case: &Case, session_options: SessionOptions, options: SchedulerOptions) -> Scheduler {
    let session = session(case, &devices::device("cpu"), session_options);
    Scheduler::new(session, options).unwrap()
}

/// A prompt of the ids.
pub fn of_ids(ids: &[i64]) -> Inputs {
    let mut inputs = Inputs::default();
    let array = Array { dims: vec![1, ids.len()], values: Values::I64(ids.to_vec()) };
    inputs.arrays.insert("input_ids".into(), array);
    inputs
}

fn ids(inputs: &Inputs) -> Vec<i64> {
    match &inputs.arrays["input_ids"].values {
        Values::I64(ids) => ids.clone(),
        Values::F32(_) => panic!("ids are integers"),
    }
}

/// Texts that begin alike or repeat themselves, and the case's own prompt with its media; options of every kind.
pub fn requests(case: &Case, session: &Session, count: usize) -> Vec<(Inputs, GenerateOptions)> {
    let vocab = session.model().decoder().vocab;
    let common = ids(&text(case, vocab, 2 * PAGE + 5, 999));
    let request = |i: usize| {
        let inputs = match i % 4 {
            0 => own_prompt(case, session.model()),
            1 => text(case, vocab, 1 + 29 * i % 170, i),
            2 => of_ids(&[&common[..], &ids(&text(case, vocab, 1 + i, i))].concat()),
            _ => of_ids(&ids(&text(case, vocab, 9, i)).repeat(4)),
        };
        let draws = Sampling { temperature: 0.7, top_k: 5, seed: i as u64, ..Sampling::default() };
        // Answers that outgrow their prompt's pages, and short ones.
        let most = if i % 4 == 3 { 90 + i } else { i * 5 % 23 };
        let options = GenerateOptions {
            max_tokens: Some(most),
            sampling: if i % 5 == 4 { draws } else { Sampling::default() },
            logprobs: (!i.is_multiple_of(3)).then_some(i % 4),
            prompt_logprobs: (i % 6 == 1).then_some(1),
            ignore_ends: i % 4 == 3 || i % 7 == 2,
            ..GenerateOptions::default()
        };
        (inputs, options)
    };
    (0..count).map(request).collect()
}

/// What each request gives alone.
pub fn alone(case: &Case, requests: &[(Inputs, GenerateOptions)]) -> Vec<Found> {
    let mut session = session(case, &devices::whole_cpu(), SessionOptions::default());
    let one = |(inputs, options): &(Inputs, GenerateOptions)| {
        let mut streamed = String::new();
        let all = session.generate(inputs, options, &mut |text| streamed.push_str(text)).unwrap();
        assert_eq!(streamed, all.text);
        found(&all)
    };
    requests.iter().map(one).collect()
}

/// Run everything to its end; what is streamed must be what it ends with.
pub fn drain(scheduler: &mut Scheduler) -> HashMap<RequestId, Result<Generation, Error>> {
    let mut ended = HashMap::new();
    let mut streamed: HashMap<RequestId, (Vec<i32>, String)> = HashMap::new();
    let mut more = true;
    while more {
        more = scheduler
            .step(&mut |id, event| {
                assert!(!ended.contains_key(&id), "request {id} has an event after its end");
                match event {
                    Event::Started { .. } => assert!(streamed.insert(id, Default::default()).is_none()),
                    Event::Token { id: token, text, .. } => {
                        let (tokens, all) = streamed.get_mut(&id).unwrap();
                        tokens.push(token);
                        all.push_str(&text);
                    }
                    Event::Finished { text, generation } => {
                        let (tokens, all) = &streamed[&id];
                        assert_eq!(
                            (tokens, all.clone() + &text),
                            (&generation.tokens, generation.text.clone())
                        );
                        ended.insert(id, Ok(generation));
                    }
                    Event::Failed(e) => drop(ended.insert(id, Err(e))),
                }
            })
            .unwrap();
    }
    ended
}

pub const LOOKUP: Draft = Draft::Lookup(PromptLookup { ngram: 3, tokens: 6 });

#[test]
fn many_requests_are_answered_as_each_alone_bit_for_bit() {
    for name in ["llama", "gemma3-text", "gemma3", "qwen2-vl-image", "qwen2-audio", "qwen3-5-text", "lfm2-vl"]
    {
        let case = case(name);
        let count = 32;
        let asked =
            requests(&case, &session(&case, &devices::device("cpu"), SessionOptions::default()), count);
        let expected = alone(&case, &asked);
        assert!(expected.iter().any(|e| e.5.len() > 1) && expected.iter().any(|e| !e.4.is_empty()));
        let tiny = Some(7 * PAGE);
        let mut seen = [0; 4];
        // Requests at a time, rows of prompts a step, rows of the cache, guesses, whether prefixes are shared.
        let settings = [
            (1, 512, None, None, true),
            (8, 40, tiny, None, true),
            (64, 512, None, Some(LOOKUP), true),
            (8, 64, tiny, Some(LOOKUP), true),
            (8, usize::MAX, tiny, Some(LOOKUP), false),
        ];
        for (running, prompt_rows, cache_rows, draft, share_prefixes) in settings {
            let chunk = prompt_rows;
            let options = SessionOptions { cache_rows, chunk, share_prefixes, ..SessionOptions::default() };
            let batching = SchedulerOptions { running, waiting: count, prompt_rows };
            let mut scheduler = scheduler(&case, options, batching);
            let submit = |(inputs, options): &(Inputs, GenerateOptions)| {
                let options = GenerateOptions { draft, ..options.clone() };
                scheduler.submit(Request::new(inputs.clone(), options)).unwrap()
            };
            let submitted: Vec<RequestId> = asked.iter().map(submit).collect();
            let ended = drain(&mut scheduler);
            for (i, (id, expected)) in submitted.iter().zip(&expected).enumerate() {
                let got = found(ended[id].as_ref().unwrap());
                assert_eq!(got, *expected, "{name}: request {i}, {running} at a time, guesses {draft:?}");
            }
            let s = scheduler.statistics();
            assert_eq!((s.running, s.waiting, s.pages_used), (0, 0, 0), "{name}: {s:?}");
            assert_eq!(scheduler.session().held_pages().iter().sum::<usize>(), 0, "{name}");
            let tokens: usize = expected.iter().map(|e| e.0.len()).sum();
            assert_eq!(s.generated_tokens as usize, tokens);
            assert!(share_prefixes || s.prefix_hits == 0);
            println!("{name}, {running} at a time: {s:?}");
            seen[0] += s.preemptions;
            seen[1] += s.prefix_hits;
            seen[2] += s.accepted_tokens;
            seen[3] += s.drafted_tokens - s.accepted_tokens;
        }
        assert!(seen.iter().all(|n| *n > 0), "{name}: something never happened: {seen:?}");
    }
}

#[test]
fn requests_that_are_cancelled_leave_no_page_and_change_no_other() {
    let (mut cancelled, mut preemptions) = (0, 0);
    for (name, rounds) in [("llama", 30), ("gemma3-text", 20), ("qwen2-vl-image", 10)] {
        let case = case(name);
        let options = SessionOptions { cache_rows: Some(5 * PAGE), ..SessionOptions::default() };
        let batching = SchedulerOptions { running: 6, waiting: 64, prompt_rows: 48 };
        let mut scheduler = scheduler(&case, options, batching);
        let asked = requests(&case, scheduler.session(), 16);
        let expected = alone(&case, &asked);
        for seed in 0..rounds {
            let mut dice = Dice(seed);
            let mut live: HashMap<RequestId, usize> = HashMap::new();
            for turn in 0..40 {
                if turn < 30 && dice.below(2) == 0 {
                    let which = dice.below(asked.len());
                    let (inputs, options) = asked[which].clone();
                    let draft = (dice.below(2) == 0).then_some(LOOKUP);
                    let request = Request::new(inputs, GenerateOptions { draft, ..options });
                    live.insert(scheduler.submit(request).unwrap(), which);
                }
                if dice.below(4) == 0 && !live.is_empty() {
                    let mut all: Vec<RequestId> = live.keys().copied().collect();
                    all.sort();
                    let id = all[dice.below(all.len())];
                    assert!(scheduler.cancel(id) && !scheduler.cancel(id));
                    live.remove(&id);
                    cancelled += 1;
                }
                step(&mut scheduler, &mut live, &expected);
            }
            for (i, id) in live.keys().copied().collect::<Vec<_>>().into_iter().enumerate() {
                if i % 2 == 0 {
                    assert!(scheduler.cancel(id));
                    live.remove(&id);
                }
            }
            while step(&mut scheduler, &mut live, &expected) {}
            assert!(live.is_empty(), "{name} {seed}: requests did not end");
            assert_eq!(scheduler.statistics().pages_used, 0, "{name} {seed}");
            assert!(scheduler.session().held_pages().iter().all(|pages| *pages == 0), "{name} {seed}");
        }
        preemptions += scheduler.statistics().preemptions;
    }
    assert!(cancelled > 100 && preemptions > 5, "{cancelled} cancelled, {preemptions} preemptions");
}

/// One step; what ends must be as expected.
pub fn step(scheduler: &mut Scheduler, live: &mut HashMap<RequestId, usize>, expected: &[Found]) -> bool {
    scheduler
        .step(&mut |id, event| match event {
            Event::Finished { generation, .. } => {
                let which = live.remove(&id).expect("a cancelled request has no event");
                assert_eq!(found(&generation), expected[which]);
            }
            Event::Failed(e) => panic!("{e}"),
            _ => assert!(live.contains_key(&id)),
        })
        .unwrap()
}

#[test]
fn a_cancelled_request_gives_its_pages_back_at_once() {
    let case = case("llama");
    let options = SessionOptions { cache_rows: Some(16 * PAGE), ..SessionOptions::default() };
    let mut scheduler = scheduler(&case, options, SchedulerOptions::default());
    let vocab = scheduler.session().model().decoder().vocab;
    let options = GenerateOptions { ignore_ends: true, ..GenerateOptions::default() };
    let mut submit = |rows: usize| {
        let inputs = text(&case, vocab, rows, rows);
        scheduler.submit(Request::new(inputs, options.clone())).unwrap()
    };
    let (long, short) = (submit(5 * PAGE + 1), submit(PAGE));
    scheduler.step(&mut |_, _| {}).unwrap();
    scheduler.step(&mut |_, _| {}).unwrap();
    assert_eq!(scheduler.statistics().pages_used, 6 + 2);
    assert!(scheduler.cancel(long));
    assert_eq!(scheduler.statistics().pages_used, 2);
    assert!(scheduler.cancel(short) && !scheduler.cancel(short));
    assert_eq!(scheduler.statistics().pages_used, 0);
    assert!(!scheduler.step(&mut |_, _| panic!("nobody is there")).unwrap());
}

#[test]
fn the_queue_is_bounded_and_requests_are_admitted_by_age() {
    let case = case("llama");
    let options = SchedulerOptions { running: 2, waiting: 3, prompt_rows: 64 };
    let mut scheduler = scheduler(&case, SessionOptions::default(), options);
    let vocab = scheduler.session().model().decoder().vocab;
    let request = |i: usize| {
        let options =
            GenerateOptions { max_tokens: Some(3 + i % 3), ignore_ends: true, ..Default::default() };
        Request::new(text(&case, vocab, 20 + 61 * (i % 3), i), options)
    };
    let mut submitted: Vec<RequestId> = (0..5).map(|i| scheduler.submit(request(i)).unwrap()).collect();
    let full = scheduler.submit(request(5)).unwrap_err();
    assert!(matches!(full, Error::QueueFull { waiting: 5 }), "{full}");
    let (mut started, mut ended) = (Vec::new(), 0);
    loop {
        let more = scheduler
            .step(&mut |id, event| match event {
                Event::Started { .. } => started.push(id),
                Event::Finished { .. } => ended += 1,
                _ => {}
            })
            .unwrap();
        let s = scheduler.statistics();
        assert!(s.running <= 2 && s.waiting <= 5);
        if submitted.len() < 30 {
            submitted.extend(scheduler.submit(request(submitted.len())));
        }
        if !more && submitted.len() >= 30 {
            break;
        }
    }
    // With two at a time, a shorter prompt may be read beside an older one, but nobody is admitted before his turn.
    assert_eq!(ended, submitted.len());
    for (i, id) in started.iter().enumerate() {
        let place = submitted.iter().position(|other| other == id).unwrap();
        assert!(place.abs_diff(i) <= 1, "request {place} was the {i}th to start");
    }
}

#[test]
fn a_long_prompt_stops_nobody() {
    let case = case("llama");
    let options = SchedulerOptions { running: 8, waiting: 8, prompt_rows: 32 };
    let mut scheduler = scheduler(&case, SessionOptions::default(), options);
    let vocab = scheduler.session().model().decoder().vocab;
    let mut submit = |rows: usize, most: usize| {
        let options = GenerateOptions { max_tokens: Some(most), ignore_ends: true, ..Default::default() };
        scheduler.submit(Request::new(text(&case, vocab, rows, rows), options)).unwrap()
    };
    let running: HashSet<RequestId> = [submit(3, 60), submit(5, 60)].into();
    let mut tokens: HashMap<RequestId, usize> = HashMap::new();
    let mut turn = |scheduler: &mut Scheduler| {
        let mut now = HashSet::new();
        let each = &mut |id, event| {
            if let Event::Token { .. } = event {
                now.insert(id);
                *tokens.entry(id).or_default() += 1;
            }
        };
        scheduler.step(each).unwrap();
        now
    };
    while turn(&mut scheduler) != running {}
    let mut submit = |rows: usize, most: usize| {
        let options = GenerateOptions { max_tokens: Some(most), ignore_ends: true, ..Default::default() };
        scheduler.submit(Request::new(text(&case, vocab, rows, rows), options)).unwrap()
    };
    // Half of each step at least is for the long prompt, which is the oldest.
    let (long, short) = (submit(400, 2), submit(10, 2));
    let (mut steps, mut short_at) = (0, 0);
    loop {
        steps += 1;
        let now = turn(&mut scheduler);
        assert!(running.is_subset(&now), "step {steps}: a sequence that decodes had to wait");
        if now.contains(&short) && short_at == 0 {
            short_at = steps;
        }
        if now.contains(&long) {
            break;
        }
    }
    assert!(
        short_at == 1 && (400usize.div_ceil(32)..=400usize.div_ceil(16)).contains(&steps),
        "{steps} steps"
    );
    while scheduler.step(&mut |_, _| {}).unwrap() {}
}

#[test]
fn media_that_come_again_are_not_encoded_again() {
    for (name, limit) in
        [("qwen2-vl-image", None), ("qwen2-audio", None), ("gemma3", None), ("gemma3", Some(0))]
    {
        let case = case(name);
        let mut options = SessionOptions::default();
        options.encoded_bytes = limit.unwrap_or(options.encoded_bytes);
        let mut scheduler = scheduler(&case, options, SchedulerOptions::default());
        let model = scheduler.session().shared_model();
        let options = GenerateOptions { max_tokens: Some(4), ..GenerateOptions::default() };
        let own = own_prompt(&case, &*model);
        let mut expected = None;
        let ask = |scheduler: &mut Scheduler, inputs: &Inputs| {
            let id = scheduler.submit(Request::new(inputs.clone(), options.clone())).unwrap();
            drain(scheduler).remove(&id).unwrap().unwrap()
        };
        for _ in 0..3 {
            let found = found(&ask(&mut scheduler, &own));
            assert_eq!(*expected.get_or_insert_with(|| found.clone()), found, "{name}");
        }
        let runs = model.encoder_runs(&own).unwrap().len() as u64;
        let s = scheduler.statistics();
        let times = if limit.is_none() { [1, 2] } else { [3, 0] };
        assert_eq!([s.encoder_runs, s.encoder_hits], times.map(|n| n * runs), "{name}");
        // Another medium is another.
        let mut media: Media = case.media(model.processor()).unwrap();
        media.images.iter_mut().for_each(|image| image.rgb[0] ^= 64);
        media.audios.iter_mut().for_each(|audio| audio.samples[0] += 0.25);
        let other = model.processor().chat(&case.messages().unwrap(), &media).unwrap();
        ask(&mut scheduler, &other);
        assert!(scheduler.statistics().encoder_runs > s.encoder_runs, "{name}");
    }
}

#[test]
fn what_the_cache_still_holds_of_a_prompt_is_not_read_again() {
    for name in ["llama", "gemma3-text", "qwen2-vl-image"] {
        let case = case(name);
        let options = SessionOptions { cache_rows: Some(24 * PAGE), ..SessionOptions::default() };
        let mut scheduler = scheduler(&case, options, SchedulerOptions::default());
        let model = scheduler.session().shared_model();
        let options =
            GenerateOptions { max_tokens: Some(5), logprobs: Some(2), ..GenerateOptions::default() };
        // A conversation that goes on: each turn begins with all of the last one.
        let mut prompt = own_prompt(&case, &*model);
        let more = ids(&text(&case, model.decoder().vocab, 4 * PAGE, 5));
        let mut cached = Vec::new();
        for turn in 0..3 {
            let mut all = ids(&prompt);
            all.extend(&more[turn * PAGE..(turn + 1) * PAGE + 7]);
            let array = Array { dims: vec![1, all.len()], values: Values::I64(all) };
            for (name, old) in prompt.arrays.iter_mut().filter(|(_, a)| a.dims.len() == 2) {
                // The attention mask goes along where there is one.
                if name == "input_ids" {
                    *old = array.clone();
                } else if old.dims == [1, array.dims[1] - PAGE - 7] {
                    *old = Array { dims: array.dims.clone(), values: Values::I64(vec![1; array.dims[1]]) };
                }
            }
            let expected = alone(&case, &[(prompt.clone(), options.clone())]);
            let id = scheduler.submit(Request::new(prompt.clone(), options.clone())).unwrap();
            let generation = drain(&mut scheduler).remove(&id).unwrap().unwrap();
            assert_eq!(found(&generation), expected[0], "{name} turn {turn}");
            cached.push((generation.cached_tokens, generation.prompt_tokens));
        }
        println!("{name}: {cached:?}");
        assert_eq!(cached[0].0, 0);
        for pair in cached.windows(2) {
            // Whole pages of what was read before; the row that gives logits is read.
            let expected = pair[0].1 / PAGE * PAGE;
            assert!(pair[1].0 >= expected && expected > 0, "{name}: {cached:?}");
        }
        let s = scheduler.statistics();
        assert_eq!(s.prefix_hits as usize, cached.iter().map(|c| c.0).sum::<usize>());
        assert_eq!(s.prompt_tokens as usize, cached.iter().map(|c| c.1).sum::<usize>());
    }
}

/// Lets nothing but these tokens come, in this order; fails when it is told another.
struct Spells(Vec<i32>, usize);

impl Constraint for Spells {
    fn mask(&mut self, allowed: &mut [u32]) -> Result<()> {
        assert!(allowed.iter().all(|word| *word == 0));
        if let Some(&id) = self.0.get(self.1) {
            allowed[id as usize / 32] |= 1 << (id % 32);
        }
        Ok(())
    }

    fn accept(&mut self, id: i32) -> Result<()> {
        assert_eq!(self.0.get(self.1), Some(&id));
        self.1 += 1;
        Ok(())
    }

    fn may_end(&mut self) -> bool {
        self.1 >= self.0.len() && !self.0.contains(&40)
    }
}

#[test]
fn a_constraint_decides_what_may_come_and_where_the_text_may_end() {
    let case = case("llama");
    let mut scheduler = scheduler(&case, SessionOptions::default(), SchedulerOptions::default());
    let vocab = scheduler.session().model().decoder().vocab;
    let wanted = vec![50, 51, 50, 51, 52, 50, 51, 52];
    let request = |spells: &[i32], change: &dyn Fn(&mut GenerateOptions)| {
        let mut options = GenerateOptions { max_tokens: Some(20), draft: Some(LOOKUP), ..Default::default() };
        change(&mut options);
        let constraint: Box<dyn Constraint> = Box::new(Spells(spells.to_vec(), 0));
        Request { inputs: text(&case, vocab, 12, 1), options, constraint: Some(constraint) }
    };
    let greedy = scheduler.submit(request(&wanted, &|_| {})).unwrap();
    let drawn = scheduler.submit(request(&wanted, &|options| options.sampling.temperature = 2.0)).unwrap();
    let short = scheduler.submit(request(&wanted, &|options| options.max_tokens = Some(3))).unwrap();
    // Token 40 lets it end nowhere, and nothing may come behind it.
    let stuck = scheduler.submit(request(&[50, 40], &|_| {})).unwrap();
    let beaten = scheduler.submit(request(&[50], &|options| options.sampling.suppressed = vec![50])).unwrap();
    let free = GenerateOptions { max_tokens: Some(20), ..GenerateOptions::default() };
    let free = scheduler.submit(Request::new(text(&case, vocab, 12, 1), free)).unwrap();
    let both = request(&wanted, &|options| options.ignore_ends = true);
    assert!(scheduler.submit(both).unwrap_err().to_string().contains("ends cannot be ignored"));
    let mut ended = drain(&mut scheduler);
    for id in [greedy, drawn] {
        let generation = ended.remove(&id).unwrap().unwrap();
        assert_eq!((generation.tokens, generation.finish), (wanted.clone(), Finish::Stop));
        assert!(matches!(generation.stopped_by, Some(StoppedBy::Token(_))), "{:?}", generation.stopped_by);
    }
    let short = ended.remove(&short).unwrap().unwrap();
    assert_eq!((short.tokens, short.finish), (wanted[..3].to_vec(), Finish::Length));
    let stuck = ended.remove(&stuck).unwrap().unwrap_err().to_string();
    assert!(stuck.contains("lets no token"), "{stuck}");
    let beaten = ended.remove(&beaten).unwrap().unwrap_err().to_string();
    assert!(beaten.contains("does not let come next"), "{beaten}");
    assert_ne!(ended.remove(&free).unwrap().unwrap().tokens, wanted);
    assert_eq!(scheduler.statistics().pages_used, 0);
}

#[test]
fn biases_and_ends_do_what_they_say() {
    let case = case("llama");
    let mut session = session(&case, &devices::device("cpu"), SessionOptions::default());
    let vocab = session.model().decoder().vocab;
    let end = session.model().ends().unwrap()[0];
    let inputs = text(&case, vocab, 12, 1);
    let mut ask = |options: GenerateOptions| session.generate(&inputs, &options, &mut |_| {});
    let base = GenerateOptions { max_tokens: Some(4), logprobs: Some(2), ..GenerateOptions::default() };
    let ended = ask(GenerateOptions { logit_bias: vec![(end, 1e4)], ..base.clone() }).unwrap();
    assert_eq!((ended.tokens.len(), ended.stopped_by), (0, Some(StoppedBy::Token(end))));
    let on =
        ask(GenerateOptions { logit_bias: vec![(end, 1e4)], ignore_ends: true, ..base.clone() }).unwrap();
    assert_eq!((on.tokens, on.finish, on.stopped_by), (vec![end; 4], Finish::Length, None));
    // Log-probabilities are of the model, whatever was added.
    let plain = ask(base.clone()).unwrap();
    let first = plain.tokens[0];
    let moved =
        ask(GenerateOptions { logit_bias: vec![(first, f32::NEG_INFINITY)], ..base.clone() }).unwrap();
    assert_eq!(moved.tokens[0], plain.logprobs[0].top[1].0);
    assert_eq!(moved.logprobs[0].top, plain.logprobs[0].top);
    let wrong = ask(GenerateOptions { logit_bias: vec![(1, f32::NAN)], ..base.clone() }).unwrap_err();
    assert!(wrong.to_string().contains("token 1"), "{wrong}");
    let wrong = ask(GenerateOptions { logit_bias: vec![(vocab as i32, 1.0)], ..base.clone() }).unwrap_err();
    assert!(wrong.to_string().contains(&vocab.to_string()), "{wrong}");
    for (draft, says) in [
        (Draft::Lookup(PromptLookup { ngram: 0, tokens: 4 }), "n-gram"),
        (Draft::Model { tokens: 65 }, "1 to 64"),
        (Draft::Model { tokens: 4 }, "the session has none"),
    ] {
        let refused = ask(GenerateOptions { draft: Some(draft), ..base.clone() }).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
}

/// Log-probabilities against the softmax of the logits that another way gives.
#[test]
fn logprobs_are_those_of_the_softmax() {
    let case = case("llama");
    let mut session = session(&case, &devices::device("cpu"), SessionOptions::default());
    let vocab = session.model().decoder().vocab;
    let inputs = text(&case, vocab, 90, 4);
    let options = GenerateOptions {
        max_tokens: Some(6),
        logprobs: Some(3),
        prompt_logprobs: Some(0),
        ignore_ends: true,
        ..GenerateOptions::default()
    };
    let made = session.generate(&inputs, &options, &mut |_| {}).unwrap();
    let (_, prompt) = session.prefill(&inputs, 0, 0).unwrap();
    let after = session.score(&inputs, &made.tokens).unwrap();
    let logprob = |row: &[f32], id: i32| {
        let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        f64::from(row[id as usize]) - sum.ln()
    };
    for (row, made) in after.chunks(vocab).zip(&made.logprobs) {
        assert!((logprob(row, made.id) - f64::from(made.logprob)).abs() < 1e-5);
        assert_eq!(made.top.len(), 3);
        assert!(made.top.is_sorted_by(|a, b| a.1 >= b.1) && made.top[0].1 >= made.logprob);
        made.top.iter().for_each(|(id, x)| assert!((logprob(row, *id) - f64::from(*x)).abs() < 1e-5));
    }
    assert_eq!((made.prompt_logprobs.len(), &made.prompt_logprobs[0]), (90, &None));
    for (i, row) in prompt.chunks(vocab).take(89).enumerate() {
        let found = made.prompt_logprobs[i + 1].as_ref().unwrap();
        assert_eq!(i64::from(found.id), ids(&inputs)[i + 1]);
        assert!((logprob(row, found.id) - f64::from(found.logprob)).abs() < 1e-5);
    }
}

#[test]
fn what_can_never_fit_is_refused_and_what_fits_partly_ends_there() {
    let case = case("llama");
    let options = SessionOptions { cache_rows: Some(4 * PAGE), ..SessionOptions::default() };
    let mut scheduler = scheduler(&case, options, SchedulerOptions::default());
    let vocab = scheduler.session().model().decoder().vocab;
    let options = GenerateOptions { ignore_ends: true, ..GenerateOptions::default() };
    let refused = scheduler.submit(Request::new(text(&case, vocab, 4 * PAGE + 1, 1), options.clone()));
    assert!(matches!(refused, Err(Error::CacheFull { .. })), "{:?}", refused.err());
    let rows = 4 * PAGE - 10;
    let ids: Vec<_> = (0..3)
        .map(|i| scheduler.submit(Request::new(text(&case, vocab, rows, i), options.clone())).unwrap())
        .collect();
    let ended = drain(&mut scheduler);
    for id in ids {
        let generation = ended[&id].as_ref().unwrap();
        // The last token is not read, so it needs no row.
        assert_eq!((generation.tokens.len(), generation.finish), (11, Finish::Length));
    }
}

#[test]
fn several_answers_to_one_prompt_read_it_once() {
    let case = case("llama");
    let batching = SchedulerOptions { running: 8, waiting: 8, prompt_rows: 80 };
    let mut scheduler = scheduler(&case, SessionOptions::default(), batching);
    let vocab = scheduler.session().model().decoder().vocab;
    let draws = Sampling { temperature: 1.0, ..Sampling::default() };
    let request = |seed: u64| {
        let sampling = Sampling { seed, ..draws.clone() };
        let options =
            GenerateOptions { max_tokens: Some(6), sampling, ignore_ends: true, ..Default::default() };
        (text(&case, vocab, 3 * PAGE + 8, 1), options)
    };
    let asked: Vec<_> = (0..4).map(request).collect();
    let submit = |(inputs, options): &(Inputs, GenerateOptions)| {
        scheduler.submit(Request::new(inputs.clone(), options.clone())).unwrap()
    };
    let submitted: Vec<RequestId> = asked.iter().map(submit).collect();
    let ended = drain(&mut scheduler);
    for (id, expected) in submitted.iter().zip(alone(&case, &asked)) {
        assert_eq!(found(ended[id].as_ref().unwrap()), expected);
    }
    assert_eq!(scheduler.statistics().prefix_hits as usize, 3 * 3 * PAGE);
}
