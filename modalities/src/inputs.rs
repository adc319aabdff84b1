//! What a processor takes and makes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::audio::Waveform;
use crate::error::Result;
use crate::image::Image;
use crate::message::Message;
use crate::shown::Shown;
use crate::text::Tokenizer;
use crate::video::{Clip, Sampling};

/// The numbers of an [`Array`].
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Values {
    F32(Vec<f32>),
    I64(Vec<i64>),
}

/// A dense array on the host, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Extents; their product is the number of values.
    pub dims: Vec<usize>,
    /// The values, row-major.
    pub values: Values,
}

/// Decoded media of a prompt, each kind in the order in which the messages mention it.
#[derive(Debug, Clone, Default)]
pub struct Media {
    /// The decoded images.
    pub images: Vec<Image>,
    /// Sampled frames of videos.
    pub videos: Vec<Clip>,
    /// Audio clips at the processor's rate.
    pub audios: Vec<Waveform>,
    /// What the chat template reads beside the messages and what they show: `tools`, `enable_thinking` ...
    pub variables: Map<String, Value>,
}

/// What a model reads: arrays under the names that Hugging Face transformers gives them (`input_ids`
/// i64[1,t], `pixel_values`, `image_grid_thw`, `input_features` ...), placeholders already repeated once per
/// feature row.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Arrays by name.
    pub arrays: BTreeMap<String, Array>,
    /// The conversation as the chat template wrote it, before placeholders were repeated.
    pub prompt: String,
    /// The media in the order of the prompt. Models that read no prompt with media leave it empty.
    pub shown: Vec<Shown>,
}

/// What a conversation is prepared for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// The model is to generate the next turn: the generation prompt is added.
    Answer,
    /// The model is to learn the assistant's turns: the conversation is whole, and `answers` i64[1,t] has a 1
    /// for every token of them.
    Learn,
}

/// Turns messages and media into a model's inputs.
pub trait Processor: Send + Sync {
    /// Inputs of a conversation, rendered with the model's chat template.
    ///
    /// # Errors
    /// When the template refuses the messages, or they mention other media than were given.
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> Result<Inputs>;

    /// Inputs of a conversation that the model is to continue.
    ///
    /// # Errors
    /// As [`Processor::prepare`].
    fn chat(&self, messages: &[Message], media: &Media) -> Result<Inputs> {
        self.prepare(messages, media, Aim::Answer)
    }

    /// What prompts are written with and answers are read with.
    fn tokenizer(&self) -> &Tokenizer;

    /// How frames are picked from a video file before [`Processor::chat`] sees them; `None` when the model
    /// takes no video.
    fn video_sampling(&self) -> Option<Sampling> {
        None
    }

    /// Samples per second that the model expects; `None` when it takes no audio.
    fn audio_rate(&self) -> Option<u32> {
        None
    }
}
