//! The text of an answer as its tokens come.

use std::ops::Deref;
use std::sync::Arc;

use percept_modalities::text::{DecodeStream, Tokenizer};
use percept_model::CausalModel;

use super::stop::StopStrings;
use crate::error::Result;

/// The tokenizer of a model that is held.
#[derive(Clone)]
struct Held(Arc<dyn CausalModel>);

impl Deref for Held {
    type Target = Tokenizer;

    fn deref(&self) -> &Tokenizer {
        self.0.processor().tokenizer()
    }
}

/// Text that is certain, and what may still become a text that stops.
pub(super) struct AnswerText {
    stream: DecodeStream<Held>,
    /// Texts that end an answer may be special tokens, which are not shown: the text with them.
    whole: Option<DecodeStream<Held>>,
    stop: StopStrings,
    text: String,
}

impl AnswerText {
    pub(super) fn new(model: Arc<dyn CausalModel>, stop: &[String]) -> Self {
        let model = Held(model);
        let whole = (!stop.is_empty()).then(|| DecodeStream::new(model.clone(), false));
        let (stream, stop) = (DecodeStream::new(model, true), StopStrings::new(stop));
        Self { stream, whole, stop, text: String::new() }
    }

    /// The text that became certain by a token.
    pub(super) fn push(&mut self, id: i32) -> Result<String> {
        let shown = self.stream.push(id as u32)?;
        let decoded = self.whole.as_mut().map(|whole| whole.push(id as u32)).transpose()?;
        let more = self.stop.push(decoded.as_deref().unwrap_or(&shown), &shown);
        self.text.push_str(&more);
        Ok(more)
    }

    /// The stop text that appeared.
    pub(super) fn stopped(&self) -> Option<&str> {
        self.stop.found()
    }

    /// The whole text, and the end of it that was held back, when no more tokens come.
    pub(super) fn finish(self) -> Result<(String, String)> {
        let Self { stream, whole, mut stop, mut text } = self;
        let mut rest = String::new();
        if stop.found().is_none() {
            let shown = stream.finish()?;
            let decoded = whole.map(DecodeStream::finish).transpose()?;
            rest = stop.push(decoded.as_deref().unwrap_or(&shown), &shown);
            rest.push_str(&stop.finish());
        }
        text.push_str(&rest);
        Ok((text, rest))
    }
}
