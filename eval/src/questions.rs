//! Questions put to the engine. Nothing else here calls it.

use percept_data::Sample;
use percept_infer::{Engine, GenerateOptions};
use percept_modalities::{Content, Message, Part};

use crate::error::{Error, Result};
use crate::scores::Answer;

/// Tokens that an answer may have beyond those of the right one, so that one that goes on is told from it.
const BEYOND: usize = 4;

/// Ask for a sample's last answer; `None` when it has none.
pub(crate) fn ask(engine: &mut Engine, sample: &Sample) -> Result<Option<Answer>> {
    let Some((messages, expected)) = sample.question() else { return Ok(None) };
    let processor = engine.model().processor();
    let media =
        sample.decode(processor).map_err(|source| Error::Media { key: sample.key.clone(), source })?;
    let inputs = processor.chat(&messages, &media).map_err(percept_infer::Error::from)?;
    let tokens = processor.tokenizer().encode(&expected, false).map_err(percept_infer::Error::from)?.len();
    let options = GenerateOptions { max_tokens: Some(tokens + BEYOND), ..GenerateOptions::default() };
    let said = engine.generate(&inputs, &options, &mut |_| {})?.text;
    Ok(Some(Answer {
        key: sample.key.clone(),
        question: messages.iter().map(words).collect::<Vec<_>>().join(" "),
        expected: expected.trim().to_owned(),
        said: said.trim().to_owned(),
    }))
}

/// The words of a turn.
fn words(message: &Message) -> String {
    match &message.content {
        Content::Nothing => String::new(),
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => {
            let text = |part: &Part| match part {
                Part::Text { text } => Some(text.trim().to_owned()),
                _ => None,
            };
            parts.iter().filter_map(text).collect::<Vec<_>>().join(" ")
        }
    }
}
