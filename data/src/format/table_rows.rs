//! The rows of a table for those who know its columns: values, and media where they are asked for.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::json_lines::next_line;
use super::left_out::LeftOut;
use super::media::Root;
use super::named::Named;
use super::parquet::{RawRows, RowFault};
use super::read::{Format, ReadSettings};
use super::rows::{Cell, Columns, LONGEST, Row, json_object};
use super::text_file::open_text;
use crate::error::{Error, Result};
use crate::reject::Reject;
use crate::sample::{Blob, Kind, Sample};

/// The rows of a Parquet or JSONL file in order.
pub struct TableRows {
    rows: Source,
    columns: Arc<Columns>,
    names: Option<Vec<String>>,
}

enum Source {
    Parquet(RawRows),
    Lines(Option<Box<dyn BufRead + Send>>),
}

/// One row: values, and media that are put together when they are asked for.
pub struct TableRow {
    row: Row,
    columns: Arc<Columns>,
}

impl TableRows {
    /// The rows of the file at `path`. A medium may have `cap` bytes; files that rows name lie in `folder`.
    ///
    /// # Errors
    /// When the file cannot be read, or is neither Parquet nor JSONL.
    pub fn open(path: &Path, folder: &Path, cap: u64) -> Result<Self> {
        let longest = cap.saturating_add(LONGEST as u64);
        let rows = match Format::of(path) {
            Some(Format::Parquet) => Source::Parquet(RawRows::open(path, longest)?),
            Some(Format::Jsonl) => Source::Lines(Some(open_text(path)?)),
            _ => {
                let path = path.display();
                return Err(Error::Config(format!(
                    "{path}: it is no .parquet and no .jsonl file, which are read"
                )));
            }
        };
        let names = match &rows {
            Source::Parquet(rows) => Some(rows.names()),
            Source::Lines(_) => None,
        };
        let root = Root::new(folder, cap, Named::default());
        let columns = Columns::new(&ReadSettings::default(), root, LeftOut::default());
        Ok(Self { rows, columns: Arc::new(columns), names })
    }

    /// The names of all columns; `None` where each row has its own.
    pub fn names(&self) -> Option<&[String]> {
        self.names.as_deref()
    }

    fn line(lines: &mut Option<Box<dyn BufRead + Send>>) -> Option<std::result::Result<Row, Reject>> {
        loop {
            let mut line = Vec::new();
            match next_line(lines.as_mut()?, &mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim_ascii().is_empty() => continue,
                Ok(_) => {}
                Err(error) => {
                    *lines = None;
                    return Some(Err(Reject::new(
                        "unreadable",
                        format!("{error}; the rows from here on are lost"),
                    )));
                }
            }
            let values = |fields: Map<String, Value>| {
                fields.into_iter().map(|(name, value)| (name, Cell::Value(value)))
            };
            return Some(json_object(line.trim_ascii()).map(|fields| values(fields).collect()));
        }
    }
}

impl Iterator for TableRows {
    type Item = std::result::Result<TableRow, Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = match &mut self.rows {
            Source::Parquet(rows) => rows.next().map(|row| row.map_err(refused)),
            Source::Lines(lines) => Self::line(lines),
        };
        Some(row?.map(|row| TableRow { row, columns: Arc::clone(&self.columns) }))
    }
}

fn refused(fault: RowFault) -> Reject {
    match fault {
        RowFault::TooLong => Reject::new("too-large", "its row has more bytes than are allowed"),
        RowFault::NotUtf8 => Reject::new("not-utf8", "one of its texts is not UTF-8"),
        RowFault::Lost(why) => Reject::new("damaged-file", why),
    }
}

impl TableRow {
    /// The names of its columns.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.row.iter().map(|(name, _)| name.as_str())
    }

    /// Whether a column holds anything.
    pub fn has(&self, column: &str) -> bool {
        self.row.iter().any(|(name, cell)| name == column && *cell != Cell::Value(Value::Null))
    }

    /// What its columns hold, without bytes.
    pub fn values(&self) -> Map<String, Value> {
        self.row.iter().filter_map(|(name, cell)| Some((name.clone(), value(cell)?))).collect()
    }

    /// The media of a column: bytes, a file that it names, or lists of them. None where it is null.
    ///
    /// # Errors
    /// When what is there is no medium of this kind, is too large, or names no file of the folder.
    pub fn media(&self, column: &str, kind: Kind) -> std::result::Result<Vec<Blob>, Reject> {
        let cell = self.row.iter().find(|(name, _)| name == column).map(|(_, cell)| cell.clone());
        let mut sample = Sample::default();
        self.columns.add(&mut sample, kind, cell)?;
        Ok(sample.media)
    }

    /// The medium of a file of the folder.
    ///
    /// # Errors
    /// As [`TableRow::media`].
    pub fn file(&self, name: &str, kind: Kind) -> std::result::Result<Blob, Reject> {
        self.columns.root.load(name, Some(kind))
    }
}

/// What a cell holds but bytes.
fn value(cell: &Cell) -> Option<Value> {
    match cell {
        Cell::Value(value) => Some(value.clone()),
        Cell::Bytes(..) => None,
        Cell::List(cells) => Some(Value::Array(cells.iter().filter_map(value).collect()))
            .filter(|list| *list != Value::Array(Vec::new())),
        Cell::Struct(fields) => Some(Value::Object(
            fields.iter().filter_map(|(name, cell)| Some((name.clone(), value(cell)?))).collect(),
        )),
    }
}
