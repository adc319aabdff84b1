//! Inference: generation, transcription and embeddings.
//!
//! A [`Session`] holds a model on a device: its weights once, a program for every shape of step that was needed, and a
//! paged cache that many [`Sequence`]s share. [`Session::generate`] continues a prompt, [`Session::generate_all`] many
//! of them in one batch; [`Session::score`] gives the logits of a continuation that is known. A [`Runner`] is what all
//! of it stands on: a device, weights, programs. A [`Scheduler`] continues requests that come and go. Sequences of one session
//! may each have an adapter of its model: see [`Session::add_adapter`].

mod embed;
mod error;
mod generate;
mod ids;
mod memory;
mod recommended;
mod runner;
mod sampler;
mod scheduler;
mod session;
mod shared_weights;
mod transcribe;
pub mod view;

pub use embed::{Embedder, ImageEmbedder, ImageStates, Pooling, TextEmbedder, cosine};
pub use error::{Error, Result};
pub use generate::{
    BATCH, Constraint, Draft, Finish, GenerateOptions, Generation, NotDrafted, PromptLookup, Request,
    StoppedBy, Timings, TokenLogprob,
};
pub use memory::peak_memory;
pub use recommended::Recommended;
pub use runner::{Program, ProgramOutput, RecordedRun, Runner};
pub use sampler::{Sampler, Sampling};
pub use scheduler::{Event, RequestId, Scheduler, SchedulerOptions, SchedulerStatistics};
pub use session::{AdapterId, CHUNK, Part, Prompt, Sequence, Session, SessionOptions};
pub use shared_weights::SharedWeights;
pub use transcribe::{
    Captions, FrameTranscriber, Named, Segment, SpeechModel, Task, Transcribe, TranscribeOptions,
    Transcriber, Transcript, Word,
};
pub use view::View;
