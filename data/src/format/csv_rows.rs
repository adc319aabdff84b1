//! CSV and TSV with a header.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::Value;

use super::read::{Draw, Draws, row_key};
use super::rows::{Cell, Columns, LONGEST, utf8};
use super::text_file::{Metered, open_text};
use crate::error::{Error, Result};
use crate::reject::Reject;

/// Bytes that a header may have.
const HEADER: u64 = 1 << 20;

/// The rows of a file; tabs divide those of a `.tsv`. Where a row does not end the rest of the file is one reject.
pub(super) fn read(path: &Path, columns: Columns) -> Result<Draws> {
    let fault = |e: csv::Error| Error::Shard { path: path.to_path_buf(), why: e.to_string() };
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let delimiter = if name.trim_end_matches(".gz").ends_with(".tsv") { b'\t' } else { b',' };
    let (text, room) = Metered::new(open_text(path)?, HEADER);
    let mut rows = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text);
    let header = rows.byte_headers().map_err(fault)?.clone();
    let header: Result<Arc<[String]>, _> = header.iter().map(|name| utf8(name.to_vec())).collect();
    let header = header.map_err(|reject| Error::Shard {
        path: path.to_path_buf(),
        why: format!("its header: {}", reject.detail),
    })?;
    columns.check(path, &header, true)?;
    let (columns, path) = (Arc::new(columns), path.to_path_buf());
    let (mut number, mut ended) = (0, false);
    Ok(Box::new(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let (columns, header, key) = (Arc::clone(&columns), Arc::clone(&header), row_key(&path, number));
        number += 1;
        room.store(LONGEST as u64, Ordering::Relaxed);
        let mut record = csv::ByteRecord::new();
        match rows.read_byte_record(&mut record) {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => {
                ended = true;
                let why = format!("{}: {error}; the rows from here on are lost", path.display());
                return Some(Draw::refused(key, Reject::new("damaged-file", why)));
            }
        }
        if record.len() != header.len() {
            let why = format!("it has {} fields, and the header {}", record.len(), header.len());
            return Some(Draw::refused(key, Reject::new("malformed", why)));
        }
        Some(Draw::new(record.as_slice().len(), move || {
            let mut row = Vec::with_capacity(header.len());
            for (name, field) in header.iter().zip(&record) {
                let text = utf8(field.to_vec()).map_err(|reject| (key.clone(), reject))?;
                if !text.is_empty() {
                    row.push((name.clone(), Cell::Value(Value::String(text))));
                }
            }
            columns.sample(row, &key)
        }))
    })))
}
