//! A folder of shards as one list of samples.

use std::fs;
use std::path::{Path, PathBuf};

use super::config::DatasetConfig;
use crate::error::{Error, Result};
use crate::format::webdataset::Shard;
use crate::sample::Sample;

/// The samples of a folder's shards, in the order of the shards' names. Memory: eight bytes a sample.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    shards: Vec<Shard>,
    /// The samples up to and with each shard.
    ends: Vec<usize>,
}

impl Dataset {
    /// Find the samples of a dataset.
    ///
    /// # Errors
    /// A folder without shards, or a shard that is damaged.
    pub fn open(config: &DatasetConfig) -> Result<Self> {
        let path = config.split.as_ref().map_or(config.path.clone(), |split| config.path.join(split));
        let files = if path.is_dir() { shards_in(&path)? } else { vec![path.clone()] };
        if files.is_empty() || (path.is_file() && !is_shard(&path)) {
            let what = if path.is_dir() { "a folder without shards (*.tar)" } else { "not a shard (*.tar)" };
            let why =
                format!("it is {what}; `percept data build` makes shards of JSONL, Parquet and other files");
            return Err(Error::Read { path, why });
        }
        let shards = files.iter().map(|file| Shard::open(file)).collect::<Result<Vec<_>>>()?;
        let ends = shards.iter().scan(0, |end, shard| {
            *end += shard.len();
            Some(*end)
        });
        Ok(Self { ends: ends.collect(), path, shards })
    }

    /// Its folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its samples.
    pub fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sample `index`.
    ///
    /// # Errors
    /// A sample that is bad, or an index past the end.
    pub fn read(&self, index: usize) -> Result<Sample> {
        let shard = self.ends.partition_point(|&end| end <= index);
        let Some(found) = self.shards.get(shard) else {
            return Err(Error::Config(format!("{} has no sample {index}", self.path.display())));
        };
        found.read(index - if shard == 0 { 0 } else { self.ends[shard - 1] })
    }
}

fn is_shard(file: &Path) -> bool {
    file.extension().is_some_and(|e| e == "tar")
}

fn shards_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let files = entries.map_err(Error::read(folder))?.into_iter().map(|entry| entry.path());
    let mut shards: Vec<_> = files.filter(|file| is_shard(file)).collect();
    shards.sort();
    Ok(shards)
}
