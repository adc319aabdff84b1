//! Formats on disk: what is read into samples and written from them.

mod class_folders;
mod column_names;
mod csv_rows;
mod fault;
mod hashed;
mod json_lines;
mod json_list;
mod left_out;
mod media;
mod named;
mod parquet;
mod read;
mod rows;
mod sniff;
mod table_rows;
mod text_file;
mod turns;
pub mod webdataset;
mod write;

pub use fault::Fault;
pub use left_out::LeftOut;
pub(crate) use left_out::shown;
pub(crate) use named::{Found, Named};
pub use parquet::{RowFault, ValueRows};
pub use read::{Draw, Drawn, Draws, Format, Input, ReadSettings};
pub(crate) use read::{inputs, open};
pub(crate) use sniff::sniff;
pub use table_rows::{TableRow, TableRows};
pub use text_file::{Metered, open_text};
pub(crate) use turns::{mention, with_media};
pub(crate) use write::ShardWriter;
pub use write::{ShardFormat, WriteSettings};
