//! A model from a hub into the cache that all programs of the hub share.
//!
//! The layout is that of huggingface_hub: `blobs/HASH` are the files, `snapshots/COMMIT/NAME` links to them,
//! and `refs/REVISION` names the commit. What is still coming lies in `.parts`, and is continued by the next
//! run.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use percept_data::hash::hexadecimal;
use sha1::{Digest, Sha1};

use super::client::{Client, Token};
use super::error::Error;
use super::fault::Fault;
use super::fetch::{Trouble, Want, patiently};
use super::hub::{Entry, Repository};
use super::place::unsafe_path;
use super::{Settings, Watch};

/// A file of a model, as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// Its name; models are read from the top of their repository alone.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its name among the blobs: a SHA-256 for large files, git's SHA-1 for the others.
    blob: String,
    large: bool,
}

/// Fetch the weights of `OWNER/NAME` at a revision and what lies beside them (configuration, tokenizer, chat
/// template, processor) into `folder`, the model's own folder in the cache. Files that are there are not
/// fetched again. `watch` is told the number of bytes that are planned, and those that come. Gives the
/// snapshot's folder.
///
/// # Errors
/// When the hub cannot be reached or has no such model, when the model has no weights that are read, or a
/// file does not arrive whole.
pub fn pull_model(
    name: &str,
    revision: &str,
    folder: &Path,
    settings: &Settings,
    watch: &dyn Watch,
) -> Result<PathBuf, Error> {
    settings.check()?;
    let endpoint = settings.endpoint()?;
    let spelled = format!("{name}@{}", revision.replace('/', "%2F"));
    let repository = Repository::parse(&spelled).map_err(Error::Usage)?;
    let token = settings.token.as_ref();
    let token = token.map(|secret| Token { secret: secret.clone(), origin: endpoint.origin() });
    let client = Client::new(settings, token);

    let (parts, blobs) = (folder.join(".parts"), folder.join("blobs"));
    for own in [&parts, &blobs] {
        fs::create_dir_all(own).map_err(Error::disk(own))?;
    }
    let lock = parts.join("lock");
    let held = File::create(&lock).map_err(Error::disk(&lock))?;
    // Another process that fetches the same model is waited for; the lock ends with the file.
    held.lock().map_err(Error::disk(&lock))?;

    let commit = repository.commit(&client, &endpoint, settings)?;
    let mut listed = Vec::new();
    repository.top(&client, &endpoint, settings, &commit, &mut |entry| listed.push(entry))?;
    let files = chosen(&listed).map_err(|why| Error::Hub { repository: repository.to_string(), why })?;
    let missing: Vec<&ModelFile> = files.iter().filter(|f| !blobs.join(&f.blob).is_file()).collect();
    watch.planned(missing.iter().map(|f| f.bytes).sum());

    let fetch = |file: &ModelFile| -> Result<(), Error> {
        let whose = |why: String| Error::Hub { repository: repository.to_string(), why };
        let url = repository.address(&endpoint, false, &["resolve", &commit], &file.name).map_err(whose)?;
        let want = Want {
            url: &url,
            cap: settings.max_bytes,
            bytes: Some(file.bytes),
            sha256: file.large.then_some(&file.blob[..]),
            robots: false,
            may_be_empty: true,
        };
        let place = blobs.join(&file.blob);
        match patiently(&client, &want, &parts, &place, settings, &|bytes| watch.brought(bytes)) {
            Ok(()) if file.large => Ok(()),
            Ok(()) => {
                git_hash(&place).map_err(Error::disk(&place)).and_then(|found| match found == file.blob {
                    true => Ok(()),
                    false => {
                        fs::remove_file(&place).map_err(Error::disk(&place))?;
                        let why =
                            format!("{}: its git hash is {found}, and {} was listed", file.name, file.blob);
                        Err(whose(why))
                    }
                })
            }
            Err(Trouble::Fault(fault)) => Err(whose(format!("{}: {}", file.name, gated(fault)))),
            Err(Trouble::Disk(error)) => Err(Error::disk(&place)(error)),
        }
    };
    // What is small comes first: weights that are whole then say that everything is there.
    let (small, weights): (Vec<&ModelFile>, Vec<&ModelFile>) =
        missing.into_iter().partition(|f| !is_weights(&f.name));
    let snapshot = folder.join("snapshots").join(&commit);
    let by_weights = |weights: bool| files.iter().filter(move |f| is_weights(&f.name) == weights);
    together(&small, settings.threads.min(8), &fetch)?;
    by_weights(false).try_for_each(|f| link(&snapshot, f).map_err(Error::disk(&snapshot)))?;
    together(&weights, settings.threads.min(4), &fetch)?;
    by_weights(true).try_for_each(|f| link(&snapshot, f).map_err(Error::disk(&snapshot)))?;
    if revision != commit {
        let name = folder.join("refs").join(revision);
        let written = name.parent().map_or(Ok(()), fs::create_dir_all);
        written.and_then(|()| percept_files::write(&name, commit.as_bytes())).map_err(Error::disk(&name))?;
    }
    Ok(snapshot)
}

/// Work on all files, a few at a time; the first error ends the rest.
fn together(
    files: &[&ModelFile],
    threads: usize,
    work: &(dyn Fn(&ModelFile) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(files.len()) {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(file) {
                        next.store(files.len(), Ordering::Relaxed);
                        failed.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(|e| e.into_inner()).map_or(Ok(()), Err)
}

/// A file of the snapshot: a link to its blob, or where links cannot be made a copy.
fn link(snapshot: &Path, file: &ModelFile) -> io::Result<()> {
    fs::create_dir_all(snapshot)?;
    let place = snapshot.join(&file.name);
    if place.exists() {
        return Ok(());
    }
    // A link that leads nowhere is in the way of a new one.
    if place.is_symlink() {
        fs::remove_file(&place)?;
    }
    let target = Path::new("../../blobs").join(&file.blob);
    #[cfg(unix)]
    return std::os::unix::fs::symlink(target, place);
    #[cfg(not(unix))]
    fs::copy(snapshot.join(target), place).map(drop)
}

fn gated(fault: Fault) -> String {
    match fault.http {
        Some(401 | 403) => format!(
            "{}; for a gated model, accept its terms on its page and set HF_TOKEN to a token of your account",
            fault.reason
        ),
        _ => fault.reason,
    }
}

/// The name that git gives a file by its content.
fn git_hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", file.metadata()?.len()));
    let mut bytes = vec![0; 1 << 16];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hexadecimal(hash.finalize())),
            n => hash.update(&bytes[..n]),
        }
    }
}

fn is_weights(name: &str) -> bool {
    [".safetensors", ".gguf", ".bin"].iter().any(|e| name.ends_with(e))
}

/// The files of a repository that make a model that is read, in the order of their names.
fn chosen(listed: &[Entry]) -> Result<Vec<ModelFile>, String> {
    let names: Vec<&str> = listed.iter().map(|e| e.path.as_str()).collect();
    let has = |name: &str| names.contains(&name);
    let ending = |end: &str| names.iter().copied().filter(|n| n.ends_with(end)).collect::<Vec<_>>();
    let (indices, safetensors, ggufs) =
        (ending(".safetensors.index.json"), ending(".safetensors"), ending(".gguf"));
    // Variants of the same weights lie side by side: those that libraries load by default are taken.
    let weights: Vec<&str> = if has("model.safetensors.index.json") || indices.len() == 1 {
        let index =
            if has("model.safetensors.index.json") { "model.safetensors.index.json" } else { indices[0] };
        let stem = index.trim_end_matches(".safetensors.index.json");
        let shard = |n: &&str| {
            n.strip_prefix(stem).is_some_and(|rest| rest.starts_with('-') && rest.contains("-of-"))
        };
        safetensors.into_iter().filter(shard).collect()
    } else if has("model.safetensors") {
        vec!["model.safetensors"]
    } else if !safetensors.is_empty() {
        safetensors
    } else if let [one] = ggufs[..] {
        vec![one]
    } else if !ggufs.is_empty() {
        return Err(format!(
            "it has {} GGUF files ({}); fetch one with `percept data pull hf://OWNER/NAME/FILE --out DIR`",
            ggufs.len(),
            ggufs.join(", ")
        ));
    } else if has("model.bin") && !has("pytorch_model.bin") {
        vec!["model.bin"]
    } else {
        return Err("it has no weights in safetensors, GGUF or CTranslate2's model.bin; pickles are not read because they \
                    run code"
            .into());
    };
    if weights.is_empty() {
        return Err("its index names no safetensors file that is there".into());
    }
    let beside = |name: &str| {
        let data = [".json", ".jinja", ".txt", ".model"].iter().any(|e| name.ends_with(e));
        // Training's own notes are no part of a model.
        data && !["trainer_state.json", "training_args.json", "README.txt", "requirements.txt"]
            .contains(&name)
    };
    let mut files = Vec::new();
    for entry in listed.iter().filter(|e| weights.contains(&&e.path[..]) || beside(&e.path)) {
        if let Some(why) = unsafe_path(&entry.path) {
            return Err(format!("it lists the file {:?}: {why}", entry.path));
        }
        let (blob, large) = match &entry.lfs {
            Some(lfs) => (lfs.oid.clone(), true),
            None => (entry.oid.clone().unwrap_or_default(), false),
        };
        let length = if large { 64 } else { 40 };
        if blob.len() != length || !blob.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("it lists the file {:?} without its hash", entry.path));
        }
        let bytes = entry.lfs.as_ref().and_then(|lfs| lfs.size).or(entry.size).unwrap_or_default();
        files.push(ModelFile { name: entry.path.clone(), bytes, blob: blob.to_lowercase(), large });
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(names: &[&str]) -> Vec<Entry> {
        let entry = |name: &&str| {
            let json =
                format!(r#"{{"type": "file", "path": {name:?}, "size": 1, "oid": "{}"}}"#, "0".repeat(40));
            serde_json::from_str(&json).unwrap()
        };
        names.iter().map(entry).collect()
    }

    #[test]
    fn of_several_copies_of_the_weights_the_usual_one_is_taken() {
        let of = |names: &[&str]| -> Result<Vec<String>, String> {
            Ok(chosen(&listed(names))?.into_iter().map(|f| f.name).collect())
        };
        let one =
            ["README.md", "config.json", "model.fp16.safetensors", "model.safetensors", "pytorch_model.bin"];
        assert_eq!(of(&one).unwrap(), ["config.json", "model.safetensors"]);
        let sharded = [
            "consolidated.safetensors",
            "merges.txt",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        assert_eq!(of(&sharded).unwrap(), sharded[1..]);
        assert_eq!(of(&["a.gguf", "README.md"]).unwrap(), ["a.gguf"]);
        assert!(of(&["a.gguf", "b.gguf"]).unwrap_err().contains("percept data pull hf://"));
        assert!(of(&["config.json", "pytorch_model.bin"]).unwrap_err().contains("pickles"));
        assert_eq!(of(&["config.json", "model.bin", "vocabulary.json"]).unwrap().len(), 3);
        let mut bare = listed(&["config.json", "model.safetensors"]);
        bare[1].oid = None;
        assert!(chosen(&bare).unwrap_err().contains("without its hash"));
    }
}
