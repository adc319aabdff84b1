//! Formats on disk: what is read into samples and written from them.

mod class_folders;
mod csv_rows;
mod draft;
mod fault;
mod hashed;
mod json_lines;
mod json_list;
mod media;
mod parquet;
mod read;
mod rows;
mod sniff;
mod turns;
pub mod webdataset;
mod write;

pub use draft::Draft;
pub use fault::Fault;
pub use read::{Draw, Drawn, Draws, Format, ReadSettings};
pub(crate) use read::{inputs, open};
pub(crate) use turns::{mention, with_media};
pub(crate) use write::ShardWriter;
pub use write::{ShardFormat, WriteSettings};
