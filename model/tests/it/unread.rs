//! What a checkpoint holds and its model leaves out is told, and nothing is told of checkpoints that transformers wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percept_model::checkpoint::Checkpoint;
use percept_model::{Model, open, unread};
use serde_json::{Value, json};

fn parity() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity")
}

fn told(folder: &Path) -> Option<Vec<String>> {
    match open(Arc::new(Checkpoint::open(folder).unwrap())).unwrap() {
        Model::Causal(model) => Some(unread(&*model).unwrap_or_else(|e| panic!("{}: {e}", folder.display()))),
        _ => None,
    }
}

/// The Llama of the parity tests with another config.json, and a bias beside its first layer's queries if asked.
fn changed(place: &Path, change: &[(&str, Value)], bias: bool) -> Vec<String> {
    let from = parity().join("llama/model");
    for file in fs::read_dir(&from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), place.join(file.file_name())).unwrap();
    }
    let mut config: Value = serde_json::from_slice(&fs::read(from.join("config.json")).unwrap()).unwrap();
    for (key, value) in change {
        config[*key] = value.clone();
    }
    fs::write(place.join("config.json"), config.to_string()).unwrap();
    if bias {
        let bytes = fs::read(from.join("model.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let zeros = vec![0; 32 * 4];
        let bias = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![32], &zeros).unwrap();
        let all =
            tensors.tensors().into_iter().chain([("model.layers.0.self_attn.q_proj.bias".to_owned(), bias)]);
        let file = place.join("model.safetensors");
        fs::remove_file(&file).unwrap();
        fs::write(file, safetensors::serialize(all, None).unwrap()).unwrap();
    }
    told(place).unwrap()
}

#[test]
fn checkpoints_of_transformers_are_read_whole() {
    let mut decoders = 0;
    for case in fs::read_dir(parity()).unwrap() {
        let folder = case.unwrap().path().join("model");
        if folder.join("config.json").exists() {
            let told = told(&folder);
            decoders += usize::from(told.is_some());
            assert_eq!(told.unwrap_or_default(), Vec::<String>::new(), "{}", folder.display());
        }
    }
    assert!(decoders > 40, "{decoders} models were looked at");
}

#[test]
fn parts_of_layers_that_no_step_reads_are_named() {
    let place = tempfile::tempdir().unwrap();
    let told = changed(place.path(), &[], true);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("'model.layers.0.self_attn.q_proj.bias' are not read"), "{}", told[0]);

    let place = tempfile::tempdir().unwrap();
    let told = changed(place.path(), &[("num_hidden_layers", json!(1))], false);
    assert!(told[0].contains("'model.layers.1.input_layernorm.weight' and 17 more are not read"), "{told:?}");

    let place = tempfile::tempdir().unwrap();
    let told = changed(place.path(), &[("tie_word_embeddings", json!(false))], false);
    assert!(told[0].contains("there is no lm_head.weight"), "{told:?}");
    let place = tempfile::tempdir().unwrap();
    assert_eq!(changed(place.path(), &[("tie_word_embeddings", json!(true))], false), Vec::<String>::new());
}
