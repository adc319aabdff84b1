//! What samples are drawn from.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::left_out::LeftOut;
use super::media::Root;
use super::named::Named;
use super::rows::Columns;
use super::sniff::{LFS, packed, unread};
use super::{class_folders, csv_rows, json_lines, json_list, parquet, webdataset};
use crate::build::{INPUTS, MANIFEST, REJECTS, TIMINGS};
use crate::error::{Error, Result};
use crate::reject::Reject;
use crate::sample::{Kind, Sample};
use crate::splits::Splits;

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
    /// Which split to read of a folder that has several.
    pub split: Option<String>,
    /// The folder of the files that rows name; the folder of the table where it is left out.
    pub root: Option<PathBuf>,
    /// The column of the key.
    pub key: Option<String>,
    /// The column of the text.
    pub text: Option<String>,
    /// The columns of images.
    #[serde(deserialize_with = "one_or_many")]
    pub image: Vec<String>,
    /// The columns of videos.
    #[serde(deserialize_with = "one_or_many")]
    pub video: Vec<String>,
    /// The columns of audio clips.
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
pub struct Draw {
    bytes: usize,
    make: Box<dyn FnOnce() -> Drawn + Send>,
}

impl Draw {
    /// A sample that takes about so many bytes, as far as that is known, and what makes it.
    pub fn new(bytes: usize, make: impl FnOnce() -> Drawn + Send + 'static) -> Self {
        Self { bytes, make: Box::new(make) }
    }

    /// What was wrong with the sample of this key.
    pub fn refused(key: String, reject: Reject) -> Self {
        Self::new(0, move || Err((key, reject)))
    }

    /// Bytes that its sample takes, as far as that is known.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Make the sample.
    pub fn make(self) -> Drawn {
        (self.make)()
    }
}

/// A sample, or what was wrong with it and its key.
pub type Drawn = Result<Sample, (String, Reject)>;

/// Samples yet to be put together, in order. Memory is taken when they are drawn.
pub type Draws = Box<dyn Iterator<Item = Draw> + Send>;

/// The samples of a source whose relative paths start from `folder`. A medium may have `cap` bytes. What is seen and not
/// taken is counted in `left_out`; `named` is called with the files that rows name.
pub(crate) fn open(
    settings: &ReadSettings,
    folder: &Path,
    cap: u64,
    left_out: &LeftOut,
    named: &Named,
) -> Result<Draws> {
    let files = files(settings, folder, left_out)?;
    let (left_out, named) = (left_out.clone(), named.clone());
    let source = Source { settings: settings.clone(), folder: folder.to_path_buf(), cap, left_out, named };
    if let Some((path, format)) = files.first() {
        // Settings that do not fit are said before anything is built. What is wrong with the file itself is a reject.
        let unheard = Source { left_out: LeftOut::default(), named: Named::default(), ..source.clone() };
        if let Err(error @ Error::Config(_)) = unheard.open(path, *format) {
            return Err(error);
        }
    }
    let limit = settings.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let draws = files.into_iter().flat_map(move |(path, format)| {
        // A file that cannot be opened any more is one reject; the others are read.
        source.open(&path, format).unwrap_or_else(|error| refused(&path, &error))
    });
    Ok(Box::new(draws.take(limit)))
}

/// What a source depends on before a row of it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A table, shard or other file that the source names.
    File(PathBuf),
    /// The files of a folder of media.
    Folder(Vec<PathBuf>),
}

/// The files of a source.
pub(crate) fn inputs(settings: &ReadSettings, folder: &Path) -> Result<Vec<Input>> {
    let input = |(path, format): (PathBuf, Format)| match format {
        Format::Folder => class_folders::files(&path, settings).map(Input::Folder),
        _ => Ok(Input::File(path)),
    };
    files(settings, folder, &LeftOut::default())?.into_iter().map(input).collect()
}

/// The one draw of a file that cannot be read.
pub(super) fn refused(path: &Path, error: &Error) -> Draws {
    Box::new(std::iter::once(Draw::refused(path.display().to_string(), Reject::read(error))))
}

/// How the files of a `[[read]]` table are opened.
#[derive(Clone)]
struct Source {
    settings: ReadSettings,
    folder: PathBuf,
    cap: u64,
    left_out: LeftOut,
    named: Named,
}

impl Source {
    fn open(&self, path: &Path, format: Format) -> Result<Draws> {
        let Self { settings, folder, cap, left_out, named } = self;
        let beside = path.parent().unwrap_or(Path::new("")).to_path_buf();
        let root = settings.root.as_ref().map_or(beside, |root| folder.join(root));
        let columns = Columns::new(settings, Root::new(&root, *cap, named.clone()), left_out.clone());
        match format {
            Format::WebDataset => webdataset::draws(path, columns),
            Format::Parquet => parquet::read(path, columns, *cap),
            Format::Jsonl => json_lines::read(path, columns),
            Format::Json => json_list::read(path, columns),
            Format::Csv => csv_rows::read(path, columns),
            Format::Folder => class_folders::read(Root::new(path, *cap, named.clone()), settings, left_out),
        }
    }
}

/// The files that a source names, each with its format, in the order of their names.
fn files(settings: &ReadSettings, folder: &Path, left_out: &LeftOut) -> Result<Vec<(PathBuf, Format)>> {
    let mut files = Vec::new();
    for pattern in &settings.path {
        let path = folder.join(pattern);
        let mut found = Vec::new();
        if settings.split.is_some() && !path.is_dir() {
            return Err(Error::Config(format!(
                "[[read]] path '{pattern}' is no folder, so it has no split; leave `split` out"
            )));
        }
        if path.is_dir() {
            if settings.format == Some(Format::Folder) {
                files.push((path, Format::Folder));
                continue;
            }
            let splits = || Splits::find(&path);
            if settings.split.is_some() || splits().is_ok_and(|splits| splits.manifest().is_some()) {
                // A corpus that was built: its splits are not to be mixed again.
                let (_, shards) = splits()?.only(settings.split.as_deref())?;
                for shard in shards {
                    let format = settings.format.or_else(|| Format::of(&shard));
                    files.extend(format.map(|format| (shard, format)));
                }
                continue;
            }
            let real = path.canonicalize().map_err(Error::read(&path))?;
            let mut others = Vec::new();
            for entry in std::fs::read_dir(&path).map_err(Error::read(&path))? {
                let file = entry.map_err(Error::read(&path))?.path();
                let is_data = match settings.format {
                    Some(format) => Format::of(&file) == Some(format),
                    // What a build leaves beside its shards is no data.
                    None => Format::of(&file).is_some_and(|format| format != Format::Json),
                };
                let is_log = file.file_name().is_some_and(|name| name == REJECTS || name == INPUTS);
                let stays = file.canonicalize().is_ok_and(|file| file.starts_with(&real));
                if !is_data || is_log {
                    others.push(file);
                } else if !stays {
                    left_out.add(format!("{}: it is a link that leads out of its folder", file.display()));
                } else if file.is_file() {
                    found.push(file);
                } else {
                    left_out.add(format!("{}: it is no regular file", file.display()));
                }
            }
            if found.is_empty() && settings.format.is_none() {
                files.push((path, Format::Folder));
                continue;
            }
            if found.is_empty() {
                let why = format!("[[read]] path '{pattern}': there is no file of the format that it says");
                return Err(Error::Config(why));
            }
            others.iter().for_each(|file| note_other(file, left_out));
        } else if path.is_file() {
            found.push(path);
        } else {
            let wrong = |why: String| Error::Config(format!("[[read]] path '{pattern}': {why}"));
            // The recipe's folder is a name and no pattern, whatever characters it has.
            let whole = match Path::new(pattern).is_absolute() || folder.as_os_str().is_empty() {
                true => pattern.clone(),
                false => format!("{}/{pattern}", glob::Pattern::escape(&folder.to_string_lossy())),
            };
            let paths = glob::glob(&whole).map_err(|e| wrong(e.to_string()))?;
            for path in paths {
                let path = path.map_err(|e| wrong(e.to_string()))?;
                match path.is_file() {
                    true => found.push(path),
                    false => left_out.add(format!("{}: it is no regular file", path.display())),
                }
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
                let head = head(&file);
                let name = file.display();
                Error::Config(match (packed(&head), unread(&head)) {
                    (Some(how), _) => format!("[[read]] '{name}' is packed with {how}; unpack it"),
                    (None, Some(known)) => format!("[[read]] '{name}' is {known}, which is not read"),
                    (None, None) => {
                        format!("[[read]] '{name}' has no known extension; say what it is with format")
                    }
                })
            };
            // Of a repository that was cloned without its large files, every table is a few lines of text.
            if file.metadata().is_ok_and(|data| data.is_file() && data.len() < 1024)
                && head(&file).starts_with(LFS)
            {
                return Err(unknown());
            }
            let format = settings.format.or_else(|| Format::of(&file)).ok_or_else(unknown)?;
            files.push((file, format));
        }
    }
    if settings.path.is_empty() {
        return Err(Error::Config("[[read]] has no path".into()));
    }
    Ok(files)
}

/// Count a file of a folder that is no data. Files that rows may name are none of this, nor is what a build leaves.
fn note_other(file: &Path, left_out: &LeftOut) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let is_of_a_build = [REJECTS, INPUTS, MANIFEST, TIMINGS].contains(&&*name);
    if file.is_dir() {
        left_out.add(format!("folders within {}: only its own files are read", parent(file)));
    } else if !is_of_a_build && Kind::of_extension(extension).is_none() {
        let name = super::left_out::shown(&name);
        left_out.add(format!("{name} in {}: it is no data of a known format", parent(file)));
    }
}

fn parent(file: &Path) -> String {
    file.parent().unwrap_or(Path::new("")).display().to_string()
}

/// The first bytes of a file, as far as they can be read.
fn head(file: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(super::media::HEAD).read_to_end(&mut head));
    read.map_or_else(|_| Vec::new(), |_| head)
}

impl Format {
    /// The format of a file by its name. Tars that are packed are told by their name, and refused by their bytes if they
    /// are packed otherwise than with gzip; so are texts.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let packed = [".gz", ".bz2", ".xz", ".zst", ".lz4"].iter().find_map(|end| name.strip_suffix(end));
        let is_packed = packed.is_some();
        Some(match packed.unwrap_or(&name).rsplit_once('.')?.1 {
            "tar" | "tgz" | "tbz2" | "txz" => Self::WebDataset,
            "parquet" if !is_packed => Self::Parquet,
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

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "it is a text or a list of texts")]
    enum Names {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Names::deserialize(deserializer)? {
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    })
}
