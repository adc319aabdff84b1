//! Qwen3: Qwen2 without biases, with norms of each head's queries and keys and heads of their own width.

use serde_json::json;

use crate::block::{Biases, QkNorm};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::DecoderNames;
use crate::family::llama::rotary;
use crate::family::qwen2::windows;

/// A Qwen3 decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    }));
    let mut d = rotary(&c, names, 10000.0)?;
    let bias = c.flag("attention_bias")?;
    for block in &mut d.stack.blocks {
        block.attention.bias = Biases::all(bias);
        block.attention.qk_norm = QkNorm::PerHead(block.norm);
    }
    windows(&c, &mut d)?;
    Ok(d)
}
