//! Gemma 2: norms before and after attention and the MLP, scaled embeddings, caps of scores and of logits,
//! and every other layer slides over a window.

use serde_json::json;

use crate::block::{Biases, NormKind, Norms};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::DecoderNames;
use crate::family::llama::{rotary, slides};
use crate::names;

/// A Gemma 2 decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 8192, "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "final_logit_softcapping": 30.0,
        "attn_logit_softcapping": 50.0,
    }));
    let mut d = rotary(&c, names, 1e4)?;
    sandwich(&mut d);
    let cap = |key: &str| c.maybe_f64(key).map(|cap| cap.map(|cap| cap as f32));
    d.logit_cap = cap("final_logit_softcapping")?;
    let soft_cap = cap("attn_logit_softcapping")?;
    let bias = c.flag("attention_bias")?;
    let scale = c.f64("query_pre_attn_scalar")?.powf(-0.5) as f32;
    let window = c.maybe_usize("sliding_window")?;
    if c.flag("use_bidirectional_attention")? {
        let why =
            "is true: it is the encoder of another model, and decoders that see both ways are not run here";
        return Err(c.error("use_bidirectional_attention", why));
    }
    for (i, block) in d.stack.blocks.iter_mut().enumerate() {
        let attention = &mut block.attention;
        attention.bias = Biases::all(bias);
        attention.scale = scale;
        attention.soft_cap = soft_cap;
        if slides(&c, i)?.unwrap_or(i % 2 == 0) {
            attention.window = window;
        }
    }
    Ok(d)
}

/// What Gemma 2 and 3 have in common: norms on both sides of attention and the MLP, with weights stored less
/// one, and embeddings that are scaled.
pub fn sandwich(d: &mut Decoder) {
    d.embedding_scale = Some((d.hidden as f64).sqrt() as f32);
    d.norm.kind = NormKind::Rms { unit_offset: true };
    for block in &mut d.stack.blocks {
        block.names = names::GEMMA;
        block.norms = Norms::Around;
        block.norm = d.norm;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Gemma2Config of transformers 5.24.
    #[test]
    fn layers_take_turns_unless_they_are_listed() {
        let windows = |file: serde_json::Value| -> Vec<Option<usize>> {
            let c = Config::new("config.json", &file, json!({ "num_hidden_layers": 3 })).unwrap();
            let names = DecoderNames { model: "model.".into(), head: "lm_head.weight".into() };
            let d = decoder(&c, &names).unwrap();
            d.stack.blocks.iter().map(|b| b.attention.window).collect()
        };
        assert_eq!(windows(json!({})), [Some(4096), None, Some(4096)]);
        let listed = ["full_attention", "full_attention", "sliding_attention"];
        assert_eq!(windows(json!({ "layer_types": listed, "sliding_window": 7 })), [None, None, Some(7)]);
    }
}
