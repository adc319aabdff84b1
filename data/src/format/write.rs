//! How samples are written.

use std::path::Path;

use serde::Deserialize;

use super::{parquet, webdataset};
use crate::error::Result;
use crate::sample::Sample;

/// The `[write]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WriteSettings {
    /// The file format of the shards.
    pub format: ShardFormat,
    /// Bytes after which a shard is full.
    pub shard_bytes: u64,
    /// Samples after which a shard is full.
    pub shard_samples: u64,
}

impl Default for WriteSettings {
    /// 256 MiB or 10 000 samples, which a loader shuffles and downloads well.
    fn default() -> Self {
        Self { format: ShardFormat::WebDataset, shard_bytes: 256 << 20, shard_samples: 10_000 }
    }
}

/// The file format of the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardFormat {
    /// Tar files that readers stream.
    WebDataset,
    /// Tables that Hugging Face's datasets read.
    Parquet,
}

impl ShardFormat {
    /// The extension of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::WebDataset => "tar",
            Self::Parquet => "parquet",
        }
    }
}

/// A shard being written, which appears when it is finished.
pub(crate) enum ShardWriter {
    Tar(Box<webdataset::Writer>),
    Table(Box<parquet::Writer>),
}

impl ShardWriter {
    pub fn create(format: ShardFormat, path: &Path) -> Result<Self> {
        Ok(match format {
            ShardFormat::WebDataset => Self::Tar(Box::new(webdataset::Writer::create(path)?)),
            ShardFormat::Parquet => Self::Table(Box::new(parquet::Writer::create(path)?)),
        })
    }

    pub fn push(&mut self, sample: &Sample) -> Result<()> {
        match self {
            Self::Tar(writer) => writer.push(sample),
            Self::Table(writer) => writer.push(sample),
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Self::Tar(writer) => writer.bytes(),
            Self::Table(writer) => writer.bytes(),
        }
    }

    pub fn samples(&self) -> u64 {
        match self {
            Self::Tar(writer) => writer.samples(),
            Self::Table(writer) => writer.samples(),
        }
    }

    pub fn finish(self) -> Result<webdataset::Written> {
        match self {
            Self::Tar(writer) => writer.finish(),
            Self::Table(writer) => writer.finish(),
        }
    }
}
