//! The questions of samples as requests to a model.

use percept_data::Sample;
use percept_infer::{GenerateOptions, Request};
use percept_modalities::Processor;

use super::Answer;
use crate::error::{Error, Result};

/// Tokens that an answer may have beyond those of the right one, so that one that goes on is told from it.
const BEYOND: usize = 4;

/// What a sample asks, with its last answer as the right one; `None` when it has none.
pub(crate) fn request(processor: &dyn Processor, sample: &Sample) -> Result<Option<(Answer, Request)>> {
    let Some((messages, expected)) = sample.question() else { return Ok(None) };
    let media =
        sample.decode(processor).map_err(|source| Error::Media { key: sample.key.clone(), source })?;
    let inputs = processor.chat(&messages, &media).map_err(percept_infer::Error::from)?;
    let tokens = processor.tokenizer().encode(&expected, false).map_err(percept_infer::Error::from)?.len();
    let options = GenerateOptions { max_tokens: Some(tokens + BEYOND), ..GenerateOptions::default() };
    let words: Vec<&str> = messages.iter().flat_map(|m| m.content.texts().map(str::trim)).collect();
    let answer = Answer {
        key: sample.key.clone(),
        question: words.join(" "),
        expected: expected.trim().to_owned(),
        said: String::new(),
    };
    Ok(Some((answer, Request::new(inputs, options))))
}
