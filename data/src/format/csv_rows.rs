//! CSV and TSV with a header.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::column_names::told_apart;
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
    let tabs = name.trim_end_matches(".gz").ends_with(".tsv");
    let open = |delimiter: u8| -> Result<_> {
        let (text, room) = Metered::new(open_text(path)?, HEADER);
        let (text, unclosed) = Quotes::new(text, delimiter);
        let mut rows = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text);
        let header = rows.byte_headers().map_err(fault)?.clone();
        Ok((rows, header, room, unclosed))
    };
    let usual = if tabs { b'\t' } else { b',' };
    // Where commas are part of numbers, spreadsheets write semicolons between fields, and names do not always tell. A
    // delimiter divides the first row as often as the header.
    let fits = |delimiter: u8| -> Result<bool> {
        let (mut rows, header, ..) = open(delimiter)?;
        let mut first = csv::ByteRecord::new();
        let read = rows.read_byte_record(&mut first).unwrap_or(false);
        Ok(header.len() > 1 && (!read || first.len() == header.len()))
    };
    let mut delimiter = usual;
    for other in [usual, b',', b';', b'\t', b'|'] {
        if fits(other)? {
            delimiter = other;
            break;
        }
    }
    let (mut rows, header, room, unclosed) = open(delimiter)?;
    let header: Result<Vec<String>, _> =
        header.iter().map(|name| Ok(utf8(name.to_vec())?.trim().to_owned())).collect();
    let header = header.map_err(|reject: Reject| Error::Shard {
        path: path.to_path_buf(),
        why: format!("its header: {}", reject.detail),
    })?;
    let unnamed = |(at, name): (usize, String)| if name.is_empty() { format!("Unnamed: {at}") } else { name };
    let (header, renamed) = told_apart(header.into_iter().enumerate().map(unnamed).collect());
    columns.note_renamed(path, renamed.as_ref());
    let header: Arc<[String]> = header.into();
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
        if unclosed.load(Ordering::Relaxed) {
            ended = true;
            let why = format!(
                "{}: a quotation mark opens a field of this row, and none closes it; this row and what follows it are lost",
                path.display()
            );
            return Some(Draw::refused(key, Reject::new("damaged-file", why)));
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

/// Text on its way to the parser, which takes a field that never ends for one that ends with the file.
struct Quotes<R> {
    inner: R,
    delimiter: u8,
    at: QuoteState,
    unclosed: Arc<AtomicBool>,
}

/// Where in a field a text is.
#[derive(Clone, Copy, PartialEq)]
enum QuoteState {
    Start,
    Plain,
    Quoted,
    /// Behind a quotation mark in a quoted field: its end, or the first of two that stand for one.
    Mark,
}

impl<R: Read> Quotes<R> {
    /// The text, and whether it has ended within quotation marks.
    fn new(inner: R, delimiter: u8) -> (Self, Arc<AtomicBool>) {
        let unclosed = Arc::new(AtomicBool::new(false));
        (Self { inner, delimiter, at: QuoteState::Start, unclosed: Arc::clone(&unclosed) }, unclosed)
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        for &byte in &buffer[..read] {
            self.at = match (self.at, byte) {
                (QuoteState::Start | QuoteState::Mark, b'"') => QuoteState::Quoted,
                (QuoteState::Quoted, b'"') => QuoteState::Mark,
                (QuoteState::Quoted, _) => QuoteState::Quoted,
                (_, byte) if byte == self.delimiter || matches!(byte, b'\n' | b'\r') => QuoteState::Start,
                _ => QuoteState::Plain,
            };
        }
        if read == 0 && !buffer.is_empty() && self.at == QuoteState::Quoted {
            self.unclosed.store(true, Ordering::Relaxed);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ReadSettings;
    use super::super::left_out::LeftOut;
    use super::super::media::Root;
    use super::super::named::Named;
    use super::*;

    /// The keys and texts of the samples of a table, and why the others were refused.
    fn rows(name: &str, text: &str) -> Vec<Result<(String, Option<String>), String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let root = Root::new(folder.path(), 1 << 20, Named::default());
        let columns = Columns::new(&ReadSettings::default(), root, LeftOut::default());
        let rows = read(&path, columns).unwrap();
        rows.map(|row| row.make().map(|s| (s.key, s.text)).map_err(|(_, reject)| reject.detail)).collect()
    }

    fn row(key: &str, text: &str) -> Result<(String, Option<String>), String> {
        Ok((key.to_owned(), Some(text.to_owned())))
    }

    #[test]
    fn fields_are_divided_as_the_header_is() {
        for (name, text) in [
            ("a.csv", "id,text\n1,\"red; or \"\"rot\"\"\"\n2,blue\n"),
            ("a.csv", "id;text\r\n1;\"red; or \"\"rot\"\"\"\r\n2;blue\r\n"),
            ("a.csv", "id\ttext\n1\t\"red; or \"\"rot\"\"\"\n2\tblue\n"),
            ("a.tsv", "id\ttext\n1\t\"red; or \"\"rot\"\"\"\n2\tblue\n"),
            ("a.csv", " id , text \n1,\"red; or \"\"rot\"\"\"\n2,blue\n"),
            ("a.csv", "id|text\n1|\"red; or \"\"rot\"\"\"\n2|blue\n"),
            ("a.tsv", "id,text\n1,\"red; or \"\"rot\"\"\"\n2,blue\n"),
            ("a.tsv", "id;text\n1;\"red; or \"\"rot\"\"\"\n2;blue\n"),
            // A comma in the name of a column, and none in the row.
            ("a.csv", "id;text;\"note, if any\"\n1;\"red; or \"\"rot\"\"\";a\n2;blue;b\n"),
            ("a.csv", "id;text;note, if any\n1;\"red; or \"\"rot\"\"\";a\n2;blue;b\n"),
        ] {
            assert_eq!(rows(name, text), [row("1", "red; or \"rot\""), row("2", "blue")], "{text:?}");
        }
        // Of one column nothing is known.
        assert_eq!(rows("a.csv", "text\na;b\n"), [row("a-00000000", "a;b")]);
    }

    #[test]
    fn a_field_that_never_ends_takes_no_rows_in_silence() {
        let found = rows("a.csv", "id,text\n1,red\n2,\"blue\n3,green\n");
        assert_eq!(found[0], row("1", "red"));
        assert!(found[1].as_ref().unwrap_err().contains("a quotation mark opens a field"), "{found:?}");
        assert_eq!(found.len(), 2);
        // Marks within a field, and one that the last field ends with, are none that open.
        let whole = "id,text\n1,5\" pipe\n2,\"a \"\"b\"\"\"\n3,\"c\"";
        assert_eq!(rows("a.csv", whole), [row("1", "5\" pipe"), row("2", "a \"b\""), row("3", "c")]);
    }
}
