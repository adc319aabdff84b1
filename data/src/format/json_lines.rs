//! JSONL: one object a line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::read::{Draw, Draws, row_key};
use super::rows::{Cell, Columns};
use crate::error::{Error, Result};
use crate::reject::Reject;

/// Bytes that a line, or an object of a list, may have.
pub(super) const LONGEST: usize = 64 << 20;

/// The rows of a file.
pub(super) fn read(path: &Path, columns: Columns) -> Result<Draws> {
    let file = File::open(path).map_err(Error::read(path))?;
    let mut lines = BufReader::with_capacity(1 << 18, file);
    let (columns, path) = (Arc::new(columns), path.to_path_buf());
    let mut number = 0;
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            let key = row_key(&path, number);
            match next_line(&mut lines, &mut line) {
                Ok(0) => return None,
                Ok(_) if line.trim_ascii().is_empty() => continue,
                Ok(_) => {}
                Err(error) => {
                    lines = BufReader::new(File::open("/dev/null").ok()?);
                    let reject = Reject::new("unreadable", format!("{}: {error}", path.display()));
                    return Some(Box::new(move || Err((key, reject))) as Draw);
                }
            }
            number += 1;
            let columns = Arc::clone(&columns);
            return Some(Box::new(move || object(&line, &key, &columns)) as Draw);
        }
    })))
}

/// One line, up to the longest there may be; the rest of a longer one is skipped.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<usize> {
    let read = lines.take(LONGEST as u64 + 1).read_until(b'\n', line)?;
    if line.len() > LONGEST {
        lines.skip_until(b'\n')?;
    }
    Ok(read)
}

/// The sample of an object's bytes.
pub(super) fn object(bytes: &[u8], key: &str, columns: &Columns) -> super::read::Drawn {
    let refuse = |reason, detail: String| Err((key.to_owned(), Reject::new(reason, detail)));
    if bytes.len() > LONGEST {
        return refuse("too-large", format!("it has more than {LONGEST} bytes"));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return refuse("not-utf8", format!("it is not UTF-8 at byte {}", error.valid_up_to())),
    };
    match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(fields) => columns.sample(fields.into_iter().map(|(k, v)| (k, Cell::Value(v))).collect(), key),
        Err(error) => refuse("malformed", format!("it is no JSON object: {error}")),
    }
}
