//! What became of each sample, as lines that are appended while a pull runs.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::place::Key;

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is there, whole, with the hash of the line.
    Ok,
    /// Its line, name or address is not one, or it is no regular file.
    Invalid,
    /// It leads to a private address or to another protocol than http and https.
    Refused,
    /// Its `X-Robots-Tag` keeps machines away.
    Robots,
    /// It is larger than allowed.
    TooLarge,
    /// The server answered with an error.
    Http,
    /// The server could not be reached, broke off or was too slow.
    Network,
    /// What came is not what was announced: another length, another hash, half an archive.
    Corrupt,
}

impl Outcome {
    /// The word that the status uses for it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Invalid => "invalid",
            Outcome::Refused => "refused",
            Outcome::Robots => "robots",
            Outcome::TooLarge => "too_large",
            Outcome::Http => "http",
            Outcome::Network => "network",
            Outcome::Corrupt => "corrupt",
        }
    }
}

/// One line of `status.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The address, path, or place in a list that names the sample.
    pub url: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why, unless it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it is, from the folder of the pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Its size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Its SHA-256 in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The last HTTP status; 200 for what arrived, also if its end came as 206.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<u16>,
    /// How often it was requested by the run that settled it; 0 for what was there already.
    pub tries: u32,
}

impl Status {
    pub(super) fn failed(url: &str, outcome: Outcome, reason: String) -> Self {
        let url = url.to_owned();
        Self {
            url,
            outcome,
            reason: Some(reason),
            file: None,
            bytes: None,
            sha256: None,
            http: None,
            tries: 0,
        }
    }
}

/// A line is longer than this only in a damaged file.
const LONGEST_LINE: u64 = 1 << 20;

/// Lines and time after which the log is synced.
const GROUP: (u32, Duration) = (256, Duration::from_secs(1));

/// The log: lines of samples by their keys, and the file they are appended to.
pub(super) struct Log {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    end: u64,
    /// Where the last line about a sample begins.
    lines: HashMap<Key, u64>,
    unsynced: u32,
    synced: Instant,
}

impl Log {
    /// Open the log, cut off a torn last line, and keep only lines that `keep` wants.
    pub fn open(path: &Path, keep: impl Fn(&Status) -> bool) -> Result<Self, Error> {
        let disk = || Error::disk(path);
        let file = File::options().read(true).append(true).create(true).open(path).map_err(disk())?;
        let mut reader = BufReader::new(&file);
        let (mut lines, mut at, mut line) = (HashMap::new(), 0, Vec::new());
        loop {
            line.clear();
            let n = (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(disk())? as u64;
            if line.last() != Some(&b'\n') {
                if n < LONGEST_LINE {
                    // What a killed run was writing.
                    file.set_len(at).map_err(disk())?;
                    break;
                }
            } else if let Ok(status) = serde_json::from_slice::<Status>(&line) {
                let key = Key::of(&status.url);
                if keep(&status) {
                    lines.insert(key, at);
                } else {
                    lines.remove(&key);
                }
            }
            at += n;
        }
        let inner = Inner { file, end: at, lines, unsynced: 0, synced: Instant::now() };
        Ok(Self { path: path.to_path_buf(), inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked left whole lines behind: each is one write.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last line about a sample.
    pub fn find(&self, key: Key) -> Result<Option<Status>, Error> {
        let inner = self.lock();
        let Some(&at) = inner.lines.get(&key) else { return Ok(None) };
        let mut line = Vec::new();
        let mut file = &inner.file;
        let read = file.seek(SeekFrom::Start(at)).and_then(|_| {
            BufReader::with_capacity(1 << 10, file.take(LONGEST_LINE)).read_until(b'\n', &mut line)
        });
        read.map_err(Error::disk(&self.path))?;
        Ok(serde_json::from_slice(&line).ok())
    }

    /// Give the last line of every sample to `each`, in the order of the file.
    pub fn each(&self, each: &mut dyn FnMut(Status) -> io::Result<()>) -> Result<(), Error> {
        let mut keys: Vec<(u64, Key)> = self.lock().lines.iter().map(|(key, at)| (*at, *key)).collect();
        keys.sort_unstable_by_key(|(at, _)| *at);
        for (_, key) in keys {
            if let Some(status) = self.find(key)? {
                each(status).map_err(Error::disk(&self.path))?;
            }
        }
        Ok(())
    }

    /// Append a line; a group of them is on the disk within a second.
    pub fn append(&self, status: &Status) -> Result<(), Error> {
        let mut line =
            serde_json::to_vec(status).map_err(io::Error::other).map_err(Error::disk(&self.path))?;
        line.push(b'\n');
        let mut inner = self.lock();
        inner.file.write_all(&line).map_err(Error::disk(&self.path))?;
        let at = inner.end;
        inner.lines.insert(Key::of(&status.url), at);
        inner.end += line.len() as u64;
        inner.unsynced += 1;
        if inner.unsynced >= GROUP.0 || inner.synced.elapsed() >= GROUP.1 {
            inner.file.sync_data().map_err(Error::disk(&self.path))?;
            (inner.unsynced, inner.synced) = (0, Instant::now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(url: &str, outcome: Outcome) -> Status {
        Status::failed(url, outcome, "because".into())
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_damaged_lines_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.jsonl");
        let log = Log::open(&path, |_| true).unwrap();
        log.append(&status("a", Outcome::Http)).unwrap();
        log.append(&status("b", Outcome::Network)).unwrap();
        log.append(&status("a", Outcome::Corrupt)).unwrap();
        drop(log);
        let mut bytes = std::fs::read(&path).unwrap();
        let whole = bytes.len() + b"not json\n".len();
        bytes.extend_from_slice(b"not json\n{\"url\":\"b\",\"outcome\":\"o");
        std::fs::write(&path, &bytes).unwrap();

        let log = Log::open(&path, |_| true).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole as u64);
        assert_eq!(log.find(Key::of("a")).unwrap().unwrap().outcome, Outcome::Corrupt);
        assert_eq!(log.find(Key::of("b")).unwrap().unwrap().outcome, Outcome::Network);
        assert_eq!(log.find(Key::of("c")).unwrap(), None);
        log.append(&status("c", Outcome::Robots)).unwrap();
        assert_eq!(log.find(Key::of("c")).unwrap(), Some(status("c", Outcome::Robots)));
    }

    #[test]
    fn what_is_not_kept_is_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.jsonl");
        let log = Log::open(&path, |_| true).unwrap();
        log.append(&status("a", Outcome::Ok)).unwrap();
        log.append(&status("b", Outcome::Http)).unwrap();
        drop(log);
        let log = Log::open(&path, |s| s.outcome == Outcome::Ok).unwrap();
        assert!(log.find(Key::of("a")).unwrap().is_some());
        assert!(log.find(Key::of("b")).unwrap().is_none());
    }
}
