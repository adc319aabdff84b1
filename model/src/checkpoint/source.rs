//! Bytes of files: mapped into memory, cut into spans, and read field by field without trusting them.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;

use super::error::{Error, Result, damaged, unreadable};

/// The bytes of one file, mapped or in memory.
pub(crate) struct Source {
    path: PathBuf,
    bytes: Bytes,
}

enum Bytes {
    Mapped {
        map: Mmap,
        /// To ask for its length again.
        file: File,
    },
    Memory(Vec<u8>),
}

/// Refuse what Git LFS leaves in the place of a file in a repository that was cloned without its large ones.
pub(super) fn not_a_pointer(path: &Path, bytes: &[u8]) -> Result<()> {
    match bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        true => {
            let why =
                "it is a pointer of Git LFS, and not the file: `git lfs pull` in its repository fetches that";
            Err(damaged(path, why))
        }
        false => Ok(()),
    }
}

/// Files up to this size are read, not mapped, so that nothing that happens to them later matters: 1 MiB.
const READ_WHOLE: u64 = 1 << 20;

impl Source {
    /// Map a file.
    pub fn map(path: &Path) -> Result<Arc<Source>> {
        let file = File::open(path).map_err(unreadable(path))?;
        let length = file.metadata().map_err(unreadable(path))?;
        if !length.is_file() {
            return Err(Error::NotACheckpoint { path: path.into(), why: "not a file".into() });
        }
        let bytes = if length.len() <= READ_WHOLE {
            Bytes::Memory(std::fs::read(path).map_err(unreadable(path))?)
        } else {
            // SAFETY: the map is read only, and Percept replaces checkpoints by renaming, so it never changes
            // what is mapped. Other programs could: `check_whole` finds a file that has become shorter before
            // a tensor is read from it, and one that is cut in the very moment of reading ends the process
            // with SIGBUS, as docs/checkpoints.md says. Bytes changed in place give other weights; they are
            // numbers, of which every bit pattern is one.
            let map = unsafe { Mmap::map(&file) }.map_err(unreadable(path))?;
            Bytes::Mapped { map, file }
        };
        let source = Source { path: path.to_path_buf(), bytes };
        not_a_pointer(path, source.bytes())?;
        Ok(Arc::new(source))
    }

    /// Bytes that are in memory already, under the name that errors give them.
    pub fn memory(name: &str, bytes: Vec<u8>) -> Arc<Source> {
        Arc::new(Source { path: name.into(), bytes: Bytes::Memory(bytes) })
    }

    /// The file, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped { map, .. } => map,
            Bytes::Memory(bytes) => bytes,
        }
    }

    /// That the file still has all the bytes that were mapped: touching one that is gone would end the
    /// process.
    pub fn check_whole(&self) -> Result<()> {
        let Bytes::Mapped { map, file } = &self.bytes else { return Ok(()) };
        let now = file.metadata().map_err(unreadable(&self.path))?.len();
        if now >= map.len() as u64 {
            return Ok(());
        }
        let why = format!(
            "it was cut from {} to {now} bytes while it is in use; put the file in place whole, by renaming, and load it again",
            map.len()
        );
        Err(damaged(&self.path, why))
    }

    /// Lets the system take back the memory of a part; it is read from the file again when someone looks.
    fn forget(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Bytes::Mapped { map, .. } = &self.bytes {
            // SAFETY: nothing ever writes to the map, so no change is lost with its pages, and they come back
            // from the file. Spans are made within it.
            let told =
                unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
            // A system that refuses keeps the pages, which costs memory and nothing else.
            drop(told);
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// A part of it; an error naming `what` when the file ends before.
    pub fn span(self: &Arc<Self>, range: Range<usize>, what: &str) -> Result<Span> {
        if self.bytes().get(range.clone()).is_none() {
            let (start, end, length) = (range.start, range.end, self.bytes().len());
            let why = format!("{what} lies at bytes {start}..{end}, but the file ends at {length}");
            return Err(damaged(&self.path, why));
        }
        Ok(Span { source: self.clone(), range })
    }
}

/// A part of a file that is known to exist. Keeps the file mapped.
#[derive(Clone)]
pub(crate) struct Span {
    source: Arc<Source>,
    range: Range<usize>,
}

impl Span {
    /// The file.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// As [`Source::check_whole`].
    pub fn check_whole(&self) -> Result<()> {
        self.source.check_whole()
    }

    /// Where in the file.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// A part of this part, both ends counted from its start.
    pub fn part(&self, range: Range<usize>, what: &str) -> Result<Span> {
        if range.start > range.end || range.end > self.range.len() {
            let (start, end, length) = (range.start, range.end, self.range.len());
            return Err(damaged(self.path(), format!("{what} needs bytes {start}..{end} of {length}")));
        }
        let start = self.range.start;
        Ok(Span { source: self.source.clone(), range: start + range.start..start + range.end })
    }
}

impl AsRef<[u8]> for Span {
    fn as_ref(&self) -> &[u8] {
        // Ranges are checked where spans are made; a source's bytes never change.
        self.source.bytes().get(self.range.clone()).unwrap_or_default()
    }
}

/// A span that someone reads once: a device copies a weight, and the file's pages then need no memory beside
/// the copy.
pub(crate) struct Lent(pub Span);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.0.source.forget(self.0.range.clone());
    }
}

/// Reads little-endian fields in order. Nothing is taken on trust: what lies past the end is an error that
/// says which field it is and where.
pub(crate) struct Fields<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// From the start of a file.
    pub fn new(source: &'a Source) -> Self {
        Self { path: source.path(), bytes: source.bytes(), at: 0 }
    }

    /// From a byte of a file.
    pub fn at(source: &'a Source, at: usize) -> Self {
        Self { path: source.path(), bytes: source.bytes(), at }
    }

    /// The byte that is read next.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes left.
    pub fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The file, for errors.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// This many bytes.
    pub fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8]> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        let Some(bytes) = end.and_then(|end| self.bytes.get(self.at..end)) else {
            let why = format!("{what} at byte {} takes {count} bytes, {} are left", self.at, self.left());
            return Err(damaged(self.path, why));
        };
        self.at += bytes.len();
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self, what: &str) -> Result<u8> {
        Ok(self.fixed::<1>(what)?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self, what: &str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.fixed(what)?))
    }

    /// Four bytes.
    pub fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.fixed(what)?))
    }

    /// Eight bytes.
    pub fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.fixed(what)?))
    }

    /// A number of things that take at least `each` bytes of the file, so that no more of them are promised
    /// than fit.
    pub fn bounded(&self, count: u64, each: u64, what: &str) -> Result<usize> {
        if count.saturating_mul(each.max(1)) > self.left() as u64 {
            let why =
                format!("{count} {what} are announced at byte {}, {} bytes are left", self.at, self.left());
            return Err(damaged(self.path, why));
        }
        usize::try_from(count).map_err(|_| damaged(self.path, format!("{count} {what} are announced")))
    }

    /// This many bytes of UTF-8.
    pub fn text(&mut self, count: u64, what: &str) -> Result<&'a str> {
        let at = self.at;
        let bytes = self.take(count, what)?;
        std::str::from_utf8(bytes)
            .map_err(|e| damaged(self.path, format!("{what} at byte {at} is not UTF-8: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_while_it_is_in_use_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        let large = READ_WHOLE as usize + 5000;
        std::fs::write(&path, vec![7; large]).unwrap();
        let source = Source::map(&path).unwrap();
        assert!(matches!(source.bytes, Bytes::Mapped { .. }));
        source.check_whole().unwrap();
        File::options().write(true).open(&path).unwrap().set_len(5000).unwrap();
        let why = source.check_whole().unwrap_err().to_string();
        assert!(why.contains(&format!("from {large} to 5000 bytes")), "{why}");

        std::fs::write(&path, [7; 5000]).unwrap();
        let small = Source::map(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        small.check_whole().unwrap();
        assert_eq!(small.bytes(), [7; 5000]);
    }
}
