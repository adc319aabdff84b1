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
    assert_eq!(expected.as_object().unwrap().len(), 7);
    for (case, expected) in expected.as_object().unwrap() {
        let out = tempfile::tempdir().unwrap();
        convert(&Checkpoint::open(folder(case)).unwrap(), &out.path().join("m.gguf"), None).unwrap();
        // Whisper is one file.
        let name = if case == "whisper" { "m.gguf" } else { "mmproj-m.gguf" };
        let file = Gguf::parse(&Source::map(&out.path().join(name)).unwrap()).unwrap();
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

/// As the first converters of LLaVA and Qwen2-VL have them.
#[test]
fn matrices_with_each_others_names_are_told_by_their_shapes() {
    let of = |up: [usize; 2], down: [usize; 2]| {
        let tensor = |name: &str, dims: &[usize]| {
            let bytes = vec![0; 4 * dims.iter().product::<usize>()];
            let source = Source::memory(name, bytes);
            let span = source.span(0..source.bytes().len(), name).unwrap();
            let form = super::super::Form::Graph(percept_graph::DType::F32);
            (name.to_string(), super::super::StoredTensor::new(name, form, dims.to_vec(), span).unwrap())
        };
        let mut tensors = std::collections::BTreeMap::from([
            tensor("v.blk.0.ln2.weight", &[4]),
            tensor("v.blk.0.ffn_up.weight", &up),
            tensor("v.blk.0.ffn_up.bias", &[up[0]]),
            tensor("v.blk.0.ffn_down.weight", &down),
            tensor("v.blk.0.ffn_down.bias", &[down[0]]),
        ]);
        super::tensors::unswap(&mut tensors);
        ["up.weight", "up.bias", "down.weight", "down.bias"]
            .map(|name| tensors[&format!("v.blk.0.ffn_{name}")].ty.dims.clone())
    };
    let right = [vec![6, 4], vec![6], vec![4, 6], vec![4]];
    assert_eq!(of([6, 4], [4, 6]), right);
    assert_eq!(of([4, 6], [6, 4]), right);
}
