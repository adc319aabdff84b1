//! Log-probabilities of tokens, in the shapes of OpenAI's.

use std::sync::Arc;

use percept_infer::TokenLogprob;
use serde_json::{Map, Value, json};

use crate::models::Vocabulary;

/// Writes tokens with the text that they stand for.
#[derive(Clone)]
pub(crate) struct Logprobs(pub Arc<Vocabulary>);

/// Logarithms below this are written as this: JSON has no infinity.
const LEAST: f32 = -9999.0;

fn number(logprob: f32) -> Value {
    json!(logprob.max(LEAST))
}

impl Logprobs {
    /// A token's text, bytes of incomplete characters replaced.
    pub fn text(&self, id: i32) -> String {
        String::from_utf8_lossy(self.0.bytes(id)).into_owned()
    }

    /// The token of a chat completion.
    pub fn chat(&self, token: &TokenLogprob) -> Value {
        let one = |id: i32, logprob: f32| json!({ "token": self.text(id), "logprob": number(logprob), "bytes": self.0.bytes(id) });
        let mut all = one(token.id, token.logprob);
        all["top_logprobs"] = token.top.iter().map(|&(id, logprob)| one(id, logprob)).collect();
        all
    }

    /// The tokens of a text completion, whose text begins at `offset`. The first token of a prompt has no probability.
    pub fn completion(&self, tokens: &[(i32, Option<&TokenLogprob>)], mut offset: usize) -> Value {
        let (mut texts, mut logprobs) = (Vec::new(), Vec::new());
        let (mut top, mut offsets) = (Vec::new(), Vec::new());
        for (id, token) in tokens {
            let text = self.text(*id);
            offsets.push(offset);
            offset += text.chars().count();
            texts.push(text);
            logprobs.push(token.map_or(Value::Null, |token| number(token.logprob)));
            top.push(token.map_or(Value::Null, |token| {
                let one = |&(id, logprob): &(i32, f32)| (self.text(id), number(logprob));
                // Tokens of one spelling share a key: the likeliest, which comes first, keeps it.
                let mut all = Map::new();
                for (text, logprob) in token.top.iter().map(one) {
                    all.entry(text).or_insert(logprob);
                }
                Value::Object(all)
            }));
        }
        json!({ "tokens": texts, "token_logprobs": logprobs, "top_logprobs": top, "text_offset": offsets })
    }
}
