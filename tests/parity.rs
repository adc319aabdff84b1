//! Every parity case: what the processor makes of a prompt and its media, the logits, and the greedy continuation are
//! those of Hugging Face transformers. `PERCEPT_PARITY_DIR` names another folder of cases, `PERCEPT_DEVICE` a device.

mod parity_case;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parity_case::{Case, adapters, cases, compare_inputs, distance};
use percept::hal::Device;
use percept::infer::{Engine, EngineOptions, Sampler, Sampling};
use percept::model::checkpoint::Checkpoint;
use percept::model::{CausalModel, Model, Weights};

/// Run every case on a device and fail with the list of those that differ.
fn check_all(device: &str, wide: bool) {
    let folder = match std::env::var_os("PERCEPT_PARITY_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity"),
    };
    let device = percept::registry().open(device).unwrap();
    let cases = cases(&folder);
    assert!(!cases.is_empty(), "{} holds no case", folder.display());
    let mut failures = Vec::new();
    for case in &cases {
        // A device other than the cpu sums in another order.
        let tolerance = case.tolerance * if wide { 10.0 } else { 1.0 };
        match check(case, &device, tolerance) {
            Ok(line) => println!("{}: {line}", case.name),
            Err(why) => failures.push(format!("{}: {why}", case.name)),
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// What was compared, or what differs.
fn check(case: &Case, device: &Arc<dyn Device>, tolerance: f64) -> Result<String, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let checkpoint = Checkpoint::open(case.folder.join("model")).map_err(|e| text(&e))?;
    match percept::model::open(Arc::new(checkpoint)).map_err(|e| text(&e))? {
        Model::Causal(model) => check_causal(case, device, tolerance, model),
        Model::Contrastive(model) => parity_case::contrastive::check(case, device, tolerance, model),
        Model::Speech(model) => parity_case::speech::check(case, device, tolerance, model),
    }
}

fn check_causal(
    case: &Case,
    device: &Arc<dyn Device>,
    tolerance: f64,
    model: Box<dyn CausalModel>,
) -> Result<String, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let media = case.media(model.processor())?;
    let inputs = model.processor().chat(&case.messages()?, &media).map_err(|e| text(&e))?;
    compare_inputs(case, &inputs)?;

    let (vocab, ends) = (model.decoder().vocab, model.ends().map_err(|e| text(&e))?);
    let options = EngineOptions { strict: true, ..EngineOptions::default() };
    let mut engine = Engine::new(device.clone(), model, options).map_err(|e| text(&e))?;
    let expected = &case.expected["generated"].values;
    let (mut sequence, logits) = engine.prefill(&inputs, expected.len(), 0).map_err(|e| text(&e))?;
    let error = distance(&logits, &case.expected["logits"].values)?;
    // `distance` gives no NaN.
    if error > tolerance {
        return Err(format!("logits are off by {error:.2e}, allowed is {tolerance:.0e}"));
    }
    let sampling = Sampling { suppressed: ends, ..Sampling::default() };
    let mut sampler = Sampler::new(sampling, &[], vocab).map_err(|e| text(&e))?;
    let mut last = logits[logits.len() - vocab..].to_vec();
    let mut tokens = Vec::new();
    while tokens.len() < expected.len() {
        let id = sampler.choose(&mut last);
        tokens.push(id as f64);
        last = engine.decode(&mut sequence, id).map_err(|e| text(&e))?;
    }
    if tokens != *expected {
        return Err(format!("continues with {tokens:?} instead of {expected:?}"));
    }
    Ok(format!("{} rows, logits within {error:.1e}, {} tokens", logits.len() / vocab, tokens.len()))
}

#[test]
fn cases_agree_with_hugging_face() {
    let device = std::env::var("PERCEPT_DEVICE").unwrap_or("cpu".into());
    check_all(&device, device != "cpu");
}

#[test]
fn cases_agree_with_hugging_face_on_an_adapter() {
    if percept::registry().list().iter().all(|d| d.id != "wgpu:0") {
        eprintln!("SKIPPED: this machine has no wgpu:0; install a Vulkan driver (cargo xtask setup)");
        return;
    }
    check_all("wgpu:0", true);
}

/// Runs `check` on every adapter and fails with the list of those that differ.
fn with_every_adapter(check: impl Fn(&adapters::Adapted, &Case, &Arc<dyn Device>) -> Result<String, String>) {
    let device = percept::registry().open("cpu").unwrap();
    let cases = adapters::cases();
    let mut failures = Vec::new();
    for (adapted, case) in &cases {
        match check(adapted, case, &device) {
            Ok(line) => println!("{}: {line}", adapted.name),
            Err(why) => failures.push(format!("{}: {why}", adapted.name)),
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} adapters fail:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

#[test]
fn adapters_agree_with_peft() {
    with_every_adapter(|adapted, case, device| adapters::check(case, adapted.weights(case)?, device, true));
}

#[test]
fn merged_adapters_agree_with_peft() {
    with_every_adapter(|adapted, case, device| {
        let merged = adapted.weights(case)?.merged();
        if adapted.name == "lora-bias-none" {
            let why = merged.err().ok_or("a layer without a bias cannot take one")?.to_string();
            return if why.contains("lora_bias") { Ok(why) } else { Err(why) };
        }
        let merged = Weights::new(Arc::new(merged.map_err(|e| e.to_string())?));
        adapters::check(case, merged, device, false)
    });
}
