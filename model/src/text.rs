//! The text side of a checkpoint: its tokenizer, its chat template, the tokens that end an answer, and decoders that
//! read text alone.

use percept_modalities::text::{ChatTemplate, TOOL_USE_FILE, Tokenizer};
use percept_modalities::{
    Aim, Array, Content, Error as MediaError, Inputs, Media, Message, Part, Processor, Values,
};
use serde_json::Value;

use crate::causal::CausalModel;
use crate::checkpoint::{Checkpoint, Format};
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::processor::Transcript;
use crate::weights::Weights;

/// The tokenizer of a checkpoint: `tokenizer.json`, which a GGUF file may hold, or the vocabulary inside a GGUF file.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn tokenizer(checkpoint: &Checkpoint) -> Result<Tokenizer> {
    if let Some(found) = Tokenizer::find::<Error>(|name| Ok(checkpoint.file(name)?))? {
        return Ok(found);
    }
    let vocabulary = checkpoint.vocabulary()?.map(|v| Tokenizer::from_gguf(&v)).transpose()?;
    vocabulary.ok_or_else(|| Error::Content {
        file: checkpoint.path().display().to_string(),
        why: "there is no tokenizer.json beside the weights; AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) in \
              Python writes it, if transformers knows the other files of the tokenizer".into(),
    })
}

/// The chat template of a checkpoint; `None` when it was not made for conversations.
///
/// # Errors
/// When it is not a template.
pub fn template(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
    if checkpoint.format() != Format::Gguf {
        return ChatTemplate::find::<Error>(|name| Ok(checkpoint.file(name)?));
    }
    let Some(source) = checkpoint.file("chat_template.jinja")? else { return Ok(None) };
    let tokens = tokenizer.settings().tokens.clone();
    let tool_use = checkpoint.file(TOOL_USE_FILE)?;
    let tool_use = tool_use.as_deref().map(String::from_utf8_lossy);
    let template = ChatTemplate::new(&String::from_utf8_lossy(&source), tokens)?;
    Ok(Some(template.with_tool_use(tool_use.as_deref())?))
}

/// The tokens that end an answer: `eos_token_id` of generation_config.json, or else of config.json, or else the
/// tokenizer's own.
///
/// # Errors
/// When a file cannot be read, or says something else than ids.
pub fn ends(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<Vec<i32>> {
    let of = |file: &str, config: &Value| -> Result<Vec<i32>> {
        let id = |v: &Value| v.as_i64().and_then(|id| i32::try_from(id).ok());
        let given = config.get("eos_token_id").unwrap_or(&Value::Null);
        let ids = match given {
            Value::Null => Some(Vec::new()),
            Value::Array(all) => all.iter().map(id).collect(),
            one => id(one).map(|one| vec![one]),
        };
        ids.ok_or_else(|| Error::Content {
            file: file.into(),
            why: format!("'eos_token_id' must be a token's id or a list of them, not {given}"),
        })
    };
    let generation: Value = match checkpoint.file("generation_config.json")? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| Error::Content {
            file: "generation_config.json".into(),
            why: format!("it is no JSON: {error}"),
        })?,
        None => Value::Null,
    };
    let config = checkpoint.config();
    let places = [
        ("generation_config.json", &generation),
        ("config.json", config),
        ("config.json", config.get("text_config").unwrap_or(&Value::Null)),
    ];
    for (file, place) in places {
        let ends = of(file, place)?;
        if !ends.is_empty() {
            return Ok(ends);
        }
    }
    Ok(tokenizer.eos().map(|id| id as i32).into_iter().collect())
}

/// A decoder that reads text alone.
pub struct TextModel {
    decoder: Decoder,
    weights: Weights,
    processor: TextProcessor,
}

impl TextModel {
    /// The model of a decoder and its parameters.
    ///
    /// # Errors
    /// When the checkpoint has no tokenizer.
    pub fn new(decoder: Decoder, weights: Weights) -> Result<Self> {
        let tokenizer = tokenizer(weights.checkpoint())?;
        let template = template(weights.checkpoint(), &tokenizer)?;
        Ok(Self { decoder, weights, processor: TextProcessor { tokenizer, template } })
    }
}

impl CausalModel for TextModel {
    fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    fn weights(&self) -> &Weights {
        &self.weights
    }

    fn processor(&self) -> &dyn Processor {
        &self.processor
    }
}

/// Conversations in text. A model without a chat template goes on with the text of the messages as it stands.
struct TextProcessor {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
}

impl Processor for TextProcessor {
    fn prepare(&self, messages: &[Message], media: &Media, aim: Aim) -> percept_modalities::Result<Inputs> {
        let given = media.images.len() + media.videos.len() + media.audios.len();
        if given > 0 || messages.iter().any(mentions_media) {
            let why = "this model reads text alone; leave the media out, or give the projector that belongs to a GGUF \
                       file with --mmproj";
            return Err(MediaError::Prompt(why.into()));
        }
        let transcript = Transcript::render(messages, aim, |m, prompt| match &self.template {
            Some(template) => {
                template.check_tools(&media.variables)?;
                template.render(m, prompt, &media.variables)
            }
            None if media.variables.contains_key("tools") => Err(MediaError::Prompt(
                "the model has no chat template that shows it tools; leave them out".into(),
            )),
            None => Ok(plain(m)),
        })?;
        let mut tokens = self.tokenizer.encode_spans(&transcript.text, self.template.is_none())?;
        let mut learnt: Vec<i64> = tokens.iter().map(|(_, span)| transcript.learns(span) as i64).collect();
        // Without a template nothing else tells the model to stop.
        if let (None, Aim::Learn, Some(end)) = (&self.template, aim, self.tokenizer.eos()) {
            tokens.push((end, 0..0));
            learnt.push(messages.last().map_or(Ok(false), Message::is_learnt)? as i64);
        }
        let mut inputs = Inputs { prompt: transcript.rendered, ..Inputs::default() };
        let dims = vec![1, tokens.len()];
        if aim == Aim::Learn {
            let answers = Array { dims: dims.clone(), values: Values::I64(learnt) };
            inputs.arrays.insert("answers".into(), answers);
        }
        let ids = tokens.into_iter().map(|(id, _)| id.into()).collect();
        inputs.arrays.insert("input_ids".into(), Array { dims, values: Values::I64(ids) });
        Ok(inputs)
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

fn mentions_media(message: &Message) -> bool {
    let Content::Parts(parts) = &message.content else { return false };
    parts.iter().any(|p| !matches!(p, Part::Text { .. } | Part::Other(_)))
}

/// The text of all messages, one after the other.
fn plain(messages: &[Message]) -> String {
    let text = |part: &Part| part.text().unwrap_or_default().to_owned();
    let said = messages.iter().map(|m| match &m.content {
        Content::Nothing => String::new(),
        Content::Text(text) => text.clone(),
        Content::Parts(parts) => parts.iter().map(text).collect(),
    });
    said.collect::<Vec<_>>().join("\n")
}
