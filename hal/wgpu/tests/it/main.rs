//! The wgpu device from outside. One program, so that the crate and what it needs are linked once.

mod adapter;
#[path = "../../../../tests/alone/mod.rs"]
mod alone;
mod decoder;
mod graphs;
mod hardware;
mod kernel_trial;
mod ladder;
mod limits;
mod memory;
#[path = "../../../../tests/needs/mod.rs"]
mod needs;
mod runtime;
mod support;
