//! ONNX Runtime as a device.

mod backend;
mod emitter;
mod id;
mod library;
mod session;
mod weights;

pub use backend::OnnxBackend;
pub use emitter::{OnnxEmitter, Program};
pub use id::{BadId, Id, KNOWN_OPTIONS};
pub use weights::Memory;
