//! The likelihoods of texts after a question, which a server tells of the prompts of completions.
//!
//! The question is made tokens by the server's own chat template (`/tokenize` beside the address, as vLLM has it and we do), those of
//! an option are put after it, and `completions` echoes the prompt with the likelihoods of its tokens. So the tokens are those that
//! the same model reads from a path.

use std::sync::PoisonError;

use percept::eval::remote::{OptionRead, Refused, Said};
use percept::eval::task::Question;
use serde_json::{Value, json};

use super::Server;

/// Prompts of one request at most.
const PROMPTS: usize = 16;

impl Server {
    /// The likelihoods of a question's options.
    pub(super) fn compare(&self, question: &Question) -> Result<Said, Refused> {
        if question.media.as_ref().is_ok_and(|media| !media.is_empty()) {
            let why = "the task compares the likelihoods of texts after media, and the prompts of a server's completions hold none; give \
                       the path of a model";
            return Err(Refused::Server(why.into()));
        }
        let prompt = self.tokens(self.conversation(question)?)?;
        if prompt.is_empty() {
            return Err(Refused::Server(NO_TOKENS.into()));
        }
        let options = question.options.iter().map(|option| self.option(option));
        let options = options.collect::<Result<Vec<_>, _>>()?;
        let mut read = Vec::with_capacity(options.len());
        if options.iter().any(Vec::is_empty) {
            // Such a question fails: there is nothing to compare with.
            read.extend(options.into_iter().map(|tokens| OptionRead { tokens, likelihood: 0.0 }));
            return Ok(Said { tokens: [prompt.len(), 0], options: read, ..Said::default() });
        }
        for some in options.chunks(PROMPTS) {
            let prompts: Vec<Vec<i32>> = some.iter().map(|ids| [&prompt[..], ids].concat()).collect();
            // One token is generated, since not every server takes none.
            let body = json!({
                "model": self.model, "prompt": prompts, "echo": true, "logprobs": 1, "max_tokens": 1, "temperature": 0,
            });
            let answer = self.post("completions", &body)?;
            for (at, ids) in some.iter().enumerate() {
                let likelihood = mean(&answer, at, prompt.len(), ids.len())?;
                read.push(OptionRead { tokens: ids.clone(), likelihood });
            }
        }
        Ok(Said { tokens: [prompt.len(), 0], options: read, ..Said::default() })
    }

    fn option(&self, text: &str) -> Result<Vec<i32>, Refused> {
        let known = self.options.lock().unwrap_or_else(PoisonError::into_inner).get(text).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let body = json!({"model": self.model, "prompt": text, "add_special_tokens": false});
        let ids = self.tokens(body)?;
        self.options.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned(), ids.clone());
        Ok(ids)
    }

    /// The tokens that the server makes of a text or a conversation.
    fn tokens(&self, body: Value) -> Result<Vec<i32>, Refused> {
        let answer = self.post("../tokenize", &body).map_err(|refused| match refused {
            Refused::Server(why) => {
                Refused::Server(format!("the task compares the likelihoods of texts: {why}"))
            }
            other => other,
        })?;
        let ids = answer["tokens"]
            .as_array()
            .map(|ids| ids.iter().map(|id| i32::try_from(id.as_i64()?).ok()).collect::<Option<Vec<i32>>>());
        ids.flatten().ok_or_else(|| Refused::Server(NO_TOKENS.into()))
    }
}

const NO_TOKENS: &str = "the task compares the likelihoods of texts, and the server's /tokenize gives no tokens of a conversation as vLLM's \
     does; give the path of the model";

/// The mean of the logarithms of the likelihoods of some tokens of a prompt that was echoed, from one on.
fn mean(answer: &Value, prompt: usize, first: usize, count: usize) -> Result<f64, Refused> {
    let choices = answer["choices"].as_array().into_iter().flatten();
    let choice = choices.clone().find(|choice| choice["index"].as_u64() == Some(prompt as u64));
    let told = choice.and_then(|choice| choice["logprobs"]["token_logprobs"].as_array());
    let told = told.and_then(|told| told.get(first..first + count));
    let told = told.and_then(|told| told.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>());
    let told = told.ok_or_else(|| {
        let why = "the task compares the likelihoods of texts, and the server's completions do not echo those of a prompt's tokens in \
                   choices[].logprobs.token_logprobs; give the path of the model";
        Refused::Server(why.into())
    })?;
    Ok(told.iter().sum::<f64>() / count.max(1) as f64)
}
