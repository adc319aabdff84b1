//! Parquet: tables of samples, read as Hugging Face writes them, and written so that it reads them.

mod assembly;
mod columns;
mod read;
mod write;

pub(super) use read::read;
pub(crate) use write::Writer;
