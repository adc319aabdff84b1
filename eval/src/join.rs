//! A run that several processes or devices share: which of its questions nobody has answered yet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::run::{Options, manifest, of_parts, part};
use crate::task::Task;

/// The questions of a task that are open.
pub struct Joining {
    task: String,
    out: PathBuf,
    manifest: Value,
    open: BTreeSet<usize>,
}

impl Joining {
    /// All questions of a run of a task, whichever part of it `options` asks.
    ///
    /// # Errors
    /// When the data cannot be read, or the run has no folder.
    pub fn new(task: &Task, folder: &Path, options: &Options) -> Result<Self> {
        let no_folder = || Error::Task("a run that is shared needs a folder of its results".into());
        let out = options.out.clone().ok_or_else(no_folder)?;
        let rows = task.questions(folder)?;
        let manifest = manifest(task, rows.hashes(), &options.ran);
        let whole = Options { shard: (0, 1), ..options.clone() };
        let open = part(rows, &whole).map(|raw| Ok(raw?.id)).collect::<Result<_>>()?;
        Ok(Self { task: task.name.clone(), out, manifest, open })
    }

    /// How many of them no journal of a part holds by now.
    ///
    /// # Errors
    /// When a journal cannot be read, or is of another run.
    pub fn left(&mut self) -> Result<usize> {
        let known = of_parts(&self.out, &self.task, &self.manifest)?;
        self.open.retain(|id| !known.contains_key(id));
        Ok(self.open.len())
    }
}
