//! The files that rows name, and what was found there: a corpus depends on them as it does on the files of
//! its recipe.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hash::{hash_file, hexadecimal};

/// What was found where a row names a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Found {
    /// The content of a regular file.
    Content {
        /// Bytes that were read of it.
        bytes: u64,
        /// Their SHA-256 in hexadecimal digits.
        sha256: String,
    },
    /// No file that may be read.
    Refused {
        /// Why it is refused.
        refused: Refusal,
    },
}

/// Why a file was not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Refusal {
    /// There is no such file.
    Missing,
    /// There is something that cannot be read.
    Unreadable,
    /// It is a link out of its folder, to here.
    LeadsTo(String),
}

impl Found {
    /// Bytes that were read.
    pub fn of(bytes: &[u8]) -> Self {
        Self::Content { bytes: bytes.len() as u64, sha256: hexadecimal(Sha256::digest(bytes)) }
    }

    /// The first `cap` bytes of a file, and one more.
    pub fn at(path: &Path, cap: u64) -> Self {
        // A pipe would keep whoever opens it waiting.
        let hashed = path.is_file().then(|| hash_file(path, cap.saturating_add(1), &|_| {}));
        match hashed {
            Some(Ok((bytes, sha256))) => Self::Content { bytes, sha256 },
            _ => Self::Refused { refused: Refusal::of(path) },
        }
    }

    /// Whether a file is still what was found.
    pub fn is_still(&self, path: &Path, cap: u64) -> bool {
        match self {
            Self::Content { .. } => Self::at(path, cap) == *self,
            Self::Refused { refused: Refusal::LeadsTo(target) } => {
                path.canonicalize().is_ok_and(|real| real.to_string_lossy() == *target)
            }
            Self::Refused { refused } => {
                let is_readable = path.is_file() && File::open(path).is_ok();
                !is_readable && Refusal::of(path) == *refused
            }
        }
    }

    /// Bytes that are read to know it again.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Content { bytes, .. } => *bytes,
            Self::Refused { .. } => 0,
        }
    }
}

impl Refusal {
    /// Why the file at a path cannot be read.
    pub fn of(path: &Path) -> Self {
        if path.exists() { Self::Unreadable } else { Self::Missing }
    }
}

/// The files that rows have named so far. Clones share them. About 200 bytes of memory a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Named(Arc<Mutex<BTreeMap<PathBuf, Found>>>);

impl Named {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Found>> {
        // An insertion is whole or has not begun, so the map is whole even if a thread panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keep what was found at a path; a file that several rows name is hashed once.
    pub fn note(&self, path: &Path, found: impl FnOnce() -> Found) {
        if !self.lock().contains_key(path) {
            let found = found();
            self.lock().insert(path.to_path_buf(), found);
        }
    }

    /// All files that were found so far.
    pub fn take(&self) -> BTreeMap<PathBuf, Found> {
        std::mem::take(&mut *self.lock())
    }
}
