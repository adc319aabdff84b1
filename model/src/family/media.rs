//! A decoder that reads media: what its families share.

use std::ops::Range;

use percept_modalities::{Inputs, Processor};
use serde_json::json;

use crate::causal::{CausalModel, EncoderRun, Layout};
use crate::checkpoint::Format;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::processor::{ProcessorFiles, Prompt};
use crate::text::{template, tokenizer};
use crate::weights::Weights;

/// The part of a model that turns media into features and says where they stand.
pub trait Reader: Send + Sync {
    /// As [`CausalModel::encoder_runs`].
    ///
    /// # Errors
    /// As there.
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>>;

    /// As [`CausalModel::layout`].
    ///
    /// # Errors
    /// As there.
    fn layout(&self, inputs: &Inputs) -> Result<Layout>;

    /// Whether a tensor of the encoders is a constant, which training leaves as it is.
    fn is_constant(&self, name: &str) -> bool {
        let _ = name;
        false
    }
}

/// A decoder with a reader of media.
pub struct MediaModel<R> {
    /// The decoder, which reads tokens and features.
    pub decoder: Decoder,
    /// The parameters of both.
    pub weights: Weights,
    /// What turns conversations and media into inputs.
    pub processor: Box<dyn Processor>,
    /// The encoders of media, and where their features stand.
    pub reader: R,
}

impl<R: Reader> CausalModel for MediaModel<R> {
    fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn processor(&self) -> &dyn Processor {
        self.processor.as_ref()
    }

    fn encoder_runs(&self, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        self.reader.runs(&self.weights, inputs)
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        self.reader.layout(inputs)
    }

    fn is_constant(&self, name: &str) -> bool {
        self.decoder.is_constant(name) || self.reader.is_constant(name)
    }
}

/// The text part of a configuration, of `model_type` unless it says otherwise.
///
/// # Errors
/// When there is something else under its key.
pub fn text_config(c: &Config, model_type: &str) -> Result<Config> {
    c.section("text_config", json!({ "model_type": model_type }))
}

/// A placeholder's id, in either of its spellings.
///
/// # Errors
/// When it is no number of 31 bits.
pub fn token(c: &Config, kind: &str, default: i32) -> Result<i32> {
    let keys = [format!("{kind}_token_id"), format!("{kind}_token_index")];
    let Some(value) = c.any(&[&keys[0], &keys[1]]) else { return Ok(default) };
    let id = value.as_i64().and_then(|id| i32::try_from(id).ok()).filter(|id| *id >= 0);
    id.ok_or_else(|| c.error(&keys[0], &format!("is {value}; it must be the id of a token")))
}

/// Whether one of these releases of transformers wrote a checkpoint. Some compute otherwise than those before
/// and after them, so what they trained must be read their way.
pub fn written_by(c: &Config, releases: Range<(u32, u32)>) -> bool {
    let version = c.get("transformers_version").and_then(|v| v.as_str()).unwrap_or("");
    let mut numbers = version.split('.').map_while(|n| n.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|release| releases.contains(&release))
}

/// Refuses a tower whose features are not as wide as the decoder.
///
/// # Errors
/// When they are not.
pub fn check_width(features: usize, decoder: &Decoder) -> Result<()> {
    if features == decoder.hidden {
        return Ok(());
    }
    Err(Error::Content {
        file: "config.json".into(),
        why: format!("the tower's features have {features} numbers, the decoder's rows {}", decoder.hidden),
    })
}

/// The processor's files of a checkpoint.
///
/// # Errors
/// When one cannot be read or is no JSON object.
pub fn processor_files(weights: &Weights) -> Result<ProcessorFiles> {
    ProcessorFiles::read::<Error>(|name| Ok(weights.checkpoint().file(name)?))
}

/// The tokenizer and the chat template of a checkpoint.
///
/// # Errors
/// When one of them is missing or damaged.
pub fn prompt(weights: &Weights) -> Result<Prompt> {
    let checkpoint = weights.checkpoint();
    if checkpoint.file("tokenizer.json")?.is_some() || checkpoint.format() != Format::Gguf {
        return Prompt::read::<Error>(|name| Ok(checkpoint.file(name)?));
    }
    // Other programs' GGUF files have their vocabulary in keys.
    let tokenizer = tokenizer(checkpoint)?;
    let template = template(checkpoint, &tokenizer)?.ok_or_else(|| Error::Content {
        file: checkpoint.path().display().to_string(),
        why: "the file has no chat template (key 'tokenizer.chat_template'), which says where images stand"
            .into(),
    })?;
    Ok(Prompt::new(tokenizer, template))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        let by = |version: &str| {
            let c =
                Config::new("config.json", &json!({ "transformers_version": version }), json!({})).unwrap();
            written_by(&c, (4, 55)..(5, 3))
        };
        assert!(by("4.55.0") && by("4.57.0.dev0") && by("5.2.0"));
        assert!(!by("4.9.1") && !by("4.54.1") && !by("5.3.0") && !by("5.23.0") && !by("of my own"));
    }
}
