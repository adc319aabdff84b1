//! Checkpoints written by other programs, read and written again. `make.py` made the files, and
//! `expected.json` is what transformers and CTranslate2 hold of them.

mod converting;
mod pairs;
mod reading;
mod tokenizers;

use std::path::{Path, PathBuf};

use percept_graph::DType;
use percept_model::checkpoint::{Checkpoint, LoadOptions};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoint").join(name)
}

fn expected(name: &str) -> Value {
    let text = std::fs::read(fixture("expected.json")).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap()[name].clone()
}

const DECODED: LoadOptions = LoadOptions { dtype: Some(DType::F32), dequantize: true };

/// The sum over f32 bit patterns that make.py takes too, each weighted with its odd position.
fn digest(checkpoint: &Checkpoint, name: &str) -> Value {
    let weight = checkpoint.weight(name).unwrap();
    assert_eq!(weight.ty.dtype, DType::F32, "{name}");
    let bits = weight.bytes().chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let sum = bits.zip(0u64..).fold(0u64, |sum, (b, i)| sum.wrapping_add(u64::from(b) * (2 * i + 1)));
    json!({ "dims": weight.ty.dims, "digest": sum.to_string() })
}

fn hold_to(checkpoint: &Checkpoint, tensors: &Value, what: &str) {
    let tensors = tensors.as_object().unwrap();
    let names: Vec<&str> = checkpoint.names().collect();
    assert_eq!(names, tensors.keys().map(String::as_str).collect::<Vec<_>>(), "{what}");
    for (name, expected) in tensors {
        assert_eq!(&digest(checkpoint, name), expected, "{what}: {name}");
    }
}

/// The names, types and bytes of a checkpoint.
fn contents(checkpoint: &Checkpoint) -> Vec<(String, String, Vec<u8>)> {
    let one = |name: &str| {
        let weight = checkpoint.weight(name).unwrap();
        (name.to_string(), weight.ty.to_string(), weight.bytes().to_vec())
    };
    checkpoint.names().map(one).collect()
}

/// A copy of a parity case's model in a new folder, with its configuration and its tokenizer changed.
fn changed(case: &str, config: &Value, tokenizer: impl Fn(&mut Value)) -> tempfile::TempDir {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity").join(case).join("model");
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        let place = folder.path().join(path.file_name().unwrap());
        std::fs::copy(&path, &place).unwrap();
        let read = || serde_json::from_slice::<Value>(&std::fs::read(&place).unwrap()).unwrap();
        if place.ends_with("config.json") {
            let mut own = read();
            let over = config.as_object().cloned().unwrap_or_default();
            own.as_object_mut().unwrap().extend(over);
            std::fs::write(&place, own.to_string()).unwrap();
        }
        if place.ends_with("tokenizer.json") {
            let mut own = read();
            tokenizer(&mut own);
            std::fs::write(&place, own.to_string()).unwrap();
        }
    }
    folder
}
