//! Errors of preparing and streaming data.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::Fault;

/// What went wrong. Every message says what, where, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read.
    #[error("{} cannot be read: {why}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system reported.
        why: String,
    },
    /// A file or folder could not be written.
    #[error("{} cannot be written: {why}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system reported.
        why: String,
    },
    /// The rest of a shard is lost; the samples before the fault are good.
    #[error("{} is damaged: {why}; fetch or make it again", path.display())]
    Shard {
        /// The path of the shard.
        path: PathBuf,
        /// What is wrong and where.
        why: String,
    },
    /// One sample is bad; those after it can be read.
    #[error("sample '{key}' of {}: {fault}", path.display())]
    Sample {
        /// The shard or file.
        path: PathBuf,
        /// The sample's key, or the name of the file in the shard where there is none.
        key: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A build wrote no sample; a corpus that was there stays.
    #[error("{name}: no sample was written: {why}")]
    Empty {
        /// What the corpus is called.
        name: String,
        /// What became of the samples.
        why: String,
        /// The file of the rejects.
        rejects: PathBuf,
    },
    /// A setting is wrong.
    #[error("{0}")]
    Config(String),
}

impl Error {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
        |error| Error::Read { path: path.to_path_buf(), why: error.to_string() }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
        |error| Error::Write { path: path.to_path_buf(), why: error.to_string() }
    }
}

/// Result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;
