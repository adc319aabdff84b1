//! Graphs as ONNX models, for ONNX Runtime and for compilers that read files.
//!
//! [`emit()`] writes a graph with the operators of a [`Style`]. [`OnnxBackend`] runs what it wrote through ONNX Runtime,
//! which is loaded by its path, with values that stay on the device; [`export`] writes a file with the weights inside.

mod blocks;
pub mod emit;
mod export;
pub mod proto;
mod runtime;
mod style;

pub use emit::{EmitError, Emitted, emit};
pub use export::{export, model_bytes};
pub use runtime::{BadId, Id, KNOWN_OPTIONS, Memory, OnnxBackend, OnnxEmitter, Program};
pub use style::{BadStyle, Family, NEWEST_OPSET, OLDEST_OPSET, Style};
