//! The same step taken in other ways: in pieces, in half precision, with blocks computed again, over quantized weights.

use percept::graph::DType;
use percept::model::checkpoint::{Checkpoint, convert};
use percept::train::batch::Batch;
use percept::train::encode::Encoded;
use percept::train::{Single, Trainer};

use super::golden::tokens;
use super::{cpu, model, trainer};

fn samples(step: usize) -> Vec<Encoded> {
    let sample = |k: usize| {
        let ids = tokens(4 * step + k, 12 + k, 401, 16);
        Encoded::of_ids("text", ids.iter().map(|&id| id as i32).collect())
    };
    (0..4).map(sample).collect()
}

/// Losses of a few steps, each cut into `pieces` batches.
fn losses(trainer: &mut Trainer, pieces: usize, steps: usize) -> Vec<f64> {
    losses_on(trainer, pieces, steps, samples)
}

fn losses_on(
    trainer: &mut Trainer,
    pieces: usize,
    steps: usize,
    samples: impl Fn(usize) -> Vec<Encoded>,
) -> Vec<f64> {
    let model = trainer.shared_model();
    let step = |step: usize| {
        let samples = samples(step);
        let batches: Vec<Batch> = samples
            .chunks(samples.len() / pieces)
            .map(|s| Batch::new(&*model, &[s.iter().collect()], 60).unwrap())
            .collect();
        let answers = batches.iter().map(|b| b.answers).sum();
        trainer.step(&batches, answers, 1.0, &Single).unwrap().loss
    };
    (0..steps).map(step).collect()
}

fn run(rest: &str, pieces: usize) -> Vec<f64> {
    losses(&mut trainer(&model("llama"), cpu(), rest).unwrap(), pieces, 12)
}

fn apart(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| ((x - y) / y).abs()).fold(0.0, f64::max)
}

const USUAL: &str = "optimizer = { rate = 5e-3, decay = 0.1 }";

#[test]
fn accumulated_gradients_give_the_same_losses() {
    let whole = run(USUAL, 1);
    assert!(whole[11] < whole[0]);
    for pieces in [2, 4] {
        assert!(apart(&run(USUAL, pieces), &whole) < 1e-5, "{pieces} pieces");
    }
}

#[test]
fn blocks_computed_again_give_the_same_losses() {
    let again = run(&format!("{USUAL}\nprecision = {{ rematerialize = true }}"), 1);
    assert!(apart(&again, &run(USUAL, 1)) < 1e-6);
}

#[test]
fn half_precision_stays_near() {
    let whole = run(USUAL, 1);
    for dtype in ["bf16", "f16"] {
        let half = run(&format!("{USUAL}\nprecision = {{ compute = '{dtype}' }}"), 1);
        let off = apart(&half, &whole);
        assert!(off > 1e-7 && off < 2e-2, "{dtype}: {off}");
    }
}

/// A scale that overflows changes nothing but itself until gradients fit.
#[test]
fn an_overflow_in_f16_is_skipped_and_the_scale_halved() {
    let rest = format!("{USUAL}\nprecision = {{ compute = 'f16', loss_scale = 1e9 }}");
    let mut t = trainer(&model("llama"), cpu(), &rest).unwrap();
    let m = t.shared_model();
    let samples = samples(0);
    let batch = || Batch::new(&*m, &[samples.iter().collect()], 60).unwrap();
    let mut skipped = 0;
    let first = t.step(&[batch()], 50, 1.0, &Single).unwrap();
    assert!(first.skipped);
    loop {
        let before = t.saved().unwrap();
        let (updates, scale) = t.progress();
        let report = t.step(&[batch()], 50, 1.0, &Single).unwrap();
        if !report.skipped {
            assert_eq!(t.progress().0, 1);
            assert!(t.saved().unwrap()["model.norm.weight"] != before["model.norm.weight"]);
            break;
        }
        skipped += 1;
        assert_eq!((report.loss, updates), (first.loss, 0));
        assert_eq!(t.progress().1.value, scale.value / 2.0);
        assert!(t.saved().unwrap() == before, "a skipped step changed something");
        assert!(skipped < 40);
    }
    assert!(skipped > 0);
}

#[test]
fn muon_and_groups_learn() {
    let rest = "optimizer = { kind = 'muon', rate = 1e-2, group = [{ match = ['*norm*'], rate = 0.0 }] }";
    let mut t = trainer(&model("llama"), cpu(), rest).unwrap();
    let found = losses(&mut t, 1, 20);
    assert!(found[19] < found[0], "{found:?}");
    let saved = t.saved().unwrap();
    // Matrices inside the network have a momentum alone, tables and norms are AdamW's.
    assert!(!saved.contains_key("v.model.layers.0.mlp.up_proj.weight"));
    assert!(saved.contains_key("v.model.embed_tokens.weight") && saved.contains_key("v.model.norm.weight"));
    let base = Checkpoint::open(model("llama")).unwrap().weight("model.norm.weight").unwrap();
    assert_eq!(saved["model.norm.weight"].bytes(), base.bytes());
}

#[test]
fn an_optimizer_that_takes_none_of_a_groups_parameters_is_refused() {
    let group = |names: &str| {
        format!("optimizer = {{ rate = 1e-2, group = [{{ match = [{names}], kind = 'muon' }}] }}")
    };
    for names in ["'*norm*'", "'model.embed_tokens.weight'"] {
        let e = trainer(&model("llama"), cpu(), &group(names)).err().unwrap().to_string();
        assert!(
            e.contains("muon takes none of the parameters that") && e.contains("AdamW for the rest"),
            "{e}"
        );
    }
    let t = trainer(&model("llama"), cpu(), &group("'*norm*', '*up_proj*'")).unwrap();
    assert!(t.plan().trains("model.norm.weight"));
}

#[test]
fn means_of_weights_follow_slowly() {
    let mut t = trainer(&model("llama"), cpu(), "optimizer = { rate = 5e-3, ema = 0.5 }").unwrap();
    let name = "model.layers.1.mlp.up_proj.weight";
    let base = Checkpoint::open(model("llama")).unwrap().weight(name).unwrap();
    let first: Vec<f32> = floats_of(base.bytes());
    losses(&mut t, 1, 1);
    let saved = t.saved().unwrap();
    let (now, mean) = (saved[name].values(), t.parameters().unwrap()[name].values());
    for ((f, n), m) in first.iter().zip(now).zip(mean) {
        assert!((0.5 * *f as f64 + 0.5 * n - m).abs() < 1e-6);
    }
}

fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Adapters over blocks of 4 and 8 bits learn as they do over the floats that those decode to.
#[test]
fn adapters_learn_over_quantized_weights() {
    let folder = tempfile::tempdir().unwrap();
    let rest = "optimizer = { rate = 1e-2 }\nlora = { rank = 4, layers = ['*_proj'] }";
    // Blocks of Q4_K are 256 long, more than the parity case is wide.
    let wide = folder.path().join("wide");
    super::golden::decoder(&wide, [1, 256, 512, 401]);
    for dtype in [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q4K] {
        let file = folder.path().join(format!("{dtype}.gguf"));
        let source = if dtype == DType::Q4K { wide.clone() } else { model("llama") };
        convert(&Checkpoint::open(source).unwrap(), &file, Some(dtype)).unwrap();
        let decoded = folder.path().join(format!("{dtype}"));
        convert(&Checkpoint::open(&file).unwrap(), &decoded, None).unwrap();
        let mut over = trainer(&file, cpu(), rest).unwrap();
        let quantized = over.checkpoint().ty("model.layers.0.self_attn.q_proj.weight").unwrap().dtype;
        assert_eq!(quantized, dtype);
        let found = losses_on(&mut over, 1, 8, |_| samples(0));
        let floats = losses_on(&mut trainer(&decoded, cpu(), rest).unwrap(), 1, 8, |_| samples(0));
        assert!(found[7] < found[0] && apart(&found, &floats) < 1e-3, "{dtype}: {found:?} beside {floats:?}");
        assert!(over.trained().keys().all(|n| n.contains("lora")));
    }
    // Without adapters there is nothing to train but norms.
    let bare = trainer(&folder.path().join("q8_0.gguf"), cpu(), "optimizer = { rate = 1e-2 }").unwrap();
    assert!(bare.plan().trains("model.norm.weight"));
}
