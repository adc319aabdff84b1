//! Whisper in a GGUF file. llama.cpp has no architecture for it; the layout here takes its names for the
//! parts: the encoder's tensors and keys are those that its files of audio towers have (`a.*`,
//! `clip.audio.*`), the decoder's those of decoders behind an encoder (`dec.*`), with keys under `whisper.`.

use serde_json::{Map, Value as Json, json};

use super::super::error::{Result, damaged};
use super::architecture::Row;
use super::config::Facts;
use super::keys::Described;
use super::metadata::{Metadata, Value};
use super::tokenizer::file_key;
use super::write::Given;
use crate::audio::whisper_defaults;
use crate::config::Config;
use crate::family;

/// `general.architecture`.
pub(super) const NAME: &str = "whisper";

const fn row(ggml: &'static str, hf: &'static str) -> Row {
    Row { ggml, hf }
}

/// Its tensors.
pub(super) const ROWS: &[Row] = &[
    row("a.conv1d.1", "model.encoder.conv1"),
    row("a.conv1d.2", "model.encoder.conv2"),
    row("a.position_embd", "model.encoder.embed_positions"),
    row("a.post_ln", "model.encoder.layer_norm"),
    row("a.blk.N.ln1", "model.encoder.layers.N.self_attn_layer_norm"),
    row("a.blk.N.attn_q", "model.encoder.layers.N.self_attn.q_proj"),
    row("a.blk.N.attn_k", "model.encoder.layers.N.self_attn.k_proj"),
    row("a.blk.N.attn_v", "model.encoder.layers.N.self_attn.v_proj"),
    row("a.blk.N.attn_out", "model.encoder.layers.N.self_attn.out_proj"),
    row("a.blk.N.ln2", "model.encoder.layers.N.final_layer_norm"),
    row("a.blk.N.ffn_up", "model.encoder.layers.N.fc1"),
    row("a.blk.N.ffn_down", "model.encoder.layers.N.fc2"),
    row("token_embd", "model.decoder.embed_tokens"),
    row("position_embd", "model.decoder.embed_positions"),
    row("dec.output_norm", "model.decoder.layer_norm"),
    row("output", "proj_out"),
    row("dec.blk.N.attn_norm", "model.decoder.layers.N.self_attn_layer_norm"),
    row("dec.blk.N.attn_q", "model.decoder.layers.N.self_attn.q_proj"),
    row("dec.blk.N.attn_k", "model.decoder.layers.N.self_attn.k_proj"),
    row("dec.blk.N.attn_v", "model.decoder.layers.N.self_attn.v_proj"),
    row("dec.blk.N.attn_o", "model.decoder.layers.N.self_attn.out_proj"),
    row("dec.blk.N.cross_attn_norm", "model.decoder.layers.N.encoder_attn_layer_norm"),
    row("dec.blk.N.cross_attn_q", "model.decoder.layers.N.encoder_attn.q_proj"),
    row("dec.blk.N.cross_attn_k", "model.decoder.layers.N.encoder_attn.k_proj"),
    row("dec.blk.N.cross_attn_v", "model.decoder.layers.N.encoder_attn.v_proj"),
    row("dec.blk.N.cross_attn_o", "model.decoder.layers.N.encoder_attn.out_proj"),
    row("dec.blk.N.ffn_norm", "model.decoder.layers.N.final_layer_norm"),
    row("dec.blk.N.ffn_up", "model.decoder.layers.N.fc1"),
    row("dec.blk.N.ffn_down", "model.decoder.layers.N.fc2"),
];

/// Every extent: its key in the file and in config.json. The width of both sides is one, and has two keys.
const EXTENTS: [(&str, &str); 12] = [
    ("whisper.vocab_size", "vocab_size"),
    ("whisper.context_length", "max_target_positions"),
    ("whisper.embedding_length", "d_model"),
    ("whisper.block_count", "decoder_layers"),
    ("whisper.feed_forward_length", "decoder_ffn_dim"),
    ("whisper.attention.head_count", "decoder_attention_heads"),
    ("clip.audio.num_mel_bins", "num_mel_bins"),
    ("clip.audio.max_pos_emb", "max_source_positions"),
    ("clip.audio.embedding_length", "d_model"),
    ("clip.audio.block_count", "encoder_layers"),
    ("clip.audio.feed_forward_length", "encoder_ffn_dim"),
    ("clip.audio.attention.head_count", "encoder_attention_heads"),
];

/// What a configuration becomes.
///
/// # Errors
/// The key of config.json that is no extent, or that a file cannot hold.
pub(super) fn describe(config: &Json) -> std::result::Result<Described, String> {
    let c = with_defaults(config)?;
    if c.activation("activation_function").map_err(|e| e.to_string())? != percept_graph::Activation::GeluErf {
        let value = c.get("activation_function").unwrap_or(&Json::Null);
        return Err(format!(
            "config.json: 'activation_function' is {value}; GGUF files of Whisper hold gelu"
        ));
    }
    let number = |key: &str| {
        let value = c.positive(key).map_err(|e| e.to_string())?;
        u32::try_from(value).map_err(|_| format!("config.json: '{key}' is {value}, too large for GGUF"))
    };
    let mut keys = Vec::new();
    for (key, name) in EXTENTS {
        keys.push((key.to_string(), Given::U32(number(name)?)));
    }
    // What Whisper adds to the variance in every norm.
    for side in ["whisper", "clip.audio"] {
        keys.push((format!("{side}.attention.layer_norm_epsilon"), Given::F32(1e-5)));
    }
    let start = c.get("decoder_start_token_id").and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
    keys.extend(start.map(|id| ("whisper.decoder_start_token_id".to_string(), Given::U32(id))));
    keys.push((file_key("config.json"), Given::Text(config.to_string())));
    Ok(Described {
        keys,
        rope_factors: None,
        heads: [0; 2],
        vocab: number("vocab_size")? as usize,
        hidden: number("d_model")? as usize,
        notes: vec!["no other program is known to read Whisper in this layout".into()],
    })
}

/// The configuration of a file: that which it carries, with which its keys must agree, or else the keys
/// alone.
///
/// # Errors
/// When a key is missing or something else, or the two disagree.
pub(super) fn synthesize(metadata: &Metadata, facts: &Facts) -> Result<Json> {
    let bad = |why: String| damaged(metadata.path(), why);
    let mut config = Map::new();
    for (key, name) in EXTENTS {
        let number = metadata.get(key).and_then(Value::unsigned).filter(|n| *n <= u64::from(u32::MAX));
        let number = number.ok_or_else(|| bad(format!("key '{key}' is not there, or no whole number")))?;
        if config.insert(name.into(), json!(number)).is_some_and(|other| other != json!(number)) {
            return Err(bad(format!("key '{key}' is {number}, another than the decoder's")));
        }
    }
    let key = file_key("config.json");
    let carried: Map<String, Json> = match metadata.text(&key)? {
        None => Map::new(),
        Some(text) => {
            serde_json::from_str(&text).map_err(|e| bad(format!("key '{key}' is no JSON object: {e}")))?
        }
    };
    if !carried.is_empty() {
        let c = with_defaults(&Json::Object(carried.clone())).map_err(bad)?;
        if let Some((name, number)) = config.iter().find(|(name, number)| c.get(name) != Some(number)) {
            return Err(bad(format!("its keys say {number} for '{name}', and '{key}' something else")));
        }
    }
    config.extend(carried);
    let mut usual = |key: &str, value: Json| {
        config.entry(key.to_string()).or_insert(value);
    };
    usual("architectures", json!(["WhisperForConditionalGeneration"]));
    usual("model_type", json!(NAME));
    usual("activation_function", json!("gelu"));
    usual("is_encoder_decoder", json!(true));
    if let Some(id) = metadata.unsigned("whisper.decoder_start_token_id") {
        usual("decoder_start_token_id", json!(id));
    }
    for (key, ggml) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")] {
        let id = metadata.unsigned(&format!("tokenizer.ggml.{ggml}_token_id"));
        usual(&format!("{key}_token_id"), json!(id));
    }
    config.insert("tie_word_embeddings".into(), json!(!facts.has("output.weight")));
    Ok(Json::Object(config))
}

fn with_defaults(config: &Json) -> std::result::Result<Config, String> {
    let c = Config::new("config.json", config, whisper_defaults()).map_err(|e| e.to_string())?;
    Ok(c.over(family::whisper_defaults()))
}
