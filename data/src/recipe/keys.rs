//! Tables of a recipe, read so that a key that nothing knows is named with its line and the nearest known
//! one.

use std::path::Path;

use serde::de::value::Error as Stop;
use serde::de::{DeserializeOwned, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, Result};

/// A recipe's text, which errors point into.
#[derive(Clone, Copy)]
pub struct Page<'a> {
    /// Where it was read.
    pub path: &'a Path,
    /// All of it.
    pub text: &'a str,
}

impl Page<'_> {
    /// An error at a place of the text.
    pub fn fault(&self, at: usize, why: impl std::fmt::Display) -> Error {
        let line =
            1 + self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|b| **b == b'\n').count();
        Error::Config(format!("{}:{line}: {why}", self.path.display()))
    }

    /// The error of the TOML reader.
    pub fn toml(&self, error: &toml::de::Error) -> Error {
        self.fault(error.span().map_or(0, |span| span.start), error.message())
    }

    /// A table as settings; `what` names it in errors.
    ///
    /// # Errors
    /// A key that the settings do not have, with its line and the nearest that they have, or a value that does not fit.
    pub fn settings<T: DeserializeOwned>(&self, what: &str, table: Spanned<DeTable<'_>>) -> Result<T> {
        let known = keys_of::<T>();
        for key in table.get_ref().keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                return Err(self.fault(key.span().start, unknown(what, "key", key.get_ref(), known)));
            }
        }
        let span = table.span();
        let value = Spanned::new(span.clone(), DeValue::Table(table.into_inner()));
        T::deserialize(toml::de::ValueDeserializer::from(value)).map_err(|error| {
            self.fault(error.span().unwrap_or(span).start, format!("{what}: {}", error.message()))
        })
    }
}

/// Says that a word is unknown, and the known one that it may have meant.
pub fn unknown(what: &str, kind: &str, word: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|k| strsim::damerau_levenshtein(word, k));
    let near = |k: &&&str| strsim::damerau_levenshtein(word, k) <= (word.len() / 2).max(2);
    match nearest.filter(near) {
        Some(nearest) => format!("{what} has no {kind} '{word}'; did you mean '{nearest}'?"),
        None => format!("{what} has no {kind} '{word}'; the known ones are {}", known.join(", ")),
    }
}

/// The keys that a settings struct reads.
pub(crate) fn keys_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    // The answer is in `keys`; the call itself always ends in an error.
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

/// A deserializer that only records which fields are requested.
struct Keys<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Keys<'_> {
    type Error = Stop;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Stop> {
        *self.0 = fields;
        Err(Stop::custom("only the names of fields are wanted"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
        Err(Stop::custom("settings are structs"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}
