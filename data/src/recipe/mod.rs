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

pub(crate) mod keys;
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
    /// Pixels that a picture may have before it is refused undecoded.
    pub max_pixels: usize,
    /// Bytes that the media of one sample may have.
    pub max_bytes: u64,
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
    max_pixels: usize,
    max_bytes: u64,
}

impl Default for Top {
    /// A 12 000 x 12 000 scan and a clip of 256 MiB.
    fn default() -> Self {
        Self { name: None, max_pixels: 144_000_000, max_bytes: 256 << 20 }
    }
}

impl Recipe {
    /// Read a recipe's file.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or says something that no stage knows: the line and the nearest known word
    /// are named.
    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::read(path))?;
        Self::parse(path, &text)
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
        let stem =
            path.file_stem().map_or_else(|| "corpus".into(), |stem| stem.to_string_lossy().into_owned());
        Ok(Self {
            name: top.name.unwrap_or(stem),
            reads: reads.into_iter().map(|t| page.settings("[[read]]", t)).collect::<Result<_>>()?,
            stages: stages.into_iter().map(|table| parse_stage(page, table)).collect::<Result<_>>()?,
            write: write.map_or_else(|| Ok(WriteSettings::default()), |t| page.settings("[write]", t))?,
            max_pixels: top.max_pixels,
            max_bytes: top.max_bytes,
            folder: path.parent().unwrap_or(Path::new("")).to_path_buf(),
            text: text.to_owned(),
        })
    }

    /// A path of the recipe, from its folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
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
            return Err(
                page.fault(value.span().start, format!("`{key}` stands in double brackets: [[{key}]]"))
            );
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
