//! What a loader is made from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A mixture of datasets, and the part of it that one rank draws.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoaderConfig {
    /// The datasets that are mixed.
    pub datasets: Vec<DatasetConfig>,
    /// Of the order of every epoch.
    #[serde(default)]
    pub seed: u64,
    /// In which order samples come.
    #[serde(default)]
    pub order: Order,
    /// Which rank this is, from 0.
    #[serde(default)]
    pub rank: u64,
    /// How many ranks there are.
    #[serde(default = "one")]
    pub world: u64,
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

/// In which order samples come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Without end, every epoch of a dataset in a random order.
    #[default]
    Shuffled,
    /// Without end, as stored.
    AsStored,
    /// Every sample once: one dataset after the other, as stored, whatever the weights.
    Once,
}

fn one() -> u64 {
    1
}

fn one_draw() -> u32 {
    1
}
