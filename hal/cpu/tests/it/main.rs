//! The CPU device from outside. One program, so that the crate and what it needs are linked once.

#[path = "../../../../tests/alone/mod.rs"]
mod alone;
mod faults;
mod faulty;
mod ladder;
mod memory;
mod program;
mod reading;
mod support;
