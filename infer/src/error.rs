//! Errors of generation.

/// What went wrong. Every message says what, where, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The model or its checkpoint.
    #[error(transparent)]
    Model(#[from] percept_model::Error),
    /// A device.
    #[error(transparent)]
    Device(#[from] percept_hal::Error),
    /// A graph.
    #[error(transparent)]
    Graph(#[from] percept_graph::GraphError),
    /// A prompt or its media.
    #[error(transparent)]
    Media(#[from] percept_modalities::Error),
    /// More tokens than the model was made for. Nothing was allocated for them.
    #[error("{what} takes {tokens} tokens, the model's context holds {context}; shorten it")]
    TooLong {
        /// The prompt, or the prompt and its continuation.
        what: &'static str,
        /// Tokens asked for.
        tokens: usize,
        /// Tokens that fit.
        context: usize,
    },
    /// A setting out of its range.
    #[error("{0}")]
    Setting(String),
}

/// Result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;
