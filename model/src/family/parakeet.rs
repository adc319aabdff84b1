//! Parakeet: a conformer, and a token or none for every 80 ms of sound, from a CTC head or a transducer.

use serde_json::{Map, Value, json};

use percept_modalities::audio::NormalizedMel;

use crate::audio::Conformer;
use crate::config::Config;
use crate::error::Result;
use crate::family::Model;
use crate::family::media::processor_files;
use crate::frames::{FrameHead, FrameModel, Transducer};
use crate::text::tokenizer;
use crate::weights::Weights;

/// A Parakeet checkpoint with a CTC head.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let c = c.over(json!({ "vocab_size": 1025, "pad_token_id": 1024 }));
    build(&c, weights, "pad_token_id", FrameHead::Ctc)
}

/// One with a transducer that ends a row with a token that is none.
///
/// # Errors
/// As [`open`].
pub fn open_rnnt(c: &Config, weights: Weights) -> Result<Model> {
    transducer(c, weights, Vec::new())
}

/// One with a transducer that says how many rows to go on.
///
/// # Errors
/// As [`open`].
pub fn open_tdt(c: &Config, weights: Weights) -> Result<Model> {
    let c = c.over(json!({ "durations": [0, 1, 2, 3, 4] }));
    let durations = c.list("durations")?;
    if durations.is_empty() || durations.len() > 1 << 10 || durations.iter().all(|&rows| rows == 0) {
        return Err(
            c.error("durations", &format!("is {durations:?}, with which a transducer does not go on"))
        );
    }
    transducer(&c, weights, durations)
}

fn transducer(c: &Config, weights: Weights, durations: Vec<usize>) -> Result<Model> {
    let c = c.over(transducer_defaults());
    let head = Transducer {
        width: c.positive("decoder_hidden_size")?.min(1 << 20),
        layers: c.layers("num_decoder_layers")?,
        activation: c.activation("hidden_act")?,
        durations,
        most: c.positive("max_symbols_per_step")?,
    };
    build(&c, weights, "blank_token_id", FrameHead::Transducer(head))
}

fn transducer_defaults() -> Value {
    json!({
        "vocab_size": 8193, "decoder_hidden_size": 640, "num_decoder_layers": 2, "hidden_act": "relu",
        "max_symbols_per_step": 10, "blank_token_id": 8192,
    })
}

fn build(c: &Config, weights: Weights, blank_key: &str, head: FrameHead) -> Result<Model> {
    let section = c.section("encoder_config", json!({}))?;
    let encoder = Conformer::read(&section, "encoder.")?;
    let files = processor_files(&weights)?;
    let features = NormalizedMel::from_json(files.audio.file(), &files.audio.json(Map::new()))?;
    if features.bands() != encoder.bands {
        let why = format!("is {}, the feature extractor gives {} bands", encoder.bands, features.bands());
        return Err(section.error("num_mel_bins", &why));
    }
    let (vocab, blank) = (c.positive("vocab_size")?, c.usize(blank_key)?);
    if blank >= vocab {
        return Err(c.error(blank_key, &format!("is {blank}, beyond the {vocab} tokens")));
    }
    let tokenizer = tokenizer(weights.checkpoint())?;
    Ok(Model::Frames(Box::new(FrameModel { encoder, head, vocab, blank, weights, features, tokenizer })))
}
