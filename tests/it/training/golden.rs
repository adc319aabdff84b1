//! Losses and gradients beside those of PyTorch (make_golden.py).

use std::collections::BTreeMap;
use std::path::Path;

use percept::graph::HostTensor;
use percept::modalities::{Array, Inputs, Values};
use percept::model::CausalModel;
use percept::train::batch::Batch;
use percept::train::encode::Encoded;
use percept::train::{Single, Trainer};
use serde_json::Value;

use super::{cpu, model, root, trainer};

pub fn golden(key: &str) -> Value {
    let bytes = std::fs::read(root().join("tests/training/golden.json")).unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()[key].clone()
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Ids that make_golden.py makes too.
pub fn tokens(seed: usize, length: usize, vocab: usize, low: usize) -> Vec<i64> {
    let id = |i: usize| low + (seed * 7919 + i * 104729 + i * i * 31) % (vocab - low);
    (0..length).map(|i| id(i) as i64).collect()
}

/// Inputs of ids of which those from `from` on are learnt.
pub fn learnt(mut inputs: Inputs, ids: Vec<i64>, from: usize) -> Inputs {
    let dims = vec![1, ids.len()];
    let answers = (0..ids.len()).map(|k| (k >= from) as i64).collect();
    inputs.arrays.insert("answers".into(), Array { dims: dims.clone(), values: Values::I64(answers) });
    inputs.arrays.insert("input_ids".into(), Array { dims, values: Values::I64(ids) });
    inputs
}

pub fn text_sample(model: &dyn CausalModel, seed: usize, vocab: usize, low: usize) -> Encoded {
    let length = 9 + seed * 5 % 17;
    let inputs = learnt(Inputs::default(), tokens(seed, length, vocab, low), length / 3);
    Encoded::of_inputs(model, "text", inputs).unwrap()
}

/// Losses of one packed batch a step.
fn losses(
    trainer: &mut Trainer,
    length: usize,
    samples: impl Fn(&dyn CausalModel, usize) -> Vec<Encoded>,
) -> Vec<f64> {
    let model = trainer.shared_model();
    let step = |step: usize| {
        let samples = samples(&*model, step);
        let row: Vec<&Encoded> = samples.iter().collect();
        let batch = Batch::new(&*model, &[row], length).unwrap();
        let answers = batch.answers;
        trainer.step(&[batch], answers, 1.0, &Single).unwrap().loss
    };
    (0..50).map(step).collect()
}

fn assert_near(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (step, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!((f - e).abs() <= tolerance * e.abs(), "step {}: {f}, PyTorch has {e}", step + 1);
    }
    let worst = found.iter().zip(expected).map(|(f, e)| ((f - e) / e).abs()).fold(0.0, f64::max);
    println!("largest relative difference of {} losses: {worst:.2e}", found.len());
}

#[test]
fn a_packed_decoder_trains_as_in_pytorch() {
    let mut t = trainer(&model("llama"), cpu(), "optimizer = { rate = 2e-3, decay = 0.1 }").unwrap();
    let found =
        losses(&mut t, 100, |m, step| (0..4).map(|k| text_sample(m, 4 * step + k, 401, 16)).collect());
    assert_near(&found, &numbers(&golden("llama")), 1e-3);
}

/// The inputs of a parity case with media, and their ids.
pub fn media_inputs(name: &str) -> (Inputs, Vec<i64>) {
    let file = percept::model::checkpoint::Checkpoint::open(
        root().join("tests/parity").join(name).join("inputs.safetensors"),
    )
    .unwrap();
    let mut inputs = Inputs::default();
    let mut ids = Vec::new();
    for array in file.names() {
        let weight = file.weight(array).unwrap();
        let values = HostTensor::new(weight.ty.clone(), weight.bytes()).unwrap().values();
        let whole: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        let values = match weight.ty.dtype.is_float() {
            true => Values::F32(values.iter().map(|&v| v as f32).collect()),
            false => Values::I64(whole.clone()),
        };
        if array == "input_ids" {
            ids = whole;
        }
        inputs.arrays.insert(array.into(), Array { dims: weight.ty.dims.clone(), values });
    }
    (inputs, ids)
}

#[test]
fn momentum_alone_trains_as_in_pytorch() {
    let rest = "optimizer = { kind = 'sgd', rate = 0.1, momentum = 0.9, decay = 0.1 }";
    let mut t = trainer(&model("llama"), cpu(), rest).unwrap();
    let found =
        losses(&mut t, 100, |m, step| (0..4).map(|k| text_sample(m, 4 * step + k, 401, 16)).collect());
    assert_near(&found, &numbers(&golden("llama-sgd")), 1e-3);
}

fn media_model(name: &str) {
    let mut t = trainer(&model(name), cpu(), "optimizer = { rate = 1e-3 }").unwrap();
    let (inputs, ids) = media_inputs(name);
    let from = ids.len() - 8;
    let found = losses(&mut t, ids.len() + 32, |m, step| {
        let picture = learnt(inputs.clone(), ids.clone(), from);
        vec![Encoded::of_inputs(m, "picture", picture).unwrap(), text_sample(m, step, 300, 100)]
    });
    assert_near(&found, &numbers(&golden(name)), 1e-3);
}

/// Weights that make_golden.py makes too: a hash of the place, even in [-scale, scale).
fn formula(dims: &[usize], seed: u64, scale: f64) -> HostTensor {
    let hash = |i: u64| (i + (seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let numbers = 0..dims.iter().product::<usize>() as u64;
    let values: Vec<f32> =
        numbers.map(|i| ((hash(i) as f64 / f64::from(1 << 23) - 1.0) * scale) as f32).collect();
    HostTensor::from_f32(dims, &values).unwrap()
}

/// The checkpoint of a decoder with heads 64 wide and weights by formula: its layers, width, width inside the MLP, and
/// tokens.
pub fn decoder(folder: &Path, [layers, width, inner, vocab]: [usize; 4]) {
    let config = serde_json::json!({
        "model_type": "llama", "vocab_size": vocab, "hidden_size": width, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": width / 64, "num_key_value_heads": width / 64,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": true
    });
    let mut shapes = BTreeMap::from([
        ("model.embed_tokens.weight".to_string(), vec![vocab, width]),
        ("model.norm.weight".to_string(), vec![width]),
    ]);
    for layer in 0..layers {
        let mut put = |name: &str, dims: &[usize]| {
            shapes.insert(format!("model.layers.{layer}.{name}.weight"), dims.to_vec());
        };
        for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            put(&format!("self_attn.{name}"), &[width, width]);
        }
        put("mlp.gate_proj", &[inner, width]);
        put("mlp.up_proj", &[inner, width]);
        put("mlp.down_proj", &[width, inner]);
        put("input_layernorm", &[width]);
        put("post_attention_layernorm", &[width]);
    }
    let weights = shapes.into_iter().zip(1..).map(|((name, dims), seed)| {
        let value = match dims[..] {
            [n] => HostTensor::from_f32([n], &vec![1.0; n]).unwrap(),
            _ => formula(&dims, seed, 0.035),
        };
        (name, value)
    });
    // A model needs a tokenizer; the ids here are by formula too.
    let tokenizer = std::fs::read(model("llama").join("tokenizer.json")).unwrap();
    let files = BTreeMap::from([
        ("config.json".to_string(), config.to_string().into_bytes()),
        ("tokenizer.json".to_string(), tokenizer),
    ]);
    percept::model::checkpoint::write(folder, &weights.collect(), &files).unwrap();
}

#[test]
fn a_wide_decoder_trains_as_in_pytorch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decoder");
    decoder(&path, [6, 384, 1024, 1024]);
    let mut t = trainer(&path, cpu(), "optimizer = { rate = 3e-4, decay = 0.1 }").unwrap();
    let sample = |m: &dyn CausalModel, seed| {
        Encoded::of_inputs(m, "text", learnt(Inputs::default(), tokens(seed, 128, 1024, 16), 1)).unwrap()
    };
    let found = losses(&mut t, 256, |m, step| (0..2).map(|r| sample(m, step % 5 * 2 + r)).collect());
    assert_near(&found, &numbers(&golden("decoder")), 1e-3);
}

#[test]
fn smolvlm_trains_as_in_pytorch() {
    media_model("smolvlm-image");
}

#[test]
fn qwen2_vl_trains_as_in_pytorch() {
    media_model("qwen2-vl-image");
}

/// A text of more than two chunks of the delta rule, of which all but the first token is learnt.
fn long_sample(model: &dyn CausalModel, seed: usize, vocab: usize) -> Encoded {
    let inputs = learnt(Inputs::default(), tokens(seed, 150, vocab, 16), 1);
    Encoded::of_inputs(model, "text", inputs).unwrap()
}

/// The other side reads the two texts one after the other, and here they share a row.
#[test]
fn a_delta_rule_model_trains_as_in_pytorch() {
    let mut t = trainer(&model("qwen3-5-text"), cpu(), "optimizer = { rate = 5e-4, decay = 0.1 }").unwrap();
    let found =
        losses(&mut t, 190, |m, step| vec![long_sample(m, step % 5, 312), text_sample(m, step, 312, 16)]);
    assert_near(&found, &numbers(&golden("delta")["losses"]), 1e-3);
}

#[test]
fn a_mixture_and_its_balance_train_as_in_pytorch() {
    let rest = "optimizer = { rate = 2e-3, decay = 0.1, balance = 0.1 }";
    let mut t = trainer(&model("qwen3-moe"), cpu(), rest).unwrap();
    let m = t.shared_model();
    let step = |step: usize| {
        let samples: Vec<Encoded> = (0..4).map(|k| text_sample(&*m, 4 * step + k, 312, 16)).collect();
        let batch = Batch::new(&*m, &[samples.iter().collect()], 100).unwrap();
        let answers = batch.answers;
        let report = t.step(&[batch], answers, 1.0, &Single).unwrap();
        let router = report.router.unwrap();
        // Two of six experts a row, in each of two layers.
        assert!((1.0..3.0).contains(&router.busiest) && router.idle < 0.5, "{router:?}");
        (report.loss, router.balance)
    };
    let (losses, balances): (Vec<f64>, Vec<f64>) = (0..50).map(step).unzip();
    let golden = golden("mixture");
    assert_near(&losses, &numbers(&golden["losses"]), 1e-3);
    assert_near(&balances, &numbers(&golden["balances"]), 1e-3);
}

#[test]
fn gradients_of_an_adapter_are_those_of_peft() {
    let layers = "layers = ['*.q_proj', '*.down_proj'], also = ['*norm.weight']";
    adapter_gradients("llama", "adapter", layers, &golden("lora"), |m| text_sample(m, 3, 401, 16));
}

#[test]
fn gradients_of_an_adapter_on_a_delta_rule_are_those_of_peft() {
    let layers = "layers = ['*.in_proj_qkv', '*.in_proj_a', '*.out_proj', '*.q_proj']";
    let golden = golden("delta")["lora"].clone();
    adapter_gradients("qwen3-5-text", "adapter-delta", layers, &golden, |m| long_sample(m, 3, 312));
}

#[test]
fn gradients_of_an_adapter_on_experts_are_those_of_peft() {
    let layers = "layers = ['*.q_proj', '*.experts.*', '*.mlp.gate']";
    let golden = golden("experts-lora");
    adapter_gradients("qwen3-moe", "adapter-experts", layers, &golden, |m| text_sample(m, 3, 312, 16));
}

#[test]
fn a_model_of_short_convolutions_trains_as_in_pytorch() {
    let mut t = trainer(&model("lfm2-text"), cpu(), "optimizer = { rate = 1e-3, decay = 0.1 }").unwrap();
    let sample = |m: &dyn CausalModel, seed| text_sample(m, seed, 300, 16);
    let step = |step: usize, t: &mut Trainer| {
        let m = t.shared_model();
        let samples: Vec<Encoded> = (0..4).map(|k| sample(&*m, 4 * step + k)).collect();
        let batch = Batch::new(&*m, &[samples.iter().collect()], 100).unwrap();
        let answers = batch.answers;
        t.step(&[batch], answers, 1.0, &Single).unwrap().loss
    };
    let found: Vec<f64> = (0..30).map(|s| step(s, &mut t)).collect();
    assert_near(&found, &numbers(&golden("lfm2-text")), 1e-3);
}

/// All gradients of a model at a parity case, whose last eight tokens are learnt.
fn media_gradients(name: &str) {
    let mut t = trainer(&model(name), cpu(), "optimizer = { clip = 0.0, betas = [0.0, 0.9] }").unwrap();
    let m = t.shared_model();
    let (inputs, ids) = media_inputs(name);
    let (length, from) = (ids.len(), ids.len() - 8);
    let sample = Encoded::of_inputs(&*m, "media", learnt(inputs, ids, from)).unwrap();
    let batch = Batch::new(&*m, &[vec![&sample]], length).unwrap();
    let answers = batch.answers;
    let report = t.step(&[batch], answers, 0.0, &Single).unwrap();
    let golden = golden(name);
    assert_near(&[report.loss], &[golden["loss"].as_f64().unwrap()], 1e-5);
    let plain = |name: &str| -> String {
        let parts = name.split('.').filter(|p| !["model", "language_model", "thinker"].contains(p));
        parts.collect::<Vec<_>>().join(".")
    };
    let saved = t.saved().unwrap();
    let found: BTreeMap<String, Vec<f64>> =
        t.trained().keys().map(|n| (plain(n), saved[&format!("m.{n}")].values())).collect();
    let expected: BTreeMap<String, Value> = serde_json::from_value(golden["gradients"].clone()).unwrap();
    let keys = |all: Vec<&String>| all.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(keys(found.keys().collect()), keys(expected.keys().collect()));
    let wanted = |expected: &Value| expected["norm"].as_f64().unwrap();
    // What is zero but for rounding, such as the gradient of a key's bias, is held to a small part of the largest.
    let least = 1e-5 * expected.values().map(wanted).fold(0.0, f64::max);
    for (parameter, expected) in &expected {
        let norm = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let (found, wanted) = (&found[parameter], wanted(expected));
        let allowed = 1e-3 * wanted.max(least);
        let apart = (norm(found) - wanted).abs();
        assert!(apart < allowed, "{name}, {parameter}: norm {}, PyTorch has {wanted}", norm(found));
        for (f, e) in found.iter().zip(numbers(&expected["first"])) {
            assert!((f - e).abs() < allowed, "{name}, {parameter}: {f}, PyTorch has {e}");
        }
    }
}

#[test]
fn gradients_of_what_hears_and_sees_are_those_of_pytorch() {
    for name in ["qwen2-5-omni-image-audio", "qwen3-omni-image-audio", "voxtral"] {
        media_gradients(name);
    }
}

#[test]
fn gemma_4_trains_as_in_pytorch() {
    media_model("gemma4-image");
}

/// The loss of one sample and the gradients of an adapter, in a folder beside the golden values, on some layers.
fn adapter_gradients(
    base: &str,
    adapter: &str,
    layers: &str,
    golden: &Value,
    sample: impl Fn(&dyn CausalModel) -> Encoded,
) {
    let adapter = root().join("tests/training").join(adapter);
    let rest = format!(
        "lora = {{ rank = 4, alpha = 8.0, path = '{}', {layers} }}\noptimizer = {{ clip = 0.0, betas = [0.0, 0.9] }}",
        adapter.display()
    );
    let mut t = trainer(&model(base), cpu(), &rest).unwrap();
    let m = t.shared_model();
    let sample = sample(&*m);
    let batch = Batch::new(&*m, &[vec![&sample]], 192).unwrap();
    let answers = batch.answers;
    let report = t.step(&[batch], answers, 0.0, &Single).unwrap();
    assert_near(&[report.loss], &[golden["loss"].as_f64().unwrap()], 1e-5);
    // With a first decay of 0 the first moment is the gradient.
    let saved = t.saved().unwrap();
    let expected: BTreeMap<String, Value> = serde_json::from_value(golden["gradients"].clone()).unwrap();
    assert_eq!(expected.len(), t.trained().len());
    for (name, expected) in expected {
        let found = saved[&format!("m.{name}")].values();
        let norm = found.iter().map(|v| v * v).sum::<f64>().sqrt();
        let expected_norm = expected["norm"].as_f64().unwrap();
        assert!((norm / expected_norm - 1.0).abs() < 1e-4, "{name}: norm {norm}, PEFT has {expected_norm}");
        for (f, e) in found.iter().zip(numbers(&expected["first"])) {
            assert!((f - e).abs() < 1e-4 * expected_norm, "{name}: {f}, PEFT has {e}");
        }
    }
}

#[test]
fn gradients_of_an_adapter_on_gemma_4_are_those_of_peft() {
    let layers = "layers = ['*language_model*.q_proj', '*language_model*.v_proj', '*.per_layer_*projection', \
                  '*.per_layer_input_gate']";
    adapter_gradients("gemma4-image", "adapter-gemma4", layers, &golden("gemma4-lora"), |m| {
        let (inputs, ids) = media_inputs("gemma4-image");
        let from = ids.len() - 8;
        Encoded::of_inputs(m, "picture", learnt(inputs, ids, from)).unwrap()
    });
}
