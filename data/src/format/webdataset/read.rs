//! Shards as streams of samples.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::entries::{BLOCK, Entries, Entry, Member, Source};
use super::files::{Gathered, Rules};
use crate::error::{Error, Result};
use crate::format::json_lines::{LOOKED_AT, LOOKED_AT_BYTES};
use crate::format::media::HEAD;
use crate::format::rows::Columns;
use crate::format::sniff::packed;
use crate::format::{Draw, Draws, Fault, LeftOut};
use crate::reject::Reject;
use crate::sample::Sample;

/// The bytes that one sample may have where nothing else is said: a gibibyte.
pub const DEFAULT_CAP: u64 = 1 << 30;

/// Read the samples of a shard, `.tar` or packed with gzip, in order. A sample of more than `cap` bytes is
/// refused.
///
/// # Errors
/// When the shard cannot be read or is packed otherwise.
pub fn read(path: &Path, cap: u64) -> Result<Samples> {
    Ok(read_from(path, open(path)?, cap))
}

/// Read the samples of a shard from any stream of its bytes; `path` names it in errors.
pub fn read_from(path: &Path, stream: impl Read + Send + 'static, cap: u64) -> Samples {
    Samples(Gathering::new(path, Stream(Box::new(stream)), false, cap, Rules::default()))
}

/// The bytes of a shard, unpacked if gzip packed them.
fn open(path: &Path) -> Result<Box<dyn Read + Send>> {
    let (file, is_packed) = opened(path)?;
    let file = BufReader::with_capacity(1 << 18, file);
    Ok(match is_packed {
        false => Box::new(file),
        true => Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(file))),
    })
}

/// A shard from its first byte on, and whether gzip packed it.
pub(super) fn opened(path: &Path) -> Result<(File, bool)> {
    let mut file = File::open(path).map_err(Error::read(path))?;
    let mut head = Vec::new();
    let read = file.by_ref().take(HEAD).read_to_end(&mut head).and_then(|_| file.rewind());
    read.map_err(Error::read(path))?;
    match packed(&head) {
        None => Ok((file, false)),
        Some("gzip") => Ok((file, true)),
        Some(other) => {
            let why = format!("it is packed with {other}, and tars are read plain or packed with gzip");
            Err(Error::Read { path: path.to_path_buf(), why })
        }
    }
}

/// The samples of a shard as a recipe reads them.
pub(in crate::format) fn draws(path: &Path, columns: Columns) -> Result<Draws> {
    let (cap, left_out) = (columns.root.cap, columns.left_out.clone());
    if columns.are_named() {
        let mut found = Vec::<String>::new();
        let unheard = Columns { left_out: LeftOut::default(), ..columns.clone() };
        let mut gathering = Gathering::new(path, Stream(open(path)?), false, cap, Rules::of(unheard));
        let (mut samples, mut bytes) = (0, 0);
        let of_all = loop {
            if samples == LOOKED_AT || bytes > LOOKED_AT_BYTES {
                break false;
            }
            let Some(sample) = gathering.next_files() else { break true };
            samples += 1;
            bytes += sample.bytes();
            for name in sample.columns() {
                if !found.contains(&name) && found.len() < LOOKED_AT {
                    found.push(name);
                }
            }
        };
        if !found.is_empty() {
            columns.check(path, &found, of_all)?;
        }
    }
    let mut samples = Gathering::new(path, Stream(open(path)?), false, cap, Rules::of(columns));
    let (name, path) = (path.display().to_string(), path.to_path_buf());
    Ok(Box::new(std::iter::from_fn(move || {
        Some(match samples.step()? {
            Ok(files) => {
                let rules = Arc::clone(&samples.rules);
                let bytes = files.bytes();
                Draw::new(bytes, move || {
                    files.finish(&rules).map_err(|(key, fault)| (key, Reject::fault(&fault)))
                })
            }
            Err(Error::Shard { .. }) if samples.entries.is_open => {
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                left_out.add(format!(
                    "{file}: the mark of its end is missing; if it is cut off, its last sample lacks files"
                ));
                return None;
            }
            Err(error) => {
                let key = match &error {
                    Error::Sample { key, .. } => key.clone(),
                    _ => name.clone(),
                };
                Draw::refused(key, Reject::read(&error))
            }
        })
    })))
}

/// The samples of a shard. A bad one is an [`Error::Sample`], after which the rest follows; where the shard
/// itself is damaged the last item is an [`Error::Shard`].
pub struct Samples(Gathering<Stream>);

impl Iterator for Samples {
    type Item = Result<Sample>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// A shard that is read from its beginning to its end.
pub(super) struct Stream(Box<dyn Read + Send>);

impl Stream {
    pub fn new(bytes: impl Read + Send + 'static) -> Self {
        Self(Box::new(bytes))
    }
}

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
    Gathering::new(path, bytes, true, u64::MAX, Rules::default()).next()
}

/// Puts entries together to samples.
struct Gathering<S> {
    path: PathBuf,
    entries: Entries<S>,
    cap: u64,
    rules: Arc<Rules>,
    current: Option<Gathered>,
    /// What the current sample has taken.
    taken: u64,
    ready: VecDeque<Result<Gathered>>,
    is_done: bool,
}

impl<S: Source> Gathering<S> {
    fn new(path: &Path, source: S, is_part: bool, cap: u64, rules: Rules) -> Self {
        let (entries, ready, path) = (Entries::new(source, is_part), VecDeque::new(), path.to_path_buf());
        let rules = Arc::new(rules);
        Self { path, entries, cap, rules, current: None, taken: 0, ready, is_done: false }
    }

    fn next(&mut self) -> Option<Result<Sample>> {
        Some(self.step()?.and_then(|gathered| {
            gathered.finish(&self.rules).map_err(|(key, fault)| Error::Sample {
                path: self.path.clone(),
                key,
                fault,
            })
        }))
    }

    /// The files of the next sample that has any.
    fn next_files(&mut self) -> Option<Gathered> {
        loop {
            if let Ok(gathered) = self.step()? {
                return Some(gathered);
            }
        }
    }

    fn step(&mut self) -> Option<Result<Gathered>> {
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
                self.is_done = true;
                // Between two files all that is there may be all that there was; within one the sample lacks
                // it.
                if self.entries.is_open {
                    self.end_sample();
                }
                self.ready.push_back(Err(Error::Shard { path: self.path.clone(), why }));
            }
        }
        self.ready.pop_front()
    }

    fn take(&mut self, entry: Entry) -> Result<(), String> {
        if entry.begins(self.current.as_ref().map(|current| current.key.as_str())) {
            self.end_sample();
        }
        match entry.member {
            Member::Other(what) => {
                if let Some(what) = what {
                    self.rules.leave_out(what);
                }
                self.entries.skip_body(entry.size)
            }
            Member::Bad(key, fault) => {
                self.ready.push_back(Err(Error::Sample { path: self.path.clone(), key, fault }));
                self.entries.skip_body(entry.size)
            }
            Member::File(name) => {
                let current = self.current.get_or_insert_with(|| Gathered::of(name.key.clone()));
                self.taken = self.taken.saturating_add(BLOCK).saturating_add(entry.size);
                if self.taken > self.cap {
                    let (file, size, cap) = (name.extension.clone(), self.taken, self.cap);
                    current.refuse(Fault::TooLarge { file, size, cap });
                }
                if current.is_refused() {
                    return self.entries.skip_body(entry.size);
                }
                current.add(name, self.entries.body(entry.size)?);
                Ok(())
            }
        }
    }

    fn end_sample(&mut self) {
        self.taken = 0;
        self.ready.extend(self.current.take().map(Ok));
    }
}
