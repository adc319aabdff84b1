//! Many sequences in one session: what a sequence gives does not depend on its company, on how its rows are cut into
//! steps, or on where its pages lie, to the bit.

use std::path::Path;
use std::sync::Arc;

use percept::graph::DType;
use percept::hal::Device;
use percept::infer::{
    Error, GenerateOptions, Part, Request, Sampler, Sampling, Sequence, Session, SessionOptions,
};
use percept::modalities::{Array, Inputs, Values};
use percept::model::checkpoint::Checkpoint;
use percept::model::{CausalModel, Model, PAGE};

use crate::devices;
use crate::parity_case::{Case, cases};

/// A parity case and its checkpoint.
pub fn case(name: &str) -> Case {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    cases(&folder).into_iter().find(|case| case.name == name).unwrap()
}

pub fn model(case: &Case) -> Box<dyn CausalModel> {
    let checkpoint = Checkpoint::open(case.folder.join("model")).unwrap();
    match percept::model::open(Arc::new(checkpoint)).unwrap() {
        Model::Causal(model) => model,
        _ => panic!("{} continues no text", case.name),
    }
}

/// A session under which a row's result does not depend on its company; on the cpu it never does.
pub fn session(case: &Case, device: &Arc<dyn Device>, options: SessionOptions) -> Session {
    let options = SessionOptions { strict: true, batch_invariant: true, ..options };
    Session::new(device.clone(), model(case), options).unwrap()
}

/// The case's own prompt, with its media.
pub fn own_prompt(case: &Case, model: &dyn CausalModel) -> Inputs {
    let media = case.media(model.processor()).unwrap();
    model.processor().chat(&case.messages().unwrap(), &media).unwrap()
}

/// A text of `tokens` ids that a seed chooses, none of which stands for a medium.
pub fn text(case: &Case, vocab: usize, tokens: usize, seed: usize) -> Inputs {
    // The first ids of the small vocabularies are special.
    let special = case.description["special_ids"].as_u64().unwrap_or(16) as usize;
    let id = |i: usize| (special + (i * 7919 + seed * 104_729) % (vocab.min(200) - special)) as i64;
    let mut inputs = Inputs::default();
    let values = Values::I64((0..tokens).map(id).collect());
    inputs.arrays.insert("input_ids".into(), Array { dims: vec![1, tokens], values });
    inputs
}

fn greedy(session: &Session) -> Sampler {
    let model = session.model();
    let sampling = Sampling { suppressed: model.ends().unwrap(), ..Sampling::default() };
    Sampler::new(sampling, &[], model.decoder().vocab).unwrap()
}

pub fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// New tokens of each sequence.
const NEW: usize = 10;

/// The logits that choose each of [`NEW`] tokens, and the tokens, of one prompt alone in a session of its own.
fn alone(case: &Case, device: &Arc<dyn Device>, cache: DType, inputs: &Inputs) -> (Vec<Vec<u32>>, Vec<i32>) {
    let mut session = session(case, device, SessionOptions { cache, ..SessionOptions::default() });
    let mut sampler = greedy(&session);
    let prompt = session.prompt(inputs).unwrap();
    let last = prompt.len() - 1;
    let mut sequence = session.start(prompt).unwrap();
    let mut logits = session.read(&mut sequence, last).unwrap();
    let (mut all, mut tokens) = (Vec::new(), Vec::new());
    while tokens.len() < NEW {
        all.push(bits(&logits));
        let id = sampler.choose(&mut logits);
        tokens.push(id);
        logits = session.decode(&mut sequence, id).unwrap();
    }
    (all, tokens)
}

/// Sixteen prompts of different lengths, some with media, read side by side.
fn side_by_side(name: &str, device: &Arc<dyn Device>, cache: DType, lengths: &[usize]) {
    let case = case(name);
    let mut session = session(&case, device, SessionOptions { cache, ..SessionOptions::default() });
    let vocab = session.model().decoder().vocab;
    let prompt = |(i, tokens): (usize, &usize)| match tokens {
        0 => own_prompt(&case, session.model()),
        tokens => text(&case, vocab, *tokens, i),
    };
    let prompts: Vec<Inputs> = lengths.iter().enumerate().map(prompt).collect();
    let expected: Vec<_> = prompts.iter().map(|inputs| alone(&case, device, cache, inputs)).collect();

    session.reserve_for(1024, prompts.len()).unwrap();
    struct Running {
        sequence: Sequence,
        sampler: Sampler,
        tokens: Vec<i32>,
        joins: usize,
    }
    let mut running: Vec<Running> = Vec::new();
    for (i, inputs) in prompts.iter().enumerate() {
        let prompt = session.prompt(inputs).unwrap();
        let sampler = greedy(&session);
        let sequence = session.start(prompt).unwrap();
        // They join one after the other, so that prompts and single tokens meet in a step.
        running.push(Running { sequence, sampler, tokens: Vec::new(), joins: i / 3 });
    }
    let mut mixed = 0;
    for turn in 0.. {
        let busy = |r: &Running| r.joins <= turn && r.tokens.len() < NEW;
        let mut parts = Vec::new();
        let mut numbers = Vec::new();
        for (i, r) in running.iter_mut().enumerate().filter(|(_, r)| busy(r)) {
            // Pieces of different widths, an image block whole.
            let rows = r.sequence.next_run(5 + 17 * i);
            let ends = r.sequence.held() + rows == r.sequence.len();
            parts.push(Part { sequence: &mut r.sequence, rows, logits: usize::from(ends) });
            numbers.push(i);
        }
        if parts.is_empty() {
            break;
        }
        let widths: Vec<usize> = parts.iter().map(|part| part.rows).collect();
        mixed += usize::from(widths.contains(&1) && widths.iter().any(|rows| *rows > 1));
        let found = session.step(&mut parts).unwrap();
        drop(parts);
        for (i, mut logits) in numbers.into_iter().zip(found) {
            if logits.is_empty() {
                continue;
            }
            let Running { sequence, sampler, tokens, .. } = &mut running[i];
            let step = tokens.len();
            assert!(bits(&logits) == expected[i].0[step], "{name}: sequence {i} differs in step {step}");
            let id = sampler.choose(&mut logits);
            tokens.push(id);
            session.push(sequence, &[id]).unwrap();
        }
    }
    assert!(mixed > 0, "no step had rows of prompts and single tokens");
    for (i, (r, (_, tokens))) in running.iter().zip(&expected).enumerate() {
        assert_eq!(r.tokens, *tokens, "{name}: sequence {i}");
    }
}

/// Numbers of tokens; 0 is the case's own prompt, which has media where the model takes them.
const LENGTHS: [usize; 16] = [0, 3, 70, 0, 1, 129, 64, 0, 20, 33, 0, 200, 2, 65, 0, 11];

#[test]
fn sixteen_sequences_side_by_side_are_those_alone_bit_for_bit() {
    let cpu = devices::whole_cpu();
    for name in [
        "llama",
        "gemma3",
        "qwen2-vl-image",
        "qwen3-vl-video",
        "smolvlm-image",
        "qwen2-audio",
        "qwen3-vl-moe-image",
        "deepseek-v2",
        "qwen3-5-image",
        "lfm2-vl",
    ] {
        side_by_side(name, &cpu, DType::F32, &LENGTHS);
    }
    side_by_side("gemma3-text", &cpu, DType::F16, &LENGTHS);
}

#[test]
fn layers_that_share_keys_give_the_same_bits_side_by_side_and_in_any_schedule() {
    let cpu = devices::device("cpu");
    side_by_side("gemma4-image", &cpu, DType::F32, &LENGTHS);
    side_by_side("gemma4-text", &cpu, DType::F16, &LENGTHS);
    schedules("gemma4-text", &cpu, 200..240);
}

#[test]
fn sequences_side_by_side_are_those_alone_bit_for_bit_on_an_adapter() {
    if let Some(device) = devices::gpu() {
        for name in ["llama", "gemma3", "qwen2-vl-image"] {
            side_by_side(name, &device, DType::F32, &LENGTHS);
        }
    }
}

/// A stream of numbers that a seed decides.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// The tokens of sequences that begin alike and part at different places, and the logits of all their rows alone.
fn known(case: &Case, device: &Arc<dyn Device>) -> Vec<(Vec<i32>, Vec<Vec<u32>>)> {
    let vocab = model(case).decoder().vocab;
    let ids = |inputs: &Inputs| match &inputs.arrays["input_ids"].values {
        Values::I64(ids) => ids.iter().map(|&id| id as i32).collect::<Vec<_>>(),
        Values::F32(_) => panic!("ids are integers"),
    };
    let common = ids(&text(case, vocab, 3 * PAGE, 0));
    let tokens = |(i, shared): (usize, usize)| {
        let own = ids(&text(case, vocab, 40 + 31 * i, i + 1));
        [&common[..shared], &own].concat()
    };
    let shared = [0, 5, PAGE, PAGE + 1, 2 * PAGE, 3 * PAGE, 3 * PAGE];
    let alone = |tokens: Vec<i32>| {
        let mut session = session(case, device, SessionOptions::default());
        let vocab = session.model().decoder().vocab;
        let mut sequence = session.start_empty();
        let logits = session.append(&mut sequence, &tokens, 0).unwrap();
        let rows = logits.chunks_exact(vocab).map(bits).collect();
        (tokens, rows)
    };
    shared.into_iter().enumerate().map(tokens).map(alone).collect()
}

/// One schedule: sequences join, fork, leave, are read in pieces beside others, lose their pages and are read again.
fn schedule(session: &mut Session, known: &[(Vec<i32>, Vec<Vec<u32>>)], seed: u64) -> [usize; 6] {
    let mut dice = Dice(seed);
    let mut running: Vec<(usize, Sequence)> = Vec::new();
    let [mut read, mut forks, mut shared, mut full, mut released, mut cut] = [0; 6];
    for _ in 0..60 {
        match dice.below(10) {
            0 | 1 => {
                let which = dice.below(known.len());
                let tokens = 1 + dice.below(known[which].0.len());
                let mut inputs = Inputs::default();
                let ids = known[which].0[..tokens].iter().map(|&id| id.into()).collect();
                let array = Array { dims: vec![1, tokens], values: Values::I64(ids) };
                inputs.arrays.insert("input_ids".into(), array);
                let prompt = session.prompt(&inputs).unwrap();
                let sequence = session.start(prompt).unwrap();
                shared += usize::from(sequence.held() > 0);
                running.push((which, sequence));
            }
            2 if !running.is_empty() => {
                let (which, sequence) = &running[dice.below(running.len())];
                forks += usize::from(sequence.held() > 0);
                let fork = (*which, sequence.fork());
                running.push(fork);
            }
            3 if !running.is_empty() => drop(running.swap_remove(dice.below(running.len()))),
            4 if !running.is_empty() => {
                let i = dice.below(running.len());
                running[i].1.release();
                released += 1;
            }
            // Rows are taken back, also wrong ones that were written behind those that others share.
            5 if !running.is_empty() => {
                let i = dice.below(running.len());
                let sequence = &mut running[i].1;
                let rows = 1 + dice.below(sequence.len());
                if dice.below(2) == 0 {
                    session.truncate(sequence, rows).unwrap();
                    let wrong = vec![17; 1 + dice.below(PAGE + 9)];
                    session.push(sequence, &wrong).unwrap();
                    match session.read(sequence, usize::MAX) {
                        Ok(_) | Err(Error::CacheFull { .. }) => {}
                        Err(e) => panic!("schedule {seed}: {e}"),
                    }
                }
                session.truncate(sequence, rows).unwrap();
                cut += 1;
            }
            _ => {
                let mut parts = Vec::new();
                let mut places = Vec::new();
                for (which, sequence) in &mut running {
                    if dice.below(3) == 0 {
                        continue;
                    }
                    let tokens = &known[*which].0;
                    if sequence.held() == sequence.len() && sequence.len() < tokens.len() {
                        let more = 1 + dice.below((tokens.len() - sequence.len()).min(3));
                        session.push(sequence, &tokens[sequence.len()..sequence.len() + more]).unwrap();
                    }
                    let rows = sequence.next_run(1 + dice.below(150));
                    if rows > 0 {
                        let logits = dice.below(rows + 1);
                        places.push((*which, sequence.held() + rows - logits));
                        parts.push(Part { sequence, rows, logits });
                    }
                }
                match session.step(&mut parts) {
                    Ok(found) => {
                        for ((which, first), logits) in places.into_iter().zip(found) {
                            let vocab = session.model().decoder().vocab;
                            for (i, row) in logits.chunks_exact(vocab).enumerate() {
                                let same = bits(row) == known[which].1[first + i];
                                assert!(same, "schedule {seed}: row {} of {which} differs", first + i);
                                read += 1;
                            }
                        }
                    }
                    Err(Error::CacheFull { .. }) => {
                        full += 1;
                        let youngest = running.len() - 1;
                        running[youngest].1.release();
                    }
                    Err(e) => panic!("schedule {seed}: {e}"),
                }
            }
        }
    }
    drop(running);
    assert_eq!(session.cache_rows().1, 0, "schedule {seed}: pages are held when nobody is there");
    [read, forks, shared, full, released, cut]
}

fn schedules(name: &str, device: &Arc<dyn Device>, seeds: std::ops::Range<u64>) {
    let case = case(name);
    let known = known(&case, device);
    // Room for few sequences at a time, so that some have to give their pages back.
    let options = SessionOptions { cache_rows: Some(14 * PAGE), ..SessionOptions::default() };
    let mut session = session(&case, device, options);
    let mut total = [0; 6];
    for seed in seeds {
        let counts = schedule(&mut session, &known, seed);
        total.iter_mut().zip(counts).for_each(|(all, one)| *all += one);
    }
    let [read, forks, shared, full, released, cut] = total;
    println!(
        "{name}: {read} rows compared, {forks} forks, {shared} shared prefixes, {full} full, {released} released, {cut} cut"
    );
    assert!(total.iter().all(|&count| count > 0), "{name}: something never happened: {total:?}");
}

#[test]
fn three_hundred_random_schedules_change_no_bit() {
    let cpu = devices::device("cpu");
    schedules("llama", &cpu, 0..100);
    schedules("gemma3-text", &cpu, 100..200);
    schedules("qwen3-5-text", &cpu, 200..250);
    schedules("lfm2-vl", &cpu, 250..300);
}

#[test]
fn random_schedules_change_no_bit_on_an_adapter() {
    if let Some(device) = devices::gpu() {
        schedules("llama", &device, 0..10);
    }
}

/// Requests with and without media and with texts that stop them, more than fit the batch, in a cache that is too small at
/// first.
#[test]
fn many_requests_are_answered_as_one_after_the_other() {
    let cpu = devices::device("cpu");
    for (name, cache_rows) in [("qwen2-vl-image", None), ("llama", Some(6 * PAGE)), ("gemma3", None)] {
        let case = case(name);
        let options = SessionOptions { cache_rows, ..SessionOptions::default() };
        let mut session = session(&case, &cpu, options);
        let vocab = session.model().decoder().vocab;
        let request = |i: usize| {
            let inputs = match i % 3 {
                0 => own_prompt(&case, session.model()),
                _ => text(&case, vocab, 1 + 23 * i % 150, i),
            };
            let options = GenerateOptions { max_tokens: Some(i % 7 * 5), ..GenerateOptions::default() };
            (inputs, options)
        };
        let requests: Vec<_> = (0..24).map(request).collect();
        let expected: Vec<_> = requests
            .iter()
            .map(|(inputs, options)| session.generate(inputs, options, &mut |_| {}).unwrap())
            .collect();
        let mut found = vec![None; requests.len()];
        let all = requests.into_iter().map(|(inputs, options)| Ok::<_, Error>(Request::new(inputs, options)));
        session
            .generate_all(all, 7, |i, generation| {
                found[i] = Some(generation);
                Ok(())
            })
            .unwrap();
        for (i, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            let found = found.unwrap();
            assert_eq!(
                (found.tokens, found.text, found.finish, found.prompt_tokens),
                (expected.tokens, expected.text, expected.finish, expected.prompt_tokens),
                "{name}: request {i}"
            );
        }
        assert_eq!(session.cache_rows().1, 0);
    }
}

/// A cache that becomes larger is made anew, and what was read is read again: the logits stay.
#[test]
fn a_cache_that_grows_changes_nothing_and_one_that_may_not_says_what_it_lacks() {
    let (cpu, case) = (devices::device("cpu"), case("llama"));
    let known = &known(&case, &cpu)[6];
    let mut growing = session(&case, &cpu, SessionOptions::default());
    let mut sequence = growing.start_empty();
    let (before, _) = growing.cache_rows();
    for (i, &id) in known.0.iter().enumerate() {
        let logits = growing.decode(&mut sequence, id).unwrap();
        assert!(bits(&logits) == known.1[i], "row {i}");
    }
    assert!(growing.cache_rows().0 > before, "the cache did not have to grow");

    let options = SessionOptions { cache_rows: Some(4 * PAGE), ..SessionOptions::default() };
    let mut fixed = session(&case, &cpu, options);
    let mut sequence = fixed.start_empty();
    let error = fixed.append(&mut sequence, &known.0, 0).unwrap_err();
    let expected = Error::CacheFull { room: 4 * PAGE, wanted: 7 * PAGE, free: 4 * PAGE };
    assert_eq!(error.to_string(), expected.to_string());
    // It is as good as before.
    let mut short = fixed.start_empty();
    let logits = fixed.append(&mut short, &known.0[..3 * PAGE], 3 * PAGE - 1).unwrap();
    assert!(bits(&logits) == known.1[3 * PAGE - 1]);
}

/// Layers with a window hold the pages that the window reaches and no others, however long the sequence becomes.
#[test]
fn a_window_gives_back_the_pages_that_it_leaves_behind() {
    let (cpu, case) = (devices::device("cpu"), case("gemma3-text"));
    let mut session = session(&case, &cpu, SessionOptions::default());
    let windows = session.model().decoder().windows();
    assert!(windows.iter().any(Option::is_some), "{windows:?}");
    let vocab = session.model().decoder().vocab;
    session.reserve(8 * PAGE).unwrap();
    let prompt = session.prompt(&text(&case, vocab, 6 * PAGE + 1, 3)).unwrap();
    let mut sequence = session.start(prompt).unwrap();
    session.read(&mut sequence, usize::MAX).unwrap();
    for (window, held) in windows.iter().zip(session.held_pages()) {
        // A window of 8 rows ends within the last page or the one before it.
        let expected = if window.is_some() { 2 } else { 7 };
        assert_eq!(held, expected, "{window:?}");
    }
}

/// The cache takes the memory of the pages that its sequences need, and no more.
#[test]
fn sixteen_sequences_take_the_memory_of_their_pages() {
    let (cpu, case) = (devices::device("cpu"), case("llama"));
    let mut session = session(&case, &cpu, SessionOptions::default());
    let before = session.device().memory().buffers;
    session.reserve_for(512, 16).unwrap();
    let vocab = session.model().decoder().vocab;
    let mut sequences = Vec::new();
    for i in 0..16 {
        let prompt = session.prompt(&text(&case, vocab, 512, i)).unwrap();
        let mut sequence = session.start(prompt).unwrap();
        session.read(&mut sequence, usize::MAX).unwrap();
        sequences.push(sequence);
    }
    assert_eq!(session.held_pages(), [16 * 512 / PAGE]);
    let row: usize = session
        .model()
        .decoder()
        .stack
        .blocks
        .iter()
        .map(|block| block.attention.kv_heads * block.attention.head_dim * 2 * 4)
        .sum();
    let pages = session.held_pages()[0] * PAGE * row;
    assert!(session.cache_bytes() >= pages && session.cache_bytes() <= pages + pages / 10);
    // The device holds little beside it: the step's own values.
    let held = session.device().memory().buffers - before;
    assert!(
        held as usize >= pages && held as usize <= pages + pages / 10,
        "{held} bytes for {pages} of pages"
    );
}

/// The prompt is read once for all continuations. With a cache that has no room for them side by side they are read one by one.
#[test]
fn continuations_are_scored_together_as_each_alone_bit_for_bit() {
    let cpu = devices::device("cpu");
    for name in ["llama", "gemma3", "qwen3-5-text"] {
        let case = case(name);
        let mut one = session(&case, &cpu, SessionOptions::default());
        let vocab = one.model().decoder().vocab;
        let inputs = own_prompt(&case, one.model());
        let ids = |(seed, n): (usize, usize)| match &text(&case, vocab, n, seed).arrays["input_ids"].values {
            Values::I64(ids) => ids.iter().map(|&id| id as i32).collect::<Vec<i32>>(),
            other => panic!("{other:?}"),
        };
        // Of one token, of a few, of more than a page, and the same twice.
        let continuations: Vec<Vec<i32>> =
            [(1, 1), (2, 5), (3, PAGE + 3), (2, 5), (4, 1), (5, 2), (6, 40)].map(ids).into();
        let alone = |session: &mut Session, ids: &[i32]| {
            let prompt = session.prompt(&inputs).unwrap();
            let last = prompt.len() - 1;
            let mut sequence = session.start(prompt).unwrap();
            let mut logits = session.read(&mut sequence, last).unwrap();
            for &id in &ids[..ids.len() - 1] {
                logits.extend(session.decode(&mut sequence, id).unwrap());
            }
            bits(&logits)
        };
        let expected: Vec<_> = continuations.iter().map(|ids| alone(&mut one, ids)).collect();
        let rows = one.prompt(&inputs).unwrap().len();
        let tight = Some((rows + 40).next_multiple_of(PAGE) + PAGE);
        for (cache_rows, chunk) in [(None, 512), (None, 16), (tight, 512)] {
            let options = SessionOptions { cache_rows, chunk, ..SessionOptions::default() };
            let mut session = session(&case, &cpu, options);
            let texts: Vec<&[i32]> = continuations.iter().map(Vec::as_slice).collect();
            // Twice: the second time the prompt's pages are there.
            for turn in 0..2 {
                let mut found = Vec::new();
                session.score_each(&inputs, &texts, |logits| found.push(bits(&logits))).unwrap();
                assert!(found == expected, "{name}, {cache_rows:?} rows, chunks of {chunk}, turn {turn}");
                assert_eq!(session.held_pages().into_iter().max(), Some(0), "{name}");
            }
        }
    }
}
