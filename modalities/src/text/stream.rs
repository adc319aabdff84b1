//! Text from ids as they come.

use std::ops::Deref;

use super::Tokenizer;
use crate::error::Result;

/// Ids after which text is given out although its last character is still incomplete: none has more bytes.
const MOST_PENDING: usize = 8;

/// Turns ids into text one by one. A character whose bytes are spread over tokens appears when its last one has come.
#[derive(Debug, Clone)]
pub struct DecodeStream<T> {
    tokenizer: T,
    skip_special_tokens: bool,
    /// Ids of the last text given out, which decide how what follows is spaced, and the pending ones.
    ids: Vec<u32>,
    /// Where the pending ones begin.
    given: usize,
}

impl<T: Deref<Target = Tokenizer>> DecodeStream<T> {
    /// Of a tokenizer that is borrowed or held; see [`Tokenizer::stream`].
    pub fn new(tokenizer: T, skip_special_tokens: bool) -> Self {
        DecodeStream { tokenizer, skip_special_tokens, ids: Vec::new(), given: 0 }
    }

    /// Takes an id and returns the text that is complete with it, often none.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.new_text()?;
        if text.is_empty() || (text.ends_with('\u{fffd}') && self.ids.len() - self.given < MOST_PENDING) {
            return Ok(String::new());
        }
        self.ids.drain(..self.given);
        self.given = self.ids.len();
        Ok(text)
    }

    /// What is left, complete or not.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn finish(mut self) -> Result<String> {
        self.new_text()
    }

    /// Text of the pending ids, as it follows what was given out.
    fn new_text(&mut self) -> Result<String> {
        let before = self.tokenizer.decode(&self.ids[..self.given], self.skip_special_tokens)?;
        let all = self.tokenizer.decode(&self.ids, self.skip_special_tokens)?;
        Ok(match all.strip_prefix(&before) {
            Some(text) => text.to_owned(),
            // Incomplete characters that were given out all the same are whole now.
            None => self.tokenizer.decode(&self.ids[self.given..], self.skip_special_tokens)?,
        })
    }
}
