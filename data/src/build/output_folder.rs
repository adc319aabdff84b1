//! The folder of a corpus: what a build writes appears in it at once and replaces what was there.
//!
//! A build works in `.building` inside the folder. When all of it is written, that becomes `.built`: from
//! then on the new corpus counts, and its files are moved to their final paths, the manifest last. A build
//! that was killed before leaves the old corpus as it was; one that was killed while it moved files is
//! continued by the next one.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::{INPUTS, MANIFEST, Manifest, REJECTS, TIMINGS};
use crate::error::{Error, Result};

/// The folder of a build that is under way.
pub(super) const UNDER_WAY: &str = ".building";
/// The folder of a build whose files are being moved to their final paths.
const BUILT: &str = ".built";
/// The file that a build holds locked while it works.
const LOCK: &str = "lock";

/// A folder that one build writes to.
pub(super) struct OutputFolder {
    out: PathBuf,
    lock: Option<File>,
    /// What was written stays where it is, to be looked at, when the build ends without being published.
    pub keep: bool,
}

impl OutputFolder {
    /// Take a folder that is empty, or holds a corpus, or what a killed build left.
    pub fn take(out: &Path) -> Result<Self> {
        fs::create_dir_all(out).map_err(Error::write(out))?;
        let names = fs::read_dir(out).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
        });
        let names = names.map_err(Error::read(out))?;
        if names.iter().any(|name| name != UNDER_WAY) && Manifest::find(out)?.is_none() {
            let why = "it holds something already; give an empty folder, or remove it".to_owned();
            return Err(Error::Write { path: out.to_path_buf(), why });
        }
        let work = out.join(UNDER_WAY);
        fs::create_dir_all(&work).map_err(Error::write(&work))?;
        let lock = hold(out, &work)?;
        for entry in fs::read_dir(&work).map_err(Error::read(&work))? {
            let path = entry.map_err(Error::read(&work))?.path();
            if path.file_name().is_some_and(|name| name != LOCK) {
                remove(&path).map_err(Error::write(&path))?;
            }
        }
        Ok(Self { out: out.to_path_buf(), lock: Some(lock), keep: false })
    }

    /// Where the build writes.
    pub fn work(&self) -> PathBuf {
        self.out.join(UNDER_WAY)
    }

    /// Replace the old corpus by the new one.
    pub fn publish(mut self) -> Result<()> {
        let (work, built) = (self.work(), self.out.join(BUILT));
        self.check_names(&work)?;
        fs::rename(&work, &built).map_err(Error::write(&built))?;
        self.keep = true;
        settle(&self.out)?;
        self.lock = None;
        Ok(())
    }

    /// Files that no build wrote are not written over.
    fn check_names(&self, work: &Path) -> Result<()> {
        let old = Manifest::find(&self.out)?;
        let known: BTreeSet<PathBuf> =
            old.iter().flat_map(|old| &old.shards).map(|shard| self.out.join(&shard.file)).collect();
        for entry in fs::read_dir(work).map_err(Error::read(work))? {
            let path = self.out.join(entry.map_err(Error::read(work))?.file_name());
            if !path.is_dir() {
                continue;
            }
            for inner in fs::read_dir(&path).map_err(Error::read(&path))? {
                let inner = inner.map_err(Error::read(&path))?.path();
                if !known.contains(&inner) {
                    let why = "no build wrote it, and a split is to have its folder; move it away".to_owned();
                    return Err(Error::Write { path: inner, why });
                }
            }
        }
        Ok(())
    }
}

impl Drop for OutputFolder {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is removed by the next build.
            let _ = fs::remove_dir_all(self.work());
        }
    }
}

/// Whether a folder is a corpus whose new files are not all at their final paths.
pub(crate) fn is_unsettled(out: &Path) -> bool {
    out.join(BUILT).is_dir()
}

/// Go on with what a killed build had finished.
pub(super) fn recover(out: &Path) -> Result<()> {
    if !is_unsettled(out) {
        return Ok(());
    }
    let _lock = hold(out, &out.join(BUILT))?;
    settle(out)
}

fn hold(out: &Path, folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let lock = File::create(&path).map_err(Error::write(&path))?;
    lock.try_lock().map_err(|_| {
        let why = "another build is writing there; wait for it, or give another folder".to_owned();
        Error::Write { path: out.to_path_buf(), why }
    })?;
    Ok(lock)
}

/// Move a new corpus to its final path. After a kill at any point a second call finishes the move.
fn settle(out: &Path) -> Result<()> {
    let built = out.join(BUILT);
    // The manifest is moved last: without it everything is at its final path already.
    if built.join(MANIFEST).exists() {
        if let Some(old) = Manifest::find(out)? {
            clear(out, &old)?;
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&built).map_err(Error::read(&built))? {
            let name = entry.map_err(Error::read(&built))?.file_name();
            if name != LOCK && name != MANIFEST {
                names.push(name);
            }
        }
        names.sort();
        names.push(MANIFEST.into());
        for name in names {
            let to = out.join(&name);
            fs::rename(built.join(&name), &to).map_err(Error::write(&to))?;
        }
    }
    fs::remove_dir_all(&built).map_err(Error::write(&built))
}

/// Remove a corpus's own files, its manifest last.
fn clear(out: &Path, old: &Manifest) -> Result<()> {
    let gone = |path: &Path| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::write(path)(error)),
        _ => Ok(()),
    };
    let mut folders = BTreeSet::new();
    for shard in &old.shards {
        let path = out.join(&shard.file);
        gone(&path)?;
        folders.extend(path.parent().filter(|folder| *folder != out).map(Path::to_path_buf));
    }
    for folder in folders {
        // A folder that holds files of somebody else's stays.
        let _ = fs::remove_dir(folder);
    }
    [REJECTS, TIMINGS, INPUTS, MANIFEST].iter().try_for_each(|name| gone(&out.join(name)))
}

fn remove(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}
