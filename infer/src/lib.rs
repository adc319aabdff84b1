//! The generation engine: prefill in buckets, a cache of keys and values updated in place, sampling, stop conditions.
//!
//! An [`Engine`] holds a model on a device: its weights once, and an executable for every shape of step that was
//! needed. A [`Sequence`] is one conversation's cache. [`Engine::generate`] continues a prompt; [`Engine::score`] gives
//! the logits of a continuation that is known.

mod chunk;
mod embed;
mod engine;
mod error;
mod generate;
mod ids;
mod memory;
mod program;
mod recommended;
mod sampler;
mod sequence;
mod stop;
mod transcribe;
pub mod view;

pub use embed::{Placer, Pooling, TextPlacer, cosine};
pub use engine::{Engine, EngineOptions};
pub use error::{Error, Result};
pub use generate::{Finish, GenerateOptions, Generation, Timings};
pub use memory::peak_memory;
pub use program::Program;
pub use recommended::Recommended;
pub use sampler::{Sampler, Sampling};
pub use sequence::Sequence;
pub use transcribe::{Captions, Ear, Segment, Task, TranscribeOptions, Transcriber, Transcript, Word};
pub use view::View;
