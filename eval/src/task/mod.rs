//! Tasks: where questions lie, how they are asked, and how answers are scored, each as a small TOML file.

mod builtin;
mod of_corpus;
mod question;
mod row;
mod rows;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use percept_data::keys::{Page, unknown};
use percept_modalities::text::jinja::Template;
use serde::Serialize;
use sha2::{Digest, Sha256};
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};
use crate::metric::Compat;
use crate::scoring::Metric;
pub use builtin::{EXAMPLE, names, source};
pub use of_corpus::ClassesOf;
pub(crate) use question::lacks;
pub use question::{Question, Right};
pub use rows::{Raw, Rows};
pub use settings::{Answers, Ask, By, Compare, Data, Join, Score};

/// A task as its file says it.
#[derive(Debug, Clone)]
pub struct Task {
    /// What it is called, and the folder of its data.
    pub name: String,
    /// One sentence about it.
    pub about: String,
    /// Where its data are published, as a data set of the Hugging Face hub.
    pub hub: String,
    /// SHA-256 of the file.
    pub hash: String,
    /// Where questions lie.
    pub data: Data,
    /// How they are asked.
    pub ask: Ask,
    /// How answers are scored.
    pub score: Score,
    /// Whose rules hold where the published ones are doubtful.
    pub compat: Compat,
    /// The metric of `score`.
    pub metric: Metric,
    prompt: Template,
    /// The shards of a corpus that has no file; otherwise the files that fit the patterns are looked for.
    shards: Vec<PathBuf>,
    /// What names the file of a video or a sound, where rows do not.
    files: BTreeMap<&'static str, Template>,
    /// Templates that stand where a column may, by their text.
    places: BTreeMap<String, Template>,
}

/// The file's own keys, beside its tables.
#[derive(serde::Deserialize)]
struct Top {
    name: String,
    #[serde(default)]
    about: String,
    #[serde(default)]
    hub: String,
    #[serde(default)]
    compat: Compat,
}

impl Task {
    /// The task that is built in under this name, or that the file at this path says.
    ///
    /// # Errors
    /// A name that no task has, with the nearest; what is wrong in the file, with its line.
    pub fn find(name: &str) -> Result<Self> {
        if let Some(text) = source(name) {
            return Self::parse(Path::new(&format!("{name}.toml")), text);
        }
        let path = Path::new(name);
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(path).map_err(|e| {
                Error::Task(format!("{}: {e}; give a task's name or its .toml file", path.display()))
            })?;
            return Self::parse(path, &text);
        }
        let known: Vec<&str> = names().collect();
        Err(Error::Task(unknown("the evaluation", "task", name, &known)))
    }

    /// A task of a file's text.
    ///
    /// # Errors
    /// As [`Task::find`].
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let page = Page { path, text };
        let mut document = DeTable::parse(text).map_err(|e| page.toml(&e))?;
        let span = document.span();
        let mut tables = BTreeMap::new();
        let keys: Vec<String> = document.get_ref().keys().map(|key| key.get_ref().to_string()).collect();
        let known = ["name", "about", "hub", "compat", "data", "ask", "score"];
        for (key, _) in document.get_ref() {
            if !known.contains(&key.get_ref().as_ref()) {
                return Err(page
                    .fault(key.span().start, unknown("a task", "key", key.get_ref(), &known))
                    .into());
            }
        }
        for key in keys.iter().filter(|key| matches!(key.as_str(), "data" | "ask" | "score")) {
            let Some(value) = document.get_mut().remove(key.as_str()) else { continue };
            let at = value.span();
            let DeValue::Table(table) = value.into_inner() else {
                return Err(page.fault(at.start, format!("'{key}' is a table: [{key}]")).into());
            };
            tables.insert(key.clone(), toml::Spanned::new(at, table));
        }
        let mut table = |name: &str| {
            let why = || {
                format!("a task has a table [{name}]; `percept eval init-task` writes one with all of them")
            };
            tables.remove(name).ok_or_else(|| page.fault(span.start, why()))
        };
        let data: Data = page.settings("[data]", table("data")?)?;
        let ask: Ask = page.settings("[ask]", table("ask")?)?;
        let score: Score = page.settings("[score]", table("score")?)?;
        let top: Top = page.settings("a task", document)?;
        let named = |what: &str, why: String| Error::Task(format!("{}: {what}: {why}", path.display()));
        let template = |what: &str, source: &str| {
            let parsed = Template::parse(source).map_err(|fault| named(what, fault.to_string()));
            Ok::<_, Error>(parsed?.strict())
        };
        let prompt = template("[ask] prompt", &ask.prompt)?;
        let mut files = BTreeMap::new();
        for (kind, source) in [("video", &ask.video_file), ("audio", &ask.audio_file)] {
            if let Some(source) = source {
                files.insert(kind, template(&format!("[ask] {kind}_file"), source)?);
            }
        }
        let mut places = BTreeMap::new();
        let given = [data.group.as_ref(), Some(&score.answer)].into_iter().flatten();
        for source in given.chain(score.sets.values()).filter(|source| is_template(source)) {
            places.insert(source.clone(), template("a template for a column", source)?);
        }
        if let Some(other) = &ask.other {
            places.insert(other.clone(), template("[ask] other", other)?);
        }
        let metric = Metric::new(&score).map_err(|why| named("[score]", why))?;
        let unread = [
            ("[ask] classes", ask.classes.is_some(), matches!(metric, Metric::ZeroShot), "zero-shot"),
            ("[ask] other", ask.other.is_some(), matches!(metric, Metric::Similarity), "similarity"),
        ];
        for (key, is_given, is_read, by) in unread {
            if is_given != is_read {
                let why = if is_read {
                    format!("the metric '{by}' reads it; give it")
                } else {
                    format!("the metric '{by}' alone reads it; leave it out")
                };
                return Err(named(key, why));
            }
        }
        if ask.max_tokens == 0 {
            return Err(named("[ask] max_tokens", "it is 0, and every answer would be empty".into()));
        }
        let hash = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let Top { name, about, hub, compat } = top;
        Ok(Self {
            name,
            about,
            hub,
            hash,
            data,
            ask,
            score,
            compat,
            metric,
            prompt,
            shards: Vec::new(),
            files,
            places,
        })
    }

    /// The names of its scores, those of its metric first.
    pub fn scores(&self) -> Vec<String> {
        let own = self.metric.names().into_iter().map(str::to_owned);
        own.chain(self.score.sets.keys().cloned()).collect()
    }

    /// Whether it shows media of this kind, `image`, `video` or `audio`, and of no other.
    pub fn shows_only(&self, kind: &str) -> bool {
        let shown = [
            ("image", !self.ask.image.is_empty()),
            ("video", !self.ask.video.is_empty() || self.files.contains_key("video")),
            ("audio", !self.ask.audio.is_empty() || self.files.contains_key("audio")),
        ];
        shown.iter().all(|(name, is_shown)| *is_shown == (*name == kind))
    }

    /// The names of its classes, and the texts that stand for each.
    ///
    /// # Errors
    /// When a file of them cannot be read, or names none.
    pub fn class_texts(&self, folder: &Path) -> Result<(Vec<String>, Vec<Vec<String>>)> {
        let wrong = |why: String| Error::Task(format!("{}: {why}", self.name));
        let lines = |name: &str| {
            let path = folder.join(name);
            let text =
                std::fs::read_to_string(&path).map_err(|e| wrong(format!("{}: {e}", path.display())))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            Ok::<_, Error>(lines.map(str::to_owned).collect::<Vec<_>>())
        };
        let Some(file) = &self.ask.classes else {
            return Err(wrong("[ask] classes names the file of the classes, one a line".into()));
        };
        let names = lines(file)?;
        if names.is_empty() {
            return Err(wrong(format!("{file} names no class")));
        }
        let texts = match &self.ask.templates {
            Some(file) => {
                let templates = lines(file)?;
                if let Some(other) = templates.iter().find(|template| !template.contains("{c}")) {
                    return Err(wrong(format!("{file}: '{other}' has no {{c}}, where a class is named")));
                }
                names
                    .iter()
                    .map(|name| templates.iter().map(|template| template.replace("{c}", name)).collect())
                    .collect()
            }
            None => {
                let text = |name: &String| {
                    let class = std::iter::once(("class".to_owned(), name.clone().into())).collect();
                    self.prompt.render(&class).map(|text| vec![text]).map_err(|e| wrong(e.to_string()))
                };
                names.iter().map(text).collect::<Result<_>>()?
            }
        };
        Ok((names, texts))
    }

    /// The files of its data below a folder, in order.
    ///
    /// # Errors
    /// When there are none, with what there is.
    pub fn files(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        match self.shards.is_empty() {
            true => self.fitting(&self.data.files, folder),
            false => Ok(self.shards.clone()),
        }
    }

    /// The files that the first of some patterns fits that fits any.
    fn fitting(&self, patterns: &[String], folder: &Path) -> Result<Vec<PathBuf>> {
        let mut files: Vec<PathBuf> = Vec::new();
        for pattern in patterns {
            let whole = format!("{}/{pattern}", glob::Pattern::escape(&folder.display().to_string()));
            let found =
                glob::glob(&whole).map_err(|e| Error::Task(format!("[data] files = \"{pattern}\": {e}")))?;
            let mut found: Vec<PathBuf> =
                found.filter_map(|path| path.ok().filter(|path| path.is_file())).collect();
            found.sort();
            files.extend(found);
            if !files.is_empty() {
                return Ok(files);
            }
        }
        let (folder, wanted) = (folder.display(), patterns.join(" or "));
        let from =
            if self.hub.is_empty() { String::new() } else { format!("; they are published as {}", self.hub) };
        Err(Error::Task(format!(
            "{}: no file of its data lies in {folder}, where {wanted} is looked for{from}",
            self.name
        )))
    }

    /// Refuse columns that a file lacks.
    fn check(&self, file: &Path, columns: &[String]) -> Result<()> {
        let missing = |named: &&str| !columns.iter().any(|column| column == named);
        let named: Vec<&str> = self.named().collect();
        match named.iter().find(|named| missing(named)) {
            None => Ok(()),
            Some(column) => Err(Error::Column {
                task: self.name.clone(),
                file: file.display().to_string(),
                column: (*column).to_owned(),
                present: columns.join(", "),
            }),
        }
    }

    /// The columns that its settings name. Those of its templates are found missing when the first row is asked.
    fn named(&self) -> impl Iterator<Item = &str> {
        let Data { key, group, categories, explode, only, join, .. } = &self.data;
        let lone = [key.as_deref(), group.as_deref(), explode.as_deref(), Some(self.score.answer.as_str())];
        let lone = lone.into_iter().chain([join.as_ref().map(|join| join.on.as_str())]);
        let sets = only.keys().chain(self.score.sets.values()).map(String::as_str);
        let average = self.score.average.as_deref();
        // The columns of another table are found missing when it is read.
        let media = self.ask.image.iter().chain(&self.ask.video).chain(&self.ask.audio);
        let media = media.filter(move |_| join.is_none());
        // Options in a column each may be fewer in some rows than in others, but their columns are there.
        lone.flatten()
            .chain(average)
            .chain(sets)
            .filter(|source| !is_template(source))
            .chain(categories.iter().chain(media).chain(self.ask.options.iter()).map(String::as_str))
    }
}

/// Whether what stands where a column may is a template.
fn is_template(source: &str) -> bool {
    source.contains("{{") || source.contains("{%")
}

/// A file of the data and the SHA-256 of its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileHash {
    /// Its name.
    pub file: String,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of its first and last megabyte and its length: whole files of benchmarks take minutes to read.
    pub ends_sha256: String,
}

/// The hash of a file.
///
/// # Errors
/// When it cannot be read.
pub fn file_hash(path: &Path) -> Result<FileHash> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const END: u64 = 1 << 20;
    let fault = |e: std::io::Error| Error::Task(format!("{}: {e}", path.display()));
    let mut file = std::fs::File::open(path).map_err(fault)?;
    let bytes = file.metadata().map_err(fault)?.len();
    let mut content = Vec::new();
    (&file).take(END).read_to_end(&mut content).map_err(fault)?;
    file.seek(SeekFrom::Start(bytes.saturating_sub(END))).map_err(fault)?;
    file.take(END).read_to_end(&mut content).map_err(fault)?;
    content.extend(bytes.to_le_bytes());
    let ends_sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(FileHash { file, bytes, ends_sha256 })
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
