//! The folder of a run: who holds it, what dead runs left in it, and what was settled when it began.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use toml::{Table, Value};

use crate::checkpoints::Checkpoints;
use crate::config::Config;
use crate::error::{Error, Result, file};
use crate::run::Summary;
use crate::settings::differences;

/// The file that a run holds locked while it goes. It stays when the run ends, and means nothing then.
const LOCK: &str = "run.lock";
/// The settings that a run began with.
const SETTINGS: &str = "run.toml";
/// What a finished run came to.
const SUMMARY: &str = "summary.json";

/// Settings that may change when a run goes on; `*` ends a name whose every key may.
const MAY_CHANGE: [&str; 20] = [
    "checkpoint.*",
    "data.accumulate",
    "data.allow_leakage",
    "data.held_out",
    "epochs",
    "evaluate.*",
    "lora.dropout",
    "model.path",
    "name",
    "optimizer.balance",
    "optimizer.betas",
    "optimizer.clip",
    "optimizer.decay",
    "optimizer.eps",
    "optimizer.momentum",
    "optimizer.rate",
    "optimizer.smoothing",
    "precision.rematerialize",
    "schedule.*",
    "steps",
];

/// A folder that no other run writes to until this is dropped.
#[derive(Debug)]
pub struct Held {
    _file: File,
    /// Why the folder could not be locked, where the file system has no locks.
    pub unlocked: Option<String>,
}

/// Take a folder for this run, before anything in it is changed.
///
/// # Errors
/// When another run has it, naming that, or it cannot be made.
pub fn hold(folder: &Path) -> Result<Held> {
    fs::create_dir_all(folder).map_err(file(folder))?;
    let path = folder.join(LOCK);
    let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut lock = open.map_err(file(&path))?;
    let unlocked = match lock.try_lock() {
        Ok(()) => None,
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Some systems let nobody read a locked file.
            let read = lock.take(4096).read_to_string(&mut holder);
            let since = fs::metadata(&path).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            let since = since.map(|s| format!(", for {} s so far", s.as_secs())).unwrap_or_default();
            let holder = match (read.is_ok(), holder.trim()) {
                (true, holder) if !holder.is_empty() => holder,
                _ => "another process",
            };
            return Err(Error::Busy {
                folder: folder.to_path_buf(),
                why: format!(
                    "a run is going on here already ({holder}{since}); nothing was changed. Wait for it, stop it, or give \
                     another `out`"
                ),
            });
        }
        Err(TryLockError::Error(e)) => Some(format!(
            "{} cannot be locked ({e}); nothing keeps another run from writing here too",
            folder.display()
        )),
    };
    let holder = format!("process {}{}\n", std::process::id(), machine());
    let written =
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(holder.as_bytes()));
    written.map_err(file(&path))?;
    Ok(Held { _file: lock, unlocked })
}

/// The machine's name, where the system has it in a file.
fn machine() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { String::new() } else { format!(" on {}", name.trim()) }
}

/// Remove what dead runs left half written in a folder that is held, and say how much that was.
///
/// # Errors
/// When something cannot be read or removed.
pub fn sweep(config: &Config) -> Result<Option<String>> {
    let (mut count, mut bytes) = (0, 0);
    let own: [(&Path, &[&str]); 2] = [
        (&config.out, &["asked", "initial", "log.jsonl", "merged", "model", "run", "summary"]),
        (&config.out.join("checkpoints"), &["step-"]),
    ];
    for (folder, starts) in own {
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(folder).map_err(file(folder))? {
            let path = entry.map_err(file(folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !name.ends_with(".tmp") || !starts.iter().any(|s| name.starts_with(s)) {
                continue;
            }
            bytes += size(&path).map_err(file(&path))?;
            count += 1;
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(file(&path))?;
        }
    }
    let said = || {
        format!("removed {count} temporary files or folders of earlier runs ({} kB)", bytes.div_ceil(1000))
    };
    Ok((count > 0).then(said))
}

fn size(path: &Path) -> std::io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

/// How a run's folder stands to what is asked for.
#[derive(Debug)]
pub enum Standing {
    /// It holds nothing of a run.
    New,
    /// A run was interrupted; what is said of settings that changed.
    Begun(Vec<String>),
    /// The run is finished.
    Finished(Box<Summary>),
}

/// Look at a run's folder and change nothing.
///
/// # Errors
/// When it holds a run and `resume` is not asked for, or the settings are not those of the run.
pub fn look(config: &Config, resume: bool) -> Result<Standing> {
    let steps = Checkpoints::open(config).steps()?;
    let model = config.out.join("model");
    if steps.is_empty() && !model.exists() {
        return Ok(Standing::New);
    }
    if !resume {
        return Err(Error::Setting(format!(
            "{} holds a run already; go on with it by --resume, or give another `out`",
            config.out.display()
        )));
    }
    let changed = changed(config)?;
    let summary = summary(config)?.filter(|_| model.exists());
    if let Some(done) = summary {
        let enough = if config.epochs.is_some() { changed.is_empty() } else { done.steps >= config.steps };
        if enough {
            return Ok(Standing::Finished(Box::new(done)));
        }
        if steps.is_empty() {
            return Err(Error::Setting(format!(
                "{} is finished after {} steps and kept no checkpoint to go on from (checkpoint.every was 0); begin \
                 another run from its model",
                config.out.display(),
                done.steps
            )));
        }
    }
    Ok(Standing::Begun(changed))
}

/// What is said of settings that are not those of the run in the folder.
fn changed(config: &Config) -> Result<Vec<String>> {
    let path = config.out.join(SETTINGS);
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(vec![format!("{} is missing, so the settings are not compared", path.display())]);
    };
    let wrong = |why: String| Error::Config { file: path.clone(), why };
    // Through text, in which 0.9 in single precision is 0.9; keys that a run did not know have their
    // defaults.
    let table = |config: &Config| -> Result<Table> {
        let text = toml::to_string(config).map_err(|e| wrong(e.to_string()))?;
        toml::from_str(&text).map_err(|e| wrong(e.to_string()))
    };
    let mut old = table(&toml::from_str(&text).map_err(|e| wrong(e.to_string()))?)?;
    let mut new = table(config)?;
    // A folder may be moved as a whole.
    for table in [&mut old, &mut new] {
        table.remove("out");
    }
    let told = |(key, old, new): &(String, Option<Value>, Option<Value>)| {
        let value = |v: &Option<Value>| v.as_ref().map_or("not given".to_string(), |v| v.to_string());
        format!("{key} ({} -> {})", value(old), value(new))
    };
    let may = |key: &str| {
        MAY_CHANGE.iter().any(|m| match m.strip_suffix('*') {
            Some(start) => key.starts_with(start),
            None => key == *m,
        })
    };
    let found = differences(&old, &new);
    let (allowed, refused): (Vec<_>, Vec<_>) = found.iter().partition(|d| may(&d.0));
    if !refused.is_empty() {
        let list: Vec<String> = refused.into_iter().map(told).collect();
        return Err(wrong(format!(
            "a run goes on with the settings it began with, and these are others now: {}. Set them back, or give another \
             `out`",
            list.join(", ")
        )));
    }
    let list: Vec<String> = allowed.into_iter().map(told).collect();
    Ok(if list.is_empty() {
        list
    } else {
        vec![format!("settings changed since it began: {}", list.join(", "))]
    })
}

/// Keep the settings of a run beside it.
///
/// # Errors
/// When they cannot be written.
pub fn keep_settings(config: &Config) -> Result<()> {
    write_whole(&config.out.join(SETTINGS), toml::to_string(config).unwrap_or_default().as_bytes())
}

/// Keep what a finished run came to.
///
/// # Errors
/// When it cannot be written.
pub fn keep_summary(config: &Config, summary: &Summary) -> Result<()> {
    let json = format!("{:#}\n", serde_json::json!(summary));
    write_whole(&config.out.join(SUMMARY), json.as_bytes())
}

/// What the run in a folder came to, if it is finished.
fn summary(config: &Config) -> Result<Option<Summary>> {
    let path = config.out.join(SUMMARY);
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(&path).map_err(file(&path))?;
    let wrong = |e: serde_json::Error| Error::Config { file: path.clone(), why: e.to_string() };
    let mut summary: Summary = serde_json::from_slice(&bytes).map_err(wrong)?;
    summary.model = config.out.join("model");
    Ok(Some(summary))
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    percept_files::write(path, bytes).map_err(file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(out: &Path, rest: &str) -> Config {
        let text = format!(
            "out = '{}'\nsteps = 10\nmodel.path = 'base'\n[data]\nlength = 64\nrows = 4\n{rest}",
            out.display()
        );
        Config::parse(Path::new("run.toml"), &text, &[]).unwrap()
    }

    #[test]
    fn a_folder_is_held_by_one_run_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = hold(folder.path()).unwrap();
        let e = hold(folder.path()).unwrap_err().to_string();
        let own = format!("process {}", std::process::id());
        assert!(
            e.contains("going on here already") && e.contains(&own) && e.contains("another `out`"),
            "{e}"
        );
        drop(held);
        hold(folder.path()).unwrap();
    }

    #[test]
    fn temporary_files_of_dead_runs_are_removed_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        fs::create_dir_all(place("checkpoints/step-00000004.percept.tmp")).unwrap();
        fs::create_dir_all(place("model.percept.tmp.77-1.percept.tmp")).unwrap();
        fs::create_dir_all(place("checkpoints/step-00000002")).unwrap();
        for name in [
            "model.percept.tmp.77-1.percept.tmp/a",
            "run.toml.percept.tmp",
            "notes.tmp",
            "log.jsonl",
            "checkpoints/mine.tmp",
        ] {
            fs::write(place(name), [0; 1500]).unwrap();
        }
        let config = config(folder.path(), "");
        let said = sweep(&config).unwrap().unwrap();
        assert!(said.contains("removed 3 ") && said.contains("(3 kB)"), "{said}");
        assert_eq!(sweep(&config).unwrap(), None);
        for stays in ["notes.tmp", "log.jsonl", "checkpoints/mine.tmp", "checkpoints/step-00000002"] {
            assert!(place(stays).exists(), "{stays}");
        }
    }

    #[test]
    fn settings_that_change_are_named_and_only_some_may() {
        let folder = tempfile::tempdir().unwrap();
        keep_settings(&config(folder.path(), "")).unwrap();
        assert_eq!(changed(&config(folder.path(), "")).unwrap(), Vec::<String>::new());
        let said =
            changed(&config(folder.path(), "[optimizer]\nrate = 0.5\n[checkpoint]\nevery = 3\n")).unwrap();
        assert_eq!(
            said,
            ["settings changed since it began: checkpoint.every (0 -> 3), optimizer.rate (0.001 -> 0.5)"]
        );
        let e = changed(&config(folder.path(), "samples = 3\n[precision]\ncompute = 'bf16'\n")).unwrap_err();
        let e = e.to_string();
        assert!(e.contains("data.samples (not given -> 3), precision.compute (\"f32\" -> \"bf16\")"), "{e}");
        assert!(e.contains("run.toml") && e.contains("another `out`"), "{e}");
    }
}
