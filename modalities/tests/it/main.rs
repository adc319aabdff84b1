//! Media and text as other software reads and prepares them. One program, so that the crate and what it needs are linked once.

#[cfg(target_os = "linux")]
#[path = "../../../tests/alone/mod.rs"]
mod alone;
mod audio;
mod decode;
mod image;
#[cfg(target_os = "linux")]
mod memory;
mod seeds;
mod text;
mod video;
