//! Guesses at the next tokens: what makes answers come sooner and changes none of them.

use clap::Args;
use percept::infer::{Draft, Generation, PromptLookup};
use serde_json::{Value, json};

/// Last tokens that are looked for when the next ones are guessed by what followed them.
const NGRAM: usize = 3;
/// Tokens that a draft model guesses at a time unless told otherwise: a step pads the rows of a token and its guesses to 4 or
/// 8.
const DRAFT: usize = 3;

/// How many tokens are guessed at a time, and from what.
#[derive(Args)]
pub struct Guessing {
    /// Guess up to N tokens at a time by what followed the last ones before: the same tokens, sooner where the answer quotes
    /// its prompt
    #[arg(long, value_name = "N", value_parser = tokens, conflicts_with = "draft_model")]
    lookup: Option<usize>,
    /// Tokens that the draft model guesses at a time; 3 by default
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
