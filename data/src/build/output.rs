//! The folder that a corpus is built in.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::{MANIFEST, REJECTS, Rejected, ShardCount, TIMINGS};
use crate::error::{Error, Result};
use crate::format::webdataset::Written;
use crate::format::{Draft, ShardWriter, WriteSettings};
use crate::reject::Reject;
use crate::sample::Sample;

/// The file that says that a build is under way. A folder that has it is ours to clear.
const MARK: &str = ".building";

/// The split of samples that no stage gave one.
const ONLY_SPLIT: &str = "train";

/// The shards and the rejects' file while they are written.
pub(super) struct Output {
    folder: PathBuf,
    settings: WriteSettings,
    open: BTreeMap<Arc<str>, (u64, ShardWriter)>,
    next: BTreeMap<Arc<str>, u64>,
    shards: Vec<ShardCount>,
    rejects: Draft,
    /// Hashes of the keys so far, eight bytes each, and the secret that they are made with.
    keys: (HashSet<u64>, RandomState),
    /// Held while the build is under way, so that two builds do not share a folder.
    mark: File,
}

impl Output {
    /// Begin in an empty folder, or in one that a killed build left: what it holds of that build is removed.
    pub fn create(folder: &Path, settings: &WriteSettings) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let mark = folder.join(MARK);
        let is_ours = mark.exists();
        let names = fs::read_dir(folder).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>()
        });
        let names = names.map_err(Error::read(folder))?;
        if !is_ours && !names.is_empty() {
            let why = "it holds something already; give an empty folder, or remove it".to_owned();
            return Err(Error::Write { path: folder.to_path_buf(), why });
        }
        let held = File::create(&mark).map_err(Error::write(&mark))?;
        held.try_lock().map_err(|_| {
            let why = "another build is writing there; wait for it, or give another folder".to_owned();
            Error::Write { path: folder.to_path_buf(), why }
        })?;
        for name in names.iter().filter_map(|name| name.to_str()).filter(|name| is_of_a_build(name)) {
            let path = folder.join(name);
            fs::remove_file(&path).map_err(Error::write(&path))?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            settings: settings.clone(),
            open: BTreeMap::new(),
            next: BTreeMap::new(),
            shards: Vec::new(),
            rejects: Draft::create(&folder.join(REJECTS))?,
            keys: (HashSet::new(), RandomState::new()),
            mark: held,
        })
    }

    /// Add a sample to its split. One that no shard can hold is rejected.
    pub fn push(
        &mut self,
        number: u64,
        split: Option<&Arc<str>>,
        mut sample: Sample,
    ) -> Result<Result<(), Reject>> {
        let split = split.cloned().unwrap_or_else(|| Arc::from(ONLY_SPLIT));
        if !self.keys.0.insert(self.keys.1.hash_one(&sample.key)) {
            // Readers take neighbours with one key for one sample.
            sample.key = format!("{}~{number}", sample.key);
        }
        let (_, writer) = match self.open.entry(Arc::clone(&split)) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                let number = self.next.entry(Arc::clone(&split)).or_default();
                let name = format!("{split}-{number:05}.{}", self.settings.format.extension());
                *number += 1;
                let writer = ShardWriter::create(self.settings.format, &self.folder.join(name))?;
                place.insert((*number - 1, writer))
            }
        };
        match writer.push(&sample) {
            Ok(()) => {}
            Err(Error::Sample { fault, .. }) => return Ok(Err(Reject::fault(&fault))),
            Err(error) => return Err(error),
        }
        if writer.bytes() >= self.settings.shard_bytes || writer.samples() >= self.settings.shard_samples {
            self.close(&split)?;
        }
        Ok(Ok(()))
    }

    fn close(&mut self, split: &Arc<str>) -> Result<()> {
        let Some((_, writer)) = self.open.remove(split) else { return Ok(()) };
        if writer.samples() == 0 {
            return Ok(());
        }
        let Written { path, samples, bytes, sha256 } = writer.finish()?;
        let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        self.shards.push(ShardCount { file, split: split.to_string(), samples, bytes, sha256 });
        Ok(())
    }

    /// Add a line to the rejects' file.
    pub fn reject(&mut self, rejected: &Rejected) -> Result<()> {
        let path = self.folder.join(REJECTS);
        let mut line = serde_json::to_vec(rejected)
            .map_err(|e| Error::Write { path: path.clone(), why: e.to_string() })?;
        line.push(b'\n');
        self.rejects.write_all(&line).map_err(Error::write(&path))
    }

    /// Put everything in its place. `close` writes what stands beside the shards; the mark goes last.
    pub fn finish(mut self, close: impl FnOnce(&Path, Vec<ShardCount>) -> Result<()>) -> Result<()> {
        let splits: Vec<Arc<str>> = self.open.keys().cloned().collect();
        splits.iter().try_for_each(|split| self.close(split))?;
        self.rejects.finish()?;
        self.shards.sort_by(|a, b| a.file.cmp(&b.file));
        close(&self.folder, self.shards)?;
        drop(self.mark);
        let mark = self.folder.join(MARK);
        fs::remove_file(&mark).map_err(Error::write(&mark))
    }
}

/// Whether a file has a name that a build gives.
fn is_of_a_build(name: &str) -> bool {
    let name = name.strip_suffix(".tmp").unwrap_or(name);
    if [MANIFEST, REJECTS, TIMINGS].contains(&name) {
        return true;
    }
    let stem = name.strip_suffix(".tar").or_else(|| name.strip_suffix(".parquet"));
    let number = stem.and_then(|stem| stem.rsplit_once('-')).map(|(_, number)| number);
    number.is_some_and(|number| number.len() >= 5 && number.bytes().all(|b| b.is_ascii_digit()))
}
