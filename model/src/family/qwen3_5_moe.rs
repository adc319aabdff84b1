//! Qwen3.5 with mixtures of experts: all layers have one, and beside it an expert that every row goes through, with a gate.

use serde_json::json;

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::qwen3_moe::routed;
use crate::family::{DecoderNames, Model, qwen3_5};
use crate::mixture::{MIXTURE, Mixture, MixtureNames, Router, Shared};
use crate::weights::Weights;

/// A Qwen3.5-MoE checkpoint that reads images and videos.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    qwen3_5::build(c, weights, "qwen3_5_moe_text")
}

/// The decoder of Qwen3.5-MoE, whose rows' weights always add up to one.
///
/// # Errors
/// When a value is missing or impossible.
pub fn text(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 248_320, "hidden_size": 2048, "num_hidden_layers": 40, "num_attention_heads": 16,
        "num_key_value_heads": 2, "head_dim": 256, "hidden_act": "silu", "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
        "num_experts_per_tok": 8, "num_experts": 256,
    }));
    // No layer has an MLP of its own.
    let plain = c.without(&["intermediate_size"]).over(json!({ "intermediate_size": 1 }));
    let mut d = qwen3_5::hybrid(&plain, names)?;
    let shared = Shared { width: c.positive("shared_expert_intermediate_size")?, gated: true };
    for block in &mut d.stack.blocks {
        let counts = ["num_local_experts", "num_experts"];
        let mixture = routed(&c, &counts, block.mlp.activation, Router::softmax(true))?;
        let names = MixtureNames { shared: "mlp.shared_expert", ..MIXTURE };
        block.mixture = Some(Mixture { shared: Some(shared), names, ..mixture });
    }
    Ok(d)
}
