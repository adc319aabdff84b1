//! The models that a server has, each on a thread of its own.

mod engine;
mod entry;
mod language;
mod registry;
mod vocabulary;
mod worker;

pub use entry::{Entry, Kind};
pub use registry::Registry;

pub(crate) use language::{Language, Reads, Update};
pub(crate) use registry::{Load, wrong_kind};
pub(crate) use vocabulary::Vocabulary;

use percept_infer::{Embedder, Pooling, Session, TextEmbedder, Transcribe};
use percept_model::{CausalModel, OpenedAdapter};

/// A model on its device.
pub enum Loaded {
    /// It continues text.
    Language(Box<Session>),
    /// It embeds texts, by the rows that are named.
    Texts(Box<TextEmbedder>, Pooling),
    /// It embeds images and texts in one space; texts are what requests give.
    Pairs(Box<Embedder>),
    /// It transcribes speech.
    Speech(Box<dyn Transcribe>),
}

/// A model that a server is to have.
pub struct Source {
    /// The name that requests give.
    pub name: String,
    /// The name of the model under it, where this one is an adapter's.
    pub parent: Option<String>,
    /// Brings the model to its device: when the server starts, and again when the device was lost.
    pub open: Open,
    /// Opens an adapter over the model under it, whose answers it can then share steps with. What does more than that is
    /// brought up by `open`, with a session of its own.
    pub over: Option<OpenOver>,
}

/// Brings a model to its device.
pub type Open = Box<dyn FnMut() -> Result<Loaded, String> + Send>;
/// Opens an adapter over a model.
pub type OpenOver = Box<dyn FnMut(&dyn CausalModel) -> Result<OpenedAdapter, String> + Send>;
