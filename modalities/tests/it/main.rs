//! Media and text as other software reads and prepares them. One program, so that the crate and what it needs are linked once.

mod audio;
mod decode;
mod image;
mod seeds;
mod text;
mod video;
