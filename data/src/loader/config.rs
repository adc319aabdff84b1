//! What a loader is made from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A mixture of datasets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderConfig {
    /// The datasets that are mixed.
    pub datasets: Vec<DatasetConfig>,
    /// Of the order of every epoch.
    #[serde(default)]
    pub seed: u64,
}

/// One dataset of a mixture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// A corpus: a folder of WebDataset shards (`*.tar`), one of its splits, or one shard.
    pub path: PathBuf,
    /// The split to take, as `train`; the only one there is where it is left out.
    #[serde(default)]
    pub split: Option<String>,
    /// Its draws in a period of the mixture.
    #[serde(default = "one_draw")]
    pub weight: u32,
}

fn one_draw() -> u32 {
    1
}
