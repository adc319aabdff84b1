//! Writing tables: images, videos and audio clips as lists of `{bytes, path}`, as Hugging Face has them, and
//! turns and metadata as the text of their JSON.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result as TableResult};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use crate::error::{Error, Result};
use crate::format::hashed::Hashed;
use crate::format::webdataset::Written;
use crate::sample::{Kind, Sample};

const SCHEMA: &str = "message sample {
    required binary key (STRING);
    required group images (LIST) {
        repeated group list { required group element { required binary bytes; required binary path (STRING); } }
    }
    required group videos (LIST) {
        repeated group list { required group element { required binary bytes; required binary path (STRING); } }
    }
    required group audios (LIST) {
        repeated group list { required group element { required binary bytes; required binary path (STRING); } }
    }
    optional binary text (STRING);
    optional binary messages (STRING);
    optional binary meta (STRING);
}";

/// A row group is written when it has so many bytes or rows.
const GROUP_BYTES: usize = 32 << 20;
const GROUP_ROWS: usize = 1000;

/// Writes one table, which appears when it is finished.
pub(crate) struct Writer {
    table: SerializedFileWriter<Hashed>,
    rows: Vec<Sample>,
    held: usize,
    samples: u64,
}

impl Writer {
    /// Begin the table `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let fault = |error: ParquetError| Error::Write { path: path.to_path_buf(), why: error.to_string() };
        let schema = Arc::new(parse_message_type(SCHEMA).map_err(fault)?);
        let mut properties =
            WriterProperties::builder().set_compression(Compression::SNAPPY).set_dictionary_enabled(false);
        for kind in ["images", "videos", "audios"] {
            // Media are compressed already.
            let path = [kind, "list", "element", "bytes"].map(String::from).to_vec();
            properties = properties.set_column_compression(ColumnPath::new(path), Compression::UNCOMPRESSED);
        }
        let properties = Arc::new(properties.build());
        let table = SerializedFileWriter::new(Hashed::create(path)?, schema, properties).map_err(fault)?;
        Ok(Self { table, rows: Vec::new(), held: 0, samples: 0 })
    }

    /// Bytes so far, with those that wait for their row group.
    pub fn bytes(&self) -> u64 {
        self.table.bytes_written() as u64 + self.held as u64
    }

    /// Samples written so far.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Add a sample.
    pub fn push(&mut self, sample: &Sample) -> Result<()> {
        self.held += sample.media.iter().map(|medium| medium.bytes.len()).sum::<usize>()
            + sample.text.as_ref().map_or(0, String::len);
        self.rows.push(sample.clone());
        self.samples += 1;
        if self.held >= GROUP_BYTES || self.rows.len() == GROUP_ROWS {
            self.flush()?;
        }
        Ok(())
    }

    /// Rename the table to its final name.
    pub fn finish(mut self) -> Result<Written> {
        self.flush()?;
        let path = self.table.inner().place().to_path_buf();
        let hashed = self.table.into_inner();
        let fault = |error: ParquetError| Error::Write { path, why: error.to_string() };
        hashed.map_err(fault)?.finish(self.samples)
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        self.held = 0;
        let place = self.table.inner().place().to_path_buf();
        self.group(&rows).map_err(|error| Error::Write { path: place, why: error.to_string() })
    }

    fn group(&mut self, rows: &[Sample]) -> TableResult<()> {
        let mut group = self.table.next_row_group()?;
        let mut put = |leaf: Entries| -> TableResult<()> {
            let Some(mut column) = group.next_column()? else {
                return Err(ParquetError::General("the schema has too few columns".into()));
            };
            if let ColumnWriter::ByteArrayColumnWriter(writer) = column.untyped() {
                writer.write_batch(&leaf.values, Some(&leaf.definitions), Some(&leaf.repetitions))?;
            }
            column.close()
        };
        put(Entries::single(rows.iter().map(|row| Some(ByteArray::from(row.key.as_str()))), 0))?;
        for kind in [Kind::Image, Kind::Video, Kind::Audio] {
            let media =
                |row: &Sample| row.media.iter().filter(|m| m.kind == kind).cloned().collect::<Vec<_>>();
            put(Entries::lists(rows.iter().map(|row| {
                media(row).iter().map(|medium| ByteArray::from(medium.bytes.to_vec())).collect()
            })))?;
            put(Entries::lists(rows.iter().map(|row| {
                let path = |(at, medium): (usize, &crate::Blob)| {
                    ByteArray::from(format!("{}.{at}.{}", row.key, medium.extension).into_bytes())
                };
                media(row).iter().enumerate().map(path).collect()
            })))?;
        }
        let json = |value: serde_json::Result<String>| {
            value
                .map(|text| ByteArray::from(text.into_bytes()))
                .map_err(|e| ParquetError::General(e.to_string()))
        };
        put(Entries::single(rows.iter().map(|row| row.text.as_deref().map(ByteArray::from)), 1))?;
        let messages = rows.iter().map(|row| {
            (!row.messages.is_empty()).then(|| json(serde_json::to_string(&row.messages))).transpose()
        });
        put(Entries::single(messages.collect::<TableResult<Vec<_>>>()?.into_iter(), 1))?;
        let meta = rows
            .iter()
            .map(|row| (!row.meta.is_empty()).then(|| json(serde_json::to_string(&row.meta))).transpose());
        put(Entries::single(meta.collect::<TableResult<Vec<_>>>()?.into_iter(), 1))?;
        group.close()?;
        Ok(())
    }
}

/// What a leaf holds: values and their levels.
struct Entries {
    values: Vec<ByteArray>,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

impl Entries {
    /// One value a row, defined to `most` where it is there.
    fn single(rows: impl Iterator<Item = Option<ByteArray>>, most: i16) -> Self {
        let mut entries = Self { values: Vec::new(), definitions: Vec::new(), repetitions: Vec::new() };
        for row in rows {
            entries.definitions.push(if row.is_some() { most } else { 0 });
            entries.repetitions.push(0);
            entries.values.extend(row);
        }
        entries
    }

    /// A list a row.
    fn lists(rows: impl Iterator<Item = Vec<ByteArray>>) -> Self {
        let mut entries = Self { values: Vec::new(), definitions: Vec::new(), repetitions: Vec::new() };
        for row in rows {
            if row.is_empty() {
                entries.definitions.push(0);
                entries.repetitions.push(0);
            }
            for (at, value) in row.into_iter().enumerate() {
                entries.definitions.push(1);
                entries.repetitions.push(i16::from(at > 0));
                entries.values.push(value);
            }
        }
        entries
    }
}
