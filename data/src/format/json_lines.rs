//! JSONL: one object a line.

use std::io::{BufRead, Read as _};
use std::path::Path;
use std::sync::Arc;

use super::read::{Draw, Drawn, Draws, row_key};
use super::rows::{Cell, Columns, LONGEST, json_object};
use super::text_file::open_text;
use crate::error::Result;
use crate::reject::Reject;

/// Rows whose columns are looked at before any is read, where columns are named.
pub(super) const LOOKED_AT: usize = 1000;
/// The most bytes that are read for it.
pub(super) const LOOKED_AT_BYTES: usize = 16 << 20;

/// The rows of a file.
pub(super) fn read(path: &Path, columns: Columns) -> Result<Draws> {
    if columns.are_named() {
        let mut lines = open_text(path)?;
        let mut next = || {
            let mut line = Vec::new();
            matches!(next_line(&mut lines, &mut line), Ok(1..)).then_some(line)
        };
        check_columns(path, &columns, &mut next)?;
    }
    let mut lines = Some(open_text(path)?);
    let (columns, path) = (Arc::new(columns), path.to_path_buf());
    let mut number = 0;
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            let key = row_key(&path, number);
            match next_line(lines.as_mut()?, &mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim_ascii().is_empty() => continue,
                Ok(_) => {}
                Err(error) => {
                    lines = None;
                    let why = format!("{}: {error}; the rows from here on are lost", path.display());
                    return Some(Draw::refused(key, Reject::new("unreadable", why)));
                }
            }
            number += 1;
            let columns = Arc::clone(&columns);
            return Some(Draw::new(line.len(), move || object(&line, &key, &columns)));
        }
    })))
}

/// Refuse columns that none of the first rows has.
pub(super) fn check_columns(
    path: &Path,
    columns: &Columns,
    next: &mut dyn FnMut() -> Option<Vec<u8>>,
) -> Result<()> {
    let (mut found, mut rows, mut bytes) = (Vec::<String>::new(), 0, 0);
    let of_all = loop {
        if rows == LOOKED_AT || bytes > LOOKED_AT_BYTES {
            break false;
        }
        let Some(row) = next() else { break true };
        rows += 1;
        bytes += row.len();
        for name in json_object(row.trim_ascii()).unwrap_or_default().keys() {
            if !found.contains(name) && found.len() < LOOKED_AT {
                found.push(name.clone());
            }
        }
    };
    // What has no row that could be read is refused for that.
    if found.is_empty() { Ok(()) } else { columns.check(path, &found, of_all) }
}

/// One line, up to the longest there may be; the rest of a longer one is skipped.
pub(super) fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    let read = lines.take(LONGEST as u64 + 1).read_until(b'\n', line)?;
    if line.len() > LONGEST {
        lines.skip_until(b'\n')?;
    }
    Ok(read)
}

/// The sample of an object's bytes.
pub(super) fn object(bytes: &[u8], key: &str, columns: &Columns) -> Drawn {
    let fields = json_object(bytes.trim_ascii()).map_err(|reject| (key.to_owned(), reject))?;
    columns.sample(fields.into_iter().map(|(name, value)| (name, Cell::Value(value))).collect(), key)
}
