//! Rows of a table as samples: which column is what.

use serde_json::{Map, Value};

use super::ReadSettings;
use super::media::Root;
use super::turns::{mention, named_media, turns};
use super::webdataset::shard_key;
use crate::reject::Reject;
use crate::sample::{Kind, Sample};

/// One row: names of columns and what they hold.
pub(super) type Row = Vec<(String, Cell)>;

/// What a row holds in one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    /// Text, numbers, lists and structs of them.
    Value(Value),
    /// The bytes of a medium, and its name if it has one.
    Bytes(Option<String>, Vec<u8>),
    /// Several media.
    List(Vec<Cell>),
}

/// Which column is what.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    key: Option<String>,
    text: Option<String>,
    media: Vec<(Kind, Vec<String>)>,
    messages: Option<String>,
    root: Root,
}

const KEYS: [&str; 4] = ["key", "__key__", "id", "uid"];
const TEXTS: [&str; 4] = ["text", "caption", "sentence", "transcription"];
const TURNS: [&str; 3] = ["messages", "conversations", "texts"];
const IMAGES: [&str; 5] = ["image", "images", "file_name", "image_path", "img"];
const VIDEOS: [&str; 3] = ["video", "videos", "video_path"];
const SOUNDS: [&str; 3] = ["audio", "audios", "audio_path"];

impl Columns {
    pub fn new(settings: &ReadSettings, root: Root) -> Self {
        let media =
            [(Kind::Image, &settings.image), (Kind::Video, &settings.video), (Kind::Audio, &settings.audio)]
                .map(|(kind, columns)| (kind, columns.clone()));
        Self {
            key: settings.key.clone(),
            text: settings.text.clone(),
            media: media.into(),
            messages: settings.messages.clone(),
            root,
        }
    }

    /// The sample of a row. `fallback` is its key where the row has none.
    pub fn sample(&self, mut row: Row, fallback: &str) -> Result<Sample, (String, Reject)> {
        let key = take(&mut row, self.key.as_deref(), &KEYS);
        let key = match key {
            Some(Cell::Value(Value::String(key))) => shard_key(&key),
            Some(Cell::Value(Value::Number(key))) => shard_key(&key.to_string()),
            _ => fallback.to_owned(),
        };
        let mut sample = Sample { key, ..Sample::default() };
        match self.fill(&mut sample, row) {
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
                Kind::Audio => &SOUNDS[..],
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
        if let Some(Cell::Value(value)) = take(&mut row, self.messages.as_deref(), &TURNS)
            && !value.is_null()
        {
            sample.messages = turns(value)?;
            for (name, kind) in named_media(&mut sample.messages) {
                sample.media.push(self.root.load(&name, Some(kind))?);
            }
            mention(&mut sample.messages, sample.media.iter().map(|medium| medium.kind));
        }
        for (name, cell) in row {
            match (name.as_str(), cell) {
                ("meta", Cell::Value(Value::Object(fields))) => sample.meta.extend(fields),
                ("meta", Cell::Value(Value::String(text))) if text.starts_with('{') => {
                    // A table of ours holds metadata as the text of its JSON.
                    let fields: Map<String, Value> = serde_json::from_str(&text)
                        .map_err(|e| Reject::new("malformed", format!("its meta is no JSON: {e}")))?;
                    sample.meta.extend(fields);
                }
                (_, Cell::Value(Value::Null)) => {}
                (_, Cell::Value(value)) => {
                    sample.meta.insert(name, value);
                }
                // Media in columns that nobody named are left behind.
                (_, Cell::Bytes(..) | Cell::List(_)) => {}
            }
        }
        Ok(())
    }

    fn add(&self, sample: &mut Sample, kind: Kind, cell: Option<Cell>) -> Result<(), Reject> {
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
                    _ => Err(Reject::new("malformed", format!("its {kind:?} has neither bytes nor a path"))),
                }
            }
            Some(Cell::Value(other)) => {
                Err(Reject::new("malformed", format!("its {kind:?} is {other}, and no path")))
            }
        }
    }
}

pub(super) fn utf8(bytes: Vec<u8>) -> Result<String, Reject> {
    String::from_utf8(bytes).map_err(|e| {
        Reject::new("not-utf8", format!("its text is not UTF-8 at byte {}", e.utf8_error().valid_up_to()))
    })
}

/// The column of this name, or the first of those that are guessed where none is named.
fn take(row: &mut Row, name: Option<&str>, guesses: &[&str]) -> Option<Cell> {
    let find = |name: &str| row.iter().position(|(column, _)| column == name);
    let at = match name {
        Some(name) => find(name),
        None => guesses.iter().find_map(|name| find(name)),
    };
    at.map(|at| row.remove(at).1)
}
