//! The files of a sample: which part of it each holds.

use percept_modalities::Message;
use serde::Serialize;
use serde_json::{Map, Value};

use super::names::Name;
use crate::format::Fault;
use crate::sample::{Blob, Kind, Sample};

/// What `KEY.json` holds.
#[derive(Serialize)]
pub(super) struct Conversation<'a> {
    #[serde(skip_serializing_if = "<[Message]>::is_empty")]
    pub messages: &'a [Message],
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub meta: &'a Map<String, Value>,
}

/// A sample while its files are read.
#[derive(Default)]
pub(super) struct Gathered {
    pub sample: Sample,
    /// The place of each medium: those with numbers are put in order.
    places: Vec<String>,
    /// The first thing wrong with it.
    pub fault: Option<Fault>,
}

impl Gathered {
    /// Nothing yet of the sample `key`.
    pub fn of(key: String) -> Self {
        Self { sample: Sample { key, ..Sample::default() }, ..Self::default() }
    }

    /// Add a file.
    pub fn add(&mut self, name: Name, bytes: Vec<u8>) {
        if let Err(fault) = self.try_add(name, bytes) {
            self.fault.get_or_insert(fault);
        }
    }

    fn try_add(&mut self, name: Name, bytes: Vec<u8>) -> Result<(), Fault> {
        let extension = name.extension.as_str();
        let file = || match name.place.as_str() {
            "" => extension.to_string(),
            place => format!("{place}.{extension}"),
        };
        let sample = &mut self.sample;
        if let Some(kind) = Kind::of_extension(extension) {
            if self.places.contains(&name.place) && sample.media.iter().any(|m| m.extension == extension) {
                return Err(Fault::Twice { file: file() });
            }
            sample.media.push(Blob { kind, extension: extension.to_string(), bytes: bytes.into() });
            self.places.push(name.place);
            return Ok(());
        }
        match extension {
            "txt" | "text" | "caption" if name.place.is_empty() => {
                let text = utf8(bytes, &file())?;
                if sample.text.replace(text).is_some() {
                    return Err(Fault::Twice { file: file() });
                }
            }
            "json" if name.place.is_empty() => self.add_json(&bytes)?,
            // What other writers add (`cls`, `url`, `0.txt`) is metadata if it is text, and nothing to us otherwise.
            _ => {
                if let Ok(text) = String::from_utf8(bytes) {
                    sample.meta.entry(file()).or_insert(Value::String(text));
                }
            }
        }
        Ok(())
    }

    fn add_json(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let fault = |why: String| Fault::Json { file: "json".to_string(), why };
        let mut fields: Map<String, Value> = match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => fields,
            Ok(other) => Map::from_iter([("json".to_string(), other)]),
            Err(error) => return Err(fault(error.to_string())),
        };
        if let Some(messages) = fields.shift_remove("messages") {
            let messages = serde_json::from_value::<Vec<Message>>(messages);
            self.sample.messages = messages.map_err(|e| fault(format!("its messages: {e}")))?;
        }
        match fields.shift_remove("meta") {
            Some(Value::Object(meta)) => self.sample.meta.extend(meta),
            Some(_) => return Err(fault("'meta' is not an object".to_string())),
            None => {}
        }
        // Other writers put their metadata at the top.
        self.sample.meta.extend(fields);
        Ok(())
    }

    /// The sample with its media in order, or what is wrong with it and its key.
    pub fn finish(mut self) -> Result<Sample, (String, Fault)> {
        if let Some(fault) = self.fault {
            return Err((self.sample.key, fault));
        }
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        // Stable: media without a number keep their order, behind those with one.
        order.sort_by_key(|&at| self.places[at].parse::<u64>().unwrap_or(u64::MAX));
        self.sample.media = order.iter().map(|&at| self.sample.media[at].clone()).collect();
        Ok(self.sample)
    }
}

fn utf8(bytes: Vec<u8>, file: &str) -> Result<String, Fault> {
    String::from_utf8(bytes)
        .map_err(|e| Fault::NotUtf8 { file: file.to_string(), at: e.utf8_error().valid_up_to() })
}
