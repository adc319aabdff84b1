//! What a corpus is made of, by content: whether it is still the same, and what has changed if not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use percept_files::AtomicFile;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::manifest::{INPUTS, Input, Manifest, MediaInputs};
use super::{BuildOptions, Corpus};
use crate::error::{Error, Result};
use crate::format::{self, Found, Named};
use crate::hash::hash_file;

/// The files that a corpus is made of.
#[derive(Default)]
pub struct Inputs {
    /// The recipe's folder, which names start from.
    folder: PathBuf,
    /// Bytes of a medium that are read.
    cap: u64,
    /// The files that the recipe names, by their names.
    files: BTreeMap<String, Input>,
    /// The files of its folders of media.
    listed: Vec<PathBuf>,
    /// The files that rows name, once they were read.
    named: Named,
}

/// One line of the list of media.
#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    #[serde(flatten)]
    found: Found,
}

impl Inputs {
    /// Hash the files that a recipe and its stages name.
    pub(super) fn new(
        folder: &Path,
        cap: u64,
        inputs: Vec<format::Input>,
        named: Named,
        options: &BuildOptions<'_>,
    ) -> Result<Self> {
        let folder = folder.canonicalize().map_err(Error::read(folder))?;
        let (mut files, mut listed) = (BTreeMap::new(), Vec::new());
        for input in inputs {
            match input {
                format::Input::File(path) => {
                    files.insert(name(&folder, &path), path);
                }
                format::Input::Folder(media) => listed.extend(media),
            }
        }
        let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |about| about.len());
        let progress = Hashing::new(options, files.values().map(size).sum());
        let hash = |(name, path): (String, PathBuf)| {
            let hashed = hash_file(&path, u64::MAX, &|bytes| progress.add(bytes));
            let (bytes, sha256) = hashed.map_err(Error::read(&path))?;
            Ok((name, Input { bytes, sha256: Some(sha256) }))
        };
        let files = in_parallel(options, || files.into_par_iter().map(hash).collect::<Result<_>>())??;
        Ok(Self { folder, cap, files, listed, named })
    }

    /// The files that the recipe names.
    pub fn files(&self) -> &BTreeMap<String, Input> {
        &self.files
    }

    /// Whether a corpus was made of one of these files.
    pub(super) fn shares_with(&self, out: &Path, manifest: &Manifest) -> bool {
        let listed = || {
            let media = manifest.media.as_ref().and_then(|media| read_media(&out.join(INPUTS), media));
            media
                .is_some_and(|old| self.listed.iter().any(|path| old.contains_key(&name(&self.folder, path))))
        };
        manifest.inputs.keys().any(|name| self.files.contains_key(name)) || listed()
    }

    /// Write the list of media into a corpus, once all of them were read.
    pub(super) fn write_media(&self, folder: &Path) -> Result<Option<MediaInputs>> {
        let mut found = self.named.take();
        for path in &self.listed {
            found.entry(path.clone()).or_insert_with(|| Found::at(path, self.cap));
        }
        if found.is_empty() {
            return Ok(None);
        }
        let lines: BTreeMap<String, Found> =
            found.into_iter().map(|(path, found)| (name(&self.folder, &path), found)).collect();
        let path = folder.join(INPUTS);
        let files = lines.len() as u64;
        let bytes = lines.values().map(Found::bytes).sum();
        let mut file = AtomicFile::create(&path).map_err(Error::write(&path))?;
        for (path_of, found) in lines {
            let line = serde_json::to_vec(&Line { path: path_of, found });
            let mut line = line.map_err(|e| Error::Write { path: path.clone(), why: e.to_string() })?;
            line.push(b'\n');
            file.write_all(&line).map_err(Error::write(&path))?;
        }
        file.finish().map_err(Error::write(&path))?;
        let (_, sha256) = hash_file(&path, u64::MAX, &|_| {}).map_err(Error::read(&path))?;
        Ok(Some(MediaInputs { files, bytes, sha256 }))
    }
}

/// What has changed since a corpus was built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// What is not a file: the recipe, the seed, the version of Percept.
    pub settings: Vec<String>,
    /// Files whose content is another.
    pub changed: Vec<String>,
    /// Files that were not there.
    pub added: Vec<String>,
    /// Files that are not there any more, or are not read any more.
    pub removed: Vec<String>,
    /// Files of the corpus itself that are gone or are not what was written.
    pub lost: Vec<String>,
}

impl Changes {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What differs between the corpus that a folder holds and the one that would be built now.
    pub(super) fn find(
        out: &Path,
        manifest: &Manifest,
        corpus: &Corpus,
        options: &BuildOptions<'_>,
    ) -> Result<Self> {
        let mut changes = Self::default();
        let version = env!("CARGO_PKG_VERSION");
        if manifest.recipe != corpus.recipe {
            changes.settings.push("the recipe".into());
        }
        if manifest.seed != options.seed {
            changes.settings.push(format!("the seed, from {} to {}", manifest.seed, options.seed));
        }
        if manifest.version != version {
            changes.settings.push(format!("Percept, from {} to {version}", manifest.version));
        }
        let inputs = &corpus.inputs;
        for (name, input) in &inputs.files {
            match manifest.inputs.get(name) {
                None => changes.added.push(name.clone()),
                Some(old) if old != input => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        let gone = manifest.inputs.keys().filter(|name| !inputs.files.contains_key(*name));
        changes.removed.extend(gone.cloned());
        for shard in &manifest.shards {
            let size = std::fs::metadata(out.join(&shard.file)).map(|about| about.len()).ok();
            if size != Some(shard.bytes) {
                changes.lost.push(shard.file.clone());
            }
        }
        inputs.compare_media(out, manifest, options, &mut changes)?;
        Ok(changes)
    }
}

impl Inputs {
    fn compare_media(
        &self,
        out: &Path,
        manifest: &Manifest,
        options: &BuildOptions<'_>,
        changes: &mut Changes,
    ) -> Result<()> {
        let listed: BTreeSet<String> = self.listed.iter().map(|path| name(&self.folder, path)).collect();
        let old = match &manifest.media {
            None => BTreeMap::new(),
            Some(media) => match read_media(&out.join(INPUTS), media) {
                Some(old) => old,
                None => {
                    changes.lost.push(INPUTS.into());
                    return Ok(());
                }
            },
        };
        changes.added.extend(listed.iter().filter(|name| !old.contains_key(*name)).cloned());
        let progress = Hashing::new(options, old.values().map(Found::bytes).sum());
        let changed = |(name, found): (&String, &Found)| {
            let path = self.folder.join(name);
            let same = found.is_still(&path, self.cap);
            progress.add(found.bytes());
            (!same).then(|| (name.clone(), path.exists()))
        };
        let changed: Vec<_> = in_parallel(options, || old.par_iter().filter_map(changed).collect())?;
        for (name, exists) in changed {
            if exists { &mut changes.changed } else { &mut changes.removed }.push(name);
        }
        Ok(())
    }
}

/// The list of media that a build wrote; none where it is not there or is not what was written.
fn read_media(path: &Path, media: &MediaInputs) -> Option<BTreeMap<String, Found>> {
    let (_, sha256) = hash_file(path, u64::MAX, &|_| {}).ok()?;
    if sha256 != media.sha256 {
        return None;
    }
    let lines = BufReader::new(std::fs::File::open(path).ok()?).lines();
    lines
        .map(|line| {
            let Line { path, found } = serde_json::from_str(&line.ok()?).ok()?;
            Some((path, found))
        })
        .collect()
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = Vec::new();
        if !self.settings.is_empty() {
            all.push(format!("changed: {}", self.settings.join(", ")));
        }
        for (what, files) in [
            ("with other content", &self.changed),
            ("new", &self.added),
            ("gone", &self.removed),
            ("of the corpus itself damaged", &self.lost),
        ] {
            if !files.is_empty() {
                all.push(format!("{} {what}: {}", count(files.len()), some(files)));
            }
        }
        f.write_str(&all.join("; "))
    }
}

fn count(files: usize) -> String {
    if files == 1 { "1 file".into() } else { format!("{files} files") }
}

/// The first names, and how many more there are.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ") + &more
}

/// A file's name from the recipe's folder, the same however the way to it is spelt; a whole path where it
/// lies elsewhere.
fn name(folder: &Path, path: &Path) -> String {
    let place = || {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(parent.canonicalize().ok()?.join(path.file_name()?))
    };
    let place = place().unwrap_or_else(|| path.to_path_buf());
    place.strip_prefix(folder).unwrap_or(&place).display().to_string()
}

/// Work on as many threads as the build has.
fn in_parallel<T: Send>(options: &BuildOptions<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads.max(1)).build();
    let pool = pool.map_err(|e| Error::Config(format!("no thread can be started: {e}")))?;
    Ok(pool.install(work))
}

/// How many bytes were hashed, of how many.
struct Hashing<'a> {
    told: Option<&'a (dyn Fn(u64, u64) + Sync)>,
    done: AtomicU64,
    all: u64,
}

impl<'a> Hashing<'a> {
    fn new(options: &'a BuildOptions<'_>, all: u64) -> Self {
        Self { told: options.hashing, done: AtomicU64::new(0), all }
    }

    fn add(&self, bytes: u64) {
        let done = bytes + self.done.fetch_add(bytes, Ordering::Relaxed);
        if let Some(told) = self.told {
            told(done, self.all);
        }
    }
}
