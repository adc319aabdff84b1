//! Guesses at the next tokens: what makes answers come sooner and changes none of them.

use std::path::Path;
use std::sync::Arc;

use clap::Args;
use percept::hal::Device;
use percept::infer::{Draft, Generation, PromptLookup, Session, SessionOptions};
use percept::model::checkpoint::LoadOptions;
use percept::model::{CausalModel, Model};
use serde_json::{Value, json};

use super::hub::find_model;
use super::loading::weights;
use crate::cli::Failure;

/// Last tokens that are looked for when the next ones are guessed by what followed them.
const NGRAM: usize = 3;
/// Tokens that a draft model guesses at a time unless told otherwise.
const DRAFT: usize = 4;

/// How many tokens are guessed at a time, and from what.
#[derive(Args)]
pub struct Guessing {
    /// Guess up to N tokens at a time by what followed the last ones before: the same tokens, sooner where the answer quotes
    /// its prompt
    #[arg(long, value_name = "N", value_parser = tokens, conflicts_with = "draft_model")]
    lookup: Option<usize>,
    /// Tokens that the draft model guesses at a time; 4 by default
    #[arg(long, value_name = "N", value_parser = tokens, requires = "draft_model")]
    draft: Option<usize>,
}

/// A number of tokens that may be guessed at a time.
fn tokens(text: &str) -> Result<usize, String> {
    let fits = |tokens: &usize| (1..=64).contains(tokens);
    text.parse().ok().filter(fits).ok_or_else(|| "give 1 to 64 tokens".into())
}

impl Guessing {
    /// Where guesses come from.
    pub fn draft(&self, has_model: bool) -> Option<Draft> {
        match self.lookup {
            Some(tokens) => Some(Draft::Lookup(PromptLookup { ngram: NGRAM, tokens })),
            None => has_model.then(|| Draft::Model { tokens: self.draft.unwrap_or(DRAFT) }),
        }
    }
}

/// The session with a draft model on its device, under the same options; weights are as the draft model's file has them.
pub fn with_draft_model(
    session: Session,
    path: &Path,
    device: Arc<dyn Device>,
    options: SessionOptions,
) -> Result<Session, Failure> {
    let found = find_model(path, None)?;
    let weights = weights(&found, None, &[], LoadOptions::default(), options.strict)?;
    let Model::Causal(model) = percept::model::open_weights(weights)? else {
        let why = "this model does not generate text, and so it cannot guess what is generated";
        return Err(Failure::Usage(format!("--draft-model {}: {why}", path.display())));
    };
    // Where no weight is quantized, there is nothing to round.
    let int8 = options.int8 && is_quantized(&*model);
    let draft = Session::new(device, model, SessionOptions { int8, ..options })?;
    session.with_draft(draft).map_err(|e| Failure::Content { path: path.into(), why: e.to_string() })
}

fn is_quantized(model: &dyn CausalModel) -> bool {
    let checkpoint = model.weights().checkpoint();
    checkpoint.names().filter_map(|name| checkpoint.ty(name)).any(|ty| ty.dtype.is_quantized())
}

/// Add to the document of an answer what became of the guesses.
pub fn tell(document: &mut Value, g: &Generation) {
    document["drafted_tokens"] = json!(g.drafted_tokens);
    document["accepted_tokens"] = json!(g.accepted_tokens);
    if let Some(why) = g.not_drafted {
        document["not_drafted"] = json!(why.to_string());
    }
}

/// The same in words; empty where nothing was guessed.
pub fn told(g: &Generation) -> String {
    match g.drafted_tokens {
        0 => String::new(),
        n => format!("; {} of {n} guesses were right", g.accepted_tokens),
    }
}
