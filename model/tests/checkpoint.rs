//! Checkpoints written by other programs, read and written again. `checkpoint/make.py` made the files, and
//! `expected.json` is what transformers and CTranslate2 hold of them.

use std::path::{Path, PathBuf};

use percept_graph::DType;
use percept_modalities::text::TokenKind;
use percept_model::checkpoint::{Checkpoint, Error, Format, LoadOptions, convert};
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

#[test]
fn gguf_tensors_are_those_that_transformers_reads() {
    for name in ["llama", "qwen2", "qwen3", "gemma3"] {
        let checkpoint = Checkpoint::open_with(fixture(&format!("{name}.gguf")), DECODED).unwrap();
        hold_to(&checkpoint, &expected(name)["tensors"], name);
    }
}

#[test]
fn gguf_configurations_are_those_that_transformers_makes() {
    for name in ["llama", "qwen2", "qwen3", "gemma3"] {
        let checkpoint = Checkpoint::open(fixture(&format!("{name}.gguf"))).unwrap();
        let config = checkpoint.config();
        for (key, expected) in expected(name)["config"].as_object().unwrap() {
            match key.as_str() {
                "rope_parameters" => {
                    let full = expected.get("full_attention").unwrap_or(expected);
                    assert_eq!(config["rope_theta"], full["rope_theta"], "{name}");
                }
                // transformers widens the f32.
                "rms_norm_eps" => assert_eq!(config[key], 1e-5, "{name}"),
                "sliding_window" if expected.is_null() => assert!(config.get(key).is_none(), "{name}"),
                _ => assert_eq!(&config[key], expected, "{name}: {key}"),
            }
        }
    }
}

#[test]
fn a_gguf_file_has_its_vocabulary_and_its_template() {
    let checkpoint = Checkpoint::open(fixture("llama.gguf")).unwrap();
    let v = checkpoint.vocabulary().unwrap().unwrap();
    assert_eq!((v.model.as_str(), v.tokens.len(), v.tokens[3].as_str()), ("llama", 16, "t3"));
    assert_eq!(
        (v.kinds[0], v.kinds[1], v.kinds[5]),
        (TokenKind::Unknown, TokenKind::Control, TokenKind::Normal)
    );
    assert_eq!((v.bos, v.eos, v.pad), (Some(1), Some(2), None));
    assert_eq!((v.add_bos, v.add_eos, v.add_space_prefix), (Some(true), None, Some(false)));
    assert_eq!((v.scores[2], v.merges[1].as_str()), (-2.0, "t 2"));
    assert_eq!(checkpoint.file("chat_template.jinja").unwrap().unwrap(), b"{{ bos_token }}");
    assert!(checkpoint.file("tokenizer.json").unwrap().is_none());
}

#[test]
fn ctranslate2_tensors_are_those_of_the_model_it_was_made_from() {
    for kind in ["float16", "int8"] {
        let checkpoint = Checkpoint::open_with(fixture(&format!("whisper-{kind}")), DECODED).unwrap();
        assert_eq!(checkpoint.format(), Format::CTranslate2);
        hold_to(&checkpoint, &expected("whisper")[kind]["tensors"], kind);
        let config = checkpoint.config();
        let facts = json!({
            "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 404,
            "num_mel_bins": 80, "max_source_positions": 100, "max_target_positions": 64, "model_type": "whisper",
        });
        for (key, value) in facts.as_object().unwrap() {
            assert_eq!(&config[key], value, "{key}");
        }
        let generation = checkpoint.file("generation_config.json").unwrap().unwrap();
        let generation: Value = serde_json::from_slice(&generation).unwrap();
        assert_eq!(generation["begin_suppress_tokens"], json!([220, 50256]));
    }
    // As they are in the file: the int8 matrices in the dtype of the rest.
    let checkpoint = Checkpoint::open(fixture("whisper-float16/model.bin")).unwrap();
    assert_eq!(checkpoint.ty("model.encoder.conv1.weight").unwrap().dtype, DType::F16);
}

#[test]
fn blocks_stay_as_they_are_unless_asked_for() {
    let checkpoint = Checkpoint::open(fixture("llama.gguf")).unwrap();
    let q = checkpoint.weight("model.layers.0.self_attn.q_proj.weight").unwrap();
    assert_eq!(q.ty.to_string(), "q4_k[32,256]");
    // Rows 1 and 2 of the head (16 rows) come from rows 2 and 4 of the file.
    let file = std::fs::read(fixture("llama.gguf")).unwrap();
    let at =
        |row: usize| file.windows(144).position(|w| w == &q.bytes()[row * 144..(row + 1) * 144]).unwrap();
    assert_eq!((at(1) - at(0), at(2) - at(0), at(8) - at(0)), (2 * 144, 4 * 144, 144));
    let v = checkpoint.weight("model.layers.0.self_attn.v_proj.weight").unwrap();
    assert_eq!(v.ty.to_string(), "q8_0[16,256]");
}

#[test]
fn a_missing_tensor_is_named_with_its_neighbours() {
    let checkpoint = Checkpoint::open(fixture("llama.gguf")).unwrap();
    let error = checkpoint.weight("model.layers.0.self_attn.q_prj.weight").err().unwrap();
    let Error::MissingTensor { nearest, .. } = &error else { panic!("{error}") };
    assert_eq!(nearest[0], "model.layers.0.self_attn.q_proj.weight");
    assert!(error.to_string().contains("q_prj") && error.to_string().contains("q_proj"));
}

#[test]
fn casts_round_to_nearest_and_refuse_what_does_not_fit() {
    let f32s = |values: &[f32]| {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let head =
            json!({ "w": { "dtype": "F32", "shape": [values.len()], "data_offsets": [0, data.len()] } })
                .to_string();
        [&(head.len() as u64).to_le_bytes(), head.as_bytes(), &data].concat()
    };
    let open = |bytes, dtype| {
        let options = LoadOptions { dtype: Some(dtype), dequantize: false };
        Checkpoint::from_bytes(Format::Safetensors, "m.safetensors", bytes, options)
    };
    // 1 + 2^-8 lies between two bf16 and goes to the even one.
    let w = open(f32s(&[1.0 + 1.0 / 256.0, -2.0]), DType::BF16).unwrap().weight("w").unwrap();
    assert_eq!(w.bytes(), [0x80, 0x3F, 0x00, 0xC0]);
    let error = open(f32s(&[1.0, 70000.0]), DType::F16).unwrap().weight("w").err().unwrap().to_string();
    assert!(error.contains("70000") && error.contains("'w'") && error.contains("bf16"), "{error}");
    assert!(open(f32s(&[f32::INFINITY]), DType::F16).unwrap().weight("w").is_ok());
    assert!(open(f32s(&[1.0]), DType::Q8_0).is_err());
}

#[test]
fn odd_dtypes_become_what_graphs_have() {
    let mut data = Vec::new();
    data.extend((-3i64).to_le_bytes());
    data.extend((1i64 << 40).to_le_bytes());
    data.extend(0.1f64.to_le_bytes());
    data.extend([0xFEu8, 7]);
    let head = json!({
        "ids": { "dtype": "I64", "shape": [1], "data_offsets": [0, 8] },
        "far": { "dtype": "I64", "shape": [1], "data_offsets": [8, 16] },
        "x": { "dtype": "F64", "shape": [], "data_offsets": [16, 24] },
        "b": { "dtype": "I8", "shape": [2, 1], "data_offsets": [24, 26] },
    });
    let mut head = head.to_string().into_bytes();
    // An odd header leaves the values where no dtype may stand.
    if head.len().is_multiple_of(2) {
        head.push(b' ');
    }
    let bytes = [&(head.len() as u64).to_le_bytes(), &head[..], &data].concat();
    let c = Checkpoint::from_bytes(Format::Safetensors, "m", bytes, LoadOptions::default()).unwrap();
    assert_eq!((c.ty("ids").unwrap().dtype, c.ty("x").unwrap().dtype), (DType::I32, DType::F32));
    assert_eq!(c.weight("ids").unwrap().bytes(), (-3i32).to_le_bytes());
    assert_eq!(c.weight("x").unwrap().bytes(), 0.1f32.to_le_bytes());
    assert_eq!(c.weight("b").unwrap().bytes(), [(-2i32).to_le_bytes(), 7i32.to_le_bytes()].concat());
    let error = c.weight("far").err().unwrap().to_string();
    assert!(error.contains("'far'") && error.contains("element 0"), "{error}");
}

#[test]
fn shards_are_read_as_one_and_disagreements_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let shard = |file: &str, name: &str| {
        let head = json!({ name: { "dtype": "U8", "shape": [1], "data_offsets": [0, 1] } }).to_string();
        let bytes = [&(head.len() as u64).to_le_bytes(), head.as_bytes(), b"x"].concat();
        std::fs::write(folder.path().join(file), bytes).unwrap();
    };
    let index = |map: Value| {
        let text = json!({ "weight_map": map }).to_string();
        std::fs::write(folder.path().join("model.safetensors.index.json"), text).unwrap();
        Checkpoint::open(folder.path())
    };
    shard("a.safetensors", "a");
    shard("b.safetensors", "b");
    let c = index(json!({ "a": "a.safetensors", "b": "b.safetensors" })).unwrap();
    assert_eq!(c.names().collect::<Vec<_>>(), ["a", "b"]);
    let lost = index(json!({ "a": "a.safetensors", "c": "b.safetensors" })).unwrap_err().to_string();
    assert!(lost.contains("'c'") && lost.contains("b.safetensors"), "{lost}");
    let outside = index(json!({ "a": "../a.safetensors" })).unwrap_err().to_string();
    assert!(outside.contains("../a.safetensors"), "{outside}");
    shard("b.safetensors", "a");
    let twice = index(json!({ "a": "a.safetensors", "b": "b.safetensors" })).unwrap_err().to_string();
    assert!(twice.contains("'a'"), "{twice}");
}

#[test]
fn folders_without_a_checkpoint_say_what_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let error = || Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error().contains("no .safetensors"), "{}", error());
    std::fs::write(folder.path().join("pytorch_model.bin"), "x").unwrap();
    assert!(error().contains("pickles"), "{}", error());
    for name in ["a.gguf", "b.gguf"] {
        std::fs::copy(fixture("llama.gguf"), folder.path().join(name)).unwrap();
    }
    assert!(error().contains("a.gguf, b.gguf"), "{}", error());
    assert!(Checkpoint::open(folder.path().join("absent")).unwrap_err().to_string().contains("absent"));
    let text = folder.path().join("model.txt");
    std::fs::write(&text, "hello").unwrap();
    assert!(Checkpoint::open(&text).unwrap_err().to_string().contains("GGUF"));
}

/// The names, types and bytes of a checkpoint.
fn contents(checkpoint: &Checkpoint) -> Vec<(String, String, Vec<u8>)> {
    let one = |name: &str| {
        let weight = checkpoint.weight(name).unwrap();
        (name.to_string(), weight.ty.to_string(), weight.bytes().to_vec())
    };
    checkpoint.names().map(one).collect()
}

#[test]
fn gguf_to_gguf_without_a_dtype_changes_no_value() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama.gguf", "qwen2.gguf", "qwen3.gguf", "gemma3.gguf"] {
        let (from, out) = (Checkpoint::open(fixture(name)).unwrap(), folder.path().join(name));
        convert(&from, &out, None).unwrap();
        let to = Checkpoint::open(&out).unwrap();
        assert_eq!(contents(&from), contents(&to), "{name}");
        assert_eq!(
            (from.config(), from.vocabulary().unwrap()),
            (to.config(), to.vocabulary().unwrap()),
            "{name}"
        );
        assert!(convert(&from, &out, None).unwrap_err().to_string().contains("already"), "{name}");
    }
}

#[test]
fn a_model_goes_to_a_folder_and_back_to_gguf() {
    let tmp = tempfile::tempdir().unwrap();
    for name in ["llama", "qwen2", "qwen3", "gemma3"] {
        let from = Checkpoint::open(fixture(&format!("{name}.gguf"))).unwrap();
        let (folder, file) = (tmp.path().join(name), tmp.path().join(format!("{name}.gguf")));
        convert(&from, &folder, None).unwrap();
        let there = Checkpoint::open_with(&folder, DECODED).unwrap();
        hold_to(&there, &expected(name)["tensors"], name);
        let done = convert(&there, &file, Some(DType::Q8_0)).unwrap();
        let back = Checkpoint::open_with(&file, DECODED).unwrap();
        assert_eq!(back.names().collect::<Vec<_>>(), there.names().collect::<Vec<_>>(), "{name}");
        for key in
            ["hidden_size", "rope_theta", "rms_norm_eps", "head_dim", "tie_word_embeddings", "model_type"]
        {
            assert_eq!(back.config()[key], from.config()[key], "{name}: {key}");
        }
        // Vectors stay f32, bit for bit but for the one that Gemma's norms have added.
        for (norm, ..) in done.kept.iter().filter(|k| !(name == "gemma3" && k.0.ends_with("norm.weight"))) {
            assert_eq!(digest(&back, norm), digest(&there, norm), "{name}: {norm}");
        }
        // A Q8_0 step is 1/127 of a block's greatest value.
        for tensor in there.names() {
            let floats = |c: &Checkpoint| -> Vec<f32> {
                let w = c.weight(tensor).unwrap();
                w.bytes().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            };
            let (a, b) = (floats(&there), floats(&back));
            let most = a.iter().fold(0f32, |m, v| m.max(v.abs()));
            let worst = a.iter().zip(&b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(worst <= most * 0.0045, "{name}: {tensor} is off by {worst} of {most}");
        }
    }
}

#[test]
fn what_is_not_quantized_is_reported() {
    let tmp = tempfile::tempdir().unwrap();
    let from = Checkpoint::open_with(fixture("llama.gguf"), DECODED).unwrap();
    let out = tmp.path().join("m.gguf");
    let done = convert(&from, &out, Some(DType::Q4K)).unwrap();
    let dtype = |name: &str| done.kept.iter().find(|k| k.0 == name).map(|k| k.1);
    assert_eq!(dtype("model.norm.weight"), Some(DType::F32));
    assert_eq!(dtype("model.layers.0.mlp.down_proj.weight"), Some(DType::Q8_0));
    assert_eq!(dtype("model.embed_tokens.weight"), Some(DType::Q6K));
    assert_eq!(dtype("model.layers.0.mlp.up_proj.weight"), None);
    assert_eq!(
        Checkpoint::open(&out).unwrap().ty("model.layers.0.mlp.up_proj.weight").unwrap().dtype,
        DType::Q4K
    );
    let refused = convert(&from, &tmp.path().join("folder"), Some(DType::Q4K)).unwrap_err().to_string();
    assert!(refused.contains(".gguf"), "{refused}");
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 1);
}

#[test]
fn whisper_goes_to_a_folder() {
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("whisper");
    let from = Checkpoint::open(fixture("whisper-float16")).unwrap();
    convert(&from, &out, Some(DType::F32)).unwrap();
    let there = Checkpoint::open(&out).unwrap();
    hold_to(&there, &expected("whisper")["float16"]["tensors"], "whisper");
    assert_eq!(there.config()["model_type"], "whisper");
    assert!(out.join("generation_config.json").is_file());
    let refused = convert(&from, &tmp.path().join("w.gguf"), None).unwrap_err().to_string();
    assert!(refused.contains("whisper") && refused.contains("llama"), "{refused}");
}

#[test]
fn a_vocabulary_goes_to_tokenizer_json_and_back() {
    let tmp = tempfile::tempdir().unwrap();
    let from = Checkpoint::open(fixture("llama.gguf")).unwrap();
    let (folder, file) = (tmp.path().join("folder"), tmp.path().join("m.gguf"));
    assert_eq!(convert(&from, &folder, None).unwrap().notes, Vec::<String>::new());
    let done = convert(&Checkpoint::open(&folder).unwrap(), &file, None).unwrap();
    assert_eq!(done.notes, Vec::<String>::new());
    let back = Checkpoint::open(&file).unwrap();
    let (a, b) = (from.vocabulary().unwrap().unwrap(), back.vocabulary().unwrap().unwrap());
    assert_eq!((&a.model, &a.tokens, a.bos, a.eos), (&b.model, &b.tokens, b.bos, b.eos));
    assert_eq!((b.add_bos, b.add_space_prefix), (Some(true), Some(false)));
    assert_eq!(back.file("chat_template.jinja").unwrap(), from.file("chat_template.jinja").unwrap());
}
