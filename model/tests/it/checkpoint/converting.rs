//! Checkpoints that go from one format to another.

use percept_graph::DType;
use percept_model::checkpoint::{Checkpoint, convert};
use percept_model::{Config, Decoder, family};
use serde_json::{Value, json};

use super::{DECODED, changed, contents, digest, expected, fixture, hold_to};

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
    for name in ["llama", "qwen2", "qwen3", "gemma2", "gemma3"] {
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
fn whisper_goes_to_a_folder_and_to_gguf() {
    let tmp = tempfile::tempdir().unwrap();
    let out = tmp.path().join("whisper");
    let from = Checkpoint::open(fixture("whisper-float16")).unwrap();
    convert(&from, &out, Some(DType::F32)).unwrap();
    let there = Checkpoint::open(&out).unwrap();
    hold_to(&there, &expected("whisper")["float16"]["tensors"], "whisper");
    assert_eq!(there.config()["model_type"], "whisper");
    assert!(out.join("generation_config.json").is_file());
    let [file, small] = ["w.gguf", "s.gguf"].map(|name| tmp.path().join(name));
    convert(&from, &file, None).unwrap();
    let there = Checkpoint::open_with(&file, DECODED).unwrap();
    hold_to(&there, &expected("whisper")["float16"]["tensors"], "whisper.gguf");
    assert_eq!(there.config()["max_target_positions"], 64);
    convert(&from, &small, Some(DType::Q4_0)).unwrap();
    let there = Checkpoint::open(&small).unwrap();
    let dtype = |name: &str| there.ty(&format!("model.{name}.weight")).unwrap().dtype;
    assert_eq!(dtype("decoder.layers.0.self_attn.q_proj"), DType::Q4_0);
    assert_eq!((dtype("encoder.conv1"), dtype("decoder.embed_positions")), (DType::F16, DType::F32));
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

fn decoder(checkpoint: &Checkpoint) -> Decoder {
    let config = Config::new("config.json", checkpoint.config(), json!({})).unwrap();
    let names = family::DecoderNames { model: "model.".into(), head: "lm_head.weight".into() };
    family::decoder(&config, &names).unwrap()
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
        ("gemma2", json!({})),
        ("gemma2", json!({ "attn_logit_softcapping": null, "final_logit_softcapping": null })),
        ("gemma2", json!({ "sliding_window": 5, "query_pre_attn_scalar": 8 })),
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
        ("gemma2", json!({ "hidden_activation": "gelu" }), "'hidden_act'"),
        ("gemma2", kinds([full, slides, full]), "'sliding_window'"),
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
