//! The keys of a GGUF file, from a config.json.

use std::f64::consts::TAU;

use serde_json::Value as Json;

use super::architecture::Architecture;
use super::write::Given;

/// The keys under the architecture's name.
///
/// # Errors
/// The key of config.json that is missing or that GGUF cannot say.
pub(crate) fn of_config(config: &Json, architecture: &Architecture) -> Result<Vec<(String, Given)>, String> {
    let name = architecture.name;
    let mut keys = Vec::new();
    let whole = |key: &str| {
        let value = config.get(key).and_then(Json::as_u64).and_then(|v| u32::try_from(v).ok());
        value.ok_or_else(|| format!("config.json has no whole number '{key}'"))
    };
    let mut set = |key: &str, value: Given| keys.push((format!("{name}.{key}"), value));
    let (hidden, heads) = (whole("hidden_size")?, whole("num_attention_heads")?);
    if heads == 0 {
        return Err("config.json says 'num_attention_heads' is 0".into());
    }
    let head_dim = whole("head_dim").unwrap_or(hidden / heads);
    set("block_count", Given::U32(whole("num_hidden_layers")?));
    set("context_length", Given::U32(whole("max_position_embeddings")?));
    set("embedding_length", Given::U32(hidden));
    set("feed_forward_length", Given::U32(whole("intermediate_size")?));
    set("attention.head_count", Given::U32(heads));
    set("attention.head_count_kv", Given::U32(whole("num_key_value_heads").unwrap_or(heads)));
    set("attention.key_length", Given::U32(head_dim));
    set("attention.value_length", Given::U32(head_dim));
    set("vocab_size", Given::U32(whole("vocab_size")?));
    let eps = config.get("rms_norm_eps").and_then(Json::as_f64);
    let eps = eps.ok_or("config.json has no number 'rms_norm_eps'")?;
    set("attention.layer_norm_rms_epsilon", Given::F32(eps as f32));
    let rope = Rope::of(config);
    set("rope.freq_base", Given::F32(rope.theta(config, if name == "gemma3" { 1e6 } else { 1e4 }) as f32));
    if name == "llama" {
        set("rope.dimension_count", Given::U32(head_dim));
    }
    match rope.kind() {
        // What Llama 3 scales is in a tensor.
        "default" | "llama3" => {}
        kind @ ("linear" | "yarn") => {
            set("rope.scaling.type", Given::Text(kind.into()));
            set("rope.scaling.factor", Given::F32(rope.number("factor")? as f32));
            if let Ok(original) = rope.number("original_max_position_embeddings") {
                set("rope.scaling.original_context_length", Given::U32(original as u32));
            }
        }
        other => return Err(format!("GGUF has no key for the rotary scaling '{other}' of config.json")),
    }
    if name == "gemma3" {
        set("attention.sliding_window", Given::U32(whole("sliding_window")?));
        let pattern = config.get("layer_types").and_then(Json::as_array);
        let regular = pattern.is_none_or(|types| {
            types.iter().enumerate().all(|(i, t)| (t == "full_attention") == ((i + 1) % 6 == 0))
        });
        if !regular {
            return Err(
                "GGUF has Gemma 3 with every sixth layer full, 'layer_types' of config.json says otherwise"
                    .into(),
            );
        }
    }
    Ok(keys)
}

/// The factors by which llama.cpp divides each rotary frequency, for the rule of Llama 3; `None` for other rules.
pub(crate) fn rope_factors(config: &Json) -> Result<Option<Vec<f32>>, String> {
    let rope = Rope::of(config);
    if rope.kind() != "llama3" {
        return Ok(None);
    }
    let (factor, original) = (rope.number("factor")?, rope.number("original_max_position_embeddings")?);
    let (low, high) = (rope.number("low_freq_factor")?, rope.number("high_freq_factor")?);
    let whole = |key: &str| config.get(key).and_then(Json::as_f64);
    let head_dim =
        whole("head_dim").or(whole("hidden_size").zip(whole("num_attention_heads")).map(|(h, n)| h / n));
    let head_dim = head_dim.filter(|d| (2.0..=65536.0).contains(d)).ok_or("config.json has no 'head_dim'")?;
    let theta = rope.theta(config, 1e4);
    let one = |i: usize| {
        let length = TAU * theta.powf(2.0 * i as f64 / head_dim);
        let smooth = ((original / length - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    };
    Ok(Some((0..head_dim as usize / 2).map(one).collect()))
}

/// The rotary parameters that apply to full attention: `rope_scaling`, or `rope_parameters` of newer files, which may
/// hold one object for each kind of layer.
struct Rope<'a>(Option<&'a Json>);

impl<'a> Rope<'a> {
    fn of(config: &'a Json) -> Self {
        let object = |key: &str| config.get(key).filter(|v| v.is_object());
        let new = object("rope_parameters").map(|p| p.get("full_attention").unwrap_or(p));
        Rope(new.or(object("rope_scaling")))
    }

    fn kind(&self) -> &str {
        let kind = self.0.and_then(|p| p.get("rope_type").or(p.get("type")));
        kind.and_then(Json::as_str).unwrap_or("default")
    }

    fn theta(&self, config: &Json, default: f64) -> f64 {
        let own = self.0.and_then(|p| p.get("rope_theta"));
        own.or(config.get("rope_theta")).and_then(Json::as_f64).unwrap_or(default)
    }

    fn number(&self, key: &str) -> Result<f64, String> {
        let value = self.0.and_then(|p| p.get(key)).and_then(Json::as_f64);
        value.ok_or_else(|| format!("config.json has no number '{key}' in its rotary scaling"))
    }
}
