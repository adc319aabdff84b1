//! A split of a corpus as one list of samples.

use std::fs;
use std::path::{Path, PathBuf};

use super::config::DatasetConfig;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::format::webdataset::Shard;
use crate::sample::Sample;
use crate::splits::Splits;

/// The samples of a split, in the order of the names of its shards. Memory: eight bytes a sample.
#[derive(Debug)]
pub struct Dataset {
    path: PathBuf,
    split: String,
    splits: Splits,
    shards: Vec<Shard>,
    /// The samples up to and with each shard.
    ends: Vec<usize>,
}

impl Dataset {
    /// Find the samples of a dataset.
    ///
    /// # Errors
    /// A folder without shards, or with several splits of which none is requested; a shard that is damaged,
    /// or not the one that was built.
    pub fn open(config: &DatasetConfig) -> Result<Self> {
        let splits = Splits::find(&config.path)?;
        let (split, mut files) = splits.only(config.split.as_deref())?;
        let all = files.len();
        // Lists of what shards hold, as other tools write them, may lie beside shards.
        files.retain(|file| Format::of(file) == Some(Format::WebDataset));
        if files.is_empty() {
            let why = format!(
                "its {all} shards are no tars (.tar, .tar.gz, .tgz), which alone can be read at any place; `percept data \
                 build` makes them of Parquet and other files"
            );
            return Err(Error::Read { path: config.path.clone(), why });
        }
        files.iter().try_for_each(|file| check_size(&splits, file))?;
        let shards = files.iter().map(|file| Shard::open(file)).collect::<Result<Vec<_>>>()?;
        let ends = shards.iter().scan(0, |end, shard| {
            *end += shard.len();
            Some(*end)
        });
        Ok(Self { ends: ends.collect(), path: config.path.clone(), split, splits, shards })
    }

    /// The samples of a path that needs nothing beside it: a corpus of one split, one of its splits, or a
    /// shard.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn at(path: &Path) -> Result<Self> {
        Self::open(&DatasetConfig { path: path.to_path_buf(), split: None, weight: 1 })
    }

    /// The path that it was requested by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of its split, or of what takes the place of one: a folder or file without a manifest.
    pub fn split(&self) -> &str {
        &self.split
    }

    /// The corpus that it is a split of.
    pub fn splits(&self) -> &Splits {
        &self.splits
    }

    /// The shards of the dataset.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// A sentence for every shard that lacks the mark of its end.
    pub fn doubts(&self) -> impl Iterator<Item = String> {
        let open = self.shards.iter().filter(|shard| shard.lacks_end());
        open.map(|shard| {
            let path = shard.path().display();
            format!("{path}: the mark of its end is missing; if it is cut off, its last sample lacks files")
        })
    }

    /// What it is called in messages: the path, and the split where the path does not say it.
    pub fn title(&self) -> String {
        let path = self.path.display().to_string();
        if path.ends_with(self.split.as_str()) || self.path.is_file() {
            path
        } else {
            format!("{path}/{}", self.split)
        }
    }

    /// The number of its samples.
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

/// Hold a shard to what the manifest says of it.
fn check_size(splits: &Splits, file: &Path) -> Result<()> {
    let Some(manifest) = splits.manifest() else { return Ok(()) };
    let real = file.canonicalize().map_err(Error::read(file))?;
    let known = manifest.shards.iter().find(|shard| splits.root().join(&shard.file) == real);
    let Some(known) = known else { return Ok(()) };
    let bytes = fs::metadata(file).map_err(Error::read(file))?.len();
    if bytes == known.bytes {
        return Ok(());
    }
    let why = format!("it has {bytes} bytes, and the manifest of its corpus says {}", known.bytes);
    Err(Error::Shard { path: file.to_path_buf(), why })
}
