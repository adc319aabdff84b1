//! Qwen3-VL: learned positions beside the rotation, features of inner layers added to the decoder's first
//! ones, and positions whose axes take turns.

use serde_json::json;

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::{DecoderNames, Model, qwen2_vl, qwen3};
use crate::processor::QwenVersion;
use crate::vision::QwenTower;
use crate::weights::Weights;

/// A Qwen3-VL checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    qwen2_vl::build(c, weights, QwenVersion::Qwen3, "qwen3_vl_text", QwenTower::qwen3)
}

/// The decoder of Qwen3-VL: Qwen3 with a rotation of three axes.
///
/// # Errors
/// When a value is missing or impossible.
pub fn text(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({ "max_position_embeddings": 128_000, "rope_theta": 5e5 }));
    let mut d = qwen3::decoder(&c, names)?;
    qwen2_vl::multimodal(&c, &mut d, |r| r.interleaved(&[24, 20, 20]));
    Ok(d)
}
