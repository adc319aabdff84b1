//! Checkpoints written by other programs, read and written again. `checkpoint/make.py` made the files, and
//! `expected.json` is what transformers and CTranslate2 hold of them.

use std::path::{Path, PathBuf};

use percept_graph::DType;
use percept_modalities::text::{TokenKind, Tokenizer};
use percept_model::checkpoint::{Checkpoint, Error, Format, LoadOptions, convert};
use percept_model::{Config, Decoder, family, text};
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

/// Weights as methods of quantization store them are what they were packed from, and methods that are not read are
/// refused by their names.
#[test]
fn quantized_layers_are_the_weights_they_were_packed_from() {
    let text = std::fs::read(fixture("quantized.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let open = |name: &str, method: &Value, options: LoadOptions| {
        let folder = tempfile::tempdir().unwrap();
        let from = fixture("quantized").join(name).with_extension("safetensors");
        std::fs::copy(from, folder.path().join("model.safetensors")).unwrap();
        let config = json!({ "model_type": "llama", "quantization_config": method });
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        Checkpoint::open_with(folder.path(), options)
    };
    for (name, expected) in expected.as_object().unwrap() {
        let decoded = open(name, &expected["config"], DECODED).unwrap();
        let found = digest(&decoded, "layer.weight");
        assert_eq!((&found["digest"], &found["dims"]), (&expected["digest"], &expected["dims"]), "{name}");
        let others: Vec<&str> = decoded.names().filter(|n| *n != "layer.bias").collect();
        assert_eq!(others, ["layer.weight"], "{name}");
        assert!(decoded.config().get("quantization_config").is_none());
        let held = open(name, &expected["config"], LoadOptions::default()).unwrap();
        let weight = held.weight("layer.weight").unwrap();
        let float = ["fp8", "gptq_act_order"].contains(&name.as_str());
        assert_eq!(weight.ty.dtype, if float { DType::F32 } else { DType::Q8X }, "{name}");
        assert_eq!(held.held().len(), 1, "{name}");
        if !float {
            let mut values = vec![0.0; weight.ty.numel()];
            assert!(percept_graph::dequantize(weight.ty.dtype, weight.bytes(), &mut values));
            let decoded = decoded.weight("layer.weight").unwrap();
            assert_eq!(bytemuck::cast_slice::<f32, u8>(&values), decoded.bytes(), "{name}");
        }
    }
    for (name, method, why) in [
        ("gptq", json!({ "quant_method": "gptq", "bits": 3 }), "'bits' 3"),
        ("awq", json!({ "quant_method": "awq", "version": "gemv" }), "gemv"),
        ("fp8", json!({ "quant_method": "compressed-tensors", "format": "marlin-24" }), "marlin-24"),
        ("fp8", json!({ "quant_method": "fp8", "weight_block_size": [4, 100] }), "scales"),
    ] {
        let error = open(name, &method, DECODED).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// Pieces of a file, cut by its tensors as llama-gguf-split does: the first has the keys.
#[test]
fn a_gguf_file_in_pieces_is_read_as_one() {
    let whole = Checkpoint::open(fixture("packed.gguf")).unwrap();
    for any in ["packed-00001-of-00003.gguf", "packed-00002-of-00003.gguf", ""] {
        let split = Checkpoint::open(fixture("split").join(any)).unwrap();
        assert_eq!(contents(&whole), contents(&split), "{any}");
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = |name: &str, to: &str| {
        std::fs::copy(fixture("split").join(name), folder.path().join(to)).unwrap();
    };
    let first = folder.path().join("packed-00001-of-00003.gguf");
    copy("packed-00001-of-00003.gguf", "packed-00001-of-00003.gguf");
    copy("packed-00002-of-00003.gguf", "packed-00002-of-00003.gguf");
    let lost = Checkpoint::open(&first).unwrap_err().to_string();
    assert!(lost.contains("packed-00003-of-00003.gguf"), "{lost}");
    copy("packed-00002-of-00003.gguf", "packed-00003-of-00003.gguf");
    let other = Checkpoint::open(&first).unwrap_err().to_string();
    assert!(other.contains("packed-00003-of-00003.gguf") && other.contains("piece 3"), "{other}");
    copy("packed-00001-of-00003.gguf", "renamed.gguf");
    let renamed = Checkpoint::open(folder.path().join("renamed.gguf")).unwrap_err().to_string();
    assert!(renamed.contains("one of 3 pieces"), "{renamed}");
}

/// Formats without a dtype of their own are held in one that has each weight to the bit, and it is said what that takes.
#[test]
fn blocks_of_other_formats_hold_what_gguf_decodes() {
    let text = std::fs::read(fixture("packed.json")).unwrap();
    let expected: Value = serde_json::from_slice(&text).unwrap();
    let decoded = Checkpoint::open_with(fixture("packed.gguf"), DECODED).unwrap();
    let held = Checkpoint::open(fixture("packed.gguf")).unwrap();
    assert_eq!(expected.as_object().unwrap().len(), 11);
    for (name, expected) in expected.as_object().unwrap() {
        assert_eq!(&digest(&decoded, name), expected, "{name}");
        let weight = held.weight(name).unwrap();
        let mut values = vec![0.0; weight.ty.numel()];
        assert!(percept_graph::dequantize(weight.ty.dtype, weight.bytes(), &mut values));
        let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
        let decoded = decoded.weight(name).unwrap();
        let expected: Vec<u32> = bytemuck::pod_collect_to_vec(decoded.bytes());
        assert_eq!(bits, expected, "{name}");
    }
    let lines = held.held();
    assert!(lines.iter().any(|l| l.contains("Q5_K") && l.contains("q8_x")), "{lines:?}");
    assert_eq!((lines.len(), decoded.held().len()), (11, 11));
    let out = tempfile::tempdir().unwrap();
    let refused = convert(&held, &out.path().join("m.gguf"), None).unwrap_err().to_string();
    assert!(refused.contains("blocks"), "{refused}");
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

/// Texts in which tokenizers differ that look alike.
const AWKWARD: [&str; 9] = [
    "Cafe\u{301} r\u{e9}sume\u{301} \u{212b}ngstro\u{308}m",
    " a leading space, and  two",
    "<|im_start|>user\nhello<|im_end|> <s></s> <s> x",
    "are area  are   bare are<s>are  <|im_end|>  are",
    "\u{1100}\u{1161} \u{fb01}ne 12345 \u{1f600}",
    "tabs\tand\r\nlines\n\n",
    "it's THEY'RE don't",
    "",
    " ",
];

#[test]
fn text_becomes_the_same_tokens_from_a_folder_and_from_the_gguf_file_made_of_it() {
    let as_it_is = |_: &mut Value| {};
    let composed = |t: &mut Value| t["normalizer"] = json!({ "type": "NFC" });
    let lowered = |t: &mut Value| {
        t["normalizer"] =
            json!({ "type": "Sequence", "normalizers": [{ "type": "NFKC" }, { "type": "Lowercase" }] });
    };
    let flagged = |t: &mut Value| {
        let id = t["model"]["vocab"]["are"].as_u64().unwrap();
        let added = t["added_tokens"].as_array_mut().unwrap();
        for token in added.iter_mut() {
            (token["lstrip"], token["rstrip"]) = (json!(true), json!(true));
        }
        added.push(json!({ "id": id, "content": "are", "single_word": true, "lstrip": false, "rstrip": true,
            "normalized": true, "special": false }));
    };
    let metaspace = |t: &mut Value| {
        *t = serde_json::from_slice(&std::fs::read(fixture("metaspace_first.json")).unwrap()).unwrap();
    };
    let prefixed = |t: &mut Value| t["pre_tokenizer"]["add_prefix_space"] = json!(true);
    let changes: [(&str, &dyn Fn(&mut Value)); 6] = [
        ("as it is", &as_it_is),
        ("composed", &composed),
        ("lowered", &lowered),
        ("flagged", &flagged),
        ("metaspace", &metaspace),
        ("prefixed", &prefixed),
    ];
    for case in ["llama", "qwen2", "qwen3", "gemma3-text"] {
        for (name, change) in changes {
            let folder = changed(case, &json!({}), change);
            let from = Checkpoint::open(folder.path()).unwrap();
            let file = folder.path().join("m.gguf");
            let done = convert(&from, &file, None).unwrap();
            let to = Checkpoint::open(&file).unwrap();
            let again = folder.path().join("again");
            convert(&to, &again, None).unwrap();
            let a = text::tokenizer(&from).unwrap();
            for to in [to, Checkpoint::open(&again).unwrap()] {
                let b = text::tokenizer(&to).unwrap();
                for text in AWKWARD {
                    for special in [false, true] {
                        let ids = a.encode(text, special).unwrap();
                        assert_eq!(ids, b.encode(text, special).unwrap(), "{case}, {name}: {text:?}");
                        assert_eq!(
                            a.decode(&ids, special).unwrap(),
                            b.decode(&ids, special).unwrap(),
                            "{case}"
                        );
                    }
                }
                assert_eq!(text::ends(&from, &a).unwrap(), text::ends(&to, &b).unwrap(), "{case}, {name}");
                assert_eq!(a.settings().tokens, b.settings().tokens, "{case}, {name}");
                let template = |c: &Checkpoint| c.file("chat_template.jinja").unwrap();
                assert_eq!(template(&from), template(&to), "{case}, {name}");
            }
            // What llama.cpp reads of the file does not say all of it, and that is told.
            let told = done.notes.iter().any(|note| note.contains("llama.cpp"));
            assert_eq!(told, name != "as it is", "{case}, {name}: {:?}", done.notes);
        }
    }
}

/// Files that others publish hold no tokenizer.json, and their tokenizers composed what llama.cpp does not.
#[test]
fn the_vocabulary_of_a_published_qwen_file_composes_text_first() {
    let qwen = |t: &mut Value| {
        let split = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
        t["normalizer"] = json!({ "type": "NFC" });
        t["pre_tokenizer"] = json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": split }, "behavior": "Isolated", "invert": false },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
        ] });
    };
    let folder = changed("qwen2", &json!({}), qwen);
    let from = Checkpoint::open(folder.path()).unwrap();
    let file = folder.path().join("m.gguf");
    convert(&from, &file, None).unwrap();
    let vocabulary = Checkpoint::open(&file).unwrap().vocabulary().unwrap().unwrap();
    assert_eq!(vocabulary.pre, "qwen2");
    let (a, b) = (text::tokenizer(&from).unwrap(), Tokenizer::from_gguf(&vocabulary).unwrap());
    for text in AWKWARD {
        assert_eq!(a.encode(text, false).unwrap(), b.encode(text, false).unwrap(), "{text:?}");
    }
    let ids = |text: &str| b.encode(text, false).unwrap();
    assert_eq!(ids("e\u{301}"), ids("\u{e9}"));
}

fn decoder(checkpoint: &Checkpoint) -> Decoder {
    let config = Config::new("config.json", checkpoint.config(), json!({})).unwrap();
    let place = family::Place { model: "model.".into(), head: "lm_head.weight".into() };
    family::decoder(&config, &place).unwrap()
}

#[test]
fn what_config_json_says_is_in_the_gguf_file_or_is_refused_by_its_name() {
    let rope = |scaling: Value| json!({ "rope_parameters": null, "rope_scaling": scaling });
    let llama3 = |original: u64, high: f64| {
        rope(json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": high,
            "original_max_position_embeddings": original, "rope_theta": 1e4 }))
    };
    let yarn = |over: Value| {
        let mut scaling =
            json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64 });
        scaling.as_object_mut().unwrap().extend(over.as_object().cloned().unwrap());
        rope(scaling)
    };
    let kinds = |kinds: [&str; 3]| json!({ "layer_types": kinds });
    let (full, slides) = ("full_attention", "sliding_attention");
    let nested = |full: Value, sliding: Value| json!({ "rope_parameters": { "full_attention": full, "sliding_attention": sliding } });
    let held = [
        ("llama", rope(json!({ "rope_type": "linear", "factor": 4.0 }))),
        ("llama", json!({ "rope_scaling": { "rope_type": "linear", "factor": 4.0 } })),
        ("llama", llama3(64, 4.0)),
        ("llama", llama3(8192, 4.0)),
        ("llama", llama3(300, 2.5)),
        ("llama", yarn(json!({}))),
        ("qwen2", yarn(json!({ "attention_factor": 1.5 }))),
        ("qwen3", yarn(json!({ "beta_fast": 16.0, "beta_slow": 2.0, "mscale": 0.7, "mscale_all_dim": 1.2 }))),
        ("qwen3", yarn(json!({ "attention_factor": 0.1 }))),
        ("llama", json!({ "rope_parameters": null, "rope_theta": 1234567.0, "rms_norm_eps": 1e-3 })),
        ("llama", json!({ "model_type": "mistral", "sliding_window": 7 })),
        ("llama", json!({ "model_type": "mistral", "sliding_window": null })),
        ("gemma3-text", json!({ "query_pre_attn_scalar": 10 })),
        ("gemma3-text", json!({ "final_logit_softcapping": 30.0, "sliding_window": 5 })),
        ("gemma3-text", kinds([slides, full, slides])),
        ("gemma3-text", kinds([full, full, full])),
        (
            "gemma3-text",
            nested(
                json!({ "rope_type": "linear", "factor": 8.0, "rope_theta": 1e6 }),
                json!({ "rope_theta": 500.0 }),
            ),
        ),
    ];
    for (case, change) in &held {
        let folder = changed(case, change, |_| {});
        let from = Checkpoint::open(folder.path()).unwrap();
        let file = folder.path().join("m.gguf");
        convert(&from, &file, None).unwrap_or_else(|e| panic!("{case} with {change}: {e}"));
        let (a, b) = (decoder(&from), decoder(&Checkpoint::open(&file).unwrap()));
        assert_eq!(a.ropes.len(), b.ropes.len());
        for (a, b) in a.ropes.iter().zip(&b.ropes) {
            assert!(a.is_near(b), "{case} with {change}: {a:?} {b:?}");
        }
        assert_eq!(a, Decoder { ropes: a.ropes.clone(), ..b }, "{case} with {change}");
    }
    let refused = [
        ("llama", json!({ "hidden_act": "gelu" }), "'hidden_act'"),
        ("qwen3", json!({ "hidden_act": "relu" }), "'hidden_act'"),
        ("gemma3-text", json!({ "hidden_activation": "gelu" }), "'hidden_act'"),
        (
            "qwen2",
            json!({ "use_sliding_window": true, "sliding_window": 5, "layer_types": [full, full, slides] }),
            "'sliding_window'",
        ),
        (
            "qwen3",
            json!({ "use_sliding_window": true, "sliding_window": 5, "layer_types": [slides, full, full] }),
            "'sliding_window'",
        ),
        ("llama", rope(json!({ "rope_type": "dynamic", "factor": 2.0 })), "'dynamic'"),
        ("llama", yarn(json!({ "truncate": false })), "rotary"),
        (
            "llama",
            rope(json!({ "rope_type": "longrope", "short_factor": [1, 2, 3, 4], "long_factor": [2, 2, 3, 4],
                "original_max_position_embeddings": 64 })),
            "'longrope'",
        ),
        ("gemma3-text", json!({ "use_bidirectional_attention": true }), "'use_bidirectional_attention'"),
        ("gemma3-text", kinds([full, slides, slides]), "'layer_types'"),
        ("gemma3-text", nested(json!({}), json!({ "rope_type": "linear", "factor": 2.0 })), "rotary"),
        ("llama", json!({ "head_dim": 68_719_476_736u64 }), "'head_dim'"),
        ("llama", json!({ "model_type": "mixtral" }), "mixtral"),
    ];
    for (case, change, name) in &refused {
        let folder = changed(case, change, |_| {});
        let from = Checkpoint::open(folder.path()).unwrap();
        let file = folder.path().join("m.gguf");
        let error = convert(&from, &file, None).expect_err(&change.to_string()).to_string();
        assert!(error.contains(name), "{case} with {change}: {error}");
        assert!(!file.exists());
    }
}
