//! Errors of evaluation.

use std::path::PathBuf;

/// What went wrong. Every message says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A corpus has nothing to ask.
    #[error("{}: there are no samples in it; give a folder of .tar shards, or one of them", .0.display())]
    Empty(PathBuf),
    /// A sample's media cannot be decoded, or the model takes none of their kind.
    #[error("{key}: {source}")]
    Media {
        /// The sample.
        key: String,
        /// What is wrong with them.
        source: percept_modalities::Error,
    },
    /// A task, its data or its results.
    #[error("{0}")]
    Task(String),
    /// Nothing of a task is asked.
    #[error("{task}: its data hold no question that is asked")]
    NoQuestions {
        /// The task.
        task: String,
    },
    /// The data of a task lack a column.
    #[error("{task}: {file} has no column '{column}'; it has {present}")]
    Column {
        /// The task.
        task: String,
        /// The file.
        file: String,
        /// The column.
        column: String,
        /// Those that are there.
        present: String,
    },
    /// A task shows what a model does not take.
    #[error("{task} shows {kind}, and this model takes no {kind}")]
    Lacks {
        /// The task.
        task: String,
        /// The kind of media.
        kind: &'static str,
    },
    /// A corpus.
    #[error(transparent)]
    Data(#[from] percept_data::Error),
    /// The model.
    #[error(transparent)]
    Infer(#[from] percept_infer::Error),
}

/// Result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;
