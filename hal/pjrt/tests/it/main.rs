//! The PJRT device from outside. One program, so that the crate and what it needs are linked once.

#[path = "../../../../tests/assets/mod.rs"]
mod assets;
mod collectives;
mod emission;
mod export;
mod ladder;
#[path = "../../../../tests/needs/mod.rs"]
mod needs;
mod plugin;
mod topology;
