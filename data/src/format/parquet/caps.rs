//! What a table says of its sizes, held against the bytes that are there, before memory is taken for any of it.
//!
//! The footer and the heads of pages are read here once more than the `parquet` crate reads them, since the crate takes
//! memory as they say, and follows schemas as deep as they go.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};

use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding, Type as Physical};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result as TableResult};
use parquet::file::metadata::ColumnChunkMetaData;

use super::thrift::{Compact, I32, LIST, STRUCT};

/// Bytes that a footer may have.
const FOOTER: u64 = 16 << 20;
/// Groups within groups of a schema.
const DEEPEST: usize = 32;
/// Columns of a table.
const MOST_COLUMNS: usize = 10_000;
/// Bytes that the head of a page may have; it may hold the page's least and greatest value.
const PAGE_HEAD: u64 = 16 << 20;
/// Bytes that any page may have decompressed,
const SMALL_PAGE: u64 = 64 << 20;
/// and those that are stored in a 64th of them.
const LARGE_PAGE: u64 = 1 << 30;
/// Entries of lists that are in memory at once.
pub(super) const ENTRIES: usize = 1 << 22;
/// Rows that a small table may have,
const ROWS: u64 = 1 << 17;
/// and for each byte of a larger one: where all rows are alike they take next to none.
const ROWS_PER_BYTE: u64 = 64;

/// Hold the footer of a file to its caps.
pub(super) fn check_footer(file: &File) -> Result<(), String> {
    let mut file = file;
    let length = file.metadata().map_err(|e| e.to_string())?.len();
    let mut end = [0; 8];
    if length < 12 {
        return Err(format!("it has {length} bytes, and no footer"));
    }
    file.seek(SeekFrom::End(-8)).and_then(|_| file.read_exact(&mut end)).map_err(|e| e.to_string())?;
    let size = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    let encrypted = || Err("it is encrypted; decrypt it first".to_owned());
    if &end[4..] == b"PARE" {
        return encrypted();
    }
    if &end[4..] != b"PAR1" {
        return Err("it does not end as Parquet does".into());
    }
    if size > length - 8 {
        return Err(format!("its footer says that it has {size} bytes, and the file has {length}"));
    }
    if size > FOOTER {
        return Err(format!("its footer has {size} bytes, and {FOOTER} are allowed"));
    }
    let start = length - 8 - size;
    file.seek(SeekFrom::Start(start)).map_err(|e| e.to_string())?;
    let mut footer = Compact::new(BufReader::new(file.take(size)), size);
    let rows = walk_footer(&mut footer).map_err(|why| format!("its footer makes no sense: {why}"))?;
    let Some(rows) = rows else { return encrypted() };
    let most = ROWS.saturating_add(length.saturating_mul(ROWS_PER_BYTE));
    if rows > most {
        return Err(format!(
            "it says that it has {rows} rows in {length} bytes, and at most {most} are accepted"
        ));
    }
    Ok(())
}

/// Pass over a footer, whose schema must not be too deep or wide; the rows of its row groups, or `None` where it says how
/// columns are encrypted.
fn walk_footer<R: std::io::Read>(footer: &mut Compact<R>) -> Result<Option<u64>, String> {
    let (mut last, mut rows) = (0, 0_u64);
    while let Some((field, kind)) = footer.field(&mut last)? {
        match (field, kind) {
            (8, STRUCT) => return Ok(None),
            (2, LIST) => walk_schema(footer)?,
            (4, LIST) => {
                let (kind, count) = footer.list()?;
                for _ in 0..count {
                    if kind != STRUCT {
                        return Err("its row groups are none".into());
                    }
                    let mut last = 0;
                    while let Some((field, kind)) = footer.field(&mut last)? {
                        match field {
                            3 if kind == 6 => {
                                let said = u64::try_from(footer.number()?).map_err(|e| e.to_string())?;
                                rows = rows.saturating_add(said);
                            }
                            _ => footer.skip(kind)?,
                        }
                    }
                }
            }
            _ => footer.skip(kind)?,
        }
    }
    Ok(Some(rows))
}

fn walk_schema<R: std::io::Read>(footer: &mut Compact<R>) -> Result<(), String> {
    let (kind, count) = footer.list()?;
    if kind != STRUCT || count > 2 * MOST_COLUMNS as u64 {
        return Err(format!("its schema has {count} fields, and {MOST_COLUMNS} columns are allowed"));
    }
    // The fields that each open group still waits for.
    let mut open: Vec<i64> = Vec::new();
    for _ in 0..count {
        let (mut last, mut children) = (0, 0);
        while let Some((field, kind)) = footer.field(&mut last)? {
            match (field, kind) {
                (5, I32) => children = footer.number()?,
                _ => footer.skip(kind)?,
            }
        }
        while open.last().is_some_and(|left| *left <= 0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if children < 0 || children > count as i64 {
            return Err(format!("a group of its schema has {children} fields"));
        }
        if children > 0 {
            open.push(children);
        }
        if open.len() > DEEPEST {
            return Err(format!("its schema is more than {DEEPEST} groups deep"));
        }
    }
    Ok(())
}

/// What the head of a page says.
#[derive(Default)]
struct Head {
    decompressed: i64,
    stored: i64,
    /// Entries of a page of data.
    values: i64,
    /// Values of a dictionary.
    dictionary: i64,
    /// Whether a value may begin as the one before it does.
    has_prefixes: bool,
    length: u64,
}

/// Hold the pages of a column to their caps. Returns the most bytes that a value may have of which the page has only the
/// end, because it begins as the one before it does.
pub(super) fn check_pages(file: &File, column: &ColumnChunkMetaData) -> Result<u64, String> {
    let (start, length) = (column.data_page_offset(), column.compressed_size());
    let start = column.dictionary_page_offset().filter(|at| *at > 0 && *at < start).unwrap_or(start);
    let size = file.metadata().map_err(|e| e.to_string())?.len();
    let (Ok(start), Ok(length)) = (u64::try_from(start), u64::try_from(length)) else {
        return Err("a column begins before its file".into());
    };
    let end = start.checked_add(length).filter(|end| *end <= size).ok_or("a column ends behind its file")?;
    let mut reader = BufReader::with_capacity(1 << 10, file);
    let (mut at, mut longest) = (start, 0);
    while at < end {
        reader.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
        let head = head(&mut reader, (end - at).min(PAGE_HEAD))
            .map_err(|why| format!("the head of a page makes no sense: {why}"))?;
        let body = at + head.length;
        check_page(&head, column)?;
        if head.has_prefixes {
            longest = longest.max(head.decompressed as u64);
        }
        let stored = head.stored as u64;
        at = body.checked_add(stored).filter(|next| *next <= end).ok_or("a page is cut off")?;
        // Gzip's decoder does not stop at the stated size, and makes a thousand bytes of one.
        if matches!(column.compression(), Compression::GZIP(_)) && stored.saturating_mul(1032) > SMALL_PAGE {
            reader.seek(SeekFrom::Start(body)).map_err(|e| e.to_string())?;
            let mut bytes =
                MultiGzDecoder::new(reader.by_ref().take(stored)).take(head.decompressed as u64 + 1);
            let found = std::io::copy(&mut bytes, &mut std::io::sink()).map_err(|e| e.to_string())?;
            if found > head.decompressed as u64 {
                return Err(format!("a page has more than the {} bytes that it says", head.decompressed));
            }
        }
    }
    Ok(longest)
}

fn check_page(head: &Head, column: &ColumnChunkMetaData) -> Result<(), String> {
    let Head { decompressed, stored, values, dictionary, .. } = *head;
    if [decompressed, stored, values, dictionary].iter().any(|number| *number < 0) {
        return Err("a page has a negative size".into());
    }
    let (decompressed, stored) = (decompressed as u64, stored as u64);
    if decompressed > SMALL_PAGE && (decompressed > LARGE_PAGE || decompressed / 64 > stored) {
        return Err(format!("a page of {stored} bytes says that it is {decompressed} bytes decompressed"));
    }
    let width: u64 = match column.column_type() {
        Physical::BYTE_ARRAY | Physical::INT32 | Physical::FLOAT => 4,
        Physical::INT64 | Physical::DOUBLE => 8,
        Physical::INT96 => 12,
        Physical::BOOLEAN | Physical::FIXED_LEN_BYTE_ARRAY => 1,
    };
    if (dictionary as u64).saturating_mul(width) > decompressed {
        return Err(format!("a dictionary of {decompressed} bytes says that it has {dictionary} values"));
    }
    if column.column_descr().max_rep_level() > 0 && values > ENTRIES as i64 {
        return Err(format!("a page of lists says that it has {values} entries, and {ENTRIES} are allowed"));
    }
    Ok(())
}

fn head(reader: impl std::io::Read, cap: u64) -> Result<Head, String> {
    let mut input = Compact::new(reader, cap);
    let (mut head, mut last) = (Head::default(), 0);
    while let Some((field, kind)) = input.field(&mut last)? {
        match (field, kind) {
            (2, I32) => head.decompressed = input.number()?,
            (3, I32) => head.stored = input.number()?,
            (5, STRUCT) => (head.values, head.has_prefixes) = counts(&mut input, 2)?,
            (8, STRUCT) => (head.values, head.has_prefixes) = counts(&mut input, 4)?,
            (7, STRUCT) => head.dictionary = counts(&mut input, 2)?.0,
            _ => input.skip(kind)?,
        }
    }
    head.length = input.taken;
    Ok(head)
}

/// The first field of a struct, which in each kind of page is its number of values, and whether the field `encoding` says
/// that values are stored without what they share with those before them.
fn counts<R: std::io::Read>(input: &mut Compact<R>, encoding: i64) -> Result<(i64, bool), String> {
    /// Thrift's number of the encoding.
    const DELTA_BYTE_ARRAY: i64 = 7;
    let (mut number, mut has_prefixes, mut last) = (0, false, 0);
    while let Some((field, kind)) = input.field(&mut last)? {
        match (field, kind) {
            (1, I32) => number = input.number()?,
            (field, I32) if field == encoding => has_prefixes = input.number()? == DELTA_BYTE_ARRAY,
            _ => input.skip(kind)?,
        }
    }
    Ok((number, has_prefixes))
}

/// The pages of a column, of which no row may have too many entries.
pub(super) struct Capped {
    pages: Box<dyn PageReader>,
    /// Whether entries are those of lists.
    is_repeated: bool,
    levels: (i16, i16),
    /// Entries since a batch of rows began.
    taken: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Capped {
    /// Pages of a column; `taken` is set to 0 where a batch begins.
    pub fn new(
        pages: Box<dyn PageReader>,
        column: &ColumnChunkMetaData,
        taken: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    ) -> Self {
        let about = column.column_descr();
        let levels = (about.max_rep_level(), about.max_def_level());
        Self { pages, is_repeated: levels.0 > 0, levels, taken }
    }

    fn check(&self, page: &Page) -> TableResult<()> {
        let general = |why: String| Err(ParquetError::General(why));
        if page.is_dictionary_page() {
            return Ok(());
        }
        let values = page.num_values() as usize;
        let before = self.taken.fetch_add(values, std::sync::atomic::Ordering::Relaxed);
        if self.is_repeated && before > ENTRIES {
            return general(format!("rows of its lists have more than {ENTRIES} entries"));
        }
        if matches!(page.encoding(), Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY) {
            let data = match page {
                Page::DataPageV2 { rep_levels_byte_len, def_levels_byte_len, buf, .. } => {
                    buf.get((*rep_levels_byte_len as usize).saturating_add(*def_levels_byte_len as usize)..)
                }
                _ => values_of_v1(page.buffer(), self.levels),
            };
            let lists = if page.encoding() == Encoding::DELTA_BYTE_ARRAY { 2 } else { 1 };
            if data.and_then(|data| lengths_fit(data, values, lists)).is_none() {
                return general("the lengths of its texts make no sense".into());
            }
        }
        Ok(())
    }
}

/// What follows the levels of a page of the first version, each with its length before it.
fn values_of_v1(page: &[u8], (repetition, definition): (i16, i16)) -> Option<&[u8]> {
    let mut rest = page;
    for _ in [repetition, definition].iter().filter(|level| **level > 0) {
        let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        rest = rest.get(4..)?.get(length..)?;
    }
    Some(rest)
}

/// Whether lists of numbers in blocks of deltas, one behind the other, have no more of them than the page has values.
fn lengths_fit(data: &[u8], values: usize, lists: usize) -> Option<()> {
    let mut rest = data;
    for _ in 0..lists {
        let block = usize::try_from(varint(&mut rest)?).ok()?;
        let parts = usize::try_from(varint(&mut rest)?).ok().filter(|parts| *parts > 0)?;
        let count = usize::try_from(varint(&mut rest)?).ok().filter(|count| *count <= values)?;
        varint(&mut rest)?;
        let (part, mut left) = (block / parts, count.saturating_sub(1));
        while left > 0 {
            varint(&mut rest)?;
            let widths = rest.get(..parts)?;
            rest = &rest[parts..];
            for width in widths {
                if left > 0 {
                    rest = rest.get((usize::from(*width)).checked_mul(part)? / 8..)?;
                    left = left.saturating_sub(part.max(1));
                }
            }
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

impl Iterator for Capped {
    type Item = TableResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Capped {
    fn get_next_page(&mut self) -> TableResult<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.as_ref().map_or(Ok(()), |page| self.check(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> TableResult<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> TableResult<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> TableResult<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use parquet::file::reader::{FileReader as _, SerializedFileReader};

    use super::*;

    fn varint_of(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value > 0x7f {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    /// What is said of a file with this footer.
    fn said(footer: &[u8]) -> String {
        let mut file = tempfile::tempfile().unwrap();
        let size = (footer.len() as u32).to_le_bytes();
        file.write_all(&[b"PAR1", footer, &size, b"PAR1"].concat()).unwrap();
        check_footer(&file).err().unwrap_or_default()
    }

    /// A list of structs in the field of a number.
    fn list(field: u8, count: u64, elements: &[u8]) -> Vec<u8> {
        [&[field << 4 | LIST, 0xf0 | STRUCT], varint_of(count).as_slice(), elements, &[0]].concat()
    }

    #[test]
    fn a_footer_is_held_to_what_there_is_of_it() {
        // A group of one field, within itself again and again.
        let group: &[u8] = &[0x50 | I32, 2, 0];
        assert!(said(&list(2, 20, &group.repeat(20))).is_empty());
        assert!(said(&list(2, 15_000, &group.repeat(15_000))).contains("groups deep"));
        assert!(said(&list(2, 1 << 40, group)).contains("no room for"));
        assert!(said(&list(2, 60_000, &group.repeat(60_000))).contains("10000 columns"));
        // Row groups with this many rows.
        let rows = |rows: u64| [&[0x36], varint_of(2 * rows).as_slice(), &[0]].concat();
        assert!(said(&list(4, 2, &rows(1000).repeat(2))).is_empty());
        assert!(said(&list(4, 2, &rows(1 << 20).repeat(2))).contains("2097152 rows"));
        assert!(said(&list(4, 1 << 50, &rows(1))).contains("no room for"));
        // A text as long as nothing is, structs without an end, and a list of lists of lists.
        assert!(said(&[&[0x18], varint_of(u64::MAX).as_slice()].concat()).contains("cut off"));
        assert!(said(&[0x1c; 5000]).contains("too deeply"));
        assert!(said(&[[0x19].as_slice(), &[0x19; 5000]].concat()).contains("too deeply"));
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"PAR1\xff\xff\xff\x7fPAR1").unwrap();
        assert!(check_footer(&file).unwrap_err().contains("footer says"));
    }

    #[test]
    fn pages_are_held_to_what_is_stored_of_them() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hugging-face.parquet");
        let table = SerializedFileReader::new(File::open(golden).unwrap()).unwrap();
        let columns = table.metadata().row_group(0).columns();
        let of_lists = columns.iter().find(|column| column.column_descr().max_rep_level() > 0).unwrap();
        let plain = &columns[0];
        let why = |head: Head, column| check_page(&head, column).err().unwrap_or_default();
        let page = |decompressed, stored, values, dictionary| Head {
            decompressed,
            stored,
            values,
            dictionary,
            ..Head::default()
        };
        assert!(why(page(1 << 20, 50, 1 << 30, 0), plain).is_empty());
        assert!(why(page(1 << 28, 1 << 23, 100, 0), plain).is_empty());
        assert!(why(page(1 << 28, 1 << 10, 100, 0), plain).contains("decompressed"));
        assert!(why(page(i64::from(i32::MAX), 1 << 28, 100, 0), plain).contains("decompressed"));
        assert!(why(page(1 << 10, 50, 0, 1 << 30), plain).contains("dictionary"));
        assert!(why(page(-1, 50, 0, 0), plain).contains("negative"));
        assert!(why(page(1 << 20, 50, 1 << 30, 0), of_lists).contains("entries"));
    }

    #[test]
    fn lengths_are_as_many_as_values() {
        // A block of 128 in one part, so many numbers, the first of them, and deltas of no bits.
        let lengths = |count: u64| [&[0x80, 1, 1], varint_of(count).as_slice(), &[0, 0, 0]].concat();
        assert!(lengths_fit(&lengths(100), 100, 1).is_some());
        assert!(lengths_fit(&lengths(101), 100, 1).is_none());
        assert!(lengths_fit(&lengths(u64::MAX), 100, 1).is_none());
        assert!(lengths_fit(&[lengths(100), lengths(100)].concat(), 100, 2).is_some());
        assert!(lengths_fit(&[lengths(100), lengths(1 << 31)].concat(), 100, 2).is_none());
    }
}
