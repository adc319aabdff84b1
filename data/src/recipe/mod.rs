//! Recipes: what is read, what is done to it, and how it is written, as a TOML file.
//!
//! ```toml
//! name = "captions"
//!
//! [[read]]
//! path = "captions.jsonl"
//!
//! [[stage]]
//! run = "validate"
//!
//! [[stage]]
//! run = "deduplicate-exact"
//!
//! [write]
//! format = "webdataset"
//! ```

pub mod keys;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::keys::{Page, unknown};
use crate::error::{Error, Result};
use crate::format::{ReadSettings, WriteSettings};
use crate::stage::{self, Settings};

/// A recipe as it was written down.
#[derive(Debug)]
pub struct Recipe {
    /// What the corpus is called.
    pub name: String,
    /// What samples are drawn from, in order.
    pub reads: Vec<ReadSettings>,
    /// What is done to them, in order.
    pub stages: Vec<(String, Box<dyn Settings>)>,
    /// How they are written.
    pub write: WriteSettings,
    /// Pixels that an image may have before it is refused undecoded.
    pub max_pixels: usize,
    /// Bytes that the media of one sample may have.
    pub max_bytes: u64,
    /// The metadata, as `meta.NAME`, whose value says which samples belong together, such as those of one
    /// patient.
    pub group: Option<String>,
    /// The share of the samples that may be rejected before a build warns, between 0 and 1.
    pub max_rejected: f64,
    /// The folder that relative paths start from: the recipe's own.
    pub folder: PathBuf,
    /// The recipe's text.
    pub text: String,
}

/// What stands at the top of a recipe, beside its tables.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Top {
    name: Option<String>,
    group: Option<String>,
    max_rejected: f64,
    max_pixels: usize,
    max_bytes: u64,
}

impl Default for Top {
    /// A 12 000 x 12 000 scan and a clip of 256 MiB; of ten samples one may be rejected.
    fn default() -> Self {
        Self { name: None, group: None, max_rejected: 0.1, max_pixels: 144_000_000, max_bytes: 256 << 20 }
    }
}

impl Recipe {
    /// Read a recipe's file.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or says something that no stage knows: the line and the nearest
    /// known word are named.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
        let recipe = Self::parse(path, &text)?;
        // One folder has one name, however the way to it is spelt: what is written does not depend on that.
        let folder = recipe.folder.canonicalize().map_err(Error::read(&recipe.folder))?;
        Ok(Self { folder, ..recipe })
    }

    /// Read a recipe's text; `path` names it in errors, and relative paths start from its folder.
    ///
    /// # Errors
    /// As [`Recipe::open`].
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let page = Page { path, text };
        let document = DeTable::parse(text).map_err(|e| page.toml(&e))?;
        let span = document.span();
        let (mut top, mut reads, mut stages, mut write) = (DeTable::new(), Vec::new(), Vec::new(), None);
        for (key, value) in document.into_inner() {
            match key.get_ref().as_ref() {
                "read" => reads = tables(page, "read", value)?,
                "stage" => stages = tables(page, "stage", value)?,
                "write" => write = Some(table(page, "write", value)?),
                _ => {
                    top.insert(key, value);
                }
            }
        }
        for key in top.keys() {
            let known: Vec<&str> =
                keys::keys_of::<Top>().iter().copied().chain(["read", "stage", "write"]).collect();
            if !known.contains(&key.get_ref().as_ref()) {
                return Err(page.fault(key.span().start, unknown("a recipe", "key", key.get_ref(), &known)));
            }
        }
        let top: Top = page.settings("the recipe", Spanned::new(span, top))?;
        if reads.is_empty() {
            return Err(page.fault(0, "nothing is read: add a [[read]] table with a path"));
        }
        if top.group.as_ref().is_some_and(|group| group.strip_prefix("meta.").is_none_or(str::is_empty)) {
            return Err(page.fault(0, "group is meta.NAME, the metadata that samples of one group share"));
        }
        if !(0.0..=1.0).contains(&top.max_rejected) {
            return Err(page.fault(0, "max_rejected is a share, from 0 to 1"));
        }
        let stages: Vec<_> =
            stages.into_iter().map(|table| parse_stage(page, table)).collect::<Result<_>>()?;
        let stem =
            path.file_stem().map_or_else(|| "corpus".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            name: top.name.unwrap_or(stem),
            reads: reads.into_iter().map(|t| page.settings("[[read]]", t)).collect::<Result<_>>()?,
            stages,
            write: write.map_or_else(|| Ok(WriteSettings::default()), |t| page.settings("[write]", t))?,
            max_pixels: top.max_pixels,
            max_bytes: top.max_bytes,
            group: top.group,
            max_rejected: top.max_rejected,
            folder: folder_of(path),
            text: text.to_owned(),
        })
    }

    /// The metadata that keeps samples together: what the recipe names, or what its last division is by.
    pub fn group(&self) -> Option<String> {
        let division = || self.stages.iter().rev().find_map(|(_, stage)| stage.division());
        self.group.clone().or_else(|| division()?.group)
    }

    /// The splits that samples may go to; none where nothing divides them.
    pub fn splits(&self) -> Vec<String> {
        let division = self.stages.iter().rev().find_map(|(_, stage)| stage.division());
        division.map_or_else(Vec::new, |division| division.splits)
    }

    /// A path of the recipe, from its folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

/// The folder that a file lies in; a bare name lies in the one where the program runs.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// One `[[stage]]`: what its `run` names, with the rest as its settings.
fn parse_stage<'a>(page: Page<'a>, table: Spanned<DeTable<'a>>) -> Result<(String, Box<dyn Settings>)> {
    let span = table.span();
    let mut entries = table.into_inner();
    let run = entries.iter().find(|(key, _)| key.get_ref() == "run").map(|(key, _)| key.clone());
    let Some(name) = run.and_then(|key| entries.remove(&key)) else {
        return Err(page.fault(span.start, "a [[stage]] needs `run`, the name of what it does"));
    };
    let Some(word) = name.get_ref().as_str() else {
        return Err(page.fault(name.span().start, "`run` is the name of a stage, a string"));
    };
    let Some(kind) = stage::KINDS.iter().find(|kind| kind.name == word) else {
        let known: Vec<&str> = stage::KINDS.iter().map(|kind| kind.name).collect();
        return Err(page.fault(name.span().start, unknown("a recipe", "stage", word, &known)));
    };
    let settings =
        (kind.parse)(StageTable { page, what: format!("stage {word}"), table: Spanned::new(span, entries) })?;
    Ok((word.to_owned(), settings))
}

fn tables<'i>(page: Page<'_>, key: &str, value: Spanned<DeValue<'i>>) -> Result<Vec<Spanned<DeTable<'i>>>> {
    match value.get_ref() {
        DeValue::Array(_) => {}
        _ => {
            let why = format!("`{key}` needs double brackets: [[{key}]]");
            return Err(page.fault(value.span().start, why));
        }
    }
    let DeValue::Array(array) = value.into_inner() else { return Ok(Vec::new()) };
    array.into_iter().map(|entry| table(page, key, entry)).collect()
}

fn table<'i>(page: Page<'_>, key: &str, value: Spanned<DeValue<'i>>) -> Result<Spanned<DeTable<'i>>> {
    let span = value.span();
    match value.into_inner() {
        DeValue::Table(table) => Ok(Spanned::new(span, table)),
        _ => Err(page.fault(span.start, format!("`{key}` is a table"))),
    }
}

/// A stage's table, and where it stands.
pub(crate) struct StageTable<'a> {
    page: Page<'a>,
    what: String,
    table: Spanned<DeTable<'a>>,
}

impl StageTable<'_> {
    /// The table as the settings of a stage.
    pub(crate) fn settings<T: DeserializeOwned>(self) -> Result<T> {
        self.page.settings(&self.what, self.table)
    }
}
