//! Parquet: tables of samples, read as Hugging Face writes them, and written so that it reads them.

mod assembly;
mod caps;
mod columns;
mod meaning;
mod raw;
mod read;
mod table;
mod thrift;
mod values;
mod write;

pub(super) use raw::RawRows;
pub(super) use read::read;
pub use values::{RowFault, ValueRows};
pub(crate) use write::Writer;
