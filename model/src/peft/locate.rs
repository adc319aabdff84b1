//! From what a user names to a base and the adapters over it.

use std::path::{Path, PathBuf};

use super::config::{FILE, LoraConfig};
use crate::error::{Error, Result};
use crate::hub;

/// Adapters over adapters, at most.
const DEEPEST: usize = 8;

/// A model as it is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The checkpoint.
    pub base: PathBuf,
    /// Folders of adapters over it, in the order in which they act.
    pub adapters: Vec<PathBuf>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Where the parts of a model are. A path to a checkpoint is itself. The id of a repository that is in the
/// hub's cache is its folder there. An adapter's folder is the base that its adapter_config.json names, by a
/// path (absolute, or relative to the current folder, to the adapter's or to the one that holds it) or by its
/// id in the hub's cache, and the adapter over it.
///
/// # Errors
/// When an adapter names no base, or one that is nowhere.
pub fn locate(model: &Path) -> Result<Located> {
    locate_in(model, hub::Cache::of_user().as_ref())
}

fn locate_in(model: &Path, cache: Option<&hub::Cache>) -> Result<Located> {
    let mut located = Located {
        base: cached(model, None, cache).unwrap_or(model.into()),
        adapters: Vec::new(),
        notes: Vec::new(),
    };
    while is_adapter(&located.base) {
        let folder = folder_of(&located.base);
        if located.adapters.len() == DEEPEST || located.adapters.contains(&folder) {
            let why =
                format!("the bases of adapters lead from one adapter to the next more than {DEEPEST} times");
            return Err(Error::Content { file: folder.join(FILE).display().to_string(), why });
        }
        located.base = base_of(&folder, cache, &mut located.notes)?;
        located.adapters.insert(0, folder);
    }
    if located.base.is_dir() && located.base.join(FILE).is_file() {
        let at = located.base.display();
        located.notes.push(format!(
            "{at} holds a model and an adapter; the model is opened without it, and `--adapter {at}` adds it"
        ));
    }
    Ok(located)
}

/// The folder of an adapter: a path to it or to its file of tensors, or the id of a repository in the hub's
/// cache.
pub fn locate_adapter(adapter: &Path) -> PathBuf {
    let cache = hub::Cache::of_user();
    folder_of(&cached(adapter, None, cache.as_ref()).unwrap_or(adapter.into()))
}

/// Whether a path is an adapter's folder, or the file of its tensors, rather than a checkpoint.
fn is_adapter(path: &Path) -> bool {
    let adapters = |name: &str| name.starts_with("adapter_model.");
    let Ok(entries) = std::fs::read_dir(path) else {
        let named = path.file_name().is_some_and(|n| adapters(&n.to_string_lossy()));
        return named && path.with_file_name(FILE).is_file();
    };
    // An adapter may lie in the folder of a whole model, which is then what is meant.
    let weights = |name: &str| {
        [".safetensors", ".safetensors.index.json", ".gguf"].iter().any(|end| name.ends_with(end))
            || name == "model.bin"
    };
    let mut names = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    path.join(FILE).is_file() && !names.any(|n| weights(&n) && !adapters(&n))
}

/// The folder of an adapter that is given by its folder or by its file of tensors.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if path.is_file() => parent.to_path_buf(),
        _ => path.to_path_buf(),
    }
}

fn base_of(folder: &Path, cache: Option<&hub::Cache>, notes: &mut Vec<String>) -> Result<PathBuf> {
    let config = LoraConfig::read(folder)?;
    let Some(base) = config.base.as_deref().filter(|b| !b.is_empty()) else {
        let why = "'base_model_name_or_path' names no base; open the base and give this folder as --adapter";
        return Err(config.error(why.into()));
    };
    let named = Path::new(base);
    let (inside, beside) = (folder.join(named), folder.join("..").join(named));
    let found: Vec<&Path> = [named, &inside, &beside].into_iter().filter(|p| p.exists()).collect();
    if let Some(first) = found.first() {
        let others = found.iter().filter(|p| p.canonicalize().ok() != first.canonicalize().ok());
        notes.extend(others.map(|other| {
            format!("the adapter's base is taken from {}, not from {}", first.display(), other.display())
        }));
        return Ok(first.to_path_buf());
    }
    if let Some(snapshot) = cached(named, config.revision.as_deref(), cache) {
        return Ok(snapshot);
    }
    let mut tried = vec![base.to_string()];
    if named.is_relative() {
        tried.extend([&inside, &beside].map(|p| p.display().to_string()));
    }
    if let Some(place) = cache.and_then(|c| c.repository(base)) {
        tried.push(place.display().to_string());
    }
    let revision = config.revision.map(|r| format!(" at revision {r}")).unwrap_or_default();
    Err(Error::Content {
        file: folder.join(FILE).display().to_string(),
        why: format!(
            "its base '{base}'{revision} is at none of {}; fetch it (`hf download {base}`), or open it by its path and \
             give this folder as --adapter",
            tried.join(", ")
        ),
    })
}

/// The snapshot of what is no path and is the id of a repository in the cache.
fn cached(model: &Path, revision: Option<&str>, cache: Option<&hub::Cache>) -> Option<PathBuf> {
    if model.exists() {
        return None;
    }
    cache?.snapshot(model.to_str()?, revision)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn adapter(folder: &Path, base: &str) {
        fs::create_dir_all(folder).unwrap();
        let config = json!({ "peft_type": "LORA", "base_model_name_or_path": base, "revision": null });
        fs::write(folder.join(FILE), config.to_string()).unwrap();
    }

    #[test]
    fn a_base_is_found_by_path_beside_the_adapter_and_in_the_cache() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let cache = hub::Cache::at(at("hub"));
        let snapshot = at("hub/models--org--name/snapshots/abc");
        fs::create_dir_all(&snapshot).unwrap();
        fs::create_dir_all(at("hub/models--org--name/refs")).unwrap();
        fs::write(at("hub/models--org--name/refs/main"), "abc").unwrap();
        fs::create_dir_all(at("base")).unwrap();
        let locate = |path: &Path| locate_in(path, Some(&cache));
        adapter(&at("absolute"), at("base").to_str().unwrap());
        adapter(&at("inside"), "../base");
        adapter(&at("beside"), "base");
        adapter(&at("cached"), "org/name");
        adapter(&at("upon"), "beside");
        for (name, base) in [
            ("absolute", at("base")),
            ("inside", at("inside/../base")),
            ("beside", at("beside/../base")),
            ("cached", snapshot.clone()),
        ] {
            let expected = Located { base, adapters: vec![at(name)], notes: vec![] };
            assert_eq!(locate(&at(name)).unwrap(), expected, "{name}");
        }
        let upon = locate(&at("upon")).unwrap();
        assert_eq!(upon.adapters, [at("upon/../beside"), at("upon")]);
        assert_eq!(locate(Path::new("org/name")).unwrap().base, snapshot);
        assert_eq!(
            locate(&at("base")).unwrap(),
            Located { base: at("base"), adapters: vec![], notes: vec![] }
        );
        fs::write(at("cached/adapter_model.safetensors"), "").unwrap();
        assert_eq!(locate(&at("cached/adapter_model.safetensors")).unwrap().adapters, [at("cached")]);
    }

    #[test]
    fn a_base_that_is_nowhere_is_named_with_what_to_do() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let cache = hub::Cache::at(at("hub"));
        let error = |name: &str| locate_in(&at(name), Some(&cache)).unwrap_err().to_string();
        adapter(&at("lost"), "org/gone");
        let e = error("lost");
        assert!(e.contains("org/gone") && e.contains("models--org--gone") && e.contains("--adapter"), "{e}");
        adapter(&at("none"), "");
        assert!(error("none").contains("names no base"));
        adapter(&at("circle"), "../circle");
        assert!(error("circle").contains("from one adapter to the next"), "{}", error("circle"));
    }

    #[test]
    fn a_model_with_an_adapter_beside_it_is_the_model() {
        let place = tempfile::tempdir().unwrap();
        adapter(place.path(), "org/name");
        fs::write(place.path().join("model.safetensors"), "").unwrap();
        let found = locate_in(place.path(), None).unwrap();
        assert!(found.adapters.is_empty() && found.notes[0].contains("without it"), "{found:?}");
    }
}
