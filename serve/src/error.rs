//! Why a server cannot start or go on.

/// An error of the server itself; what is wrong with a request is a [`Failure`](crate::Failure).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is out of its range.
    #[error("{0}")]
    Setting(String),
    /// A model cannot be loaded.
    #[error("the model '{name}' cannot be served: {why}")]
    Model {
        /// The name under which it was to be served.
        name: String,
        /// What is wrong, where, and what to do.
        why: String,
    },
    /// The address cannot be listened on.
    #[error("{address}: {source}; choose another address or port, or end what has it")]
    Listen {
        /// The address.
        address: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The certificate or its key is of no use.
    #[error("TLS: {0}")]
    Tls(String),
}
