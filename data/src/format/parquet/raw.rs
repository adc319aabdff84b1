//! The rows of a table as they are.

use std::path::Path;
use std::sync::Arc;

use super::RowFault;
use super::table::{Batch, Table, TableRead};
use crate::error::Result;
use crate::format::rows::Row;

/// The rows of a Parquet table in order, media among them.
pub(in crate::format) struct RawRows {
    table: Table,
    batch: Option<Arc<Batch>>,
    /// The next row of the batch.
    next: usize,
    longest: u64,
    is_lost: bool,
}

impl RawRows {
    /// The rows of the table at `path`, each of which may take `longest` bytes.
    pub fn open(path: &Path, longest: u64) -> Result<Self> {
        let table = Table::open(path, |_| true)?;
        Ok(Self { table, batch: None, next: 0, longest, is_lost: false })
    }

    /// The names of the columns.
    pub fn names(&self) -> Vec<String> {
        self.table.names()
    }
}

impl Iterator for RawRows {
    type Item = std::result::Result<Row, RowFault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.batch.as_ref().filter(|batch| self.next < batch.len()) {
                let record = self.next;
                self.next += 1;
                if batch.weight(record) as u64 > self.longest {
                    return Some(Err(RowFault::TooLong));
                }
                return Some(Ok(batch.row(record)));
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
