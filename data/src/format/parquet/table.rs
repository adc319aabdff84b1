//! Tables, a few records at a time.

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parquet::basic::{Compression, Type as Physical};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::Type;

use super::assembly::Node;
use super::caps::{Capped, ENTRIES, check_footer, check_pages};
use super::columns::Leaf;
use super::meaning::Meaning;
use crate::error::{Error, Result};
use crate::format::column_names::told_apart;
use crate::format::rows::Row;

/// Bytes of a table that are in memory at once, as far as records can be cut.
const BATCH: u64 = 8 << 20;
/// Bytes that values may take which are longer than what is stored of them.
const PREFIXED: u64 = 256 << 20;
/// Bytes that the rows of a row group may come to, beside
const SPREAD: u64 = 64 << 20;
/// so many times those that are stored of it: a dictionary gives one image to many rows.
const SPREAD_TIMES: u64 = 1024;

/// A table being read.
pub(super) struct Table {
    file: File,
    table: SerializedFileReader<File>,
    fields: Arc<[Node]>,
    /// A name that several fields have, and what the second of them is called here.
    pub renamed: Option<(String, String)>,
    /// The columns that are read.
    columns: Vec<usize>,
    /// The next row group.
    group: usize,
    /// The columns of the one before.
    readers: Vec<ColumnReader>,
    /// Records that are left in it.
    left: usize,
    /// Records of a batch of it.
    batch: usize,
    /// Bytes that its rows may still come to.
    spread: u64,
    /// Entries of the batch that is read.
    entries: Arc<AtomicUsize>,
}

/// What comes next of a table.
pub(super) enum TableRead {
    /// The next records.
    Rows(Arc<Batch>),
    /// The rest of a row group is lost: why, and how many rows.
    Lost(String, u64),
}

/// Some records, which are put together when they are requested.
pub(super) struct Batch {
    fields: Arc<[Node]>,
    leaves: Vec<Leaf>,
    /// Where each record ends in each leaf.
    ends: Vec<Vec<usize>>,
    records: usize,
}

impl Table {
    /// Open a table and keep some of its fields.
    pub fn open(path: &Path, keep: impl Fn(&Type) -> bool) -> Result<Self> {
        let damaged = |why: String| Error::Shard { path: path.to_path_buf(), why };
        let file = File::open(path).map_err(Error::read(path))?;
        check_footer(&file).map_err(damaged)?;
        let copy = file.try_clone().map_err(Error::read(path))?;
        let table = catch_unwind(|| SerializedFileReader::new(copy))
            .map_err(|_| damaged("its footer makes no sense".into()))?
            .map_err(|e| damaged(e.to_string()))?;
        let (mut fields, columns) = Node::fields(table.metadata().file_metadata().schema(), keep);
        let (names, renamed) = told_apart(fields.iter().map(|field| field.name.clone()).collect());
        fields.iter_mut().zip(names).for_each(|(field, name)| field.name = name);
        Ok(Self {
            file,
            table,
            fields: fields.into(),
            renamed,
            columns,
            group: 0,
            readers: Vec::new(),
            left: 0,
            batch: 0,
            spread: 0,
            entries: Arc::default(),
        })
    }

    /// The names of the fields that are kept.
    pub fn names(&self) -> Vec<String> {
        self.fields.iter().map(|field| field.name.clone()).collect()
    }

    /// The next records, or `None` at the end. A row group that does not decode is lost, and the rest is read.
    pub fn next(&mut self) -> Option<TableRead> {
        // A row group without rows has no pages.
        let groups = self.table.metadata().row_groups();
        while self.left == 0 && groups.get(self.group).is_some_and(|group| group.num_rows() == 0) {
            self.group += 1;
        }
        if self.left == 0 && self.group == groups.len() {
            return None;
        }
        // The decoders of pages panic on some damage.
        let read = catch_unwind(AssertUnwindSafe(|| self.read_batch()));
        let why = match read {
            Ok(Ok(batch)) => return Some(TableRead::Rows(Arc::new(batch))),
            Ok(Err(error)) => error,
            Err(_) => "its pages make no sense".to_owned(),
        };
        self.readers.clear();
        let lost = std::mem::take(&mut self.left);
        Some(TableRead::Lost(
            format!("row group {}: {why}; {lost} rows are lost", self.group - 1),
            lost as u64,
        ))
    }

    /// The next records of this row group, or of the next one.
    fn read_batch(&mut self) -> Result<Batch, String> {
        let fault = |e: ParquetError| e.to_string();
        if self.left == 0 {
            self.open_group()?;
        }
        let group = self.table.metadata().row_group(self.group - 1);
        let records = self.batch.min(self.left);
        let mut leaves = Vec::with_capacity(self.readers.len());
        for (at, reader) in self.columns.iter().zip(&mut self.readers) {
            self.entries.store(0, Ordering::Relaxed);
            let column = group.column(*at).column_descr_ptr();
            leaves.push(Leaf::read(reader, &column, records).map_err(fault)?);
        }
        let ends: Vec<Vec<usize>> = leaves.iter().map(Leaf::record_ends).collect();
        if ends.iter().any(|ends| ends.len() != records) {
            return Err("its columns have fewer records than it says".into());
        }
        let batch = Batch { fields: Arc::clone(&self.fields), leaves, ends, records };
        let bytes: u64 = batch.leaves.iter().map(Leaf::spread).sum();
        self.spread = self.spread.checked_sub(bytes).ok_or_else(|| {
            let stored = group.compressed_size();
            format!(
                "its rows come to more than {SPREAD_TIMES} times the {stored} bytes that are stored of it"
            )
        })?;
        self.left -= records;
        Ok(batch)
    }

    fn open_group(&mut self) -> Result<(), String> {
        let fault = |e: ParquetError| e.to_string();
        let at = self.group;
        self.group += 1;
        let about = self.table.metadata().row_group(at);
        self.left = usize::try_from(about.num_rows()).unwrap_or(0);
        let rows = about.num_rows().max(1) as u64;
        let stored = u64::try_from(about.compressed_size()).unwrap_or(0);
        // What a file says that it stores may be more than it has.
        let stored = stored.min(self.file.metadata().map_err(|e| e.to_string())?.len());
        self.spread = stored.saturating_mul(SPREAD_TIMES).saturating_add(SPREAD);
        let bytes = u64::try_from(about.total_byte_size()).unwrap_or(0) / rows;
        let mut batch = (BATCH / bytes.max(1)).clamp(1, 1024);
        let group = self.table.get_row_group(at).map_err(fault)?;
        self.readers = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let about = about.column(*column);
            let name = about.column_path().string();
            let packed = match about.compression() {
                Compression::BROTLI(_) => Some("brotli"),
                Compression::LZO => Some("LZO"),
                _ => None,
            };
            if let Some(packed) = packed {
                return Err(format!(
                    "its column {name} is packed with {packed}, which is not read; write it again with zstd, snappy or gzip"
                ));
            }
            let longest =
                check_pages(&self.file, about).map_err(|why| format!("its column {name}: {why}"))?;
            batch = PREFIXED.checked_div(longest).map_or(batch, |most| batch.min(most.max(1)));
            let entries = u64::try_from(about.num_values()).unwrap_or(0) / rows;
            batch = batch.min((ENTRIES as u64 / 4 / entries.max(1)).max(1));
            let pages = group.get_column_page_reader(*column).map_err(fault)?;
            let pages = Capped::new(pages, about, Arc::clone(&self.entries));
            self.readers.push(get_column_reader(about.column_descr_ptr(), Box::new(pages)));
        }
        self.batch = batch as usize;
        Ok(())
    }
}

impl Batch {
    /// The number of its records.
    pub fn len(&self) -> usize {
        self.records
    }

    fn entries(&self, leaf: usize, record: usize) -> Range<usize> {
        let ends = &self.ends[leaf];
        record.checked_sub(1).map_or(0, |before| ends[before])..ends[record]
    }

    /// Bytes that a record takes once it is put together.
    pub fn weight(&self, record: usize) -> usize {
        let weight = |(at, leaf): (usize, &Leaf)| leaf.weight(self.entries(at, record));
        self.leaves.iter().enumerate().map(weight).sum()
    }

    /// Put a record together.
    pub fn row(&self, record: usize) -> Row {
        let cell = |field: &Node| {
            let entries: Vec<Range<usize>> =
                field.leaves.clone().map(|leaf| self.entries(leaf, record)).collect();
            Some((field.name.clone(), field.cell(&self.leaves, &entries)?))
        };
        self.fields.iter().filter_map(cell).collect()
    }
}

/// Whether a field holds bytes that stand for nothing but themselves.
pub(super) fn has_bytes(field: &Type) -> bool {
    if field.is_group() {
        return field.get_fields().iter().any(|field| has_bytes(field));
    }
    let info = field.get_basic_info();
    let meaning = Meaning::of(info.logical_type_ref(), info.converted_type(), field.get_scale());
    matches!(field.get_physical_type(), Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY)
        && meaning == Meaning::Plain
}
