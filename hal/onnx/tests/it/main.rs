//! ONNX Runtime as a device, and models that others read. One program, so that the crate and what it needs are
//! linked once.

#[path = "../../../../tests/assets/mod.rs"]
mod assets;
mod ids;
mod ladder;
mod models;
#[path = "../../../../tests/needs/mod.rs"]
mod needs;
mod support;
