//! JSON: one list of objects, such as LLaVA's conversations, read object by object.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;

use super::json_lines::{check_columns, object};
use super::read::{Draw, Draws, row_key};
use super::rows::{Columns, LONGEST};
use super::text_file::open_text;
use crate::error::{Error, Result};
use crate::reject::Reject;

/// The objects of a file.
pub(super) fn read(path: &Path, columns: Columns) -> Result<Draws> {
    let open = || {
        let mut objects = Objects { bytes: open_text(path)?, ended: false };
        objects.open().map_err(|why| Error::Shard { path: path.to_path_buf(), why })?;
        Ok::<_, Error>(objects)
    };
    if columns.are_named() {
        let mut objects = open()?;
        check_columns(path, &columns, &mut || objects.next()?.ok())?;
    }
    let mut objects = open()?;
    let (columns, path) = (Arc::new(columns), path.to_path_buf());
    let mut number = 0;
    Ok(Box::new(std::iter::from_fn(move || {
        let key = row_key(&path, number);
        number += 1;
        let columns = Arc::clone(&columns);
        Some(match objects.next()? {
            Ok(bytes) => Draw::new(bytes.len(), move || object(&bytes, &key, &columns)),
            Err(why) => Draw::refused(key, Reject::new("damaged-file", format!("{}: {why}", path.display()))),
        })
    })))
}

/// Cuts a list into its elements without understanding them.
struct Objects<R> {
    bytes: R,
    ended: bool,
}

impl<R: BufRead> Objects<R> {
    /// Step over the list's opening bracket.
    fn open(&mut self) -> Result<(), String> {
        match self.skip_to_next()? {
            Some(b'[') => {
                self.bytes.consume(1);
                Ok(())
            }
            _ => Err("it is no JSON list; use jsonl for one object a line".into()),
        }
    }

    /// The next byte that is neither white nor a comma, which is left in place.
    fn skip_to_next(&mut self) -> Result<Option<u8>, String> {
        loop {
            let buffer = self.bytes.fill_buf().map_err(|e| e.to_string())?;
            if buffer.is_empty() {
                return Ok(None);
            }
            match buffer.iter().position(|b| !b.is_ascii_whitespace() && *b != b',') {
                Some(at) => {
                    let found = buffer[at];
                    self.bytes.consume(at);
                    return Ok(Some(found));
                }
                None => {
                    let length = buffer.len();
                    self.bytes.consume(length);
                }
            }
        }
    }

    /// The bytes of the next element. One that is too long comes cut, one byte over the cap.
    fn next(&mut self) -> Option<Result<Vec<u8>, String>> {
        if self.ended {
            return None;
        }
        let element = self.element();
        self.ended = !matches!(element, Ok(Some(_)));
        element.transpose()
    }

    fn element(&mut self) -> Result<Option<Vec<u8>>, String> {
        match self.skip_to_next()? {
            None => return Err("it ends before its list does".into()),
            Some(b']') => return Ok(None),
            Some(b'{') => {}
            Some(other) => {
                return Err(format!("its list has an element that begins with '{}'", char::from(other)));
            }
        }
        let mut element = Vec::new();
        let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
        loop {
            let buffer = self.bytes.fill_buf().map_err(|e| e.to_string())?;
            if buffer.is_empty() {
                return Err("it ends within an object".into());
            }
            let mut used = 0;
            let mut whole = false;
            for byte in buffer {
                used += 1;
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_text => escaped = true,
                    b'"' => in_text = !in_text,
                    b'{' | b'[' if !in_text => depth += 1,
                    b'}' | b']' if !in_text => {
                        depth = depth.saturating_sub(1);
                        whole = depth == 0;
                    }
                    _ => {}
                }
                if whole {
                    break;
                }
            }
            let room = (LONGEST + 1).saturating_sub(element.len());
            element.extend_from_slice(&buffer[..used.min(room)]);
            self.bytes.consume(used);
            if whole {
                return Ok(Some(element));
            }
        }
    }
}
