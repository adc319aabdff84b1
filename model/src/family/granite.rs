//! Granite: Llama with numbers that multiply embeddings, scores, what blocks add, and logits.

use serde_json::json;

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::{DecoderNames, llama};

/// A Granite decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "embedding_multiplier": 1.0, "logits_scaling": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 1.0,
    }));
    let number = |key: &str| match c.f64(key)? as f32 {
        n if n.is_finite() && n != 0.0 => Ok(n),
        n => Err(c.error(key, &format!("is {n}; it multiplies or divides, and must be another number"))),
    };
    let mut d = llama::decoder(&c, names)?;
    let (scale, residual) = (number("attention_multiplier")?, number("residual_multiplier")?);
    for block in &mut d.stack.blocks {
        block.attention.scale = scale;
        block.residual_scale = Some(residual);
    }
    d.embedding_scale = Some(number("embedding_multiplier")?);
    d.logit_divisor = Some(number("logits_scaling")?);
    Ok(d)
}
