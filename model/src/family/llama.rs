//! Llama, and Mistral, which differs from it by a window.

use percept_graph::Activation;
use serde_json::json;

use crate::block::{Attention, Biases, BlockSpec, Mlp, Norm, Norms, Stack};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::DecoderNames;
use crate::names;
use crate::rope::Rope;

/// A Llama decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6,
    }));
    let mut d = rotary(&c, names, 10000.0)?;
    let (attention, mlp) = (c.flag("attention_bias")?, c.flag("mlp_bias")?);
    for block in &mut d.stack.blocks {
        block.attention.bias = Biases::all(attention);
        block.mlp.bias = mlp;
    }
    Ok(d)
}

/// A Mistral decoder.
///
/// # Errors
/// As [`decoder`].
pub fn mistral(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "sliding_window": 4096,
    }));
    let mut d = rotary(&c, names, 10000.0)?;
    let window = c.maybe_usize("sliding_window")?;
    d.stack.blocks.iter_mut().for_each(|b| b.attention.window = window);
    Ok(d)
}

/// What all decoders of Llama's line have in common: RMS norms, grouped queries, rotary positions and a gated
/// MLP, in the spelling of `config.json` that they share. Values that are not there must be among the
/// caller's defaults.
///
/// # Errors
/// When a value is missing or impossible.
pub fn rotary(c: &Config, names: &DecoderNames, theta: f64) -> Result<Decoder> {
    let (hidden, heads) = (c.positive("hidden_size")?, c.positive("num_attention_heads")?);
    let kv_heads = c.maybe_usize("num_key_value_heads")?.unwrap_or(heads);
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(c.error("num_key_value_heads", &format!("is {kv_heads}, which does not divide {heads}")));
    }
    let head_dim = match c.maybe_usize("head_dim")? {
        Some(d) => d,
        None => hidden / heads,
    };
    if head_dim == 0 || !head_dim.is_multiple_of(2) {
        return Err(c.error("head_dim", &format!("is {head_dim}, which is no number of pairs")));
    }
    let norm = Norm::rms(c.f64("rms_norm_eps")? as f32);
    let activation = match c.get("hidden_activation") {
        Some(_) => c.activation("hidden_activation")?,
        None => c.get("hidden_act").map_or(Ok(Activation::Silu), |_| c.activation("hidden_act"))?,
    };
    let block = BlockSpec {
        hidden,
        norm,
        norms: Norms::Before,
        attention: Attention { kv_heads, rope: Some(0), ..Attention::plain(heads, head_dim, true) },
        recurrent: None,
        cross: None,
        mlp: Mlp { width: c.positive("intermediate_size")?, activation, gated: true, bias: false },
        mixture: None,
        layer_scale: false,
        residual_scale: None,
        names: names::LLAMA,
    };
    let layers = c.layers("num_hidden_layers")?;
    let rope = Rope::from_config(c, head_dim, theta)?;
    Ok(Decoder {
        vocab: c.positive("vocab_size")?,
        hidden,
        context: c.positive("max_position_embeddings")?.max(rope.reach()),
        table: format!("{}embed_tokens.weight", names.model),
        embedding_scale: None,
        ropes: vec![rope],
        stack: Stack { prefix: format!("{}layers", names.model), blocks: vec![block; layers] },
        norm,
        norm_name: format!("{}norm", names.model),
        head: names.head.clone(),
        logit_divisor: None,
        logit_cap: None,
        deepstack: 0,
        per_layer: None,
        layer_scalar: false,
    })
}

/// Whether layer `i` slides over a window, where the configuration lists the kinds of its layers.
///
/// # Errors
/// When its kind is another.
pub fn slides(c: &Config, i: usize) -> Result<Option<bool>> {
    let kinds = c.get("layer_types").and_then(|v| v.as_array());
    match kinds.and_then(|kinds| kinds.get(i)).map(|kind| kind.as_str().unwrap_or("?")) {
        None => Ok(None),
        Some("sliding_attention") => Ok(Some(true)),
        Some("full_attention") => Ok(Some(false)),
        Some(other) => {
            let known = "full_attention, sliding_attention";
            Err(c.error("layer_types", &format!("has '{other}'; known: {known}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_rotation_lengthens_the_context() {
        let context = |file| {
            let c = Config::new("config.json", &file, json!({ "max_position_embeddings": 64 })).unwrap();
            let names = DecoderNames { model: "model.".into(), head: "lm_head.weight".into() };
            decoder(&c, &names).unwrap().context
        };
        assert_eq!(context(json!({})), 64);
        assert_eq!(context(json!({ "rope_scaling": { "type": "dynamic", "factor": 2.0 } })), 128);
    }
}
