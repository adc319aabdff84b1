//! The shards of a corpus while they are written.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use percept_files::AtomicFile;

use super::manifest::{REJECTS, Rejected, ShardCount};
use super::output_folder::OutputFolder;
use crate::error::{Error, Result};
use crate::format::webdataset::Written;
use crate::format::{LeftOut, ShardWriter, WriteSettings, shown};
use crate::reject::Reject;
use crate::sample::Sample;

/// The split of samples that no stage gave one.
const ONLY_SPLIT: &str = "train";

/// Tell of a sample that was written and holds nothing that a model reads, as where no column of a table is called by a name
/// that is known.
fn note_bare(sample: &Sample, left_out: &LeftOut) {
    if !sample.media.is_empty() || sample.text.is_some() || !sample.messages.is_empty() {
        return;
    }
    let names: Vec<String> = sample.meta.keys().take(5).map(|name| format!("'{}'", shown(name))).collect();
    left_out.add(match names.is_empty() {
        true => "a sample holds nothing at all; the stage validate rejects such".to_owned(),
        false => format!(
            "a sample holds metadata alone ({}): name its columns under [[read]] with text, image or messages, or make turns \
             of them with a stage template",
            names.join(", ")
        ),
    });
}

/// The shards and the rejects' file while they are written.
pub(super) struct Output {
    folder: OutputFolder,
    settings: WriteSettings,
    open: BTreeMap<Arc<str>, (u64, ShardWriter)>,
    next: BTreeMap<Arc<str>, u64>,
    shards: Vec<ShardCount>,
    rejects: AtomicFile,
    /// Hashes of the keys so far, eight bytes each, and the secret that they are made with.
    keys: (HashSet<u64>, RandomState),
    /// What keeps samples together, and the split of each group so far by its hash.
    groups: Option<(String, HashMap<u64, Arc<str>>)>,
    left_out: LeftOut,
}

impl Output {
    /// Begin in a folder that is ours. Samples of one `group` are to be in one split.
    pub fn create(
        folder: OutputFolder,
        settings: &WriteSettings,
        group: Option<String>,
        left_out: &LeftOut,
    ) -> Result<Self> {
        let rejects = folder.work().join(REJECTS);
        let rejects = AtomicFile::create(&rejects).map_err(Error::write(&rejects))?;
        Ok(Self {
            folder,
            settings: settings.clone(),
            open: BTreeMap::new(),
            next: BTreeMap::new(),
            shards: Vec::new(),
            rejects,
            keys: (HashSet::new(), RandomState::new()),
            groups: group.map(|group| (group, HashMap::new())),
            left_out: left_out.clone(),
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
        if let Err(reject) = self.keep_together(&split, &sample)? {
            return Ok(Err(reject));
        }
        if !self.keys.0.insert(self.keys.1.hash_one(&sample.key)) {
            // Readers take neighbours with one key for one sample.
            sample.key = format!("{}~{number}", sample.key);
        }
        let (_, writer) = match self.open.entry(Arc::clone(&split)) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                let number = self.next.entry(Arc::clone(&split)).or_default();
                let folder = self.folder.work().join(&*split);
                fs::create_dir_all(&folder).map_err(Error::write(&folder))?;
                let name = format!("{number:05}.{}", self.settings.format.extension());
                *number += 1;
                let writer = ShardWriter::create(self.settings.format, &folder.join(name))?;
                place.insert((*number - 1, writer))
            }
        };
        match writer.push(&sample) {
            Ok(()) => note_bare(&sample, &self.left_out),
            Err(Error::Sample { fault, .. }) => return Ok(Err(Reject::fault(&fault))),
            Err(error) => return Err(error),
        }
        if writer.bytes() >= self.settings.shard_bytes || writer.samples() >= self.settings.shard_samples {
            self.close(&split)?;
        }
        Ok(Ok(()))
    }

    /// Hold a sample to the split that its group is in.
    fn keep_together(&mut self, split: &Arc<str>, sample: &Sample) -> Result<Result<(), Reject>> {
        let Some((group, splits)) = &mut self.groups else { return Ok(Ok(())) };
        let Some(value) = group.strip_prefix("meta.").and_then(|name| sample.meta.get(name)) else {
            return Ok(Err(Reject::new(
                "no-group",
                format!("it has no {group}, which says what belongs together"),
            )));
        };
        let value = value.to_string();
        let before = splits.entry(self.keys.1.hash_one(&value)).or_insert_with(|| Arc::clone(split));
        if before == split {
            return Ok(Ok(()));
        }
        Err(Error::Config(format!(
            "samples of one group would be in two splits: {group} {value} is in {before}, and '{}' would be in {split}; \
             divide by the group: leave `by` out of the stage split, or say by = \"{group}\"",
            sample.key
        )))
    }

    fn close(&mut self, split: &Arc<str>) -> Result<()> {
        let Some((_, writer)) = self.open.remove(split) else { return Ok(()) };
        if writer.samples() == 0 {
            return Ok(());
        }
        let Written { path, samples, bytes, sha256 } = writer.finish()?;
        let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let file = format!("{split}/{file}");
        self.shards.push(ShardCount { file, split: split.to_string(), samples, bytes, sha256 });
        Ok(())
    }

    /// Add a line to the rejects' file.
    pub fn reject(&mut self, rejected: &Rejected) -> Result<()> {
        let line = serde_json::to_vec(rejected).map_err(std::io::Error::from);
        let written = line.and_then(|mut line| {
            line.push(b'\n');
            self.rejects.write_all(&line)
        });
        written.map_err(Error::write(self.rejects.place()))
    }

    /// End without a corpus; the rejects' file stays to be looked at, and is where the answer says.
    pub fn abandon(mut self) -> Result<std::path::PathBuf> {
        self.open.clear();
        let path = self.rejects.place().to_path_buf();
        self.rejects.finish().map_err(Error::write(&path))?;
        self.folder.keep = true;
        Ok(path)
    }

    /// Rename all files to their final names. `close` writes what stands beside the shards.
    pub fn finish(mut self, close: impl FnOnce(&Path, Vec<ShardCount>) -> Result<()>) -> Result<()> {
        let splits: Vec<Arc<str>> = self.open.keys().cloned().collect();
        splits.iter().try_for_each(|split| self.close(split))?;
        let path = self.rejects.place().to_path_buf();
        self.rejects.finish().map_err(Error::write(&path))?;
        self.shards.sort_by(|a, b| a.file.cmp(&b.file));
        close(&self.folder.work(), self.shards)?;
        self.folder.publish()
    }
}
