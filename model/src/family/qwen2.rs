//! Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and a window in the upper layers where asked for.

use serde_json::json;

use crate::block::Biases;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::Place;
use crate::family::llama::{rotary, slides};

/// A Qwen2 decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, place: &Place) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu",
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    }));
    let mut d = rotary(&c, place, 10000.0)?;
    d.stack.blocks.iter_mut().for_each(|b| b.attention.bias = Biases { out: false, ..Biases::all(true) });
    windows(&c, &mut d)?;
    Ok(d)
}

/// The windows of the layers that slide: those that `layer_types` names, or all from `max_window_layers` on.
///
/// # Errors
/// When a value is impossible.
pub fn windows(c: &Config, d: &mut Decoder) -> Result<()> {
    if !c.flag("use_sliding_window")? {
        return Ok(());
    }
    let window = c.maybe_usize("sliding_window")?.or(Some(4096));
    let from = c.maybe_usize("max_window_layers")?.unwrap_or(28);
    for (i, block) in d.stack.blocks.iter_mut().enumerate() {
        if slides(c, i).unwrap_or(i >= from) {
            block.attention.window = window;
        }
    }
    Ok(())
}
