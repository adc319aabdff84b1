//! Configurations as published checkpoints have them: flat, sparse and in older spellings.

use serde_json::{Value, json};

use crate::config::Config;
use crate::decoder::Decoder;
use crate::family::media::{text_config, token};
use crate::family::{DecoderNames, decoder, qwen2_vl};
use crate::rope::Rope;
use crate::vision::{PixtralTower, QwenTower};
use crate::vision_tower::VisionTower;

fn config(file: &str) -> Config {
    let value: Value = serde_json::from_str(file).unwrap();
    Config::new("config.json", &value, json!({})).unwrap()
}

fn read(text: &Config) -> Decoder {
    decoder(text, &DecoderNames { model: "model.".into(), head: "lm_head.weight".into() }).unwrap()
}

/// Width, layers, heads, key heads and head width.
fn shape(d: &Decoder) -> [usize; 5] {
    let attention = &d.stack.blocks[0].attention;
    [d.hidden, d.stack.blocks.len(), attention.heads, attention.kv_heads, attention.head_dim]
}

#[test]
fn qwen2_vl_has_its_text_keys_at_the_top() {
    let c = config(include_str!("../../tests/fixtures/hub/qwen2_vl_2b.json"));
    let d = read(&qwen2_vl::text_part(&c, "qwen2_vl_text").unwrap());
    assert_eq!(shape(&d), [1536, 28, 12, 2, 128]);
    assert_eq!(
        (d.vocab, d.norm.eps, d.ropes.clone()),
        (151936, 1e-6, vec![Rope::new(128, 1e6).chunked(&[16, 24, 24])])
    );
    assert!(d.stack.blocks[0].attention.bias.q && d.stack.blocks[27].attention.window.is_none());
    let tower = QwenTower::qwen2(&c.section("vision_config", json!({})).unwrap(), "visual.").unwrap();
    assert_eq!((tower.out(), tower.features([2, 4, 6])), (1536, 12));
    assert_eq!((token(&c, "image", 0).unwrap(), token(&c, "video", 0).unwrap()), (151655, 151656));
}

#[test]
fn qwen2_5_vl_has_them_there_too() {
    let c = config(include_str!("../../tests/fixtures/hub/qwen2_5_vl_3b.json"));
    let d = read(&qwen2_vl::text_part(&c, "qwen2_5_vl_text").unwrap());
    assert_eq!((shape(&d), d.context), ([2048, 36, 16, 2, 128], 128_000));
    let tower = QwenTower::qwen2_5(&c.section("vision_config", json!({})).unwrap(), "visual.").unwrap();
    assert_eq!(tower.out(), 2048);
}

#[test]
fn qwen3_vl_takes_turns_between_its_axes() {
    let c = config(include_str!("../../tests/fixtures/hub/qwen3_vl_4b.json"));
    let d = read(&qwen2_vl::text_part(&c, "qwen3_vl_text").unwrap());
    assert_eq!(shape(&d), [2560, 36, 32, 8, 128]);
    assert_eq!(d.ropes, [Rope::new(128, 5e6).interleaved(&[24, 20, 20])]);
    let tower = QwenTower::qwen3(&c.section("vision_config", json!({})).unwrap(), "model.visual.").unwrap();
    assert_eq!((tower.out(), tower.deepstack()), (2560, 3));
}

#[test]
fn llava_leaves_out_what_llama_has_anyway() {
    let c = config(include_str!("../../tests/fixtures/hub/llava_1_5_7b.json"));
    let d = read(&text_config(&c, "llama").unwrap());
    assert_eq!((shape(&d), d.vocab, d.norm.eps), ([4096, 32, 32, 32, 128], 32064, 1e-5));
    assert_eq!((d.context, d.stack.blocks[0].mlp.width), (4096, 11008));
    let tower = VisionTower::clip(&c.section("vision_config", json!({})).unwrap(), "").unwrap();
    assert_eq!((tower.rows(), tower.stack.depth(-2).unwrap()), (577, 23));
    assert_eq!(token(&c, "image", 0).unwrap(), 32000);
}

#[test]
fn smolvlm_leaves_out_its_towers_depth() {
    let c = config(include_str!("../../tests/fixtures/hub/smolvlm_256m.json"));
    let d = read(&text_config(&c, "llama").unwrap());
    assert_eq!((shape(&d), d.ropes.clone()), ([576, 30, 9, 3, 64], vec![Rope::new(64, 1e5)]));
    let tower = VisionTower::siglip(&c.section("vision_config", json!({})).unwrap(), "").unwrap();
    assert_eq!((tower.side(), tower.stack.blocks.len(), tower.hidden), (32, 12, 768));
}

#[test]
fn gemma_3_leaves_out_its_heads() {
    let c = config(include_str!("../../tests/fixtures/hub/gemma_3_4b.json"));
    let d = read(&text_config(&c, "gemma3_text").unwrap());
    assert_eq!((shape(&d), d.vocab), ([2560, 34, 8, 4, 256], 262_208));
    let windows: Vec<_> = d.stack.blocks.iter().take(6).map(|b| b.attention.window).collect();
    assert_eq!(windows, [Some(1024), Some(1024), Some(1024), Some(1024), Some(1024), None]);
    let tower = VisionTower::siglip(&c.section("vision_config", json!({})).unwrap(), "").unwrap();
    assert_eq!((tower.side(), tower.stack.blocks.len()), (64, 27));
}

// PixtralVisionConfig and Siglip2VisionConfig, transformers 5.24.
#[test]
fn towers_of_which_nothing_is_said_are_those_of_their_classes() {
    let c = config("{}");
    let tower = PixtralTower::read(&c, "").unwrap();
    assert_eq!((tower.hidden, tower.patch, tower.stack.blocks.len()), (1024, 16, 24));
    let tower = VisionTower::siglip2(&c, "").unwrap();
    assert_eq!((tower.side(), tower.rows(), tower.hidden), (16, 256, 768));
    let e = VisionTower::siglip2(&config(r#"{"num_patches": 250}"#), "").unwrap_err().to_string();
    assert!(e.contains("'num_patches' is 250"), "{e}");
}
