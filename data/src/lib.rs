//! Data: prepared, looked at, and streamed to training.
//!
//! Everything is made of [`Sample`]s. Formats read and write them, stages change and reject them, the loader
//! hands them to training.

pub mod augment;
pub mod build;
pub mod chance;
pub mod emoji_world;
mod error;
pub mod format;
pub mod hash;
pub mod inspect;
mod item;
pub mod leakage;
pub mod loader;
mod recipe;
mod reject;
pub mod report;
mod sample;
pub mod splits;
pub mod stage;
pub mod tokenizer;
pub mod video;

pub use build::{BuildOptions, Built, Corpus, Manifest, build};
pub use error::{Error, Result};
pub use item::{DecodedImage, Item};
pub use recipe::{Recipe, keys};
pub use reject::Reject;
pub use sample::{Blob, Kind, Sample};
