//! Lists of addresses with captions: text, CSV, JSONL and Parquet.

use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::atomic::Ordering;

use percept_data::format::{Metered, open_text};
use serde_json::{Map, Value};
use url::Url;

use super::error::Error;
use super::item::{Item, Task};
use super::list_parquet;
use super::source::Format;
use super::status::Outcome;

/// A line that is longer holds no address.
pub(super) const LONGEST_LINE: u64 = 1 << 20;

/// An address that is longer is none.
const LONGEST_URL: usize = 1 << 13;

/// Give each line of a list to `emit`, in order. `name` is what the list is called in errors.
///
/// # Errors
/// [`Error::List`] for a list that cannot be read or has no column of addresses; what is wrong with a line is
/// in its item.
pub(super) fn read(
    path: &Path,
    format: Format,
    name: &str,
    emit: &mut dyn FnMut(Item) -> Result<(), Error>,
) -> Result<(), Error> {
    match format {
        Format::Text => text(path, name, emit),
        Format::Csv => csv(path, b',', name, emit),
        Format::Tsv => csv(path, b'\t', name, emit),
        Format::Jsonl => jsonl(path, name, emit),
        Format::Parquet => list_parquet::read(path, name, emit),
    }
}

pub(super) fn bad(name: &str, line: u64, why: &str) -> Item {
    Item::bad(format!("{name}:{line}"), Outcome::Invalid, why)
}

fn text(path: &Path, name: &str, emit: &mut dyn FnMut(Item) -> Result<(), Error>) -> Result<(), Error> {
    lines(path, name, &mut |number, line| match line {
        Ok(line) if line.trim().is_empty() || line.starts_with('#') => Ok(()),
        Ok(line) => emit(item(name, number, line.trim(), None, Map::new())),
        Err(why) => emit(bad(name, number, why)),
    })
}

fn jsonl(path: &Path, name: &str, emit: &mut dyn FnMut(Item) -> Result<(), Error>) -> Result<(), Error> {
    lines(path, name, &mut |number, line| {
        let line = match line {
            Ok(line) if line.trim().is_empty() => return Ok(()),
            Ok(line) => line,
            Err(why) => return emit(bad(name, number, why)),
        };
        emit(match serde_json::from_str(line) {
            Ok(Value::Object(row)) => of_row(name, number, row),
            Ok(_) => bad(name, number, "it is not a JSON object"),
            Err(error) => bad(name, number, &format!("it is not JSON: {error}")),
        })
    })
}

/// Lines without their ends, numbered from 1. Those that are too long or not UTF-8 come as the reason.
fn lines(
    path: &Path,
    name: &str,
    each: &mut dyn FnMut(u64, Result<&str, &str>) -> Result<(), Error>,
) -> Result<(), Error> {
    let fault = |e: std::io::Error| Error::list(name)(e.to_string());
    let mut reader = open_text(path).map_err(|e| Error::list(name)(e.to_string()))?;
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        number += 1;
        if (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(fault)? == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST_LINE {
            reader.skip_until(b'\n').map_err(fault)?;
            each(number, Err("the line is longer than a megabyte"))?;
            continue;
        }
        let bytes = line.trim_ascii_end();
        each(number, std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8"))?;
    }
}

fn csv(
    path: &Path,
    delimiter: u8,
    name: &str,
    emit: &mut dyn FnMut(Item) -> Result<(), Error>,
) -> Result<(), Error> {
    let fault = |e: csv::Error| Error::list(name)(e.to_string());
    let text = open_text(path).map_err(|e| Error::list(name)(e.to_string()))?;
    let (text, room) = Metered::new(text, LONGEST_LINE);
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(text);
    let head = reader.byte_headers().map_err(fault)?.clone();
    let columns: Vec<String> = head.iter().map(|c| String::from_utf8_lossy(c).trim().to_owned()).collect();
    needs_address(name, columns.iter().map(String::as_str))?;
    let mut record = csv::ByteRecord::new();
    loop {
        // Rows are read ahead in blocks, so one has a little less room than this.
        room.store(LONGEST_LINE, Ordering::Relaxed);
        let line = reader.position().line();
        match reader.read_byte_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return emit(bad(name, line, &format!("{error}; the rows from here on are lost"))),
        }
        let number = record.position().map_or(0, csv::Position::line);
        if record.len() != columns.len() {
            let why = format!("it has {} fields, and the header has {}", record.len(), columns.len());
            emit(bad(name, number, &why))?;
            continue;
        }
        let texts: Result<Vec<&str>, _> = record.iter().map(std::str::from_utf8).collect();
        emit(match texts {
            Ok(texts) => {
                let row = columns.iter().cloned().zip(texts.into_iter().map(Value::from)).collect();
                of_row(name, number, row)
            }
            Err(_) => bad(name, number, "it is not UTF-8"),
        })?;
    }
}

fn is_address(column: &str) -> bool {
    column.eq_ignore_ascii_case("url")
}

fn is_caption(column: &str) -> bool {
    column.eq_ignore_ascii_case("caption") || column.eq_ignore_ascii_case("text")
}

/// Refuse a list that has no column of addresses.
pub(super) fn needs_address<'a>(name: &str, columns: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let columns: Vec<&str> = columns.collect();
    if columns.iter().any(|c| is_address(c)) {
        return Ok(());
    }
    Err(Error::list(name)(format!("it has no column 'url'; its columns are {}", columns.join(", "))))
}

/// An item of a row: its address, caption and hash; the other columns are kept as they are.
pub(super) fn of_row(name: &str, line: u64, row: Map<String, Value>) -> Item {
    let (mut url, mut caption, mut sha256, mut meta) = (None, None, None, Map::new());
    for (column, value) in row {
        match value {
            Value::String(text) if is_address(&column) && url.is_none() => url = Some(text),
            Value::String(text) if is_caption(&column) && caption.is_none() => caption = Some(text),
            Value::String(text) if column == "sha256" && is_sha256(&text) => sha256 = Some(text),
            Value::Null => {}
            value => {
                meta.insert(column, value);
            }
        }
    }
    match url {
        Some(url) => Item { sha256, ..item(name, line, url.trim(), caption, meta) },
        None => bad(name, line, "it has no text in the column 'url'"),
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn item(name: &str, line: u64, url: &str, caption: Option<String>, meta: Map<String, Value>) -> Item {
    if url.len() > LONGEST_URL {
        return bad(name, line, "its address is longer than 8192 bytes");
    }
    match address(url) {
        Ok(url) => Item { caption, meta, ..Item::new(url, Task::Sample) },
        Err((outcome, why)) => Item { caption, meta, ..Item::bad(url, outcome, why) },
    }
}

/// An address in its usual form, or why it is none.
pub(super) fn address(url: &str) -> Result<Url, (Outcome, String)> {
    let mut parsed =
        Url::parse(url).map_err(|e| (Outcome::Invalid, format!("its address is not one: {e}")))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        let why = format!("it leads to {}, and only http(s) is followed", parsed.scheme());
        return Err((Outcome::Refused, why));
    }
    parsed.set_fragment(None);
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &str, bytes: &[u8], format: Format) -> Result<Vec<Item>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, bytes).unwrap();
        let mut items = Vec::new();
        read(&path, format, file, &mut |item| {
            items.push(item);
            Ok(())
        })?;
        Ok(items)
    }

    fn reason(item: &Item) -> &str {
        match &item.task {
            Task::Bad { reason, .. } => reason,
            _ => panic!("{item:?} is good"),
        }
    }

    #[test]
    fn a_text_has_an_address_per_line() {
        let items = of(
            "l.txt",
            b"\xef\xbb\xbfhttp://a.example/\xc3\xa4 b\r\n\n# no\nftp://b/x\nx\xff\nnothing",
            Format::Text,
        );
        let items = items.unwrap();
        assert_eq!(items[0].url, "http://a.example/%C3%A4%20b");
        assert_eq!(items[0].task, Task::Sample);
        assert!(reason(&items[1]).contains("ftp"));
        assert_eq!((items[2].url.as_str(), reason(&items[2])), ("l.txt:5", "it is not UTF-8"));
        assert!(reason(&items[3]).contains("not one"));
        assert_eq!(items.len(), 4);
    }

    #[test]
    fn columns_are_found_by_name_and_the_rest_is_kept() {
        let hash = "ab".repeat(32);
        let list = format!(
            "id,URL,TEXT,sha256\n1,http://a.example/1,\"a, b\",{hash}\n2,http://a.example/2\n3,,x,\n"
        );
        let items = of("l.csv", list.as_bytes(), Format::Csv).unwrap();
        assert_eq!((items[0].caption.as_deref(), items[0].sha256.as_ref()), (Some("a, b"), Some(&hash)));
        assert_eq!(items[0].meta["id"], "1");
        assert!(reason(&items[1]).contains("2 fields"));
        assert!(reason(&items[2]).contains("not one"), "{items:?}");
        let error = of("l.csv", b"id,link\n1,http://a.example\n", Format::Csv).unwrap_err();
        assert!(error.to_string().contains("no column 'url'; its columns are id, link"), "{error}");
        let items = of("l.tsv", b"caption\turl\nx\thttp://a.example/\n", Format::Tsv).unwrap();
        assert_eq!((items[0].caption.as_deref(), items[0].url.as_str()), (Some("x"), "http://a.example/"));
    }

    #[test]
    fn a_quote_that_is_not_closed_ends_a_list_and_takes_no_memory() {
        let mut list = b"\xef\xbb\xbfurl\nhttp://a.example/1\n\"http://a.example/2".to_vec();
        list.resize(4 << 20, b'x');
        let items = of("l.csv", &list, Format::Csv).unwrap();
        assert_eq!((items.len(), items[0].url.as_str()), (2, "http://a.example/1"));
        assert!(reason(&items[1]).contains("one of its rows is too long"), "{}", items[1].url);
        let wide: Vec<u8> = "\u{feff}url\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (file, format) in [("l.csv", Format::Csv), ("l.txt", Format::Text), ("l.jsonl", Format::Jsonl)] {
            assert!(of(file, &wide, format).unwrap_err().to_string().contains("UTF-16"));
        }
    }

    #[test]
    fn bad_lines_of_json_are_named_and_cost_no_others() {
        let mut list =
            b"{\"url\": \"http://a.example/1\", \"caption\": \"c\", \"width\": 3}\n[]\n{\"u\n{\"x\": 1}\n"
                .to_vec();
        list.extend_from_slice(&vec![b'x'; 3 << 20]);
        list.extend_from_slice(b"\n{\"url\": \"http://a.example/2\", \"caption\": null}");
        let items = of("l.jsonl", &list, Format::Jsonl).unwrap();
        assert_eq!((items[0].caption.as_deref(), &items[0].meta["width"]), (Some("c"), &Value::from(3)));
        assert_eq!(items[1].url, "l.jsonl:2");
        assert!(reason(&items[2]).contains("not JSON") && reason(&items[3]).contains("'url'"));
        assert!(reason(&items[4]).contains("megabyte"));
        assert_eq!((items[5].url.as_str(), items[5].caption.as_ref()), ("http://a.example/2", None));
    }
}
