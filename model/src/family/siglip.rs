//! SigLIP and SigLIP 2: a learned query pools an image, the last of a fixed number of tokens stands for a text. Of
//! SigLIP 2, the checkpoints of one resolution are SigLIP's, and those that read images in their own aspect a family.

use serde_json::json;

use crate::config::Config;
use crate::contrastive::{ImagePreparation, TextPool, VisionPool};
use crate::error::Result;
use crate::family::Model;
use crate::family::clip::{text_tower, two_towers};
use crate::family::media::processor_files;
use crate::processor::{HALF_NORMALIZE, NaFlex, Size, Still, StillDefaults};
use crate::vision_tower::{VisionTower, siglip_defaults};
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
    let images = ImagePreparation::Still(Still::read(&processor_files(&weights)?.image, STILL)?);
    pooled(c, weights, VisionTower::siglip(&keys, "vision_model.")?, images)
}

/// Opens a checkpoint of SigLIP 2 that reads images in their own aspect.
///
/// # Errors
/// As [`open`].
pub fn open_any_aspect(c: &Config, weights: Weights) -> Result<Model> {
    let keys = c.section("vision_config", json!({}))?;
    let tower = VisionTower::siglip2(&keys, "vision_model.")?;
    // Images are prepared for as many positions before a graph is held to the tensors.
    let table = weights.checkpoint().ty("vision_model.embeddings.position_embedding.weight");
    if let Some(rows) = table.and_then(|ty| ty.dims.first().copied()).filter(|rows| *rows != tower.rows()) {
        return Err(keys.error("num_patches", &format!("is {}, but the table has {rows} rows", tower.rows())));
    }
    let images = NaFlex::read(&processor_files(&weights)?.image)?;
    if (images.patch, tower.channels) != (tower.patch, 3) {
        let why = format!("is {}, but the processor cuts patches of 3 x {1}x{1}", tower.patch, images.patch);
        return Err(keys.error("patch_size", &why));
    }
    pooled(c, weights, tower, ImagePreparation::NaFlex(images))
}

/// The two towers, of which the one for images is pooled by attention.
fn pooled(c: &Config, weights: Weights, vision: VisionTower, images: ImagePreparation) -> Result<Model> {
    let keys = c.section("vision_config", json!({}))?;
    if keys.get("vision_use_head").is_some_and(|v| v == false) {
        return Err(
            keys.error("vision_use_head", "is false: this tower gives rows for a decoder and no embeddings")
        );
    }
    let of_block = crate::vision_tower::block(&keys.over(siglip_defaults()), false)?;
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
    let pool = VisionPool::Attention { attention: Box::new(of_block.attention), mlp: of_block.mlp };
    two_towers(weights, vision, pool, tower, images)
}
