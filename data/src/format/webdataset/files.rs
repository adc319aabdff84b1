//! The files of a sample: which part of it each holds.

use std::collections::HashSet;

use percept_modalities::Message;
use serde::Serialize;
use serde_json::{Map, Value};

use super::names::Name;
use crate::format::Fault;
use crate::format::left_out::shown;
use crate::format::media::{identify, word};
use crate::format::rows::{Cell, Columns, json};
use crate::format::sniff::sniff;
use crate::format::turns::{mention, turns};
use crate::reject::Reject;
use crate::sample::{Blob, Kind, Sample};

/// What `KEY.json` holds.
#[derive(Serialize)]
pub(super) struct Conversation<'a> {
    #[serde(skip_serializing_if = "<[Message]>::is_empty")]
    pub messages: &'a [Message],
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub meta: &'a Map<String, Value>,
}

/// Which file of a sample, or field of its JSON, is what.
#[derive(Default)]
pub(super) struct Rules {
    /// The settings of a recipe; shards of ours are read without any.
    columns: Option<Columns>,
}

/// Files that hold a sample's text.
const TEXTS: [&str; 3] = ["txt", "text", "caption"];
/// Fields of its JSON that hold turns or a text, where nothing says which do.
const TURN_FIELDS: [&str; 2] = ["messages", "conversations"];
const TEXT_FIELDS: [&str; 2] = ["text", "caption"];

impl Rules {
    /// The rules of a recipe.
    pub fn of(columns: Columns) -> Self {
        Self { columns: Some(columns) }
    }

    /// Count what is left out.
    pub fn leave_out(&self, what: &str) {
        if let Some(columns) = &self.columns {
            columns.left_out.add(what.to_owned());
        }
    }

    /// The columns that are named for a kind of media.
    fn media(&self, kind: Kind) -> &[String] {
        let named = self.columns.iter().flat_map(|columns| &columns.media);
        { named }.find(|(named, _)| *named == kind).map_or(&[], |(_, columns)| columns)
    }

    fn text(&self) -> Option<&str> {
        self.columns.as_ref()?.text.as_deref()
    }

    /// Whether a file is named as the key, text or turns of its sample.
    fn is_said(&self, file: &File) -> bool {
        let columns = self.columns.as_ref();
        let named = columns.into_iter().flat_map(|columns| [&columns.key, &columns.text, &columns.messages]);
        { named }.flatten().any(|name| *name == file.name())
    }
}

/// One file of a sample.
struct File {
    /// The place of a medium: those with numbers are put in order.
    place: String,
    extension: String,
    bytes: Vec<u8>,
}

impl File {
    /// Its name without the key.
    fn name(&self) -> String {
        match self.place.as_str() {
            "" => self.extension.clone(),
            place => format!("{place}.{}", self.extension),
        }
    }

    /// Whether a setting means it: by its whole name, its extension, or its place.
    fn is(&self, column: &str) -> bool {
        self.extension == column || self.place == column || self.name() == column
    }

    /// Whether it is a medium, by its name or its bytes.
    fn is_medium(&self) -> bool {
        Kind::of_extension(&self.extension).is_some()
            || (self.extension != "json"
                && !TEXTS.contains(&self.extension.as_str())
                && sniff(&self.bytes).is_some())
    }

    /// What it is, as a medium of a kind if one is requested.
    fn identify(&self, kind: Option<Kind>) -> Result<(Kind, String), Fault> {
        identify(&self.bytes, Some(&format!("*.{}", self.name())), kind).map_err(Fault::Refused)
    }

    /// Where it stands among a sample's media: those without a number keep their order, behind those with
    /// one.
    fn order(&self) -> u64 {
        self.place.split('.').next().unwrap_or_default().parse().unwrap_or(u64::MAX)
    }
}

/// A sample's files while they are read.
#[derive(Default)]
pub(super) struct Gathered {
    pub key: String,
    files: Vec<File>,
    names: HashSet<(String, String)>,
    /// The first thing wrong with it.
    fault: Option<Fault>,
}

impl Gathered {
    /// Nothing yet of the sample `key`.
    pub fn of(key: String) -> Self {
        Self { key, ..Self::default() }
    }

    /// Leave the sample out, for the first of the reasons given.
    pub fn refuse(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    /// Whether it is left out.
    pub fn is_refused(&self) -> bool {
        self.fault.is_some()
    }

    /// Add a file.
    pub fn add(&mut self, name: Name, bytes: Vec<u8>) {
        let Name { place, extension, .. } = name;
        let file = File { place, extension, bytes };
        match self.names.insert((file.place.clone(), file.extension.clone())) {
            true => self.files.push(file),
            false => self.refuse(Fault::Twice { file: file.name() }),
        }
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> usize {
        self.files.iter().map(|file| file.bytes.len()).sum()
    }

    /// All names by which settings may mean one of its files, and the fields of its JSON.
    pub fn columns(&self) -> Vec<String> {
        let mut columns = Vec::new();
        for file in &self.files {
            columns.push(file.extension.clone());
            if !file.place.is_empty() {
                columns.extend([file.place.clone(), file.name()]);
            }
            if file.name() == "json"
                && let Ok(Value::Object(fields)) = json(&file.bytes)
            {
                columns.extend(fields.keys().cloned());
            }
        }
        columns
    }

    /// The sample with its media in order, or what is wrong with it and its key.
    pub fn finish(mut self, rules: &Rules) -> Result<Sample, (String, Fault)> {
        let mut sample = Sample { key: std::mem::take(&mut self.key), ..Sample::default() };
        match self.fill(&mut sample, rules) {
            Ok(()) => Ok(sample),
            Err(fault) => Err((sample.key, fault)),
        }
    }

    fn fill(self, sample: &mut Sample, rules: &Rules) -> Result<(), Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let (mut fields, mut media, mut found) = (Map::new(), Vec::new(), HashSet::new());
        for file in self.files {
            let name = file.name();
            let columns = [Kind::Image, Kind::Video, Kind::Audio].map(|kind| (kind, rules.media(kind)));
            let means = |(kind, names): &(Kind, &[String])| {
                names.iter().position(|column| file.is(column)).map(|at| (*kind, at))
            };
            if name == "json" {
                fields.extend(json_fields(&file.bytes)?);
            } else if rules.is_said(&file) {
                fields.insert(name.clone(), Value::String(utf8(file.bytes, &name)?));
            } else if let Some((kind, at)) = columns.iter().find_map(means) {
                found.insert((kind, at));
                media.push((at as u64, file, Some(kind)));
            } else if file.is_medium() {
                let (kind, _) = file.identify(None)?;
                match rules.media(kind) {
                    [] => media.push((0, file, Some(kind))),
                    _ => rules.leave_out(&format!(
                        "shards' files '.{}' are {kind} that the settings leave out",
                        shown(&name),
                        kind = word(Some(kind))
                    )),
                }
            } else if TEXTS.contains(&name.as_str()) && rules.text().is_none() {
                if sample.text.replace(utf8(file.bytes, &name)?).is_some() {
                    return Err(Fault::Twice { file: name });
                }
            } else {
                // What other writers add (`cls`, `url`, `0.txt`) is metadata if it is text.
                match String::from_utf8(file.bytes) {
                    Ok(text) => {
                        sample.meta.entry(name).or_insert(Value::String(text));
                    }
                    Err(_) => {
                        let name = shown(&file.extension);
                        rules.leave_out(&format!("shards' files '.{name}': of no known format of media"));
                    }
                }
            }
        }
        media.sort_by_key(|(column, file, _)| (*column, file.order()));
        for (_, file, kind) in media {
            let (kind, extension) = file.identify(kind)?;
            sample.media.push(Blob { kind, extension, bytes: file.bytes.into() });
        }
        take_fields(sample, fields, rules, &found)
    }
}

/// The parts of a sample that its JSON holds.
fn take_fields(
    sample: &mut Sample,
    mut fields: Map<String, Value>,
    rules: &Rules,
    found: &HashSet<(Kind, usize)>,
) -> Result<(), Fault> {
    let refused = Fault::Refused;
    let malformed = |why: &str| Fault::Refused(Reject::new("malformed", why));
    if let Some(columns) = &rules.columns {
        for (kind, names) in &columns.media {
            let left = names.iter().enumerate().filter(|(at, _)| !found.contains(&(*kind, *at)));
            for (_, name) in left {
                let cell = fields.shift_remove(name).map(Cell::Value);
                columns.add(sample, *kind, cell).map_err(refused)?;
            }
        }
        match columns.key.as_ref().and_then(|name| fields.shift_remove(name)) {
            None | Some(Value::Null) => {}
            Some(Value::String(key)) => sample.key = super::shard_key(key.trim()),
            Some(Value::Number(key)) => sample.key = super::shard_key(&key.to_string()),
            Some(_) => return Err(malformed("its key is no text or number")),
        }
        match &columns.text {
            Some(name) => match fields.shift_remove(name) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => sample.text = Some(text),
                Some(_) => return Err(malformed("its text is not a text")),
            },
            None if sample.text.is_none() => {
                let name =
                    TEXT_FIELDS.iter().find(|name| matches!(fields.get(**name), Some(Value::String(_))));
                if let Some(Value::String(text)) = name.and_then(|name| fields.shift_remove(*name)) {
                    sample.text = Some(text);
                }
            }
            None => {}
        }
    }
    let named = rules.columns.as_ref().and_then(|columns| columns.messages.as_deref());
    let guessed = || TURN_FIELDS.iter().copied().take(if rules.columns.is_some() { 2 } else { 1 });
    let name = named.or_else(|| guessed().find(|name| fields.contains_key(*name)));
    if let Some(value) = name.and_then(|name| fields.shift_remove(name)).filter(|value| !value.is_null()) {
        // Turns of ours are as they were written; others are in one of the shapes that data sets have.
        sample.messages = match serde_json::from_value::<Vec<Message>>(value.clone()) {
            Ok(messages) if named.is_none() => messages,
            _ if rules.columns.is_some() => turns(value).map_err(refused)?,
            Ok(messages) => messages,
            Err(error) => {
                let why = format!("its messages: {error}");
                return Err(Fault::Json { file: "json".to_string(), why });
            }
        };
        if rules.columns.is_some() {
            mention(&mut sample.messages, sample.media.iter().map(|medium| medium.kind));
        }
    }
    match fields.shift_remove("meta") {
        Some(Value::Object(meta)) => sample.meta.extend(meta),
        Some(_) => {
            let why = "'meta' is not an object".to_string();
            return Err(Fault::Json { file: "json".to_string(), why });
        }
        None => {}
    }
    if let Some(columns) = &rules.columns {
        fields.iter().for_each(|(name, value)| columns.note_value(name, value));
    }
    // Other writers put their metadata at the top.
    sample.meta.extend(fields);
    Ok(())
}

fn json_fields(bytes: &[u8]) -> Result<Map<String, Value>, Fault> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match json(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Ok(Map::from_iter([("json".to_string(), other)])),
        Err(reject) => Err(Fault::Json { file: "json".to_string(), why: reject.detail }),
    }
}

fn utf8(bytes: Vec<u8>, file: &str) -> Result<String, Fault> {
    let text = String::from_utf8(bytes)
        .map_err(|e| Fault::NotUtf8 { file: file.to_string(), at: e.utf8_error().valid_up_to() })?;
    Ok(text.strip_prefix('\u{feff}').map(String::from).unwrap_or(text))
}
