//! Errors that end a pull. What is wrong with one sample is in its status instead.

use std::io;
use std::path::{Path, PathBuf};

/// Why a pull ended. Run it again once the reason is gone, and it continues where it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A source or setting is not one.
    #[error("{0}")]
    Usage(String),
    /// A list could not be fetched or read.
    #[error("the list {list}: {why}")]
    List {
        /// Its path or address.
        list: String,
        /// What is wrong, where, and what to do.
        why: String,
    },
    /// A repository could not be listed.
    #[error("{repository}: {why}")]
    Hub {
        /// The source as it was named.
        repository: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// Another pull is at work in the folder.
    #[error("another pull is at work in {}; wait for it, or name another folder", .0.display())]
    Busy(PathBuf),
    /// A file could not be written whole.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system reported.
        source: io::Error,
    },
    /// The folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system reported.
        source: io::Error,
    },
}

impl Error {
    pub(super) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
        |source| Error::Disk { path: path.to_path_buf(), source }
    }

    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Error + '_ {
        |source| Error::Write { path: path.to_path_buf(), source }
    }

    pub(super) fn list(list: &str) -> impl Fn(String) -> Error + '_ {
        |why| Error::List { list: list.to_owned(), why }
    }
}
