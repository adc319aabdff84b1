//! Text models and their projectors in two GGUF files: how they find one another, and what they cannot hold.

use std::path::Path;
use std::sync::Arc;

use percept_graph::DType;
use percept_model::checkpoint::{Checkpoint, LoadOptions, convert};
use percept_model::family;
use serde_json::{Value, json};

use super::changed;

/// A pair `NAME.gguf` and `mmproj-NAME.gguf` of a parity case in this folder.
fn pair(case: &str, folder: &Path, name: &str, dtype: Option<DType>) {
    let from = changed(case, &json!({}), |_| {});
    convert(&Checkpoint::open(from.path()).unwrap(), &folder.join(name), dtype).unwrap();
}

#[test]
fn a_projector_is_found_by_its_name_or_given() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    pair("gemma3", folder.path(), "tiny-gemma.gguf", None);
    let (text, own) = (at("tiny-gemma.gguf"), at("mmproj-tiny-gemma.gguf"));
    for path in [&text, folder.path()] {
        assert_eq!(Checkpoint::open(path).unwrap().projector(), Some(&*own), "{}", path.display());
    }
    // Whatever dtypes stand in the names, and a general one where the text is alone.
    let moved = at("tiny-gemma-Q4_K_M.gguf");
    std::fs::rename(&text, &moved).unwrap();
    for name in [
        "mmproj-tiny-gemma-f16.gguf",
        "tiny-gemma.mmproj-Q8_0.gguf",
        "mmproj-F16.gguf",
        "mmproj-model-f16.gguf",
    ] {
        std::fs::rename(&own, at(name)).unwrap();
        assert_eq!(Checkpoint::open(&moved).unwrap().projector(), Some(&*at(name)));
        std::fs::rename(at(name), &own).unwrap();
    }
    // Several are asked about, and one of another model is left alone.
    std::fs::copy(&own, at("mmproj-tiny-gemma-bf16.gguf")).unwrap();
    let several = Checkpoint::open(&moved).unwrap_err().to_string();
    for part in ["mmproj-tiny-gemma-bf16.gguf", "mmproj-tiny-gemma.gguf", "--mmproj"] {
        assert!(several.contains(part), "{several}");
    }
    let given = Checkpoint::open_pair(&moved, &own, LoadOptions::default()).unwrap();
    assert_eq!(given.projector(), Some(&*own));
    std::fs::remove_file(at("mmproj-tiny-gemma-bf16.gguf")).unwrap();
    std::fs::rename(&own, at("mmproj-another.gguf")).unwrap();
    let alone = Checkpoint::open(&moved).unwrap();
    assert_eq!((alone.projector(), &alone.config()["model_type"]), (None, &json!("gemma3_text")));
    let lost = family::open(Arc::new(Checkpoint::open(at("mmproj-another.gguf")).unwrap())).err().unwrap();
    assert!(lost.to_string().contains("--mmproj"), "{lost}");

    let other = tempfile::tempdir().unwrap();
    pair("qwen2-vl-image", other.path(), "q.gguf", None);
    let projector = other.path().join("mmproj-q.gguf");
    let wrong = Checkpoint::open_pair(&moved, &projector, LoadOptions::default()).unwrap_err().to_string();
    assert!(wrong.contains("qwen2vl_merger") && wrong.contains("'gemma3'"), "{wrong}");
    // The text of a Qwen2-VL alone is a Qwen2.
    std::fs::remove_file(&projector).unwrap();
    let text = Checkpoint::open(other.path().join("q.gguf")).unwrap();
    assert_eq!(text.config()["model_type"], "qwen2");
    assert!(matches!(family::open(Arc::new(text)).unwrap(), family::Model::Causal(_)));
}

#[test]
fn a_tower_is_never_smaller_than_q8_0_and_a_pair_becomes_another_pair() {
    let folder = tempfile::tempdir().unwrap();
    pair("qwen2-vl-image", folder.path(), "m.gguf", None);
    let first = Checkpoint::open(folder.path().join("m.gguf")).unwrap();
    let smaller = folder.path().join("small/m.gguf");
    std::fs::create_dir(folder.path().join("small")).unwrap();
    let done = convert(&first, &smaller, Some(DType::Q4_0)).unwrap();
    assert!(done.kept.iter().any(|(name, dtype, why)| {
        name.starts_with("visual.") && *dtype == DType::Q8_0 && why.contains("finer")
    }));
    let second = Checkpoint::open(&smaller).unwrap();
    let names = |c: &Checkpoint| c.names().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(names(&first), names(&second));
    let dtype = |name: &str| second.ty(name).unwrap().dtype;
    assert_eq!(dtype("visual.blocks.0.attn.qkv.weight"), DType::Q8_0);
    assert_eq!(dtype("visual.patch_embed.proj.weight"), DType::F32);
    assert_eq!(dtype("model.layers.0.mlp.up_proj.weight"), DType::Q4_0);
    // Rows of three matrices are the rows of one.
    let weight = second.weight("visual.blocks.0.attn.qkv.weight").unwrap();
    let mut values = vec![0.0; weight.ty.numel()];
    assert!(percept_graph::dequantize(weight.ty.dtype, weight.bytes(), &mut values));
    let exact = first.weight("visual.blocks.0.attn.qkv.weight").unwrap();
    let exact: Vec<f32> = bytemuck::pod_collect_to_vec(exact.bytes());
    let off = values.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert!(off < 0.01, "{off}");
}

#[test]
fn what_a_projectors_keys_cannot_say_is_refused_by_its_name() {
    let vision = |over: Value| json!({ "vision_config": over });
    for (case, change, name) in [
        ("qwen2-vl-image", vision(json!({ "hidden_act": "relu" })), "'hidden_act'"),
        ("qwen2-5-vl-image", vision(json!({ "hidden_act": "gelu" })), "'hidden_act'"),
        (
            "qwen2-5-vl-image",
            vision(json!({ "depth": 4, "fullatt_block_indexes": [0, 2] })),
            "'fullatt_block_indexes'",
        ),
        ("gemma3", vision(json!({ "hidden_act": "gelu" })), "'hidden_act'"),
        ("gemma3", json!({ "mm_tokens_per_image": 9 }), "'mm_tokens_per_image'"),
        ("smolvlm-image", vision(json!({ "hidden_act": "silu", "num_channels": 1 })), "'num_channels'"),
        ("llava", json!({ "vision_feature_select_strategy": "full" }), "'vision_feature_select_strategy'"),
        ("llava", json!({ "projector_hidden_act": "relu" }), "'projector_hidden_act'"),
        ("llava", json!({ "vision_feature_layer": [-1, -2] }), "'vision_feature_layer'"),
        ("llava", json!({ "vision_feature_layer": 7 }), "'vision_feature_layer'"),
        ("llava-onevision", json!({}), "'llava_onevision'"),
        ("qwen2-audio", json!({}), "'qwen2_audio'"),
        ("clip", json!({}), "'clip'"),
        ("siglip", json!({}), "'siglip'"),
        ("whisper", json!({ "activation_function": "relu" }), "'activation_function'"),
    ] {
        let folder = changed(case, &json!({}), |_| {});
        let config = folder.path().join("config.json");
        let mut own: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
        for (key, value) in change.as_object().unwrap() {
            match value {
                Value::Object(over) => own[key].as_object_mut().unwrap().extend(over.clone()),
                _ => own[key] = value.clone(),
            }
        }
        std::fs::write(&config, own.to_string()).unwrap();
        let file = folder.path().join("m.gguf");
        let error =
            convert(&Checkpoint::open(folder.path()).unwrap(), &file, None).expect_err(case).to_string();
        assert!(error.contains(name), "{case} with {change}: {error}");
        assert!(!file.exists() && !folder.path().join("mmproj-m.gguf").exists(), "{case}");
    }
}

/// Bytes of a projector's header changed at random, and files cut short: errors, or a model, and nothing else.
#[test]
fn a_damaged_projector_is_an_error() {
    for case in ["qwen3-vl-image", "gemma3", "llava"] {
        let folder = tempfile::tempdir().unwrap();
        pair(case, folder.path(), "m.gguf", None);
        let (text, projector) = (folder.path().join("m.gguf"), folder.path().join("mmproj-m.gguf"));
        let whole = std::fs::read(&projector).unwrap();
        let header = whole.windows(8).rposition(|w| w == b"v.post_l" || w == b"v.blk.1.").unwrap();
        let mut seed = 7u64;
        let mut next = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        let mut refused = 0;
        for i in 0..200 {
            let mut bytes = whole.clone();
            for _ in 0..1 + i % 3 {
                bytes[next(header)] ^= 1 << next(8);
            }
            if i % 20 == 0 {
                bytes.truncate(next(whole.len()));
            }
            std::fs::write(&projector, &bytes).unwrap();
            let opened = Checkpoint::open_pair(&text, &projector, LoadOptions::default());
            refused += usize::from(opened.map_or(true, |c| family::open(Arc::new(c)).is_err()));
        }
        assert!((20..=200).contains(&refused), "{case}: {refused}");
    }
}
