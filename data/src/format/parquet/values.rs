//! The rows of a table for those who want no media: JSON, without the columns of bytes.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::table::{Batch, Table, TableRead, has_bytes};
use crate::error::Result;
use crate::format::rows::Cell;

/// The rows of a Parquet table as JSON, in order. Columns of bytes, such as images, are left out before
/// anything is read of them.
pub struct ValueRows {
    table: Table,
    batch: Option<Arc<Batch>>,
    /// The next row of the batch.
    next: usize,
    longest: u64,
    is_lost: bool,
}

/// Why a row is not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFault {
    /// It takes more bytes than a row may.
    TooLong,
    /// One of its texts is not UTF-8.
    NotUtf8,
    /// What is left of the table cannot be read, and why. Nothing comes after it.
    Lost(String),
}

impl ValueRows {
    /// The rows of the table at `path`, each of which may take `longest` bytes.
    ///
    /// # Errors
    /// When the file cannot be read or is no table.
    pub fn open(path: &Path, longest: u64) -> Result<Self> {
        let table = Table::open(path, |field| !has_bytes(field))?;
        Ok(Self { table, batch: None, next: 0, longest, is_lost: false })
    }

    /// The names of the columns.
    pub fn names(&self) -> Vec<String> {
        self.table.names()
    }
}

impl Iterator for ValueRows {
    type Item = Result<Map<String, Value>, RowFault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.batch.as_ref().filter(|batch| self.next < batch.len()) {
                let record = self.next;
                self.next += 1;
                if batch.weight(record) as u64 > self.longest {
                    return Some(Err(RowFault::TooLong));
                }
                let value = |(name, cell)| match cell {
                    Cell::Value(value) => Some((name, value)),
                    _ => None,
                };
                let row: Option<Map<String, Value>> = batch.row(record).into_iter().map(value).collect();
                return Some(row.ok_or(RowFault::NotUtf8));
            }
            if self.is_lost {
                return None;
            }
            match self.table.next()? {
                TableRead::Rows(batch) => (self.batch, self.next) = (Some(batch), 0),
                TableRead::Lost(why, _) => {
                    (self.batch, self.is_lost) = (None, true);
                    return Some(Err(RowFault::Lost(why)));
                }
            }
        }
    }
}
