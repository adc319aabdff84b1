//! Checkpoints of every format as their writers hold them.

use percept_graph::DType;
use percept_modalities::text::TokenKind;
use percept_model::checkpoint::{Checkpoint, Error, Format, LoadOptions, convert};
use serde_json::{Value, json};

use super::{DECODED, contents, digest, expected, fixture, hold_to};

#[test]
fn gguf_tensors_are_those_that_transformers_reads() {
    for name in ["llama", "qwen2", "qwen3", "gemma2", "gemma3"] {
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
    for name in ["llama", "qwen2", "qwen3", "gemma2", "gemma3"] {
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

/// What llama.cpp does not load either: fewer turned dimensions than heads have, tensors beyond the last block, and a byte-level
/// vocabulary without merges.
#[test]
fn gguf_keys_that_do_not_fit_the_rest_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.gguf");
    let find = |bytes: &[u8], what: &str| {
        bytes.windows(what.len()).position(|window| window == what.as_bytes()).unwrap()
    };
    for (key, value, why) in [
        ("llama.rope.dimension_count", 4u32.to_le_bytes(), "'llama.rope.dimension_count' is 4"),
        ("llama.block_count", 0u32.to_le_bytes(), "there is a tensor 'blk.0."),
        ("llama.rope.freq_base", f32::NAN.to_le_bytes(), "'llama.rope.freq_base' is no finite number"),
        ("llama.rope.freq_base", f32::INFINITY.to_le_bytes(), "'llama.rope.freq_base' is no finite number"),
    ] {
        let mut bytes = std::fs::read(fixture("llama.gguf")).unwrap();
        // Behind a key stand its type and its value.
        let at = find(&bytes, key) + key.len() + 4;
        bytes[at..at + 4].copy_from_slice(&value);
        std::fs::write(&file, bytes).unwrap();
        let error = Checkpoint::open(&file).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/parity/llama/model");
    let made = folder.path().join("made.gguf");
    convert(&Checkpoint::open(model).unwrap(), &made, None).unwrap();
    let mut bytes = std::fs::read(&made).unwrap();
    let at = find(&bytes, "tokenizer.ggml.merges");
    bytes[at + 20] = b'z';
    std::fs::write(&file, bytes).unwrap();
    let error = Checkpoint::open(&file).unwrap().vocabulary().unwrap_err().to_string();
    assert!(error.contains("'tokenizer.ggml.merges' is not there"), "{error}");
}

#[test]
fn an_architecture_of_gguf_files_that_is_called_like_a_family_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut bytes = std::fs::read(fixture("gemma3.gguf")).unwrap();
    while let Some(at) = bytes.windows(6).position(|name| name == b"gemma3") {
        bytes[at..at + 6].copy_from_slice(b"glm46v");
    }
    std::fs::write(&path, bytes).unwrap();
    let opened = percept_model::open(std::sync::Arc::new(Checkpoint::open(&path).unwrap()));
    let e = opened.map(|_| ()).unwrap_err().to_string();
    assert!(e.contains("model.gguf") && e.contains("architecture 'glm46v'"), "{e}");
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

#[test]
fn pointers_of_git_lfs_are_called_so() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
    for name in ["model.safetensors", "model.gguf"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), r#"{"model_type": "llama"}"#).unwrap();
        std::fs::write(folder.path().join(name), pointer).unwrap();
        let error = Checkpoint::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains("`git lfs pull`"), "{error}");
    }
}
