//! Shards by index: any sample, without reading those before it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::entries::{Entries, Member, Source};
use super::files::{Gathered, Rules};
use super::read::{DEFAULT_CAP, read_one};
use crate::error::{Error, Result};
use crate::format::Fault;
use crate::format::sniff::packed;
use crate::sample::{Kind, Sample};

/// A shard of which any sample can be read, from any thread. It must not be compressed.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    file: File,
    /// Where each sample ends; the first begins at 0 and each other where the one before it ends.
    ends: Vec<u64>,
}

impl Shard {
    /// Find the samples of a shard from its headers alone. Memory: eight bytes a sample. A damaged shard is an error;
    /// a sample that is bad counts, and is an error when it is read.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::read(path))?;
        let length = file.metadata().map_err(Error::read(path))?.len();
        let mut head = [0; 8];
        let known = read_exact_at(&file, &mut head[..length.min(8) as usize], 0).map(|()| packed(&head));
        if let Some(how) = known.map_err(Error::read(path))? {
            let why = format!("it is packed with {how}, and samples are read by their place; unpack it");
            return Err(Error::Read { path: path.to_path_buf(), why });
        }
        let ends = find(FileSection { file: &file, at: 0, length });
        let ends = ends.map_err(|why| Error::Shard { path: path.to_path_buf(), why })?;
        Ok(Self { path: path.to_path_buf(), file, ends })
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

    /// Sample `at` with those media alone whose size is wanted, and how many it has beside them. The others are not read.
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

/// The ends of all samples.
fn find(section: FileSection<'_>) -> Result<Vec<u64>, String> {
    let mut entries = Entries::new(section, false);
    let mut ends = Vec::new();
    let mut current: Option<String> = None;
    while let Some(entry) = entries.next()? {
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
    Ok(ends)
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
