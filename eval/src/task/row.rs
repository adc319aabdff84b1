//! One row of the data: of a table, or a sample of a corpus.

use std::path::Path;

use percept_data::format::webdataset::Shard;
use percept_data::format::{TableRow, TableRows};
use percept_data::{Blob, Kind, Reject, Sample};
use percept_modalities::Message;
use serde_json::{Map, Value};

use crate::error::Result;

/// Bytes that a medium of a question may have.
const MEDIUM: u64 = 4 << 30;

/// A row.
pub(super) enum Row {
    /// Of a table.
    Table(TableRow),
    /// A sample of a corpus: its columns are what is known of it, `key`, `question` and `answer`.
    Sample(Box<Asking>),
}

/// A sample, and what it asks.
pub(super) struct Asking {
    /// Its turns before the answer.
    pub turns: Vec<Message>,
    /// Its media, in the order of the turns.
    pub media: Vec<Blob>,
    /// What the chat template reads beside the turns, or why that cannot be told.
    pub variables: std::result::Result<Map<String, Value>, String>,
    values: Map<String, Value>,
}

impl Asking {
    /// What a sample asks; `None` where it has no answer.
    fn of(sample: Sample) -> Option<Self> {
        let (turns, answer) = sample.question()?;
        let variables = sample.variables().map_err(|e| e.to_string());
        let question: Vec<&str> = turns
            .iter()
            .rfind(|turn| turn.role == "user")
            .map(|turn| turn.content.texts().map(str::trim).collect())
            .unwrap_or_default();
        let mut values = sample.meta;
        values.insert("key".into(), sample.key.into());
        values.insert("question".into(), question.join(" ").into());
        values.insert("answer".into(), answer.trim().into());
        Some(Self { turns, media: sample.media, variables, values })
    }
}

impl Row {
    /// The names of its columns.
    pub fn names(&self) -> Vec<&str> {
        match self {
            Row::Table(row) => row.names().collect(),
            Row::Sample(asking) => asking.values.keys().map(String::as_str).collect(),
        }
    }

    /// What its columns hold, without bytes.
    pub fn values(&self) -> Map<String, Value> {
        match self {
            Row::Table(row) => row.values(),
            Row::Sample(asking) => asking.values.clone(),
        }
    }

    /// The media of a column; those of a sample are in no column.
    pub fn media(&self, column: &str, kind: Kind) -> Result<Vec<Blob>, Reject> {
        match self {
            Row::Table(row) => row.media(column, kind),
            Row::Sample(_) => Ok(Vec::new()),
        }
    }

    /// The medium of a file of the folder.
    pub fn file(&self, name: &str, kind: Kind) -> Result<Blob, Reject> {
        match self {
            Row::Table(row) => row.file(name, kind),
            Row::Sample(_) => {
                Err(Reject::new("missing-file", format!("samples of a corpus name no files, such as {name}")))
            }
        }
    }
}

/// The rows of a file.
pub(super) enum FileRows {
    Table(TableRows),
    /// A shard, and the sample that comes next.
    Shard(Shard, usize),
}

impl FileRows {
    /// The rows of the file at `path`; files that they name lie in `folder`.
    pub fn open(path: &Path, folder: &Path) -> Result<Self> {
        let is_shard = path.extension().is_some_and(|extension| extension == "tar");
        Ok(match is_shard {
            true => FileRows::Shard(Shard::open(path)?, 0),
            false => FileRows::Table(TableRows::open(path, folder, MEDIUM)?),
        })
    }

    /// The names of all columns; `None` where each row has its own.
    pub fn names(&self) -> Option<&[String]> {
        match self {
            FileRows::Table(rows) => rows.names(),
            FileRows::Shard(..) => None,
        }
    }
}

impl Iterator for FileRows {
    type Item = std::result::Result<Row, String>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            FileRows::Table(rows) => Some(rows.next()?.map(Row::Table).map_err(|reject| reject.detail)),
            FileRows::Shard(shard, next) => loop {
                if *next >= shard.len() {
                    return None;
                }
                let sample = shard.read(*next);
                *next += 1;
                match sample {
                    Err(e) => return Some(Err(e.to_string())),
                    // What asks nothing is no question.
                    Ok(sample) => match Asking::of(sample) {
                        Some(asking) => return Some(Ok(Row::Sample(Box::new(asking)))),
                        None => continue,
                    },
                }
            },
        }
    }
}
