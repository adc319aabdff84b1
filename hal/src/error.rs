//! Errors of devices.

use percept_graph::{GraphError, TensorType};

/// What went wrong on a device. Every message says what, where, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The graph itself is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// No device has this id.
    #[error("no device '{id}'; known: {known}")]
    UnknownDevice {
        /// The id that was requested.
        id: String,
        /// The ids there are.
        known: String,
    },
    /// The device exists but could not be opened.
    #[error("device '{id}' cannot be opened: {why}")]
    Open {
        /// The id of the device.
        id: String,
        /// The driver's or library's words, and what to do.
        why: String,
    },
    /// An operation has no native kernel, no decomposition that has, and no host to run on (or none is
    /// allowed).
    #[error("{}{op} does not run on {device}: {why}", at(path))]
    Unsupported {
        /// The id of the device.
        device: String,
        /// The operation with its types.
        op: String,
        /// Module path of the operation.
        path: String,
        /// Why, and what would help.
        why: String,
    },
    /// Memory ran out, or a request is larger than the device allows.
    #[error("{device} cannot allocate {bytes} bytes for {what}: {why}")]
    OutOfMemory {
        /// The id of the device.
        device: String,
        /// The tensor or arena.
        what: String,
        /// Bytes requested.
        bytes: u64,
        /// The limit that was met.
        why: String,
    },
    /// An executable was run with the wrong number of arguments.
    #[error("'{graph}' takes {expected} arguments, was given {given}")]
    ArgumentCount {
        /// The graph's name.
        graph: String,
        /// Inputs of the graph.
        expected: usize,
        /// The number of arguments given.
        given: usize,
    },
    /// An argument has the wrong type or layout.
    #[error("argument '{name}' is {given}, the graph takes {expected}")]
    ArgumentType {
        /// The input's name.
        name: String,
        /// What the graph declares.
        expected: TensorType,
        /// What was given.
        given: String,
    },
    /// A buffer of one device was handed to another.
    #[error("{what} is on another device; read it and upload it to {device}")]
    ForeignBuffer {
        /// What the buffer is, in words.
        what: String,
        /// The device it was handed to.
        device: String,
    },
    /// A donated buffer is still held elsewhere.
    #[error("argument '{name}' was donated while someone else holds it; drop the other handles or borrow it")]
    DonatedButHeld {
        /// The input's name.
        name: String,
    },
    /// An input whose buffer an output replaces was only borrowed.
    #[error("argument '{name}' must be donated: output '{output}' replaces it")]
    NotDonated {
        /// The input's name.
        name: String,
        /// The output's name.
        output: String,
    },
    /// Bytes do not have the length of their type.
    #[error("{given} bytes for {ty}, which takes {}", ty.bytes())]
    ByteCount {
        /// The type of the buffer.
        ty: TensorType,
        /// The number of bytes given.
        given: usize,
    },
    /// The device failed while running an operation.
    #[error("{device} failed {}: {why}", during(op))]
    Failed {
        /// The id of the device.
        device: String,
        /// The operation that was running, with its module path; empty when it is not known.
        op: String,
        /// The driver's or library's words.
        why: String,
    },
    /// The device is gone: reset, unplugged or taken by a driver update.
    #[error("{device} was lost ({why}); open it again and upload what is needed")]
    Lost {
        /// The id of the device.
        device: String,
        /// What the driver reported.
        why: String,
    },
}

/// Where an operation is, at the beginning of a message.
pub(crate) fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("in {path}: ") }
}

fn during(op: &str) -> String {
    if op.is_empty() { "outside any operation".into() } else { format!("during {op}") }
}

/// Result of device calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;
