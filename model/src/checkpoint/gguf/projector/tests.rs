//! Projectors' files beside what gguf-py has to say of them (`model/tests/checkpoint/projector.py`).

use std::path::Path;

use serde_json::{Value as Json, json};

use super::super::super::{Checkpoint, convert};
use super::super::metadata::Value;
use super::super::{Gguf, Source};

fn folder(case: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity").join(case).join("model")
}

/// The sum over f32 bit patterns that projector.py takes too, each weighted with its odd position.
fn digest(bytes: &[u8]) -> String {
    let bits = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let sum = bits.zip(0u64..).fold(0u64, |sum, (b, i)| sum.wrapping_add(u64::from(b) * (2 * i + 1)));
    sum.to_string()
}

#[test]
fn names_values_and_keys_are_those_of_gguf_py() {
    let text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoint/projector.json"));
    let expected: Json = serde_json::from_slice(&text.unwrap()).unwrap();
    assert_eq!(expected.as_object().unwrap().len(), 6);
    for (case, expected) in expected.as_object().unwrap() {
        let out = tempfile::tempdir().unwrap();
        convert(&Checkpoint::open(folder(case)).unwrap(), &out.path().join("m.gguf"), None).unwrap();
        let file = Gguf::parse(&Source::map(&out.path().join("mmproj-m.gguf")).unwrap()).unwrap();
        let found: serde_json::Map<String, Json> = file
            .tensors
            .iter()
            .map(|(name, stored)| {
                let weight = stored.load(name).unwrap();
                (name.clone(), json!({ "dims": weight.ty.dims, "digest": digest(weight.bytes()) }))
            })
            .collect();
        assert_eq!(Json::Object(found), expected["tensors"], "{case}");
        for (key, expected) in expected["keys"].as_object().unwrap() {
            let number = |value: &Value| match value {
                Value::Bool(b) => json!(b),
                Value::Text(text) => json!(text),
                other => json!(other.float().unwrap() as f32),
            };
            let found = match file.metadata.get(key).unwrap_or_else(|| panic!("{case} has no {key}")) {
                Value::Array { .. } => file.metadata.numbers(key, 64).unwrap().iter().map(number).collect(),
                one => number(one),
            };
            let single = |v: &Json| v.as_f64().map_or(v.clone(), |v| json!(v as f32));
            let expected = match expected.as_array() {
                Some(all) => all.iter().map(single).collect(),
                None => single(expected),
            };
            assert_eq!(found, expected, "{case}: {key}");
        }
    }
}
