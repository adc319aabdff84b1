//! Shards as streams of samples.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::entries::{BLOCK, Entries, Entry, Member, Source};
use super::files::Gathered;
use crate::error::{Error, Result};
use crate::format::Fault;
use crate::sample::Sample;

/// The bytes that one sample may have where nothing else is said: a gibibyte.
pub const DEFAULT_CAP: u64 = 1 << 30;

/// Read the samples of a shard, `.tar` or compressed as `.tar.gz` or `.tgz`, in order. A sample of more than `cap`
/// bytes is refused.
pub fn read(path: &Path, cap: u64) -> Result<Samples> {
    let file = BufReader::with_capacity(1 << 18, File::open(path).map_err(Error::read(path))?);
    let name = path.to_string_lossy();
    if name.ends_with(".gz") || name.ends_with(".tgz") {
        return Ok(read_from(path, BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file)), cap));
    }
    Ok(read_from(path, file, cap))
}

/// Read the samples of a shard from any stream of its bytes; `path` names it in errors.
pub fn read_from(path: &Path, stream: impl Read + Send + 'static, cap: u64) -> Samples {
    Samples(Gathering::new(path, Stream(Box::new(stream)), false, cap))
}

/// The samples of a shard. A bad one is an [`Error::Sample`], after which the rest follows; where the shard itself is
/// damaged the last item is an [`Error::Shard`].
pub struct Samples(Gathering<Stream>);

impl Iterator for Samples {
    type Item = Result<Sample>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

struct Stream(Box<dyn Read + Send>);

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Source for Stream {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink())? == bytes {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Source for &[u8] {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let rest = usize::try_from(bytes).ok().and_then(|bytes| self.get(bytes..));
        *self = rest.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}

/// The one sample in a part of a shard.
pub(super) fn read_one(path: &Path, bytes: &[u8]) -> Option<Result<Sample>> {
    Gathering::new(path, bytes, true, u64::MAX).next()
}

/// Puts entries together to samples.
struct Gathering<S> {
    path: PathBuf,
    entries: Entries<S>,
    cap: u64,
    current: Option<Gathered>,
    /// What the current sample has taken.
    taken: u64,
    ready: VecDeque<Result<Sample>>,
    is_done: bool,
}

impl<S: Source> Gathering<S> {
    fn new(path: &Path, source: S, is_part: bool, cap: u64) -> Self {
        let entries = Entries::new(source, is_part);
        let ready = VecDeque::new();
        Self { path: path.to_path_buf(), entries, cap, current: None, taken: 0, ready, is_done: false }
    }

    fn next(&mut self) -> Option<Result<Sample>> {
        while self.ready.is_empty() && !self.is_done {
            let step = match self.entries.next() {
                Ok(Some(entry)) => self.take(entry),
                Ok(None) => {
                    self.is_done = true;
                    self.end_sample();
                    Ok(())
                }
                Err(why) => Err(why),
            };
            if let Err(why) = step {
                // The sample that was being read may lack files.
                self.is_done = true;
                self.ready.push_back(Err(Error::Shard { path: self.path.clone(), why }));
            }
        }
        self.ready.pop_front()
    }

    fn take(&mut self, entry: Entry) -> Result<(), String> {
        if entry.begins(self.current.as_ref().map(|current| current.sample.key.as_str())) {
            self.end_sample();
        }
        match entry.member {
            Member::Other => self.entries.skip_body(entry.size),
            Member::Bad(key, fault) => {
                self.ready.push_back(Err(Error::Sample { path: self.path.clone(), key, fault }));
                self.entries.skip_body(entry.size)
            }
            Member::File(name) => {
                let current = self.current.get_or_insert_with(|| Gathered::of(name.key.clone()));
                self.taken = self.taken.saturating_add(BLOCK).saturating_add(entry.size);
                if self.taken > self.cap {
                    let (file, size, cap) = (name.extension.clone(), self.taken, self.cap);
                    current.fault.get_or_insert(Fault::TooLarge { file, size, cap });
                }
                if current.fault.is_some() {
                    return self.entries.skip_body(entry.size);
                }
                current.add(name, self.entries.body(entry.size)?);
                Ok(())
            }
        }
    }

    fn end_sample(&mut self) {
        self.taken = 0;
        if let Some(current) = self.current.take() {
            let sample = current.finish();
            self.ready.push_back(sample.map_err(|(key, fault)| Error::Sample {
                path: self.path.clone(),
                key,
                fault,
            }));
        }
    }
}
