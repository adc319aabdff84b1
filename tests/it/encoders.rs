//! Encoders of texts beside those of transformers, pooled as sentence-transformers does (tests/encoders/make.py): tiny
//! ones of random weights, and all-MiniLM-L6-v2.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use percept::hal::CompileOptions;
use percept::infer::{Pooling, TextEmbedder, cosine};
use percept::model::checkpoint::Checkpoint;
use percept::model::{Model, TextEncoder};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::{assets, devices};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encoders")
}

fn encoder(path: &Path) -> Box<TextEncoder> {
    match percept::model::open(Arc::new(Checkpoint::open(path).unwrap())).unwrap() {
        Model::TextEncoder(model) => model,
        _ => panic!("{} embeds texts", path.display()),
    }
}

fn embedder(path: &Path, device: &str) -> (TextEmbedder, Pooling) {
    let model = encoder(path);
    let (pooling, options) = (model.pooling, CompileOptions { strict: true, ..CompileOptions::default() });
    (TextEmbedder::of_encoder(model, devices::device(device), options), pooling)
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn tiny_encoders_agree_with_transformers_and_do_not_depend_on_their_company() {
    let expected = std::fs::read(folder().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
    for (name, known) in [("bert-mean", Pooling::Mean), ("roberta-cls", Pooling::First)] {
        let golden: Vec<Vec<f32>> = serde_json::from_value(expected[name].clone()).unwrap();
        let (mut embedder, pooling) = embedder(&folder().join(name), "cpu");
        assert_eq!(pooling, known, "{name}");
        let found = embedder.texts(&texts, pooling).unwrap();
        for ((text, found), golden) in texts.iter().zip(&found).zip(&golden) {
            let off = found.iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(found.len() == golden.len() && off <= 1e-5, "{name} '{text}' is off by {off}");
            assert_eq!(bits(&embedder.text(text, pooling).unwrap()), bits(found), "{name} '{text}' alone");
        }
    }
}

#[test]
fn a_decoder_embeds_by_its_last_token_behind_the_instruction_that_its_folder_names() {
    let expected = std::fs::read(folder().join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
    let golden: Vec<Vec<f32>> = serde_json::from_value(expected["qwen3-last"].clone()).unwrap();
    let checkpoint = Checkpoint::open(folder().join("qwen3-last")).unwrap();
    let Model::Causal(model) = percept::model::open(Arc::new(checkpoint)).unwrap() else {
        panic!("a decoder continues texts");
    };
    let options = CompileOptions { strict: true, ..CompileOptions::default() };
    let mut embedder = TextEmbedder::new(model, devices::device("cpu"), options).unwrap();
    assert_eq!(embedder.pooling(), Pooling::Last);
    for ((text, found), golden) in
        texts.iter().zip(embedder.texts(&texts, Pooling::Last).unwrap()).zip(&golden)
    {
        let off = found.iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        assert!(found.len() == golden.len() && off <= 1e-5, "'{text}' is off by {off}");
    }
}

#[test]
fn a_module_or_a_way_of_pooling_that_is_not_run_is_refused_by_name() {
    let mistakes: [(&str, Value, &str); 3] = [
        (
            "modules.json",
            serde_json::json!([{ "path": "2_Dense", "type": "sentence_transformers.models.Dense" }]),
            "'Dense'",
        ),
        (
            "1_Pooling/config.json",
            serde_json::json!({ "pooling_mode_max_tokens": true }),
            "'pooling_mode_max_tokens'",
        ),
        (
            "config.json",
            serde_json::json!({ "model_type": "bert", "position_embedding_type": "relative_key" }),
            "'position_embedding_type'",
        ),
    ];
    for (file, content, named) in mistakes {
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir(copy.path().join("1_Pooling")).unwrap();
        for place in ["", "1_Pooling"] {
            for entry in std::fs::read_dir(folder().join("bert-mean").join(place)).unwrap() {
                let entry = entry.unwrap();
                if entry.path().is_file() {
                    std::fs::copy(entry.path(), copy.path().join(place).join(entry.file_name())).unwrap();
                }
            }
        }
        std::fs::write(copy.path().join(file), content.to_string()).unwrap();
        let opened = percept::model::open(Arc::new(Checkpoint::open(copy.path()).unwrap()));
        let why = opened.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(why.starts_with(file) && why.contains(named), "{file}: {why}");
    }
}

#[test]
fn minilm_embeds_a_hundred_sentences_as_transformers_does() {
    let (mut embedder, pooling) = embedder(&assets::asset("all-MiniLM-L6-v2"), "cpu");
    let sentences = std::fs::read_to_string(folder().join("sentences.txt")).unwrap();
    let sentences: Vec<&str> = sentences.lines().collect();
    let golden = std::fs::read(folder().join("minilm.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&golden).unwrap();
    let golden = golden.tensor("embeddings").unwrap();
    let golden: Vec<f32> =
        golden.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let found = embedder.texts(&sentences, pooling).unwrap();
    assert_eq!(found.len(), 100);
    let mut least = 1f32;
    for ((sentence, found), golden) in sentences.iter().zip(&found).zip(golden.chunks_exact(384)) {
        let alike = cosine(found, golden);
        assert!((1.0 - alike).abs() <= 1e-5, "'{sentence}' has the cosine {alike}");
        least = least.min(alike);
    }
    println!("the least cosine is {least}");
}

#[test]
fn the_command_line_embeds_with_an_encoder_of_texts_and_with_one_of_images() {
    let embed = |model: PathBuf, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_percept"));
        command
            .args(["embed", "--json", "--device", "cpu", "--model"])
            .arg(model)
            .args(words)
            .output()
            .unwrap()
    };
    let output = embed(folder().join("bert-mean"), &["--text", "a dog", "--text", "the red square"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document[0]["embedding"].as_array().unwrap().len(), 24);
    let parity = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity");
    let [image, other] =
        ["a7.png", "c7.png"].map(|name| parity.join("media").join(name).display().to_string());
    let output = embed(parity.join("dinov3-vit/model"), &["--image", &image, "--image", &other]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document[1]["similarities"].as_array().unwrap().len(), 1);
    for (model, words) in
        [("bert-mean", ["--image", &image]), ("../parity/dinov3-vit/model", ["--text", "a dog"])]
    {
        let output = embed(folder().join(model), &words);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && why.contains("alone"), "{why}");
    }
}
