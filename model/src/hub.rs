//! Models in the local cache of the Hugging Face hub, as the `huggingface_hub` library lays it out.
//!
//! A repository is `models--ORG--NAME`; `refs/main` in it names a commit, whose files are under
//! `snapshots/COMMIT`.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::read_capped;

/// Bytes of a file that names a commit, at most.
const REF_CAP: u64 = 256;

/// Bytes of an index of weights, at most.
const INDEX_CAP: u64 = 64 << 20;

/// Whether a text has the form of a repository's id: `NAME` or `ORG/NAME` of letters, digits, `-`, `_` and
/// `.`, as the hub allows them.
pub fn is_id(text: &str) -> bool {
    let part = |p: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !p.is_empty() && p.chars().all(plain) && !p.starts_with(['-', '.']) && !p.ends_with(['-', '.'])
    };
    let parts: Vec<&str> = text.split('/').collect();
    let doubled = text.contains("--") || text.contains("..");
    parts.len() <= 2 && parts.into_iter().all(part) && text.len() <= 96 && !doubled && !text.ends_with(".git")
}

/// A cache of repositories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this user: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `hub` in `HF_HOME`, `huggingface/hub`
    /// in `XDG_CACHE_HOME`, or `~/.cache/huggingface/hub`; the first that is set. `None` where there is no
    /// home folder.
    pub fn of_user() -> Option<Self> {
        Self::of(&|name| std::env::var_os(name), std::env::home_dir())
    }

    fn of(variable: &dyn Fn(&str) -> Option<OsString>, home: Option<PathBuf>) -> Option<Self> {
        let folder = |name: &str| {
            let path = PathBuf::from(variable(name).filter(|v| !v.is_empty())?);
            match (path.strip_prefix("~"), &home) {
                (Ok(rest), Some(home)) => Some(home.join(rest)),
                _ => Some(path),
            }
        };
        let root = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| folder("HF_HOME").map(|h| h.join("hub")))
            .or_else(|| folder("XDG_CACHE_HOME").map(|c| c.join("huggingface/hub")))
            .or_else(|| home.as_ref().map(|h| h.join(".cache/huggingface/hub")))?;
        Some(Self::at(root))
    }

    /// The cache in a folder.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder that holds the repositories.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a model repository is kept, there or not; `None` for what is no id.
    pub fn repository(&self, id: &str) -> Option<PathBuf> {
        is_id(id).then(|| self.root.join(format!("models--{}", id.replace('/', "--"))))
    }

    /// The folder with the files of a model at a branch, a tag or a commit; without one, at `main`. `None`
    /// where the cache does not have it.
    pub fn snapshot(&self, id: &str, revision: Option<&str>) -> Option<PathBuf> {
        let repository = self.repository(id)?;
        let revision = revision.unwrap_or("main");
        let stays_inside = |p: &Path| p.components().all(|c| matches!(c, Component::Normal(_)));
        if revision.is_empty() || !stays_inside(Path::new(revision)) {
            return None;
        }
        let commit = read_short(&repository.join("refs").join(revision));
        let commit = commit.as_deref().map_or(revision, str::trim);
        let folder = repository.join("snapshots").join(commit);
        (!commit.is_empty() && stays_inside(Path::new(commit)) && folder.is_dir()).then_some(folder)
    }
}

/// Whether a folder has weights, and every file that their index names: a fetch that was cut off leaves less.
pub fn holds_weights(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    // A link whose file is not there yet is no file.
    let files = entries.filter_map(|e| e.ok()).filter(|e| e.path().is_file());
    let names: Vec<String> = files.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let has = |name: &str| names.iter().any(|n| n == name);
    if let Some(index) = names.iter().find(|n| n.ends_with(".safetensors.index.json")) {
        let index = read_capped(&folder.join(index), INDEX_CAP).unwrap_or_default();
        let index: Value = serde_json::from_slice(&index).unwrap_or_default();
        let map = index.get("weight_map").and_then(Value::as_object);
        let there = |file: &Value| file.as_str().is_some_and(has);
        return map.is_some_and(|map| !map.is_empty() && map.values().all(there));
    }
    names.iter().any(|n| n.ends_with(".safetensors") || n.ends_with(".gguf")) || has("model.bin")
}

/// The id whose files a folder of some cache holds: `ORG/NAME` of `…/models--ORG--NAME/snapshots/COMMIT`.
pub fn id_of(snapshot: &Path) -> Option<String> {
    let commits = snapshot.parent().filter(|p| p.file_name().is_some_and(|n| n == "snapshots"))?;
    let repository = commits.parent()?.file_name()?.to_str()?.strip_prefix("models--")?;
    Some(repository.replacen("--", "/", 1))
}

fn read_short(path: &Path) -> Option<String> {
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(REF_CAP).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_hub() {
        for id in ["gpt2", "HuggingFaceTB/SmolLM2-135M-Instruct", "a/b_c.d-1"] {
            assert!(is_id(id), "{id}");
        }
        for not in ["", "a/b/c", "/a", "a/", "./a", "../a", "a b", "a--b", "-a", "a.", "x.git", "C:\\a"] {
            assert!(!is_id(not), "{not}");
        }
    }

    #[test]
    fn a_snapshot_is_found_by_branch_and_by_commit() {
        let folder = tempfile::tempdir().unwrap();
        let (cache, repository) = (Cache::at(folder.path()), folder.path().join("models--org--name"));
        let snapshot = repository.join("snapshots/0123abcd");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(repository.join("refs/pr")).unwrap();
        std::fs::write(repository.join("refs/main"), "0123abcd\n").unwrap();
        std::fs::write(repository.join("refs/pr/1"), "0123abcd").unwrap();
        std::fs::write(repository.join("refs/outside"), "../../..").unwrap();
        for revision in [None, Some("main"), Some("0123abcd"), Some("pr/1")] {
            assert_eq!(cache.snapshot("org/name", revision), Some(snapshot.clone()), "{revision:?}");
        }
        for revision in ["v1", "..", "/", "", "outside"] {
            assert_eq!(cache.snapshot("org/name", Some(revision)), None, "{revision}");
        }
        assert_eq!(cache.snapshot("org/other", None), None);
        assert_eq!(id_of(&snapshot).as_deref(), Some("org/name"));
        assert_eq!(id_of(&repository), None);
    }

    #[test]
    fn weights_are_there_once_every_file_of_their_index_is() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert!(!holds_weights(&folder.path().join("none")));
        write("config.json", "{}");
        assert!(!holds_weights(folder.path()));
        write(
            "model.safetensors.index.json",
            r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#,
        );
        write("1.safetensors", "");
        assert!(!holds_weights(folder.path()), "the second file is missing");
        write("2.safetensors", "");
        assert!(holds_weights(folder.path()));
    }

    #[test]
    fn the_first_variable_that_is_set_names_the_cache() {
        let home = Some(PathBuf::from("/home/u"));
        let of = |set: &[(&str, &str)]| {
            let variable = |name: &str| set.iter().find(|s| s.0 == name).map(|s| OsString::from(s.1));
            Cache::of(&variable, home.clone()).unwrap().root().to_path_buf()
        };
        assert_eq!(of(&[]), Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/c")]), Path::new("/c/huggingface/hub"));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/c"), ("HF_HOME", "~/hf")]), Path::new("/home/u/hf/hub"));
        assert_eq!(of(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/hub")]), Path::new("/hub"));
        assert_eq!(of(&[("HF_HOME", ""), ("HUGGINGFACE_HUB_CACHE", "/old")]), Path::new("/old"));
    }
}
