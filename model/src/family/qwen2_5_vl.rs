//! Qwen2.5-VL: Qwen2-VL with a gated tower that looks through windows, and positions in time that follow the
//! seconds.

use crate::config::Config;
use crate::error::Result;
use crate::family::{Model, qwen2_vl};
use crate::processor::QwenVersion;
use crate::vision::QwenTower;
use crate::weights::Weights;

/// A Qwen2.5-VL checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    qwen2_vl::build(c, weights, QwenVersion::Qwen2_5, "qwen2_5_vl_text", QwenTower::qwen2_5)
}
