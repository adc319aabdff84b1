//! `filter-regex`: texts by a pattern.

use regex::Regex;
use serde::Deserialize;

use super::captions::whole_text;
use super::{ImageUse, Settings, Site, Stage};
use crate::error::{Error, Result};
use crate::item::Item;
use crate::reject::Reject;

/// Rejects samples whose text a pattern matches, or does not match.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pattern {
    /// A regular expression of Rust's regex.
    pattern: String,
    /// Keep what matches instead of rejecting it.
    #[serde(default)]
    keep: bool,
    /// The metadata that is matched instead of the text.
    column: Option<String>,
}

impl Settings for Pattern {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        let fault = |e: regex::Error| Error::Config(format!("stage filter-regex: {e}"));
        let pattern = Regex::new(&self.pattern).map_err(fault)?;
        let (keep, column) = (self.keep, self.column.clone());
        Ok(Stage::each(ImageUse::Unseen, move |item: &mut Item| {
            let text = match &column {
                None => whole_text(&item.sample),
                Some(column) => match item.sample.meta.get(column) {
                    Some(serde_json::Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                    None => String::new(),
                },
            };
            match (pattern.find(&text), keep) {
                (Some(_), true) | (None, false) => Ok(()),
                (Some(found), false) => Err(Reject::new(
                    "pattern",
                    format!("'{}' matches at byte {}", found.as_str(), found.start()),
                )),
                (None, true) => Err(Reject::new("pattern", "nothing in it matches")),
            }
        }))
    }
}
