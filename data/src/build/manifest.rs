//! What a build leaves beside its shards.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::format::Draft;

/// The file of the manifest, which is written last: a folder that has it holds a whole corpus.
pub const MANIFEST: &str = "manifest.json";
/// The file of what was left out and why, one JSON object a line.
pub const REJECTS: &str = "rejects.jsonl";
/// The file of how long each stage took.
pub const TIMINGS: &str = "timings.json";

/// What was built of what. It depends on recipe, seed and input alone: two builds of the same have the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What the corpus is called.
    pub name: String,
    /// The version of Percept that built it.
    pub version: String,
    /// The seed it was built with.
    pub seed: u64,
    /// The recipe's text.
    pub recipe: String,
    /// The files that were read, and their bytes.
    pub inputs: BTreeMap<String, u64>,
    /// Samples that were read, and written.
    pub read: u64,
    /// Samples that are in the shards.
    pub written: u64,
    /// What readers saw and did not take, and how often, beside the samples that were rejected.
    #[serde(default)]
    pub left_out: BTreeMap<String, u64>,
    /// What each stage did, `read` first and `write` last.
    pub stages: Vec<StageCount>,
    /// The shards, in the order of splits and numbers.
    pub shards: Vec<ShardCount>,
}

/// What a stage did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageCount {
    /// Its name in the recipe.
    pub stage: String,
    /// Samples that came.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Samples that went on.
    #[serde(rename = "out")]
    pub given: u64,
    /// Samples that did not, by their reasons.
    pub rejects: BTreeMap<String, u64>,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardCount {
    /// Its name in the folder.
    pub file: String,
    /// The split that it belongs to.
    pub split: String,
    /// Its samples.
    pub samples: u64,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// How long a build took. Threads work side by side, so the stages' seconds add up to more than the clock's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Seconds on the clock.
    pub seconds: f64,
    /// Threads that worked.
    pub threads: usize,
    /// Samples read per second of the clock.
    pub samples_per_second: f64,
    /// Each stage.
    pub stages: Vec<StageTime>,
}

/// How long a stage took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// Its name in the recipe.
    pub stage: String,
    /// Seconds that threads spent in it.
    pub seconds: f64,
    /// Samples per such second.
    pub samples_per_second: f64,
}

/// One line of the rejects' file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    /// Its place in the order of reading.
    pub number: u64,
    /// The sample's key, or what it was read from.
    pub key: String,
    /// The stage that rejected it.
    pub stage: String,
    /// What it is counted under.
    pub reason: String,
    /// What was wrong.
    pub detail: String,
}

impl Manifest {
    /// Read the manifest of a folder.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = std::fs::read(&path).map_err(Error::read(&path))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Read { path, why: e.to_string() })
    }
}

/// Write a document, which appears whole or not at all.
pub(super) fn write_json(path: &Path, document: &impl Serialize) -> Result<()> {
    let fault = |why: String| Error::Write { path: path.to_path_buf(), why };
    let mut bytes = serde_json::to_vec_pretty(document).map_err(|e| fault(e.to_string()))?;
    bytes.push(b'\n');
    let mut draft = Draft::create(path)?;
    draft.write_all(&bytes).map_err(Error::write(path))?;
    draft.finish()
}
