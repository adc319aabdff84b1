//! Files of text: unpacked where gzip packed them, and without the mark that some editors put before them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::sniff::packed;
use crate::error::{Error, Result};

const BUFFER: usize = 1 << 18;

/// A file of UTF-8 text. Its byte order mark is passed over.
///
/// # Errors
/// When the file cannot be read, is UTF-16, or is packed otherwise than with gzip.
pub fn open_text(path: &Path) -> Result<Box<dyn BufRead + Send>> {
    let mut file = BufReader::with_capacity(BUFFER, File::open(path).map_err(Error::read(path))?);
    let text: Box<dyn BufRead + Send> = match packed(file.fill_buf().map_err(Error::read(path))?) {
        Some("gzip") => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(file))),
        Some(other) => {
            let why = format!("it is packed with {other}; unpack it");
            return Err(Error::Read { path: path.to_path_buf(), why });
        }
        None => Box::new(file),
    };
    without_mark(text).map_err(Error::read(path))
}

fn without_mark(mut text: Box<dyn BufRead + Send>) -> io::Result<Box<dyn BufRead + Send>> {
    let head = text.fill_buf()?;
    let marks: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];
    // Without a mark every other byte of text is zero.
    let is_wide = marks.iter().any(|mark| head.starts_with(mark))
        || matches!(head, [0, a, 0, b, ..] | [a, 0, b, 0, ..] if *a > 0 && *b > 0);
    if is_wide {
        return Err(io::Error::other("it is UTF-16 or UTF-32 text; save it as UTF-8"));
    }
    if head.starts_with(b"\xef\xbb\xbf") {
        text.consume(3);
    }
    Ok(text)
}

/// Text that stops being given where one record of it would have more than its room.
pub struct Metered<R> {
    inner: R,
    /// Bytes that the record may still have. Readers ahead of it make it a little less than it is.
    room: Arc<AtomicU64>,
}

impl<R: Read> Metered<R> {
    /// The text, and the room, which whoever reads it sets again at each record.
    pub fn new(inner: R, room: u64) -> (Self, Arc<AtomicU64>) {
        let room = Arc::new(AtomicU64::new(room));
        (Self { inner, room: Arc::clone(&room) }, room)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(out)?;
        let room = self.room.load(Ordering::Relaxed);
        match room.checked_sub(read as u64) {
            Some(left) => self.room.store(left, Ordering::Relaxed),
            None => {
                return Err(io::Error::other("one of its rows is too long; perhaps a quote is not closed"));
            }
        }
        Ok(read)
    }
}
