//! CLIP: a class row stands for an image, the end token for a text.

use serde_json::json;

use crate::block::Stack;
use crate::config::Config;
use crate::contrastive::{Contrastive, ImagePreparation, TextPool, TextTower, VisionPool};
use crate::error::{Error, Result};
use crate::family::Model;
use crate::family::media::processor_files;
use crate::processor::{CLIP_STILL, Still};
use crate::text::tokenizer;
use crate::vision_tower::{VisionTower, block};
use crate::weights::Weights;

/// Opens a checkpoint of CLIP.
///
/// # Errors
/// When a file is missing or does not fit the others.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let width = c.over(json!({"projection_dim": 512})).positive("projection_dim")?;
    // Where the keys of both spellings are there, those of the older one hold.
    let part =
        |key: &str| format!("{key}{}", if c.get(&format!("{key}_dict")).is_some() { "_dict" } else { "" });
    let vision = VisionTower::clip(&c.section(&part("vision_config"), json!({}))?, "vision_model.")?;
    let text = c.section(
        &part("text_config"),
        json!({
            "vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12,
            "num_attention_heads": 8, "max_position_embeddings": 77, "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5, "eos_token_id": 49407,
        }),
    )?;
    // Its first releases name 2 as the end token, which is not the one that texts end with.
    let pool = match text.usize("eos_token_id")? {
        2 => TextPool::Greatest,
        end => TextPool::End(end as i32),
    };
    let text_tower = text_tower(&text, true, pool, width)?;
    let images = ImagePreparation::Still(Still::read(&processor_files(&weights)?.image, CLIP_STILL)?);
    two_towers(weights, vision, VisionPool::ClassRow { width }, text_tower, images)
}

/// The tower for texts that these keys describe.
///
/// # Errors
/// When a value is missing or impossible.
pub(super) fn text_tower(c: &Config, causal: bool, pool: TextPool, width: usize) -> Result<TextTower> {
    let block = block(c, causal)?;
    Ok(TextTower {
        vocab: c.positive("vocab_size")?,
        length: c.positive("max_position_embeddings")?,
        norm: block.norm,
        stack: Stack {
            prefix: "text_model.encoder.layers".into(),
            blocks: vec![block; c.layers("num_hidden_layers")?],
        },
        pool,
        width,
    })
}

/// The model of two towers, with what its files say about texts.
///
/// # Errors
/// When a file is missing or damaged.
pub(super) fn two_towers(
    weights: Weights,
    vision: VisionTower,
    vision_pool: VisionPool,
    text: TextTower,
    images: ImagePreparation,
) -> Result<Model> {
    // Every text is filled up to this length.
    let table = "text_model.embeddings.position_embedding.weight";
    let positions = weights.checkpoint().ty(table).and_then(|ty| ty.dims.first().copied());
    if let Some(positions) = positions.filter(|n| *n < text.length) {
        return Err(Error::Content {
            file: "config.json".into(),
            why: format!("'max_position_embeddings' is {}, but {table} has {positions} rows", text.length),
        });
    }
    let tokenizer = tokenizer(weights.checkpoint())?;
    Ok(Model::Contrastive(Box::new(Contrastive {
        images,
        logit_bias: weights.has("logit_bias"),
        weights,
        vision,
        vision_pool,
        text,
        tokenizer,
    })))
}
