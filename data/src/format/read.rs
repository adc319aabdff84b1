//! What samples are drawn from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::media::Root;
use super::rows::Columns;
use super::{class_folders, csv_rows, json_lines, json_list, parquet, webdataset};
use crate::error::{Error, Result};
use crate::reject::Reject;
use crate::sample::{Kind, Sample};

/// A `[[read]]` table: files, and which of their columns is what.
///
/// Columns that are not named are guessed by their usual names, and what is left goes to `meta`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReadSettings {
    /// Files, folders or patterns such as `shards/*.tar`.
    #[serde(deserialize_with = "one_or_many")]
    pub path: Vec<String>,
    /// How the files are read; by their extensions where it is left out.
    pub format: Option<Format>,
    /// The folder of the files that rows name; the folder of the table where it is left out.
    pub root: Option<PathBuf>,
    /// The column of the key.
    pub key: Option<String>,
    /// The column of the text.
    pub text: Option<String>,
    /// The columns of pictures.
    #[serde(deserialize_with = "one_or_many")]
    pub image: Vec<String>,
    /// The columns of videos.
    #[serde(deserialize_with = "one_or_many")]
    pub video: Vec<String>,
    /// The columns of sounds.
    #[serde(deserialize_with = "one_or_many")]
    pub audio: Vec<String>,
    /// The column of the turns.
    pub messages: Option<String>,
    /// Stop after so many samples.
    pub limit: Option<u64>,
}

/// How files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Tar shards, `.tar` or `.tar.gz`.
    WebDataset,
    /// Tables as Hugging Face writes them.
    Parquet,
    /// One JSON object a line.
    Jsonl,
    /// One JSON list of objects: LLaVA's and Cauldron's conversations.
    Json,
    /// A table with a header.
    Csv,
    /// Media in folders that name their class, with `NAME.txt` beside them as captions.
    Folder,
}

/// A sample that is yet to be put together, which is done on many threads.
pub type Draw = Box<dyn FnOnce() -> Drawn + Send>;

/// A sample, or what was wrong with it and its key.
pub type Drawn = Result<Sample, (String, Reject)>;

/// Samples yet to be put together, in order. Memory is taken when they are drawn.
pub type Draws = Box<dyn Iterator<Item = Draw> + Send>;

/// The samples of a source whose relative paths start from `folder`. A medium may have `cap` bytes.
pub(crate) fn open(settings: &ReadSettings, folder: &Path, cap: u64) -> Result<Draws> {
    let files = files(settings, folder)?;
    let limit = settings.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let (settings, folder) = (settings.clone(), folder.to_path_buf());
    let draws = files.into_iter().flat_map(move |(path, format)| {
        // A file that cannot be opened any more is one reject; the others are read.
        open_file(&path, format, &settings, &folder, cap).unwrap_or_else(|error| refused(&path, &error))
    });
    Ok(Box::new(draws.take(limit)))
}

/// The files of a source and their sizes.
pub(crate) fn inputs(settings: &ReadSettings, folder: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let size = |(path, format): (PathBuf, Format)| {
        let bytes = match format {
            Format::Folder => class_folders::size(&path)?,
            _ => std::fs::metadata(&path).map_err(Error::read(&path))?.len(),
        };
        Ok((path, bytes))
    };
    files(settings, folder)?.into_iter().map(size).collect()
}

/// The one draw of a file that cannot be read.
pub(super) fn refused(path: &Path, error: &Error) -> Draws {
    let (name, reject) = (path.display().to_string(), Reject::read(error));
    Box::new(std::iter::once(Box::new(move || Err((name, reject))) as Draw))
}

fn open_file(path: &Path, format: Format, settings: &ReadSettings, folder: &Path, cap: u64) -> Result<Draws> {
    let beside = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let root = settings.root.as_ref().map_or(beside, |root| folder.join(root));
    let columns = Columns::new(settings, Root { folder: root, cap });
    match format {
        Format::WebDataset => {
            let (samples, name) = (webdataset::read(path, cap)?, path.display().to_string());
            Ok(Box::new(samples.map(move |sample| {
                let drawn = sample.map_err(|error| match &error {
                    Error::Sample { key, .. } => (key.clone(), Reject::read(&error)),
                    _ => (name.clone(), Reject::read(&error)),
                });
                Box::new(move || drawn) as Draw
            })))
        }
        Format::Parquet => parquet::read(path, columns, cap),
        Format::Jsonl => json_lines::read(path, columns),
        Format::Json => json_list::read(path, columns),
        Format::Csv => csv_rows::read(path, columns),
        Format::Folder => class_folders::read(path, cap),
    }
}

/// The files that a source names, each with its format, in the order of their names.
fn files(settings: &ReadSettings, folder: &Path) -> Result<Vec<(PathBuf, Format)>> {
    let mut files = Vec::new();
    for pattern in &settings.path {
        let path = folder.join(pattern);
        let mut found = Vec::new();
        if path.is_dir() {
            if settings.format == Some(Format::Folder) {
                files.push((path, Format::Folder));
                continue;
            }
            for entry in std::fs::read_dir(&path).map_err(Error::read(&path))? {
                let file = entry.map_err(Error::read(&path))?.path();
                // What a build leaves beside its shards is no data.
                let is_data =
                    file.is_file() && Format::of(&file).is_some_and(|format| format != Format::Json);
                let is_log = file.file_name().is_some_and(|name| name == "rejects.jsonl");
                if is_data && !is_log {
                    found.push(file);
                }
            }
            if found.is_empty() && settings.format.is_none() {
                files.push((path, Format::Folder));
                continue;
            }
        } else if path.is_file() {
            found.push(path);
        } else {
            let wrong = |why: String| Error::Config(format!("[[read]] path '{pattern}': {why}"));
            let paths = glob::glob(&path.to_string_lossy()).map_err(|e| wrong(e.to_string()))?;
            for path in paths {
                found.push(path.map_err(|e| wrong(e.to_string()))?);
            }
            if found.is_empty() {
                return Err(wrong(
                    "there is no such file; relative paths start from the recipe's folder".into(),
                ));
            }
        }
        found.sort();
        for file in found {
            let unknown = || {
                let why = format!("'{}' has no known extension; say what it is with format", file.display());
                Error::Config(format!("[[read]] {why}"))
            };
            let format = settings.format.or_else(|| Format::of(&file)).ok_or_else(unknown)?;
            files.push((file, format));
        }
    }
    if settings.path.is_empty() {
        return Err(Error::Config("[[read]] has no path".into()));
    }
    Ok(files)
}

impl Format {
    /// The format of a file by its name.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        Some(match name.rsplit_once('.')?.1 {
            "tar" | "tgz" => Self::WebDataset,
            "gz" if name.ends_with(".tar.gz") => Self::WebDataset,
            "parquet" => Self::Parquet,
            "jsonl" | "ndjson" => Self::Jsonl,
            "json" => Self::Json,
            "csv" | "tsv" => Self::Csv,
            _ => return None,
        })
    }
}

/// What a row without a key is called: the file's name and the row's number.
pub(super) fn row_key(path: &Path, row: u64) -> String {
    let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    webdataset::shard_key(&format!("{stem}-{row:08}"))
}

/// The kinds of media that a folder's files may be.
pub(super) fn kind_of(path: &Path) -> Option<Kind> {
    Kind::of_extension(path.extension()?.to_str()?)
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Names::deserialize(deserializer)? {
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    })
}
