//! Gemma: Llama with scaled embeddings and norms whose weights are stored less one.

use percept_graph::Activation;
use serde_json::json;

use crate::block::{Biases, NormKind};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::DecoderNames;
use crate::family::llama::rotary;

/// A Gemma decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 8192, "rms_norm_eps": 1e-6,
    }));
    if c.flag("use_bidirectional_attention")? {
        let why =
            "is true: it is the encoder of another model, and decoders that see both ways are not run here";
        return Err(c.error("use_bidirectional_attention", why));
    }
    let mut d = rotary(&c, names, 1e4)?;
    d.embedding_scale = Some((d.hidden as f64).sqrt() as f32);
    d.norm.kind = NormKind::Rms { unit_offset: true };
    let bias = c.flag("attention_bias")?;
    for block in &mut d.stack.blocks {
        block.norm = d.norm;
        block.attention.bias = Biases::all(bias);
        // The first releases named the exact GELU and were trained with the approximation.
        if c.get("hidden_activation").is_none() && block.mlp.activation == Activation::GeluErf {
            block.mlp.activation = Activation::GeluTanh;
        }
    }
    Ok(d)
}
