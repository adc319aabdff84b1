//! Percept's own family, trained from scratch: text, images, video and sound in one decoder.
//!
//! Images go through a stem of convolutions, a token for each of the last one's pixels. Frames of video go in
//! pairs: the first as an image, and beside it a linear view of what the second changes. Sound is read in
//! patches of log-mel frames. What the user says and shows is seen both ways, answers see what was before
//! them. The head is the table.

mod initial;
mod senses;
mod turns;

use percept_graph::Activation;
use serde_json::json;

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::llama::rotary;
use crate::family::media::{MediaModel, processor_files, prompt};
use crate::family::{DecoderNames, Model};
use crate::processor::Native;
use crate::weights::Weights;

pub use initial::{SPECIAL_TOKENS, initial};
use senses::Senses;

/// A checkpoint of the native family.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let decoder = decoder(c, &DecoderNames::find(&weights, &["model."], &["lm_head.weight"]))?;
    let senses = Senses::read(c, &decoder)?;
    let processor = Native::new(&processor_files(&weights)?, senses.described(), prompt(&weights)?)?;
    Ok(Model::Causal(Box::new(MediaModel {
        decoder,
        weights,
        processor: Box::new(processor),
        reader: senses,
    })))
}

/// Its decoder: Llama's, with rows of the table scaled to the size of media features and positions in time,
/// height and width.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "hidden_size": 160, "intermediate_size": 320, "num_hidden_layers": 4, "num_attention_heads": 4,
        "hidden_act": "silu", "max_position_embeddings": 1024, "rms_norm_eps": 1e-6,
    }));
    let mut d = rotary(&c, names, 10_000.0)?;
    d.embedding_scale = c.maybe_f64("embedding_scale")?.map(|s| s as f32);
    if d.ropes.iter().all(|r| r.axis_count() == 1) {
        let third = d.ropes[0].pairs() / 3;
        let sections = [d.ropes[0].pairs() - 2 * third, third, third];
        d.ropes = d.ropes.drain(..).map(|r| r.interleaved(&sections)).collect();
    }
    Ok(d)
}

/// The activation of its stem.
const ACTIVATION: Activation = Activation::Silu;
