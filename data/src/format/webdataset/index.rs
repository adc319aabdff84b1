//! Shards by index: any sample, without reading those before it.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::entries::{Entries, Member, Source};
use super::files::{Gathered, Rules};
use super::read::{DEFAULT_CAP, Stream, opened, read_one};
use crate::error::{Error, Result};
use crate::format::Fault;
use crate::sample::{Kind, Sample};

/// What gzip may make of a byte, on average over a file that unpacks to more than [`SMALL`]. Text comes to
/// ten or so.
const EXPANSION: u64 = 200;
/// Unpacked bytes that no shard is refused for.
const SMALL: u64 = 1 << 26;

/// A shard of which any sample can be read, from any thread.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    /// The shard, or what it was unpacked to.
    file: File,
    /// Where each sample ends; the first begins at 0 and each other where the one before it ends.
    ends: Vec<u64>,
    is_open: bool,
}

impl Shard {
    /// Find the samples of a shard, `.tar` or packed with gzip, as [`read`](super::read) gives them. Of a
    /// plain one the headers alone are read; one that gzip packed is unpacked to a file in the system's
    /// folder for temporary files, which has no name and is gone when the shard is closed. Memory: eight
    /// bytes a sample.
    ///
    /// # Errors
    /// A shard that is damaged, or cut off inside a file. A sample that is bad counts, and is an error when
    /// it is read.
    pub fn open(path: &Path) -> Result<Self> {
        let damaged = |why: String| Error::Shard { path: path.to_path_buf(), why };
        let (file, is_packed) = opened(path)?;
        if !is_packed {
            let length = file.metadata().map_err(Error::read(path))?.len();
            let (ends, is_open) = find(FileSection { file: &file, at: 0, length }).map_err(damaged)?;
            return Ok(Self { path: path.to_path_buf(), file, ends, is_open });
        }
        let length = file.metadata().map_err(Error::read(path))?.len();
        let unpacked = tempfile::tempfile().map_err(|e| damaged(no_room(&e)))?;
        let stream = Stream::new(MultiGzDecoder::new(io::BufReader::with_capacity(1 << 18, file)));
        let most = length.saturating_mul(EXPANSION).max(SMALL);
        let unpacking = Unpacking { stream, out: io::BufWriter::new(&unpacked), written: 0, most };
        let (ends, is_open) = find(unpacking).map_err(damaged)?;
        Ok(Self { path: path.to_path_buf(), file: unpacked, ends, is_open })
    }

    /// Whether the mark of its end is missing, as some writers leave it out. Where it is so because the shard
    /// was cut off between two files, its last sample lacks the second.
    pub fn lacks_end(&self) -> bool {
        self.is_open
    }

    /// The number of its samples.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The path of its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all its samples.
    pub fn bytes(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Bytes of sample `at` in the shard; 0 for one that there is not.
    pub fn size_of(&self, at: usize) -> u64 {
        let begin = if at == 0 { 0 } else { self.ends.get(at - 1).copied().unwrap_or(0) };
        self.ends.get(at).map_or(0, |end| end - begin)
    }

    /// Sample `at` with those media alone whose size is wanted, and how many it has beside them. The others
    /// are not read.
    ///
    /// # Errors
    /// As [`Shard::read`].
    pub fn read_where(&self, at: usize, wants: &dyn Fn(u64) -> bool) -> Result<(Sample, usize)> {
        let damaged = |why: String| Error::Shard { path: self.path.clone(), why };
        let bad = |key: String, fault| Error::Sample { path: self.path.clone(), key, fault };
        let Some(&end) = self.ends.get(at) else {
            return Err(Error::Config(format!("{} has no sample {at}", self.path.display())));
        };
        let section = FileSection { file: &self.file, at: end - self.size_of(at), length: end };
        let mut entries = Entries::new(section, true);
        let (mut gathered, mut others) = (None, 0);
        while let Some(entry) = entries.next().map_err(damaged)? {
            match entry.member {
                Member::Other(_) => entries.skip_body(entry.size).map_err(damaged)?,
                Member::Bad(name, fault) => return Err(bad(name, fault)),
                Member::File(name) => {
                    let sample = gathered.get_or_insert_with(|| Gathered::of(name.key.clone()));
                    if Kind::of_extension(&name.extension).is_some() && !wants(entry.size) {
                        others += 1;
                        entries.skip_body(entry.size).map_err(damaged)?;
                        continue;
                    }
                    if entry.size > DEFAULT_CAP {
                        let file = name.extension.clone();
                        let fault = Fault::TooLarge { file, size: entry.size, cap: DEFAULT_CAP };
                        return Err(bad(name.key, fault));
                    }
                    sample.add(name, entries.body(entry.size).map_err(damaged)?);
                }
            }
        }
        let gathered = gathered.ok_or_else(|| damaged(format!("sample {at} has no file")))?;
        Ok((gathered.finish(&Rules::default()).map_err(|(key, fault)| bad(key, fault))?, others))
    }

    /// Sample `at`, counted from 0.
    pub fn read(&self, at: usize) -> Result<Sample> {
        let missing = || Error::Config(format!("{} has no sample {at}", self.path.display()));
        let end = *self.ends.get(at).ok_or_else(missing)?;
        let begin = if at == 0 { 0 } else { self.ends[at - 1] };
        if end - begin > DEFAULT_CAP {
            let fault =
                Fault::TooLarge { file: "all of it".to_string(), size: end - begin, cap: DEFAULT_CAP };
            return Err(Error::Sample { path: self.path.clone(), key: at.to_string(), fault });
        }
        let mut bytes = vec![0; (end - begin) as usize];
        read_exact_at(&self.file, &mut bytes, begin).map_err(Error::read(&self.path))?;
        read_one(&self.path, &bytes).unwrap_or_else(|| {
            let why = format!("sample {at} has changed since the file was opened");
            Err(Error::Shard { path: self.path.clone(), why })
        })
    }
}

/// The ends of all samples, and whether the mark of the shard's end is missing.
fn find(source: impl Source) -> Result<(Vec<u64>, bool), String> {
    let mut entries = Entries::new(source, false);
    let mut ends = Vec::new();
    let mut current: Option<String> = None;
    loop {
        let entry = match entries.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(_) if entries.is_open => break,
            Err(why) => return Err(why),
        };
        if entry.begins(current.as_deref()) {
            ends.push(entries.at);
            current = None;
        }
        entries.skip_body(entry.size)?;
        match entry.member {
            Member::File(name) => current = Some(name.key),
            Member::Bad(..) => current = None,
            Member::Other(_) => continue,
        }
        // Folders and headers of long names go to the sample that follows.
        if let Some(end) = ends.last_mut() {
            *end = entries.at;
        }
    }
    let is_open = entries.is_open;
    entries.into_source().finish().map_err(|e| no_room(&e))?;
    Ok((ends, is_open))
}

/// A shard on its way out of gzip and into a file.
struct Unpacking<'a> {
    stream: Stream,
    out: io::BufWriter<&'a File>,
    written: u64,
    most: u64,
}

impl Unpacking<'_> {
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        if self.written > self.most {
            let why = format!("it unpacks to more than {} bytes, which is no shard's packing", self.most);
            return Err(io::Error::other(why));
        }
        self.out.write_all(bytes).map_err(|e| io::Error::other(no_room(&e)))
    }
}

impl Read for Unpacking<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(out)?;
        self.keep(&out[..read])?;
        Ok(read)
    }
}

impl Source for Unpacking<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let (mut rest, mut block) = (bytes, [0; 1 << 14]);
        while rest > 0 {
            let wanted = block.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            let read = self.stream.read(&mut block[..wanted])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.keep(&block[..read])?;
            rest -= read as u64;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn no_room(e: &io::Error) -> String {
    let folder = std::env::temp_dir();
    format!("it is packed, and cannot be unpacked to a temporary file in {} (TMPDIR): {e}", folder.display())
}

struct FileSection<'a> {
    file: &'a File,
    at: u64,
    length: u64,
}

impl Read for FileSection<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.length - self.at).unwrap_or(usize::MAX);
        let read = out.len().min(rest);
        read_exact_at(self.file, &mut out[..read], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Source for FileSection<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let end = self.at.checked_add(bytes).filter(|&end| end <= self.length);
        self.at = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut at: u64) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                out = &mut out[read..];
                at += read as u64;
            }
        }
    }
    Ok(())
}
