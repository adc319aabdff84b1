//! From bytes to tensors: text, image, video and audio, and the processors that put them into one token
//! sequence.
//!
//! Nothing here depends on a device or a model. A model family builds its processor from these parts.

pub mod audio;
pub mod image;
pub mod kind;
pub mod text;
pub mod video;

mod error;
mod inputs;
mod libav;
mod measure;
mod message;
mod shown;

pub use error::{Error, Result};
pub use inputs::{Aim, Array, Inputs, Media, Processor, Values};
pub use measure::Length;
pub use message::{Content, Message, Part, Source};
pub use shown::{ArrayPart, Grid, MediaKind, Patches, Pixels, Shown};
