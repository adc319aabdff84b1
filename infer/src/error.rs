//! The errors of this crate.

use crate::session::AdapterId;

/// An error of this crate. Every message names what is wrong, where, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The model or its checkpoint is wrong.
    #[error(transparent)]
    Model(#[from] percept_model::Error),
    /// A device failed or refused an operation.
    #[error(transparent)]
    Device(#[from] percept_hal::Error),
    /// A graph could not be built.
    #[error(transparent)]
    Graph(#[from] percept_graph::GraphError),
    /// Values do not fill the tensor that they are for.
    #[error(transparent)]
    Tensor(#[from] percept_graph::HostTensorError),
    /// A prompt or its media cannot be prepared.
    #[error(transparent)]
    Media(#[from] percept_modalities::Error),
    /// More tokens than the model was made for. Nothing was allocated for them.
    #[error("{what} takes {tokens} tokens, the model's context holds {context}; shorten it")]
    TooLong {
        /// The prompt, or the prompt and its continuation.
        what: &'static str,
        /// The tokens of it.
        tokens: usize,
        /// The tokens that the model's context holds.
        context: usize,
    },
    /// A model gave nothing to choose a token from.
    #[error(
        "the model gives no finite number for any token, at token {token} of the answer: its weights or those of an adapter \
         hold NaN or infinities, or what it computes leaves the range of a narrow dtype; load it with --dtype f32, or fetch it anew"
    )]
    NotFinite {
        /// The token that was to be chosen, counted from 1.
        token: usize,
    },
    /// An input of a program was not filled.
    #[error("the input '{0}' of a program was not given")]
    NotGiven(String),
    /// The cache has no room for the rows that sequences together would hold.
    #[error(
        "the cache has room for {room} rows, {wanted} more are needed and {free} are free; let sequences end first, or give \
         it more rows"
    )]
    CacheFull {
        /// Rows of the whole cache.
        room: usize,
        /// Rows, in whole pages, that a step needs beside those that its sequences hold.
        wanted: usize,
        /// Rows in free pages.
        free: usize,
    },
    /// The session does not have the adapter, or not any more.
    #[error("the session has no adapter of the number {0}, or it was removed; add it first")]
    UnknownAdapter(AdapterId),
    /// A draft model's tokens are others than those of the model that it is to guess for.
    #[error(
        "the draft model has another tokenizer: token {id} is {own} to the model and {draft} to the draft model; give a draft \
         model with the same tokens"
    )]
    OtherTokenizer {
        /// The first token that differs.
        id: u32,
        /// What it is to the model.
        own: String,
        /// What it is to the draft model.
        draft: String,
    },
    /// The queue of requests is at its bound: nothing is wrong with the request, and it may be made again later.
    #[error("{waiting} requests wait already, as many as may; try again later")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
    },
    /// A constraint of what may be generated failed, or contradicts other settings.
    #[error("{0}")]
    Constraint(String),
    /// A setting is out of its range.
    #[error("{0}")]
    Setting(String),
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;
