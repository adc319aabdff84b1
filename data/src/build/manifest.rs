//! What a build leaves beside its shards.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The file of the manifest, which is written last: a folder that has it holds a whole corpus.
pub const MANIFEST: &str = "manifest.json";
/// The file of what was left out and why, one JSON object a line.
pub const REJECTS: &str = "rejects.jsonl";
/// The file of the media that rows name and folders hold, one JSON object a line with its size and SHA-256.
pub const INPUTS: &str = "inputs.jsonl";
/// The file of how long each stage took.
pub const TIMINGS: &str = "timings.json";

/// What was built of what. It depends on recipe, seed and input alone: two builds of the same have the same
/// bytes.
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
    /// The files that the recipe and its stages name.
    pub inputs: BTreeMap<String, Input>,
    /// The media that rows name and folders hold, in all; they are listed in `inputs.jsonl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media: Option<MediaInputs>,
    /// The metadata, as `meta.NAME`, whose value says which samples belong together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Samples that were read, and written.
    pub read: u64,
    /// Samples that are in the shards.
    pub written: u64,
    /// What readers saw and did not take, and how often, beside the samples that were rejected.
    #[serde(default)]
    pub left_out: BTreeMap<String, u64>,
    /// What each stage did, `read` first and `write` last.
    pub stages: Vec<StageCount>,
    /// The samples of each split, those of one that got none included.
    #[serde(default)]
    pub splits: BTreeMap<String, u64>,
    /// The shards, in the order of splits and numbers.
    pub shards: Vec<ShardCount>,
}

/// A file that a corpus was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "InputForm")]
pub struct Input {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal digits; none in manifests of builds that did not look.
    pub sha256: Option<String>,
}

/// How manifests say it: those of the first builds held the size alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum InputForm {
    Bytes(u64),
    Whole { bytes: u64, sha256: Option<String> },
}

impl From<InputForm> for Input {
    fn from(form: InputForm) -> Self {
        match form {
            InputForm::Bytes(bytes) => Self { bytes, sha256: None },
            InputForm::Whole { bytes, sha256 } => Self { bytes, sha256 },
        }
    }
}

/// The media that a corpus was made of, in all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaInputs {
    /// The number of files.
    pub files: u64,
    /// Their size in bytes, together.
    pub bytes: u64,
    /// The SHA-256 of the list of them.
    pub sha256: String,
}

/// What a stage did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageCount {
    /// Its name in the recipe.
    pub stage: String,
    /// Samples that the stage was given.
    #[serde(rename = "in")]
    pub taken: u64,
    /// Samples that it passed to the next stage.
    #[serde(rename = "out")]
    pub given: u64,
    /// Samples that it rejected, by their reasons.
    pub rejects: BTreeMap<String, u64>,
}

/// A shard, and what it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardCount {
    /// Its name in the folder.
    pub file: String,
    /// The split that it belongs to.
    pub split: String,
    /// The number of its samples.
    pub samples: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub sha256: String,
}

/// How long a build took. Threads work side by side, so the stages' seconds add up to more than the clock's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// Seconds on the clock.
    pub seconds: f64,
    /// The number of threads that worked.
    pub threads: usize,
    /// Samples read per second of the clock.
    pub samples_per_second: f64,
    /// The time of each stage.
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
    /// Its index in the order of reading.
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
        let none = || Error::Read { path: path.clone(), why: "it is no manifest of a corpus".into() };
        Self::find(folder)?.ok_or_else(none)
    }

    /// The manifest of a folder, if it has one. A file of the same name that lists no shards is somebody
    /// else's.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or names a shard outside of its folder.
    pub fn find(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(MANIFEST);
        let fault = |why: String| Error::Read { path: path.clone(), why };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(error.to_string())),
        };
        let value: serde_json::Value = match serde_json::from_slice(&bytes) {
            Ok(value) => value,
            Err(error) => {
                let text = String::from_utf8_lossy(&bytes);
                let is_ours = ["\"recipe\"", "\"shards\""].iter().all(|key| text.contains(key));
                return if is_ours { Err(fault(error.to_string())) } else { Ok(None) };
            }
        };
        if value.get("shards").is_none() || value.get("recipe").is_none() {
            return Ok(None);
        }
        let manifest: Self = serde_json::from_value(value).map_err(|e| fault(e.to_string()))?;
        let leads_out = |shard: &&ShardCount| {
            let stays = |part| matches!(part, Component::Normal(_));
            !Path::new(&shard.file).components().all(stays)
        };
        match manifest.shards.iter().find(leads_out) {
            Some(shard) => Err(fault(format!("its shard '{}' lies outside of its folder", shard.file))),
            None => Ok(Some(manifest)),
        }
    }

    /// Samples that were read and not written.
    pub fn rejected(&self) -> u64 {
        self.read - self.written.min(self.read)
    }

    /// The stages that rejected samples and their reasons, the most frequent first.
    pub fn reasons(&self) -> Vec<(&str, &str, u64)> {
        let mut all = Vec::new();
        for stage in &self.stages {
            for (reason, count) in &stage.rejects {
                all.push((stage.stage.as_str(), reason.as_str(), *count));
            }
        }
        all.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
        all
    }

    /// What to warn of: more rejects than a share of the samples, and splits that got none.
    pub fn warnings(&self, max_rejected: f64) -> Vec<String> {
        let mut all = Vec::new();
        let share = self.rejected() as f64 / self.read.max(1) as f64;
        if share > max_rejected {
            all.push(format!(
                "{}: {} of {} samples ({:.1} %) were rejected, more than max_rejected = {max_rejected}; the most frequent \
                 reasons: {}; {REJECTS} has a line for each",
                self.name,
                self.rejected(),
                self.read,
                100.0 * share,
                told(self.reasons().into_iter().take(3))
            ));
        }
        for (split, _) in self.splits.iter().filter(|(_, samples)| **samples == 0) {
            all.push(format!("{}: no sample went to the split '{split}'", self.name));
        }
        all
    }
}

/// Stages, reasons and counts in words.
pub(super) fn told<'a>(reasons: impl IntoIterator<Item = (&'a str, &'a str, u64)>) -> String {
    let one = |(stage, reason, count)| format!("{stage}: {reason} {count}");
    reasons.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Write a document, which appears whole or not at all.
pub(super) fn write_json(path: &Path, document: &impl Serialize) -> Result<()> {
    let fault = |why: String| Error::Write { path: path.to_path_buf(), why };
    let mut bytes = serde_json::to_vec_pretty(document).map_err(|e| fault(e.to_string()))?;
    bytes.push(b'\n');
    percept_files::write(path, &bytes).map_err(Error::write(path))
}
