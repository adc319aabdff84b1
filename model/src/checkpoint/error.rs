//! Errors of opening and reading checkpoints.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What went wrong with a checkpoint. Every message says what, where, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The system would not read a file.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: Arc<io::Error>,
    },
    /// The system would not write a file.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's words.
        source: Arc<io::Error>,
    },
    /// There is no checkpoint at a path.
    #[error("{}: {why}", path.display())]
    NotACheckpoint {
        /// The path.
        path: PathBuf,
        /// What was looked for, and what to do.
        why: String,
    },
    /// A file contradicts itself or its format.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        why: String,
    },
    /// A file is sound but holds something that is not read here.
    #[error("{}: {why}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        why: String,
    },
    /// No tensor has this name.
    #[error("{} has no tensor '{name}'{}", path.display(), did_you_mean(nearest))]
    MissingTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// The most similar names present, best first.
        nearest: Vec<String>,
    },
    /// A tensor's values do not fit the dtype asked for.
    #[error("tensor '{name}' of {}: {why}", path.display())]
    Values {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Which value, and what to do.
        why: String,
    },
}

/// Result of this module's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn did_you_mean(nearest: &[String]) -> String {
    match nearest {
        [] => "; it holds no tensors at all".to_string(),
        names => format!("; the nearest names it has: {}", names.join(", ")),
    }
}

/// An error for a file that contradicts itself.
pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Error {
    Error::Damaged { path: path.to_path_buf(), why: why.into() }
}

/// An error for what a sound file holds and this crate does not read.
pub(crate) fn unsupported(path: &Path, why: impl Into<String>) -> Error {
    Error::Unsupported { path: path.to_path_buf(), why: why.into() }
}

/// An error for a file or folder the system would not write.
pub(crate) fn unwritable(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    |source| Error::Write { path: path.to_path_buf(), source: Arc::new(source) }
}

/// An error for a file the system would not read.
pub(crate) fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
    |source| Error::Read { path: path.to_path_buf(), source: Arc::new(source) }
}
