//! SigLIP: a learned query pools an image, the last of a fixed number of tokens stands for a text.

use serde_json::json;

use crate::block::{Attention, Mlp};
use crate::config::Config;
use crate::contrastive::{TextPool, VisionPool};
use crate::error::Result;
use crate::family::Model;
use crate::family::clip::{text_tower, two_towers};
use crate::processor::{HALF_NORMALIZE, Size, StillDefaults};
use crate::vision_tower::VisionTower;
use crate::weights::Weights;

/// What SigLIP's image processor does where its file is silent.
const STILL: StillDefaults = StillDefaults {
    size: Size::Exact { height: 224, width: 224 },
    bare: Size::square,
    filter: percept_modalities::image::Filter::Bicubic,
    crop: false,
    normalize: HALF_NORMALIZE,
};

/// Opens a checkpoint of SigLIP.
///
/// # Errors
/// When a file is missing or does not fit the others.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let keys = c.section("vision_config", json!({}))?;
    if keys.get("vision_use_head").is_some_and(|v| v == false) {
        return Err(
            keys.error("vision_use_head", "is false: this tower gives rows for a decoder and no embeddings")
        );
    }
    let vision = VisionTower::siglip(&keys, "vision_model.")?;
    let of_block = crate::vision_tower::block(
        &keys.over(json!({
            "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
            "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
        })),
        false,
    )?;
    let (attention, mlp): (Attention, Mlp) = (of_block.attention, of_block.mlp);
    let text = c.section(
        "text_config",
        json!({
            "vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        }),
    )?;
    let width = match text.maybe_usize("projection_size")? {
        Some(width) => width,
        None => text.positive("hidden_size")?,
    };
    let tower = text_tower(&text, false, TextPool::Last, width)?;
    two_towers(weights, vision, VisionPool::Attention { attention, mlp }, tower, STILL)
}
