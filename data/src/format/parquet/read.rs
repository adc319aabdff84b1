//! Reading tables, a few records at a time.

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::column::reader::ColumnReader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::assembly::Node;
use super::columns::Leaf;
use crate::error::{Error, Result};
use crate::format::read::{Draw, Draws, row_key};
use crate::format::rows::{Columns, Row};
use crate::reject::Reject;

/// Bytes of a table that are in memory at once, as far as records can be cut.
const BATCH: u64 = 8 << 20;
/// Bytes that a column of a row group may say it has, decompressed.
const LARGEST_CHUNK: i64 = 4 << 30;

/// The rows of a table. A row group that does not decode is one reject, and the rest of the table is read.
pub(crate) fn read(path: &Path, columns: Columns, _cap: u64) -> Result<Draws> {
    let damaged = |why: String| Error::Shard { path: path.to_path_buf(), why };
    let file = File::open(path).map_err(Error::read(path))?;
    let opened = catch_unwind(|| SerializedFileReader::new(file));
    let table = opened
        .map_err(|_| damaged("its footer makes no sense".into()))?
        .map_err(|e| damaged(e.to_string()))?;
    let fields = Node::fields(table.metadata().file_metadata().schema());
    let mut rows = Rows {
        path: path.to_path_buf(),
        table,
        fields,
        columns: Arc::new(columns),
        group: 0,
        readers: Vec::new(),
        left: 0,
        number: 0,
        ready: Vec::new().into_iter(),
    };
    Ok(Box::new(std::iter::from_fn(move || rows.next())))
}

struct Rows {
    path: PathBuf,
    table: SerializedFileReader<File>,
    fields: Vec<Node>,
    columns: Arc<Columns>,
    /// The next row group.
    group: usize,
    /// The columns of the one before.
    readers: Vec<ColumnReader>,
    /// Records that are left in it.
    left: usize,
    /// Rows so far.
    number: u64,
    ready: std::vec::IntoIter<Row>,
}

impl Rows {
    fn next(&mut self) -> Option<Draw> {
        loop {
            if let Some(row) = self.ready.next() {
                let (key, columns) = (row_key(&self.path, self.number), Arc::clone(&self.columns));
                self.number += 1;
                return Some(Box::new(move || columns.sample(row, &key)));
            }
            if self.left == 0 && self.group == self.table.num_row_groups() {
                return None;
            }
            // The decoders of pages panic on some damage.
            let read = catch_unwind(AssertUnwindSafe(|| self.read_batch()));
            let why = match read {
                Ok(Ok(rows)) => {
                    self.ready = rows.into_iter();
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "its pages make no sense".to_owned(),
            };
            let lost = std::mem::take(&mut self.left);
            let key = row_key(&self.path, self.number);
            self.number += lost as u64;
            let why =
                format!("{}: row group {}: {why}; {lost} rows are lost", self.path.display(), self.group - 1);
            return Some(Box::new(move || Err((key, Reject::new("damaged-file", why)))));
        }
    }

    /// The next rows of this row group, or of the next one.
    fn read_batch(&mut self) -> Result<Vec<Row>, ParquetError> {
        let general = |why: &str| ParquetError::General(why.to_owned());
        if self.left == 0 {
            let at = self.group;
            self.group += 1;
            self.left = usize::try_from(self.table.metadata().row_group(at).num_rows()).unwrap_or(0);
            if self
                .table
                .metadata()
                .row_group(at)
                .columns()
                .iter()
                .any(|c| c.uncompressed_size() > LARGEST_CHUNK)
            {
                return Err(general("a column of it has more than 4 GiB"));
            }
            let group = self.table.get_row_group(at)?;
            self.readers =
                (0..group.num_columns()).map(|at| group.get_column_reader(at)).collect::<Result<_, _>>()?;
        }
        let group = self.table.metadata().row_group(self.group - 1);
        let bytes = u64::try_from(group.total_byte_size()).unwrap_or(0) / (group.num_rows().max(1) as u64);
        let records = usize::try_from(BATCH / bytes.max(1)).unwrap_or(1).clamp(1, 1024).min(self.left);
        let mut leaves = Vec::with_capacity(self.readers.len());
        for (at, reader) in self.readers.iter_mut().enumerate() {
            leaves.push(Leaf::read(reader, &group.column(at).column_descr_ptr(), records)?);
        }
        let ends: Vec<Vec<usize>> = leaves.iter().map(record_ends).collect();
        if ends.iter().any(|ends| ends.len() != records) {
            return Err(general("its columns have fewer records than it says"));
        }
        self.left -= records;
        let mut rows = Vec::with_capacity(records);
        for record in 0..records {
            let entries: Vec<Range<usize>> = ends
                .iter()
                .map(|ends| record.checked_sub(1).map_or(0, |at| ends[at])..ends[record])
                .collect();
            let mut row = Row::with_capacity(self.fields.len());
            for field in &self.fields {
                if let Some(cell) = field.cell(&leaves, &entries) {
                    row.push((field.name.clone(), cell));
                }
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

/// Where each record of a leaf ends among its entries.
fn record_ends(leaf: &Leaf) -> Vec<usize> {
    let starts = leaf.repetitions.iter().enumerate().skip(1).filter(|(_, repetition)| **repetition == 0);
    let mut ends: Vec<usize> = starts.map(|(at, _)| at).collect();
    if !leaf.repetitions.is_empty() {
        ends.push(leaf.repetitions.len());
    }
    ends
}
