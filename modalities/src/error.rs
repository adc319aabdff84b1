//! Errors of reading and preparing media and text.

/// What went wrong with an input. Every message says what, where, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A file or stream could not be read.
    #[error("{what} cannot be read: {why}")]
    Read {
        /// The file or stream.
        what: String,
        /// What the operating system reported.
        why: String,
    },
    /// Bytes are not what they claim to be.
    #[error("{what} is damaged or not supported: {why}")]
    Decode {
        /// The file or stream.
        what: String,
        /// What is wrong and where.
        why: String,
    },
    /// Something is larger than its cap; nothing was allocated for it.
    #[error("{what} is too large: {why}")]
    TooLarge {
        /// The file or stream.
        what: String,
        /// Its size and the cap.
        why: String,
    },
    /// A processor's or tokenizer's configuration is incomplete or wrong.
    #[error("{file}: {why}")]
    Config {
        /// The configuration file.
        file: String,
        /// The key, what is wrong with it and what would be right.
        why: String,
    },
    /// A conversation cannot be turned into a prompt, or does not match its media.
    #[error("{0}")]
    Prompt(String),
}

impl From<percept_signal::ResampleError> for Error {
    fn from(error: percept_signal::ResampleError) -> Self {
        Error::Decode { what: "audio".into(), why: error.to_string() }
    }
}

/// Result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;
