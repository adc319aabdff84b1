//! Errors of checkpoints and models.

use percept_graph::TensorType;

/// What is wrong with a checkpoint, a model or what it was given. Every message says what, where, and what to
/// do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A model cannot be traced as its configuration says.
    #[error(transparent)]
    Graph(#[from] percept_graph::GraphError),
    /// Values do not fill the tensor that they are for.
    #[error(transparent)]
    Tensor(#[from] percept_graph::HostTensorError),
    /// A device failed.
    #[error(transparent)]
    Device(#[from] percept_hal::Error),
    /// A prompt or its media could not be prepared.
    #[error(transparent)]
    Media(#[from] percept_modalities::Error),
    /// A checkpoint could not be read.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::Error),
    /// A file does not hold what it should.
    #[error("{file}: {why}")]
    Content {
        /// The file.
        file: String,
        /// What is wrong, where, and what to do.
        why: String,
    },
    /// No family has this name.
    #[error("model type '{model_type}' is not known; known: {known}")]
    UnknownFamily {
        /// What `config.json` says.
        model_type: String,
        /// The families there are.
        known: String,
    },
    /// A parameter has another shape than the configuration says.
    #[error("tensor '{name}' is {found} in the checkpoint, the configuration says {expected:?}")]
    TensorShape {
        /// The parameter.
        name: String,
        /// Its type in the file.
        found: TensorType,
        /// The extents that follow from the configuration.
        expected: Vec<usize>,
    },
    /// The model and its inputs do not fit each other.
    #[error("{0}")]
    Inputs(String),
}

/// Result of this crate's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;
