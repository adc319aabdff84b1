//! What a pull is made of, one line of its plan each.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::status::Outcome;

/// One sample or file that is to be had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Item {
    /// The address, path, or place in a list that names it.
    pub url: String,
    pub task: Task,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Other columns of its list.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub meta: Map<String, Value>,
    /// What its source says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// How it is had. `to` is a place in the folder of the pull.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Task {
    /// Fetched, and put where its address says.
    Sample,
    /// Fetched; must be a whole tar.
    Tar { to: String },
    /// Fetched from a hub.
    Hub { to: String },
    /// Copied or linked.
    Local { from: String, to: String, tar: bool },
    /// Nothing to be had.
    Bad { outcome: Outcome, reason: String },
}

impl Item {
    pub fn new(url: impl Into<String>, task: Task) -> Self {
        Self { url: url.into(), task, caption: None, meta: Map::new(), bytes: None, sha256: None }
    }

    pub fn bad(url: impl Into<String>, outcome: Outcome, reason: impl Into<String>) -> Self {
        Self::new(url, Task::Bad { outcome, reason: reason.into() })
    }

    /// Where it goes, if that is known beforehand.
    pub fn to(&self) -> Option<&str> {
        match &self.task {
            Task::Tar { to } | Task::Hub { to } | Task::Local { to, .. } => Some(to),
            Task::Sample | Task::Bad { .. } => None,
        }
    }
}
