//! A table in Parquet, as a recipe reads it.

use super::rows;

/// The bytes are a file of a table. All its rows are read.
pub fn run(data: &[u8]) {
    rows::read("table.parquet", data);
}
