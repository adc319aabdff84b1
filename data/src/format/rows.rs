//! Rows of a table as samples: which column is what.

use std::path::Path;

use percept_modalities::{Content, Message};
use serde_json::{Map, Value};

use super::ReadSettings;
use super::left_out::{LeftOut, shown};
use super::media::{Root, word};
use super::sniff::sniff;
use super::turns::{mention, named_media, turns};
use super::webdataset::shard_key;
use crate::error::{Error, Result as Answer};
use crate::reject::Reject;
use crate::sample::{Kind, Sample};

/// Bytes that a line, an object of a list, a row of a table or a text may have.
pub(super) const LONGEST: usize = 64 << 20;

/// Values that one JSON document may have; each takes some dozen times the bytes that it is written with.
const MOST_VALUES: usize = 1 << 20;

/// One row: names of columns and what they hold.
pub(crate) type Row = Vec<(String, Cell)>;

/// What a row holds in one column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// Text, numbers, lists and structs of them.
    Value(Value),
    /// The bytes of a medium, and its name if it has one.
    Bytes(Option<String>, Vec<u8>),
    /// A list of media.
    List(Vec<Cell>),
    /// A struct with media within.
    Struct(Vec<(String, Cell)>),
}

/// Which column is what.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub key: Option<String>,
    pub text: Option<String>,
    pub media: [(Kind, Vec<String>); 3],
    pub messages: Option<String>,
    pub root: Root,
    pub left_out: LeftOut,
}

const KEYS: [&str; 4] = ["key", "__key__", "id", "uid"];
const TEXTS: [&str; 4] = ["text", "caption", "sentence", "transcription"];
const TURNS: [&str; 3] = ["messages", "conversations", "texts"];
/// The column of what the model is told before the turns.
const SYSTEM: &str = "system";
const IMAGES: [&str; 5] = ["image", "images", "file_name", "image_path", "img"];
const VIDEOS: [&str; 3] = ["video", "videos", "video_path"];
const AUDIOS: [&str; 3] = ["audio", "audios", "audio_path"];

impl Columns {
    pub fn new(settings: &ReadSettings, root: Root, left_out: LeftOut) -> Self {
        let media =
            [(Kind::Image, &settings.image), (Kind::Video, &settings.video), (Kind::Audio, &settings.audio)]
                .map(|(kind, columns)| (kind, columns.clone()));
        let ReadSettings { key, text, messages, .. } = settings.clone();
        Self { key, text, media, messages, root, left_out }
    }

    /// The columns that the settings name, each with its key.
    fn named(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let media = self
            .media
            .iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (word(Some(*kind)), name.as_str())));
        [("key", &self.key), ("text", &self.text), ("messages", &self.messages)]
            .into_iter()
            .filter_map(|(key, name)| Some((key, name.as_deref()?)))
            .chain(media)
    }

    /// Whether the settings name any column.
    pub fn are_named(&self) -> bool {
        self.named().next().is_some()
    }

    /// Refuse a column that a source does not have. `columns` are those that it has: all of them, or where the source has
    /// no header, those `of_all` rows or of its first ones, after which there may be others.
    ///
    /// # Errors
    /// Then, and when two settings name one column, of which only one would have what it holds.
    pub fn check(&self, path: &Path, columns: &[String], of_all: bool) -> Answer<()> {
        let named: Vec<_> = self.named().collect();
        for (at, (key, name)) in named.iter().enumerate() {
            if let Some((other, _)) = named[..at].iter().find(|(_, before)| before == name) {
                let why = format!(
                    "[[read]] {other} = \"{name}\" and {key} = \"{name}\": a column is one thing; name another"
                );
                return Err(Error::Config(why));
            }
        }
        for (key, name) in named {
            if columns.iter().any(|column| column == name) {
                continue;
            }
            let mut near: Vec<&str> = columns.iter().map(String::as_str).collect();
            near.sort_by_key(|column| strsim::damerau_levenshtein(name, column));
            near.truncate(20);
            let there = near.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
            let there = if there.is_empty() { "it has none".into() } else { format!("it has {there}") };
            if of_all {
                let path = path.display();
                let why = format!("[[read]] {key} = \"{name}\": {path} has no such column; {there}");
                return Err(Error::Config(why));
            }
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            self.left_out.add(format!("{file}: none of its first rows has the column '{name}'; {there}"));
        }
        Ok(())
    }

    /// Report that columns of one name were given different ones: the name, and that of the second.
    pub fn note_renamed(&self, path: &Path, renamed: Option<&(String, String)>) {
        if let Some((name, second)) = renamed {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let (name, second) = (shown(name), shown(second));
            self.left_out.add(format!(
                "{file}: more than one column is called '{name}'; the first of them is '{name}' here, the second '{second}'"
            ));
        }
    }

    /// The sample of a row. `fallback` is its key where the row has none.
    pub fn sample(&self, mut row: Row, fallback: &str) -> Result<Sample, (String, Reject)> {
        let key = take(&mut row, self.key.as_deref(), &KEYS);
        let (key, bad_key) = match key {
            Some(Cell::Value(Value::String(key))) => (shard_key(&key), None),
            Some(Cell::Value(Value::Number(key))) => (shard_key(&key.to_string()), None),
            Some(Cell::Value(Value::Null)) | None => (fallback.to_owned(), None),
            // A column that merely is called so may hold anything.
            Some(other) if self.key.is_none() => {
                row.push(("key".into(), other));
                (fallback.to_owned(), None)
            }
            Some(_) => (fallback.to_owned(), Some(Reject::new("malformed", "its key is no text or number"))),
        };
        let mut sample = Sample { key, ..Sample::default() };
        match bad_key.map_or_else(|| self.fill(&mut sample, row), Err) {
            Ok(()) => Ok(sample),
            Err(reject) => Err((sample.key, reject)),
        }
    }

    fn fill(&self, sample: &mut Sample, mut row: Row) -> Result<(), Reject> {
        sample.text = match take(&mut row, self.text.as_deref(), &TEXTS) {
            None | Some(Cell::Value(Value::Null)) => None,
            Some(Cell::Value(Value::String(text))) => Some(text),
            Some(Cell::Bytes(_, bytes)) => Some(utf8(bytes)?),
            Some(_) => return Err(Reject::new("malformed", "its text is not a text")),
        };
        for (kind, names) in &self.media {
            let guesses = match kind {
                Kind::Image => &IMAGES[..],
                Kind::Video => &VIDEOS[..],
                Kind::Audio => &AUDIOS[..],
            };
            match names.is_empty() {
                true => self.add(sample, *kind, take(&mut row, None, guesses))?,
                false => {
                    for name in names {
                        self.add(sample, *kind, take(&mut row, Some(name), &[]))?;
                    }
                }
            }
        }
        match take(&mut row, self.messages.as_deref(), &TURNS) {
            None | Some(Cell::Value(Value::Null)) => {}
            Some(Cell::Value(value)) => {
                sample.messages = turns(value)?;
                told_first(&mut sample.messages, &mut row)?;
                for (name, kind) in named_media(&mut sample.messages) {
                    sample.media.push(self.root.load(&name, Some(kind))?);
                }
                mention(&mut sample.messages, sample.media.iter().map(|medium| medium.kind));
            }
            Some(_) => return Err(Reject::new("malformed", "its turns hold bytes, and no text")),
        }
        for (name, cell) in row {
            match (name.as_str(), cell) {
                ("meta", Cell::Value(Value::Object(fields))) => sample.meta.extend(fields),
                ("meta", Cell::Value(Value::String(text))) if text.starts_with('{') => {
                    // A table of ours holds metadata as the text of its JSON.
                    let fields = json_object(text.as_bytes())
                        .map_err(|e| Reject::new(e.reason, format!("its meta: {}", e.detail)))?;
                    sample.meta.extend(fields);
                }
                (_, Cell::Value(Value::Null)) => {}
                (_, Cell::Value(value)) => {
                    self.note_value(&name, &value);
                    sample.meta.insert(name, value);
                }
                (_, cell) => self.note_cell(&name, &cell),
            }
        }
        Ok(())
    }

    /// Report a column that names media which no setting reads.
    pub fn note_value(&self, column: &str, value: &Value) {
        let name = match value {
            Value::String(name) => Some(name),
            Value::Array(names) => names.first().and_then(|name| match name {
                Value::String(name) => Some(name),
                _ => None,
            }),
            Value::Object(fields) => match fields.get("path") {
                Some(Value::String(name)) => Some(name),
                _ => None,
            },
            _ => None,
        };
        if let Some(kind) = name.and_then(|name| self.root.named_kind(name)) {
            let (kind, column) = (word(Some(kind)), shown(column));
            self.left_out.add(format!(
                "column '{column}' names {kind} files that are not read; set {kind} = \"{column}\""
            ));
        }
    }

    /// Report a column that holds bytes which no setting reads.
    fn note_cell(&self, column: &str, cell: &Cell) {
        match cell {
            Cell::Value(_) => {}
            Cell::Bytes(_, bytes) => {
                let column = shown(column);
                self.left_out.add(match sniff(bytes).map(|found| found.kind()) {
                    Some(kind) => {
                        let kind = word(Some(kind));
                        format!(
                            "column '{column}' holds {kind} data that is not read; set {kind} = \"{column}\""
                        )
                    }
                    None => format!("column '{column}' holds bytes of no known format of media"),
                });
            }
            // One for all of them.
            Cell::List(cells) => {
                if let Some(cell) = cells.iter().find(|cell| !matches!(cell, Cell::Value(_))) {
                    self.note_cell(column, cell);
                }
            }
            Cell::Struct(fields) => {
                for (name, cell) in fields {
                    self.note_cell(&format!("{column}.{name}"), cell);
                }
            }
        }
    }

    /// Add what a column holds or names to a sample's media.
    pub fn add(&self, sample: &mut Sample, kind: Kind, cell: Option<Cell>) -> Result<(), Reject> {
        let what = word(Some(kind));
        match cell {
            None | Some(Cell::Value(Value::Null)) => Ok(()),
            Some(Cell::Value(Value::String(name))) => {
                sample.media.push(self.root.load(&name, Some(kind))?);
                Ok(())
            }
            Some(Cell::Bytes(name, bytes)) => {
                sample.media.push(self.root.blob(bytes, name.as_deref(), Some(kind))?);
                Ok(())
            }
            Some(Cell::Value(Value::Array(list))) => {
                list.into_iter().try_for_each(|value| self.add(sample, kind, Some(Cell::Value(value))))
            }
            Some(Cell::List(list)) => {
                list.into_iter().try_for_each(|cell| self.add(sample, kind, Some(cell)))
            }
            Some(Cell::Value(Value::Object(mut fields))) => {
                // A struct whose bytes are null names a file.
                match fields.remove("path") {
                    Some(Value::String(path)) => {
                        self.add(sample, kind, Some(Cell::Value(Value::String(path))))
                    }
                    _ => Err(Reject::new("malformed", format!("its {what} has neither bytes nor a path"))),
                }
            }
            Some(Cell::Struct(_)) => {
                Err(Reject::new("malformed", format!("its {what} is a struct without a field of bytes")))
            }
            Some(Cell::Value(other)) => {
                let other = shown(&other.to_string());
                Err(Reject::new("malformed", format!("its {what} is {other}, and no path")))
            }
        }
    }
}

/// What the column `system` tells the model, as the first of the turns.
fn told_first(messages: &mut Vec<Message>, row: &mut Row) -> Result<(), Reject> {
    let is_text =
        |(name, cell): &(String, Cell)| name == SYSTEM && matches!(cell, Cell::Value(Value::String(_)));
    let (Some(at), Some(first)) = (row.iter().position(is_text), messages.first()) else { return Ok(()) };
    let (_, Cell::Value(Value::String(text))) = row.remove(at) else { return Ok(()) };
    let same = first.content == Content::Text(text.clone());
    match first.role == "system" {
        true if same || text.is_empty() => {}
        true => {
            let why = format!("its column '{SYSTEM}' and its first turn tell the model different things");
            return Err(Reject::new("malformed", why));
        }
        false if text.is_empty() => {}
        false => messages.insert(0, Message::new("system", Content::Text(text))),
    }
    Ok(())
}

/// A JSON object that takes no more memory than its bytes and a fixed number of values say.
pub(super) fn json_object(bytes: &[u8]) -> Result<Map<String, Value>, Reject> {
    match json(bytes)? {
        Value::Object(fields) => Ok(fields),
        other => {
            Err(Reject::new("malformed", format!("it is no JSON object, but {}", shown(&other.to_string()))))
        }
    }
}

/// [`json_object`], for a document of any kind.
pub(super) fn json(bytes: &[u8]) -> Result<Value, Reject> {
    if bytes.len() > LONGEST {
        return Err(Reject::new("too-large", format!("it has more than {LONGEST} bytes")));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| Reject::new("not-utf8", format!("it is not UTF-8 at byte {}", e.valid_up_to())))?;
    if text.len() > MOST_VALUES && values(bytes) > MOST_VALUES {
        return Err(Reject::new("too-large", format!("it has more than {MOST_VALUES} values")));
    }
    serde_json::from_str(text).map_err(|e| Reject::new("malformed", format!("it is no JSON: {e}")))
}

/// At least as many as a document has values.
fn values(bytes: &[u8]) -> usize {
    let (mut values, mut in_text, mut escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => values += 1,
            _ => {}
        }
    }
    values
}

pub(super) fn utf8(bytes: Vec<u8>) -> Result<String, Reject> {
    String::from_utf8(bytes).map_err(|e| {
        Reject::new("not-utf8", format!("its text is not UTF-8 at byte {}", e.utf8_error().valid_up_to()))
    })
}

/// The column of this name, or the first of those that are guessed where none is named.
pub(super) fn take(row: &mut Row, name: Option<&str>, guesses: &[&str]) -> Option<Cell> {
    let find = |name: &str| row.iter().position(|(column, _)| column == name);
    let at = match name {
        Some(name) => find(name),
        None => guesses.iter().find_map(|name| find(name)),
    };
    at.map(|at| row.remove(at).1)
}
