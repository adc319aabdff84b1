//! Errors of training.

use std::path::{Path, PathBuf};

use crate::watch::Stop;

/// What went wrong. Every message says what, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A run's file is wrong.
    #[error("{}: {why}", file.display())]
    Config {
        /// The run's file, or another that it names.
        file: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A setting and the model or the data do not fit each other.
    #[error("{0}")]
    Setting(String),
    /// A trained parameter has no gradient.
    #[error("{0}")]
    NoGradient(String),
    /// A loss or gradient is no number any more.
    #[error("{0}")]
    NotFinite(String),
    /// Another run has the folder.
    #[error("{}: {why}", folder.display())]
    Busy {
        /// The folder of the run.
        folder: PathBuf,
        /// Who has it, and what to do.
        why: String,
    },
    /// The run was asked to stop, and stopped.
    #[error("stopped by {} after step {step} of {steps}; {}", stop.name(), saved.as_deref().map_or(
        "nothing was trained yet".into(),
        |s| format!("{} holds everything, go on with --resume", s.display())
    ))]
    Stopped {
        /// Who asked for it.
        stop: Stop,
        /// How many steps were done.
        step: u64,
        /// How many steps the run has.
        steps: u64,
        /// The folder of the last checkpoint, if there is one.
        saved: Option<PathBuf>,
    },
    /// A stage of a run.
    #[error("{stage}: {source}")]
    Stage {
        /// Its number and name.
        stage: String,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// Another process of the same run failed.
    #[error("{0}")]
    Peer(String),
    /// The model or its checkpoint.
    #[error(transparent)]
    Model(#[from] percept_model::Error),
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] percept_model::checkpoint::Error),
    /// A device.
    #[error(transparent)]
    Device(#[from] percept_hal::Error),
    /// A graph.
    #[error(transparent)]
    Graph(#[from] percept_graph::GraphError),
    /// Values do not fill a tensor.
    #[error(transparent)]
    Tensor(#[from] percept_graph::HostTensorError),
    /// A sample's text or media.
    #[error(transparent)]
    Media(#[from] percept_modalities::Error),
    /// A corpus could not be read.
    #[error(transparent)]
    Data(#[from] percept_data::Error),
    /// What the model says could not be asked.
    #[error(transparent)]
    Infer(#[from] percept_infer::Error),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
}

/// Result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error for a file that the system would not read or write.
pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    |source| Error::File { path: path.to_path_buf(), source }
}
