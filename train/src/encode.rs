//! Samples as a model learns them: tokens, positions, and which of them are answers.

use percept_modalities::{Aim, Inputs, Media, Message, Values};
use percept_model::CausalModel;

use crate::error::{Error, Result};

/// What the next token at a place must not be compared with anything.
pub const IGNORE: i32 = -1;

/// Arrays of one number for each token, which are put together anew for a batch.
const BY_TOKEN: [&str; 5] = ["input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "answers"];

/// One sample, tokenized.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// Names the sample.
    pub key: String,
    /// Tokens as the processor gives them.
    pub ids: Vec<i32>,
    /// A position for each token on every axis.
    pub positions: Vec<Vec<f32>>,
    /// Numbers of image blocks, -1 elsewhere.
    pub blocks: Option<Vec<i32>>,
    /// The token that follows each, [`IGNORE`] where it is not to be learnt.
    pub labels: Vec<i32>,
    /// Arrays of the sample's media.
    pub media: Inputs,
}

impl Encoded {
    /// A conversation, of which the assistant's turns are learnt.
    ///
    /// # Errors
    /// When the model's processor refuses it.
    pub fn conversation(
        model: &dyn CausalModel,
        key: &str,
        messages: &[Message],
        media: &Media,
    ) -> Result<Self> {
        Self::of_inputs(model, key, model.processor().prepare(messages, media, Aim::Learn)?)
    }

    /// What a processor prepared for learning.
    ///
    /// # Errors
    /// When the inputs do not fit the model, or do not say which tokens are answers.
    pub fn of_inputs(model: &dyn CausalModel, key: &str, mut inputs: Inputs) -> Result<Self> {
        let ids = percept_model::input_ids(&inputs)?;
        let layout = model.layout(&inputs)?;
        let learnt: Vec<bool> = match inputs.arrays.get("answers").map(|a| &a.values) {
            Some(Values::I64(flags)) if flags.len() == ids.len() => flags.iter().map(|&f| f != 0).collect(),
            _ => {
                let why = "the model's processor does not say which tokens are answers";
                return Err(Error::Setting(why.into()));
            }
        };
        let labels = labels(&ids, &learnt);
        inputs.arrays.retain(|name, _| !BY_TOKEN.contains(&&name[..]));
        Ok(Self {
            key: key.into(),
            ids,
            positions: layout.positions,
            blocks: layout.blocks,
            labels,
            media: inputs,
        })
    }

    /// A document, of which every token is learnt, and that it ends.
    ///
    /// # Errors
    /// When the tokenizer cannot write it.
    pub fn document(model: &dyn CausalModel, key: &str, text: &str) -> Result<Self> {
        let tokenizer = model.processor().tokenizer();
        let mut ids: Vec<i32> = tokenizer.encode(text, true)?.into_iter().map(|id| id as i32).collect();
        let end = tokenizer.eos().map(|id| id as i32);
        if ids.last().copied() != end {
            ids.extend(end);
        }
        Ok(Self::of_ids(key, ids))
    }

    /// Tokens alone, of which every one is learnt.
    pub fn of_ids(key: &str, ids: Vec<i32>) -> Self {
        let positions = vec![(0..ids.len()).map(|at| at as f32).collect()];
        let labels = labels(&ids, &vec![true; ids.len()]);
        Self { key: key.into(), ids, positions, blocks: None, labels, media: Inputs::default() }
    }

    /// How many tokens it has.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// How many of them are learnt.
    pub fn answers(&self) -> usize {
        self.labels.iter().filter(|&&l| l != IGNORE).count()
    }
}

/// The next token where it is learnt.
fn labels(ids: &[i32], learnt: &[bool]) -> Vec<i32> {
    let next = ids.iter().zip(learnt).skip(1).map(|(&id, &l)| if l { id } else { IGNORE });
    next.chain([IGNORE]).take(ids.len()).collect()
}
