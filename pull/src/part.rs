//! Files that are still coming, and how they are gone on with.
//!
//! A part is `KEY.part`; once some of it is safely on the disk, `KEY.json` says how much, and of which
//! version of the file. What came after that is fetched again: bytes that were not synced may be lost with
//! the machine's power.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use percept_data::hash::hexadecimal;
use percept_files::sync_folder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::place::Key;

/// Bytes between two syncs.
const STRIDE: u64 = 4 << 20;

/// First bytes that are kept to detect the format.
const HEAD: usize = 1 << 12;

/// A file that is being fetched.
pub(super) struct Part {
    path: PathBuf,
    file: File,
    hash: Sha256,
    head: Vec<u8>,
    len: u64,
    synced: u64,
    version: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Progress {
    version: String,
    synced: u64,
}

impl Part {
    /// Go on with what is there, or begin.
    pub fn open(folder: &Path, key: Key) -> io::Result<Self> {
        let path = folder.join(format!("{key}.part"));
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let (hash, head) = (Sha256::new(), Vec::new());
        let mut part = Self { path, file, hash, head, len: 0, synced: 0, version: None };
        match part.progress() {
            Some(progress) if part.file.metadata()?.len() >= progress.synced => {
                part.file.set_len(progress.synced)?;
                part.rehash()?;
                (part.synced, part.version) = (part.len, Some(progress.version));
            }
            _ => {
                remove(&part.notes())?;
                part.begin(None)?;
            }
        }
        Ok(part)
    }

    fn notes(&self) -> PathBuf {
        self.path.with_extension("json")
    }

    fn progress(&self) -> Option<Progress> {
        serde_json::from_slice(&fs::read(self.notes()).ok()?).ok()
    }

    fn rehash(&mut self) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(1 << 18, &self.file);
        let mut bytes = vec![0; 1 << 18];
        loop {
            let n = reader.read(&mut bytes)?;
            if n == 0 {
                break;
            }
            self.hash.update(&bytes[..n]);
            self.len += n as u64;
            let missing = HEAD.saturating_sub(self.head.len());
            self.head.extend_from_slice(&bytes[..n.min(missing)]);
        }
        self.file.seek(SeekFrom::Start(self.len))?;
        Ok(())
    }

    /// Bytes that are there and the version they belong to.
    pub fn resumable(&self) -> Option<(u64, &str)> {
        self.version.as_deref().filter(|_| self.len > 0).map(|version| (self.len, version))
    }

    /// Begin again, with the version of the file that is to come.
    pub fn begin(&mut self, version: Option<String>) -> io::Result<()> {
        if self.version.is_some() {
            remove(&self.notes())?;
        }
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hash.reset();
        self.head.clear();
        (self.len, self.synced, self.version) = (0, 0, version);
        Ok(())
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The file itself, to look into.
    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn sha256(&self) -> String {
        hexadecimal(self.hash.clone().finalize())
    }

    /// Append bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        let missing = HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..bytes.len().min(missing)]);
        self.len += bytes.len() as u64;
        if self.len - self.synced >= STRIDE { self.keep() } else { Ok(()) }
    }

    /// Make sure that what is there can be gone on with later, if its version is known.
    pub fn keep(&mut self) -> io::Result<()> {
        let Some(version) = self.version.clone().filter(|_| self.len > self.synced) else { return Ok(()) };
        self.file.sync_data()?;
        self.synced = self.len;
        let notes =
            serde_json::to_vec(&Progress { version, synced: self.synced }).map_err(io::Error::other)?;
        percept_files::write(&self.notes(), &notes)
    }

    /// Put the whole file in its place.
    pub fn finish(self, place: &Path) -> io::Result<()> {
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        let notes = self.notes();
        percept_files::put(self.file, &self.path, place)?;
        remove(&notes)?;
        place.parent().map_or(Ok(()), sync_folder)
    }

    /// Remove the partial file.
    pub fn discard(self) -> io::Result<()> {
        remove(&self.notes())?;
        remove(&self.path)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_is_gone_on_with_and_the_rest_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::of("http://a.example/x");
        let mut part = Part::open(folder.path(), key).unwrap();
        part.begin(Some("\"v1\"".into())).unwrap();
        part.write(b"hello ").unwrap();
        part.keep().unwrap();
        part.write(b"lost").unwrap();
        drop(part);

        let mut part = Part::open(folder.path(), key).unwrap();
        assert_eq!(part.resumable(), Some((6, "\"v1\"")));
        part.write(b"world").unwrap();
        assert_eq!(part.sha256(), hexadecimal(Sha256::digest(b"hello world")));
        assert_eq!(part.head(), b"hello world");
        let place = folder.path().join("files/aa/x.bin");
        part.finish(&place).unwrap();
        assert_eq!(fs::read(place).unwrap(), b"hello world");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn without_a_version_or_with_less_than_was_noted_it_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let key = Key::of("http://a.example/x");
        let mut part = Part::open(folder.path(), key).unwrap();
        part.write(b"hello").unwrap();
        part.keep().unwrap();
        drop(part);
        assert_eq!(Part::open(folder.path(), key).unwrap().resumable(), None);

        let mut part = Part::open(folder.path(), key).unwrap();
        part.begin(Some("\"v1\"".into())).unwrap();
        part.write(b"hello").unwrap();
        part.keep().unwrap();
        let path = part.path.clone();
        drop(part);
        File::options().write(true).open(&path).unwrap().set_len(3).unwrap();
        let part = Part::open(folder.path(), key).unwrap();
        assert_eq!((part.resumable(), part.len()), (None, 0));
        part.discard().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
