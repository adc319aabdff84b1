//! GGUF files that llama.cpp's converter made of tiny random models (tests/gguf/make.py): the logits behind a prompt, and
//! each greedy choice, are those of transformers with the same weights. With llama.cpp itself they agree to what its
//! arithmetic in f16 keeps.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept::graph::DType;
use percept::hal::Device;
use percept::infer::{Session, SessionOptions};
use percept::modalities::{Array, Inputs, Values};
use percept::model::Model;
use percept::model::checkpoint::{Checkpoint, LoadOptions};
use serde_json::Value;

use crate::devices;

/// The end of texts, which no choice of the goldens is.
const END: usize = 2;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gguf")
}

/// The model of a file, whose logits behind the prompt are expected within `tolerance`, as are all choices.
fn check(name: &str, case: &Value, device: &Arc<dyn Device>, tolerance: f64) -> Result<(), String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let path = folder().join(format!("{name}.gguf"));
    // In f16 products would round.
    let options = LoadOptions { dtype: Some(DType::F32), dequantize: false };
    let checkpoint = Checkpoint::open_with(path, options).map_err(|e| text(&e))?;
    let Model::Causal(model) = percept::model::open(Arc::new(checkpoint)).map_err(|e| text(&e))? else {
        return Err("it does not continue sequences".into());
    };
    let list = |key: &str| case[key].as_array().cloned().unwrap_or_default();
    let ids: Vec<i64> = list("prompt").iter().filter_map(Value::as_i64).collect();
    let tokens: Vec<i32> = list("tokens").iter().filter_map(Value::as_i64).map(|id| id as i32).collect();
    let expected: Vec<f64> = list("logits").iter().filter_map(Value::as_f64).collect();
    let mut inputs = Inputs::default();
    let array = Array { dims: vec![1, ids.len()], values: Values::I64(ids) };
    inputs.arrays.insert("input_ids".into(), array);
    let mut session = Session::new(device.clone(), model, SessionOptions::default()).map_err(|e| text(&e))?;
    let logits = session.score(&inputs, &tokens).map_err(|e| text(&e))?;
    let vocab = expected.len();
    let off = logits.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
    if off.is_nan() || off > tolerance || logits.len() != vocab * tokens.len() || tokens.is_empty() {
        return Err(format!("the logits behind the prompt are off by {off}"));
    }
    for (i, (row, expected)) in logits.chunks_exact(vocab).zip(&tokens).enumerate() {
        let best = (0..vocab).filter(|id| *id != END).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        if best != usize::try_from(*expected).ok() {
            return Err(format!("token {i} is {best:?}, expected {expected}"));
        }
    }
    Ok(())
}

fn expected() -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Every file on a device.
fn check_all(device: &Arc<dyn Device>) {
    let all = expected();
    assert!(all.len() >= 11);
    let failures: Vec<String> = all
        .iter()
        .filter_map(|(name, case)| Some(format!("{name}: {}", check(name, case, device, 2e-4).err()?)))
        .collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), all.len(), failures.join("\n"));
}

#[test]
fn files_of_newer_families_say_what_transformers_says_on_cpu() {
    check_all(&devices::device("cpu"));
}

#[test]
fn files_of_newer_families_say_what_transformers_says_on_an_adapter() {
    if let Some(device) = devices::gpu() {
        check_all(&device);
    }
}

/// A block of Q8_0 holds its values within half of a step of 127 to its greatest one, wherever reading puts them.
#[test]
fn quantized_runs_come_into_their_order_too() {
    let open = |name: &str| {
        let options = LoadOptions { dtype: Some(DType::F32), dequantize: true };
        Checkpoint::open_with(folder().join(name), options).unwrap()
    };
    let (exact, blocks) = (open("qwen35.gguf"), open("qwen35-q8_0.gguf"));
    let values = |c: &Checkpoint, name: &str| -> Vec<f32> {
        let w = c.weight(name).unwrap();
        assert_eq!(w.ty.dtype, DType::F32, "{name}");
        w.bytes().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    };
    let mut moved = 0;
    for name in exact.names().filter(|name| !name.ends_with("A_log")) {
        let (a, b) = (values(&exact, name), values(&blocks, name));
        assert_eq!(a.len(), b.len(), "{name}");
        let most = a.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
        assert!(off <= most / 127.0, "{name} is off by {off}, and its greatest value is {most}");
        moved += usize::from(off > 0.0);
    }
    assert!(moved > 10, "only {moved} tensors are blocks");
}
