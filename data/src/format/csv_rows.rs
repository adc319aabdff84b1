//! CSV and TSV with a header.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::read::{Draw, Draws, row_key};
use super::rows::{Cell, Columns, utf8};
use crate::error::{Error, Result};
use crate::reject::Reject;

/// The rows of a file; tabs divide those of a `.tsv`.
pub(super) fn read(path: &Path, columns: Columns) -> Result<Draws> {
    let fault = |why: String| Error::Shard { path: path.to_path_buf(), why };
    let delimiter =
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv")) { b'\t' } else { b',' };
    let mut rows = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .from_path(path)
        .map_err(|e| fault(e.to_string()))?;
    let header: Arc<[String]> =
        rows.headers().map_err(|e| fault(e.to_string()))?.iter().map(String::from).collect();
    let (columns, path) = (Arc::new(columns), path.to_path_buf());
    let mut number = 0;
    Ok(Box::new(rows.into_byte_records().map(move |record| {
        let (columns, header, key) = (Arc::clone(&columns), Arc::clone(&header), row_key(&path, number));
        number += 1;
        Box::new(move || {
            let record = match record {
                Ok(record) => record,
                Err(error) => return Err((key, Reject::new("malformed", error.to_string()))),
            };
            if record.len() != header.len() {
                let why = format!("it has {} fields, and the header {}", record.len(), header.len());
                return Err((key, Reject::new("malformed", why)));
            }
            let mut row = Vec::with_capacity(header.len());
            for (name, field) in header.iter().zip(&record) {
                let text = utf8(field.to_vec()).map_err(|reject| (key.clone(), reject))?;
                if !text.is_empty() {
                    row.push((name.clone(), Cell::Value(Value::String(text))));
                }
            }
            columns.sample(row, &key)
        }) as Draw
    })))
}
