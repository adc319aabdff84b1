//! Why a graph was not written into files for another program's compiler.

use std::io;
use std::path::PathBuf;

use crate::error::{Error, at};

/// Why a graph was not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// An operation has no form in the format.
    #[error("{}{op} cannot be written as {format}: {why}", at(path))]
    Form {
        /// The format's name.
        format: &'static str,
        /// The operation's name.
        op: String,
        /// Module path of the operation.
        path: String,
        /// Why, and what would help.
        why: String,
    },
    /// The graph does not build, or what it is made of cannot be written.
    #[error(transparent)]
    Graph(#[from] Error),
    /// A weight's bytes are not there or not of its length.
    #[error("weight '{name}' is {given} bytes, its type {wanted}")]
    Weight {
        /// Name of the input.
        name: String,
        /// Bytes that were given.
        given: usize,
        /// Bytes that its type takes.
        wanted: usize,
    },
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
