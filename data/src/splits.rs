//! The splits of a corpus: which there are, which shards each has, and how one is named.
//!
//! A corpus is a folder with a folder of shards for each split, as `percept data build` writes it:
//! `corpus/train/00000.tar`, `corpus/held-out/00000.tar`. Its manifest says which shards there are; a folder
//! without one is taken as it lies. A path and perhaps the name of a split say what is meant, the same for
//! training, evaluation, recipes and inspection: `corpus` with `held-out`, `corpus/held-out`,
//! `corpus:held-out`, or one shard.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::build::{Manifest, is_unsettled};
use crate::error::{Error, Result};
use crate::format::Format;

/// The name of the split of shards whose folder and names tell none.
const UNNAMED: &str = ".";

/// Folders above a path that are looked at for a manifest.
const DEEPEST: usize = 8;

/// Folders within folders that are looked at for shards where no manifest lists them.
const DEEPEST_UNLISTED: usize = 4;

/// The shards of a path, by their splits.
#[derive(Debug, Clone)]
pub struct Splits {
    path: PathBuf,
    root: PathBuf,
    manifest: Option<Manifest>,
    shards: BTreeMap<String, Vec<PathBuf>>,
}

impl Splits {
    /// Find the shards of a folder or file, or of `CORPUS:SPLIT`.
    ///
    /// # Errors
    /// When there is nothing at the path, or a build has not finished putting the corpus there.
    pub fn find(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::of_folder(path);
        }
        if path.exists() {
            return Self::of_file(path);
        }
        let with_colon = path.to_str().and_then(|text| text.rsplit_once(':'));
        if let Some((corpus, split)) = with_colon.filter(|(corpus, _)| Path::new(corpus).is_dir()) {
            return Self::of_folder(Path::new(corpus))?.one(split);
        }
        // A corpus that was built may have a split of this name whose shards lie elsewhere, or say that it
        // has none.
        if let (Some(corpus), Some(split)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
            && let Ok(real) = corpus.canonicalize()
            && let Some(built) = Self::of_built(corpus, &real)?
        {
            return built.one(split);
        }
        let why = "there is no such file or folder".to_owned();
        Err(Error::Read { path: path.to_path_buf(), why })
    }

    /// The one split of this name.
    fn one(self, split: &str) -> Result<Self> {
        let (split, shards) = self.only(Some(split))?;
        Ok(Self { shards: BTreeMap::from([(split, shards)]), ..self })
    }

    /// What the corpus was built of, where it was built.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    /// The folder of the whole corpus.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All shards, each with its split.
    pub fn shards(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.shards
            .iter()
            .flat_map(|(split, shards)| shards.iter().map(move |s| (split.as_str(), s.as_path())))
    }

    /// The split that is requested, or the only one there is, and its shards.
    ///
    /// # Errors
    /// When there is no such split, or there are several and none is requested: the error lists them.
    pub fn only(&self, split: Option<&str>) -> Result<(String, Vec<PathBuf>)> {
        let fault = |why: String| Err(Error::Read { path: self.path.clone(), why });
        let names = || self.shards.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let empty = |name: &str| self.manifest.as_ref().is_some_and(|m| m.splits.get(name) == Some(&0));
        match (split, self.shards.len()) {
            (_, 0) => {
                let why = "it is a folder without shards (*.tar); `percept data build` makes shards of JSONL, Parquet and \
                           other files";
                fault(why.into())
            }
            (Some(name), _) => match self.shards.get_key_value(name) {
                Some((name, shards)) => Ok((name.clone(), shards.clone())),
                None if empty(name) => {
                    fault(format!("its split '{name}' has no samples; it has {}", names()))
                }
                None => fault(format!("it has no split '{name}'; it has {}", names())),
            },
            (None, 1) => {
                let only = self.shards.iter().next().map(|(name, shards)| (name.clone(), shards.clone()));
                only.map_or_else(|| fault("there are no shards in it".into()), Ok)
            }
            (None, _) => fault(format!(
                "it has the splits {}; say which: {}/SPLIT, or `split` in a TOML file",
                names(),
                self.path.display()
            )),
        }
    }

    fn of_folder(path: &Path) -> Result<Self> {
        let real = path.canonicalize().map_err(Error::read(path))?;
        if let Some(built) = Self::of_built(path, &real)? {
            return Ok(built);
        }
        let mut shards = BTreeMap::new();
        add_folder(path, "", &mut shards)?;
        let mut root = real.clone();
        if shards.len() == 1 && shards.contains_key(UNNAMED) {
            // What lies in a folder itself is the split that the folder names, of the corpus around it.
            let name = base(&real);
            if says_split(&name) {
                root = real.parent().unwrap_or(&real).to_path_buf();
            }
            shards = shards.into_values().map(|shards| (name.clone(), shards)).collect();
        }
        Ok(Self { path: path.to_path_buf(), root, manifest: None, shards })
    }

    /// A folder of a corpus that was built: the manifest is in it or above it.
    fn of_built(path: &Path, real: &Path) -> Result<Option<Self>> {
        for (depth, root) in real.ancestors().take(DEEPEST).enumerate() {
            if is_unsettled(root) {
                let why = format!("the build of {} was cut off at its end; run it again", root.display());
                return Err(Error::Read { path: path.to_path_buf(), why });
            }
            let manifest = match Manifest::find(root) {
                Ok(manifest) => manifest,
                // A file above that cannot be read has no meaning for this folder.
                Err(_) if depth > 0 => None,
                Err(error) => return Err(error),
            };
            let Some(manifest) = manifest else { continue };
            let below = real.strip_prefix(root).unwrap_or(Path::new(""));
            let mut shards: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
            for shard in &manifest.shards {
                if let Ok(rest) = Path::new(&shard.file).strip_prefix(below) {
                    shards.entry(shard.split.clone()).or_default().push(path.join(rest));
                }
            }
            if depth == 0 || !shards.is_empty() {
                let (path, root) = (path.to_path_buf(), root.to_path_buf());
                return Ok(Some(Self { path, root, manifest: Some(manifest), shards }));
            }
        }
        Ok(None)
    }

    fn of_file(path: &Path) -> Result<Self> {
        let real = path.canonicalize().map_err(Error::read(path))?;
        let folder = real.parent().unwrap_or(Path::new("/"));
        let of = |split: String, root: &Path, manifest| {
            let shards = BTreeMap::from([(split, vec![path.to_path_buf()])]);
            Self { path: path.to_path_buf(), root: root.to_path_buf(), manifest, shards }
        };
        if let Some(built) = Self::of_built(folder, folder)?
            && let Some((split, _)) = built.shards().find(|(_, shard)| *shard == real)
        {
            return Ok(of(split.to_owned(), &built.root, built.manifest.clone()));
        }
        let stem = stem(path);
        match stem.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'_')) {
            // A number is no name of a split; the folder's name may be.
            true if says_split(&base(folder)) => {
                Ok(of(base(folder), folder.parent().unwrap_or(folder), None))
            }
            _ => Ok(of(stem, folder, None)),
        }
    }
}

/// The last part of a path.
fn base(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Add the shards of a folder and of those in it, each under the name of its folder or the split that its
/// name tells.
fn add_folder(folder: &Path, name: &str, shards: &mut BTreeMap<String, Vec<PathBuf>>) -> Result<()> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let mut paths: Vec<PathBuf> =
        entries.map_err(Error::read(folder))?.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    let mut own: BTreeMap<Option<String>, Vec<PathBuf>> = BTreeMap::new();
    for path in paths {
        let base = base(&path);
        if base.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            let inner = if name.is_empty() { base } else { format!("{name}/{base}") };
            if inner.split('/').count() <= DEEPEST_UNLISTED {
                add_folder(&path, &inner, shards)?;
            }
        } else if matches!(Format::of(&path), Some(Format::WebDataset | Format::Parquet)) {
            let stem = stem(&path);
            own.entry(says_split(&stem).then_some(stem)).or_default().push(path);
        }
    }
    let several = own.len() > 1;
    for (word, files) in own {
        let split = match (name, word) {
            ("", Some(word)) => word,
            ("", None) => UNNAMED.to_owned(),
            (name, Some(word)) if several => format!("{name}/{word}"),
            (name, _) => name.to_owned(),
        };
        shards.entry(split).or_default().extend(files);
    }
    Ok(())
}

/// A shard's name without its extension and number: `train` of `train-00000.tar` and of
/// `train-00000-of-00512.tar`.
fn stem(path: &Path) -> String {
    let name = base(path);
    let stem = name.split('.').next().unwrap_or_default();
    let trimmed = |text: &str| {
        let end = |c: char| c.is_ascii_digit() || matches!(c, '-' | '_');
        text.trim_end_matches(end).to_owned()
    };
    let first = trimmed(stem);
    let whole = match first.strip_suffix("-of").or_else(|| first.strip_suffix("_of")) {
        Some(rest) => trimmed(rest),
        None => first,
    };
    // A number alone is a name as well.
    if whole.is_empty() { stem.to_owned() } else { whole }
}

/// The words of a name, in lower case: `Test_A`, `test-a` and `testA` have the same.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_is_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() && before_is_lower || c.is_numeric() {
            words.push(String::new());
        }
        if c.is_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        before_is_lower = c.is_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a split's name says that it is kept to measure on: held-out, test, val, valid, validation, dev or
/// eval, in any spelling and with anything beside it, as in `test-clean` or `Held_Out2`.
pub fn is_held_out(name: &str) -> bool {
    const WORDS: [&str; 15] = [
        "heldout",
        "holdout",
        "test",
        "tests",
        "testing",
        "val",
        "valid",
        "validation",
        "validate",
        "minival",
        "dev",
        "devel",
        "development",
        "eval",
        "evaluation",
    ];
    let all = words(name);
    let says =
        |word: &str| WORDS.contains(&word) || word.strip_suffix("set").is_some_and(|w| WORDS.contains(&w));
    let pair =
        |pair: &[String]| matches!(pair, [held, out] if (held == "held" || held == "hold") && out == "out");
    all.iter().any(|word| says(word)) || all.windows(2).any(pair)
}

/// Whether a name is that of a split, for training or for measuring.
fn says_split(name: &str) -> bool {
    is_held_out(name) || words(name).iter().any(|word| word == "train" || word == "training")
}

#[cfg(test)]
mod tests;
