//! Qwen3-VL with mixtures of experts: its tower and its positions are those of the dense models.

use serde_json::json;

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::{DecoderNames, Model, qwen2_vl, qwen3_moe, qwen3_vl};
use crate::mixture::Router;
use crate::processor::QwenVersion;
use crate::vision::QwenTower;
use crate::weights::Weights;

/// A Qwen3-VL-MoE checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    qwen2_vl::build(c, weights, QwenVersion::Qwen3, "qwen3_vl_moe_text", QwenTower::qwen3)
}

/// The decoder of Qwen3-VL-MoE, whose rows' weights always add up to one.
///
/// # Errors
/// When a value is missing or impossible.
pub fn text(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24, "num_attention_heads": 16,
        "num_key_value_heads": 16, "head_dim": null, "moe_intermediate_size": 1408, "num_experts_per_tok": 4,
        "num_experts": 60,
    }));
    let mut d = qwen3_vl::text(&c, names)?;
    qwen3_moe::mixtures(&c, &mut d, Router::softmax(true))?;
    Ok(d)
}
