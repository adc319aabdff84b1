//! `filter-length`: texts by their letters and words, conversations by their turns.

use serde::Deserialize;

use super::captions::whole_text;
use super::{ImageUse, Settings, Site, Stage};
use crate::error::Result;
use crate::item::Item;
use crate::reject::Reject;

/// Rejects samples whose text is too short or too long.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Length {
    /// The fewest letters.
    min_characters: usize,
    /// The most letters.
    max_characters: usize,
    /// The fewest words, divided by white space.
    min_words: usize,
    /// The most words.
    max_words: usize,
    /// The fewest turns.
    min_turns: usize,
    /// The most turns.
    max_turns: usize,
}

impl Default for Length {
    fn default() -> Self {
        let most = usize::MAX;
        Self {
            min_characters: 0,
            max_characters: most,
            min_words: 0,
            max_words: most,
            min_turns: 0,
            max_turns: most,
        }
    }
}

impl Settings for Length {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        let bounds = [
            ("characters", self.min_characters, self.max_characters),
            ("words", self.min_words, self.max_words),
            ("turns", self.min_turns, self.max_turns),
        ];
        Ok(Stage::each(ImageUse::Unseen, move |item: &mut Item| {
            let text = whole_text(&item.sample);
            let counts = [text.chars().count(), text.split_whitespace().count(), item.sample.messages.len()];
            for ((what, least, most), count) in bounds.iter().zip(counts) {
                if count < *least {
                    return Err(Reject::new("too-short", format!("it has {count} {what}, under {least}")));
                }
                if count > *most {
                    return Err(Reject::new("too-long", format!("it has {count} {what}, over {most}")));
                }
            }
            Ok(())
        }))
    }
}
