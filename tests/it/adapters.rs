//! Adapters of one base in one session: whatever runs beside it, a request with an adapter is answered as by a session of the
//! base with this adapter alone, to the bit.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept::graph::HostTensor;
use percept::hal::Device;
use percept::infer::{
    AdapterId, Error, Event, GenerateOptions, Request, RequestId, Scheduler, SchedulerOptions, Session,
    SessionOptions,
};
use percept::modalities::Inputs;
use percept::model::checkpoint::{Checkpoint, write_as};
use percept::model::{LayerAdapter, Model, OpenedAdapter, PAGE, Weights};
use serde_json::json;

use crate::devices;
use crate::parity_case::Case;
use crate::parity_case::adapters::cases as peft_cases;
use crate::scheduler::{Found, LOOKUP, drain, found, requests};
use crate::sessions::{Dice, case, session, text};

/// A folder of tests/adapters, which PEFT saved.
pub fn saved(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adapters").join(name)
}

/// An adapter of a rank beside some layers of a case's decoder, whose modules are below `prefix`, and beside its head where it
/// has one.
pub fn make(out: &Path, case: &Case, prefix: &str, rank: usize, dora: bool) {
    let base = Checkpoint::open(case.folder.join("model")).unwrap();
    let mut tensors = BTreeMap::new();
    let mut dice = Dice(rank as u64);
    let mut add = |name: String, dims: &[usize], least: f32, span: f32| {
        let values: Vec<f32> =
            (0..dims.iter().product()).map(|_| least + span * (dice.below(1000) as f32 / 1000.0)).collect();
        tensors.insert(name, HostTensor::from_f32(dims.to_vec(), &values).unwrap());
    };
    let layers = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"];
    let layers = layers.iter().flat_map(|kind| (0..2).map(move |layer| format!("layers.{layer}.{kind}")));
    let modules = layers.map(|layer| (format!("{prefix}{layer}"), layer));
    for (module, layer) in modules.chain([("lm_head".to_string(), "lm_head".to_string())]) {
        let end = format!("{layer}.weight");
        let of_decoder = |name: &&str| name.ends_with(&end) && !name.contains("vis");
        let Some(name) = base.names().find(of_decoder) else { continue };
        let [n, k] = base.ty(name).unwrap().dims[..] else { panic!("{name} is no matrix") };
        let module = format!("base_model.model.{module}");
        add(format!("{module}.lora_A.weight"), &[rank, k], -0.5, 1.0);
        add(format!("{module}.lora_B.weight"), &[n, rank], -0.5, 1.0);
        if dora {
            add(format!("{module}.lora_magnitude_vector"), &[n], 0.5, 1.0);
        }
    }
    assert!(tensors.len() >= 6, "the layers of {} were not found", case.name);
    let config = json!({
        "peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "use_dora": dora, "base_model_name_or_path": "model",
        "target_modules": ["q_proj", "v_proj", "down_proj", "lm_head"],
    });
    let files = BTreeMap::from([("adapter_config.json".to_string(), config.to_string().into_bytes())]);
    write_as(out, "adapter_model.safetensors", &tensors, &files).unwrap();
}

/// An adapter over a session's model.
fn over(session: &Session, folder: &Path) -> LayerAdapter {
    match LayerAdapter::open(session.model(), folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
    {
        OpenedAdapter::Layers(adapter) => adapter,
        OpenedAdapter::More(why) => panic!("{} {why}", folder.display()),
    }
}

/// A session of a base with an adapter in it, as there is for the adapter alone.
pub fn apart(case: &Case, device: &Arc<dyn Device>, adapter: Option<&Path>) -> Session {
    let base = Checkpoint::open(case.folder.join("model")).unwrap();
    let mut weights = Weights::new(Arc::new(base));
    if let Some(folder) = adapter {
        weights = weights.with_adapter(folder).unwrap();
    }
    let Model::Causal(model) = percept::model::open_weights(weights).unwrap() else { panic!("no text") };
    let options = SessionOptions { strict: true, batch_invariant: true, ..SessionOptions::default() };
    Session::new(device.clone(), model, options).unwrap()
}

type Asked = (Inputs, GenerateOptions);

/// What requests give, each alone with its adapter.
fn alone(case: &Case, device: &Arc<dyn Device>, adapters: &[Option<PathBuf>], asked: &[Asked]) -> Vec<Found> {
    let mut expected: HashMap<usize, Found> = HashMap::new();
    for (which, adapter) in adapters.iter().enumerate() {
        let mut session = apart(case, device, adapter.as_deref());
        for (i, (inputs, options)) in asked.iter().enumerate().filter(|(i, _)| i % adapters.len() == which) {
            expected.insert(i, found(&session.generate(inputs, options, &mut |_| {}).unwrap()));
        }
    }
    (0..asked.len()).map(|i| expected.remove(&i).unwrap()).collect()
}

/// The base, adapters that PEFT saved, and some of other ranks.
fn adapters_of(case: &Case, names: &[&str], prefix: &str, place: &Path) -> Vec<Option<PathBuf>> {
    let mut all = vec![None];
    all.extend(names.iter().map(|name| Some(saved(name))));
    for (rank, dora) in [(1, false), (5, true), (16, false), (16, true), (16, false)] {
        let folder = place.join(format!("{}-{}", case.name, all.len()));
        make(&folder, case, prefix, rank, dora);
        all.push(Some(folder));
    }
    all
}

/// The ids of adapters in a session.
fn add(scheduler: &mut Scheduler, adapters: &[Option<PathBuf>]) -> Vec<Option<AdapterId>> {
    let add = |folder: &Option<PathBuf>| {
        let adapter = over(scheduler.session(), folder.as_deref()?);
        Some(scheduler.add_adapter(adapter).unwrap())
    };
    adapters.iter().map(add).collect()
}

fn many(name: &str, saved: &[&str], prefix: &str, device: &Arc<dyn Device>, count: usize) {
    let place = tempfile::tempdir().unwrap();
    let case = case(name);
    let adapters = adapters_of(&case, saved, prefix, place.path());
    let asked = requests(&case, &session(&case, device, SessionOptions::default()), count);
    let expected = alone(&case, device, &adapters, &asked);
    let without = alone(&case, device, &[None], &asked[..adapters.len()]);
    let changed = (1..adapters.len()).filter(|&i| expected[i] != without[i]).count();
    assert!(changed > adapters.len() / 2, "{name}: adapters change nothing, {changed} answers differ");
    let tiny = Some(7 * PAGE);
    let settings = [
        (1, 512, None, None),
        (8, 40, tiny, None),
        (64, 512, None, Some(LOOKUP)),
        (8, 64, tiny, Some(LOOKUP)),
    ];
    for (running, prompt_rows, cache_rows, draft) in settings {
        let options = SessionOptions { cache_rows, ..SessionOptions::default() };
        let batching = SchedulerOptions { running, waiting: count, prompt_rows };
        let mut scheduler = Scheduler::new(session(&case, device, options), batching).unwrap();
        let ids = add(&mut scheduler, &adapters);
        let submit = |(i, (inputs, options)): (usize, &Asked)| {
            let options = GenerateOptions { draft, adapter: ids[i % ids.len()], ..options.clone() };
            scheduler.submit(Request::new(inputs.clone(), options)).unwrap()
        };
        let submitted: Vec<RequestId> = asked.iter().enumerate().map(submit).collect();
        let ended = drain(&mut scheduler);
        for (i, (id, expected)) in submitted.iter().zip(&expected).enumerate() {
            let got = found(ended[id].as_ref().unwrap());
            let which = &adapters[i % adapters.len()];
            assert_eq!(got, *expected, "{name}: request {i} of {which:?}, {running} at a time, {draft:?}");
        }
        assert_eq!(scheduler.statistics().pages_used, 0);
    }
}

#[test]
fn requests_with_different_adapters_are_answered_as_each_alone_bit_for_bit() {
    let cpu = devices::device("cpu");
    let llama = ["dora", "dora-pissa", "layers", "olora", "patterns", "pissa", "gaussian"];
    many("llama", &llama, "model.", &cpu, 39);
    many("qwen2", &["dora-bias", "lora-bias"], "model.", &cpu, 36);
    many("gemma3-text", &[], "model.", &cpu, 24);
    many("qwen2-vl-image", &[], "model.language_model.", &cpu, 24);
    many("qwen3-moe", &["experts", "experts-more", "experts-each"], "model.", &cpu, 18);
}

#[test]
fn adapters_side_by_side_on_a_gpu_are_those_alone_bit_for_bit() {
    let Some(gpu) = devices::gpu() else { return };
    let place = tempfile::tempdir().unwrap();
    let case = case("llama");
    let adapters = adapters_of(&case, &["dora"], "model.", place.path());
    let vocab = session(&case, &gpu, SessionOptions::default()).model().decoder().vocab;
    let options = GenerateOptions {
        max_tokens: Some(5),
        logprobs: Some(2),
        ignore_ends: true,
        ..GenerateOptions::default()
    };
    let asked: Vec<Asked> =
        (0..2 * adapters.len()).map(|i| (text(&case, vocab, 3 + 11 * i, i), options.clone())).collect();
    let expected = alone(&case, &gpu, &adapters, &asked);
    let session = session(&case, &gpu, SessionOptions::default());
    let mut scheduler = Scheduler::new(session, SchedulerOptions::default()).unwrap();
    let ids = add(&mut scheduler, &adapters);
    let submit = |(i, (inputs, options)): (usize, &Asked)| {
        let options = GenerateOptions { adapter: ids[i % ids.len()], ..options.clone() };
        scheduler.submit(Request::new(inputs.clone(), options)).unwrap()
    };
    let submitted: Vec<RequestId> = asked.iter().enumerate().map(submit).collect();
    let ended = drain(&mut scheduler);
    for (i, (id, expected)) in submitted.iter().zip(&expected).enumerate() {
        assert_eq!(found(ended[id].as_ref().unwrap()), *expected, "request {i}");
    }
}

#[test]
fn adapters_that_come_and_go_in_random_schedules_change_no_answer() {
    let (cpu, case, place) = (devices::device("cpu"), case("llama"), tempfile::tempdir().unwrap());
    let adapters = adapters_of(&case, &["dora", "patterns"], "model.", place.path());
    let options = SessionOptions { cache_rows: Some(5 * PAGE), ..SessionOptions::default() };
    let batching = SchedulerOptions { running: 6, waiting: 64, prompt_rows: 48 };
    let mut scheduler = Scheduler::new(session(&case, &cpu, options), batching).unwrap();
    // Every request with every adapter.
    let few = requests(&case, scheduler.session(), 6);
    let asked: Vec<Asked> =
        few.iter().flat_map(|asked| std::iter::repeat_n(asked.clone(), adapters.len())).collect();
    let expected = alone(&case, &cpu, &adapters, &asked);
    let mut ids = add(&mut scheduler, &adapters);
    let (mut answered, mut replaced) = (0, 0);
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let mut live: HashMap<RequestId, usize> = HashMap::new();
        for turn in 0..400 {
            if turn < 40 && dice.below(2) == 0 {
                let which = dice.below(asked.len());
                let (inputs, options) = asked[which].clone();
                let draft = (dice.below(2) == 0).then_some(LOOKUP);
                let options = GenerateOptions { draft, adapter: ids[which % ids.len()], ..options };
                live.insert(scheduler.submit(Request::new(inputs, options)).unwrap(), which);
            }
            if turn < 40 && dice.below(8) == 0 && !live.is_empty() {
                let mut all: Vec<RequestId> = live.keys().copied().collect();
                all.sort();
                let id = all[dice.below(all.len())];
                assert!(scheduler.cancel(id));
                live.remove(&id);
            }
            if turn < 40 && dice.below(6) == 0 {
                // Those that run with it go on; the next ones have another number.
                let which = 1 + dice.below(adapters.len() - 1);
                scheduler.remove_adapter(ids[which].unwrap()).unwrap();
                let adapter = over(scheduler.session(), adapters[which].as_deref().unwrap());
                ids[which] = Some(scheduler.add_adapter(adapter).unwrap());
                replaced += 1;
            }
            let more = scheduler
                .step(&mut |id, event| match event {
                    Event::Finished { generation, .. } => {
                        let which = live.remove(&id).expect("a cancelled request has no event");
                        assert_eq!(found(&generation), expected[which], "seed {seed}");
                        answered += 1;
                    }
                    Event::Failed(e) => panic!("{e}"),
                    _ => {}
                })
                .unwrap();
            if turn >= 40 && !more {
                break;
            }
        }
        assert!(live.is_empty(), "seed {seed}: requests did not end");
        assert_eq!(scheduler.statistics().pages_used, 0);
    }
    let s = scheduler.statistics();
    assert!(
        answered > 100 && replaced > 20 && s.preemptions > 5 && s.prefix_hits > 0,
        "{answered} {replaced} {s:?}"
    );
}

#[test]
fn pages_that_were_read_with_an_adapter_are_found_with_it_alone() {
    let (cpu, case) = (devices::device("cpu"), case("llama"));
    let adapters = [None, Some(saved("dora")), Some(saved("patterns"))];
    let options = SchedulerOptions::default();
    let mut scheduler = Scheduler::new(session(&case, &cpu, SessionOptions::default()), options).unwrap();
    let ids = add(&mut scheduler, &adapters);
    let vocab = scheduler.session().model().decoder().vocab;
    let inputs = text(&case, vocab, 3 * PAGE + 7, 5);
    let options = GenerateOptions { max_tokens: Some(3), ignore_ends: true, ..GenerateOptions::default() };
    let asked: Vec<Asked> = std::iter::repeat_n((inputs.clone(), options.clone()), 3).collect();
    let expected = alone(&case, &cpu, &adapters, &asked);
    scheduler_is_right(&mut scheduler, &ids, &inputs, &options, &expected);
}

/// The same prompt with each adapter: at once and one after the other, each finds what was read with its own.
fn scheduler_is_right(
    scheduler: &mut Scheduler,
    ids: &[Option<AdapterId>],
    inputs: &Inputs,
    options: &GenerateOptions,
    expected: &[Found],
) {
    for round in 0..2 {
        // Those of one round are read side by side, where one could read a page for all.
        let submit = |adapter: &Option<AdapterId>| {
            let options = GenerateOptions { adapter: *adapter, ..options.clone() };
            scheduler.submit(Request::new(inputs.clone(), options)).unwrap()
        };
        let submitted: Vec<RequestId> = ids.iter().map(submit).collect();
        let ended = drain(scheduler);
        for (id, expected) in submitted.iter().zip(expected) {
            let generation = ended[id].as_ref().unwrap();
            assert_eq!(found(generation), *expected, "round {round}");
            let cached = if round == 0 { 0 } else { 3 * PAGE };
            assert_eq!(generation.cached_tokens, cached, "round {round}");
        }
    }
}

#[test]
fn an_adapter_that_is_removed_stays_with_its_requests_and_is_then_freed() {
    let (cpu, case) = (devices::device("cpu"), case("llama"));
    let adapters = [Some(saved("dora"))];
    let mut scheduler =
        Scheduler::new(session(&case, &cpu, SessionOptions::default()), SchedulerOptions::default()).unwrap();
    let vocab = scheduler.session().model().decoder().vocab;
    let inputs = text(&case, vocab, 20, 1);
    let options = GenerateOptions { max_tokens: Some(30), ignore_ends: true, ..GenerateOptions::default() };
    let expected = alone(&case, &cpu, &adapters, &[(inputs.clone(), options.clone())]);
    // The cache has its size before anything is measured.
    scheduler.submit(Request::new(inputs.clone(), options.clone())).unwrap();
    drain(&mut scheduler);
    let before = cpu.memory().buffers;
    let id = add(&mut scheduler, &adapters)[0].unwrap();
    let with_adapter = cpu.memory().buffers;
    assert!(with_adapter > before + 4096);
    let request = || {
        let options = GenerateOptions { adapter: Some(id), ..options.clone() };
        Request::new(inputs.clone(), options)
    };
    let submitted = scheduler.submit(request()).unwrap();
    for _ in 0..4 {
        scheduler.step(&mut |_, _| {}).unwrap();
    }
    scheduler.remove_adapter(id).unwrap();
    let refused = scheduler.submit(request()).unwrap_err();
    assert!(matches!(refused, Error::UnknownAdapter(other) if other == id), "{refused}");
    assert!(matches!(scheduler.remove_adapter(id), Err(Error::UnknownAdapter(_))));
    assert!(cpu.memory().buffers > before, "it is freed while a request is read with it");
    let mut generation = None;
    while scheduler
        .step(&mut |id, event| {
            if let Event::Finished { generation: made, .. } = event {
                assert_eq!(id, submitted);
                generation = Some(made);
            }
        })
        .unwrap()
    {}
    assert_eq!(found(&generation.unwrap()), expected[0]);
    // Programs have a few constants.
    assert!(cpu.memory().buffers < before + 1024);
    // An adapter of another session is none of this one.
    let mut other =
        Scheduler::new(session(&case, &cpu, SessionOptions::default()), SchedulerOptions::default()).unwrap();
    let theirs = add(&mut other, &adapters)[0];
    let options = GenerateOptions { adapter: theirs, ..options };
    let refused = scheduler.submit(Request::new(inputs, options)).unwrap_err();
    assert!(matches!(refused, Error::UnknownAdapter(_)), "{refused}");
}

#[test]
fn adapters_in_a_session_take_the_memory_of_their_own_tensors() {
    let (cpu, case, place) = (devices::device("cpu"), case("llama"), tempfile::tempdir().unwrap());
    let adapters = adapters_of(&case, &["dora", "patterns"], "model.", place.path());
    let before = cpu.memory().buffers;
    let mut session = session(&case, &cpu, SessionOptions::default());
    let base = cpu.memory().buffers - before;
    let mut own = 0;
    for folder in adapters.iter().flatten() {
        let adapter = over(&session, folder);
        own += adapter.tensors().iter().map(|(_, tensor)| tensor.bytes().len() as u64).sum::<u64>();
        session.add_adapter(adapter).unwrap();
    }
    let grown = cpu.memory().buffers - before - base;
    println!("the base {base} bytes, {} adapters {grown} of {own}", adapters.len() - 1);
    // Small tensors are rounded up to the device's least block.
    assert!(grown >= own && grown < own + own / 2, "{grown} for {own}");
}

#[test]
fn what_does_more_than_add_to_the_decoders_layers_is_told_apart() {
    let layers = [
        "dora",
        "dora-bias",
        "dora-pissa",
        "gaussian",
        "layers",
        "lora-bias",
        "lora-bias-none",
        "olora",
        "patterns",
        "pissa",
    ];
    let experts = |name: &str| name.starts_with("experts");
    let mut more = BTreeMap::new();
    for (adapted, case) in peft_cases() {
        let [(name, weight)] = &adapted.adapters[..] else { continue };
        let model = percept::model::open(Arc::new(Checkpoint::open(case.folder.join("model")).unwrap()));
        let (Model::Causal(model), true) = (model.unwrap(), *weight == 1.0) else { continue };
        match LayerAdapter::open(&*model, &saved(name)).unwrap() {
            OpenedAdapter::Layers(_) => {
                assert!(layers.contains(&&name[..]) || experts(name), "{name} rides");
            }
            OpenedAdapter::More(why) => assert!(more.insert(name.clone(), why).is_none()),
        }
    }
    for (name, why) in &more {
        assert!(!layers.contains(&&name[..]) && !experts(name), "{name} {why}");
    }
    for (name, says) in [
        ("table", "'model.embed_tokens.weight'"),
        ("head", "'lm_head.weight'"),
        ("save-norm", "replaces"),
        ("save-head", "replaces"),
        ("tokens", "replaces"),
        ("biases", "replaces"),
        ("parts-qwen2-vl-image", "no linear layer of the decoder"),
        ("parts-qwen2-audio", "no linear layer of the decoder"),
    ] {
        assert!(more[name].contains(says), "{name} {}", more[name]);
    }
    // Beside an adapter that the model has already, there are two.
    let case = case("llama");
    let model = apart(&case, &devices::device("cpu"), Some(&saved("dora")));
    let OpenedAdapter::More(why) = LayerAdapter::open(model.model(), &saved("patterns")).unwrap() else {
        panic!("it rides on a model with an adapter");
    };
    assert!(why.contains("dora"), "{why}");
    // What was opened over another model is refused.
    let mut qwen =
        session(&crate::sessions::case("qwen2"), &devices::device("cpu"), SessionOptions::default());
    let llama = session(&case, &devices::device("cpu"), SessionOptions::default());
    let refused = qwen.add_adapter(over(&llama, &saved("dora"))).unwrap_err().to_string();
    assert!(refused.contains("opened over") && refused.contains("qwen2"), "{refused}");
}
