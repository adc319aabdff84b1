//! Continuing a prompt until something stops it.

use std::time::Instant;

use percept_modalities::Inputs;
use serde::Serialize;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::sampler::{Sampler, Sampling};
use crate::stop::StopStrings;

/// How a prompt is continued.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerateOptions {
    /// Tokens at most; the model's context bounds them too.
    pub max_tokens: Option<usize>,
    /// Tokens of the prompt and its continuation at most, where `max_tokens` does not say otherwise.
    pub max_length: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the continuation, which may name special tokens; they are not part of it.
    pub stop: Vec<String>,
}

/// Why a continuation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended it, or a stop text appeared.
    Stop,
    /// It is as long as allowed.
    Length,
}

/// How long the parts of a generation took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Timings {
    /// Encoders and the prompt.
    pub prefill_ms: f64,
    /// Everything after the prompt.
    pub decode_ms: f64,
    /// Prompt tokens a second.
    pub prefill_tokens_per_s: f64,
    /// Decoding steps a second; 0 when the prompt's logits were enough.
    pub decode_tokens_per_s: f64,
}

/// A continuation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Its text, without what stopped it.
    pub text: String,
    /// Its tokens, without the one that ended it.
    pub tokens: Vec<i32>,
    /// Tokens of the prompt, placeholders of media among them.
    pub prompt_tokens: usize,
    /// Why it ended.
    pub finish: Finish,
    /// How long it took.
    pub timings: Timings,
}

impl Engine {
    /// Continue a prompt, handing text to `on_text` as soon as it is certain.
    ///
    /// # Errors
    /// When a setting is out of range, the prompt leaves no room in the model's context, or the device fails. Settings
    /// and lengths are checked before anything is allocated.
    pub fn generate(
        &mut self,
        inputs: &Inputs,
        options: &GenerateOptions,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Generation> {
        let layout = self.model().layout(inputs)?;
        let (prompt_tokens, context) = (layout.ids.len(), self.model().decoder().context);
        if prompt_tokens >= context {
            let (what, tokens) = ("the prompt and its first new token", prompt_tokens + 1);
            return Err(Error::TooLong { what, tokens, context });
        }
        let limit = match (options.max_tokens, options.max_length) {
            (Some(most), _) => Some(most),
            (None, Some(length)) if length <= prompt_tokens => {
                return Err(Error::Setting(format!(
                    "the prompt takes {prompt_tokens} tokens and max_length is {length}; ask for more tokens"
                )));
            }
            (None, length) => length.map(|length| length - prompt_tokens),
        };
        let most = limit.unwrap_or(usize::MAX).min(context - prompt_tokens);
        let ends = self.model().ends()?;
        let mut sampling = options.sampling.clone();
        sampling.ends.extend(&ends);
        sampling.max_length.get_or_insert(prompt_tokens + most);
        let mut sampler = Sampler::new(sampling, &layout.ids, self.model().decoder().vocab)?;

        let start = Instant::now();
        // Without a limit the cache grows as it must.
        let room = if limit.is_some() { most } else { most.min(256) };
        let (mut sequence, mut logits) = self.prefill(inputs, room, prompt_tokens - 1)?;
        let prefill = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let model = self.shared_model();
        let mut stream = model.processor().tokenizer().stream(true);
        // Texts that end a continuation may be special tokens, which are not shown.
        let mut whole = (!options.stop.is_empty()).then(|| model.processor().tokenizer().stream(false));
        let mut stop = StopStrings::new(&options.stop);
        let (mut tokens, mut text, mut steps) = (Vec::new(), String::new(), 0usize);
        let mut emit = |more: String| {
            if !more.is_empty() {
                on_text(&more);
                text.push_str(&more);
            }
        };
        let finish = loop {
            if tokens.len() == most {
                break Finish::Length;
            }
            let id = sampler.choose(&mut logits);
            if ends.contains(&id) {
                break Finish::Stop;
            }
            tokens.push(id);
            let shown = stream.push(id as u32)?;
            let said = whole.as_mut().map(|whole| whole.push(id as u32)).transpose()?;
            emit(stop.push(said.as_deref().unwrap_or(&shown), &shown));
            if stop.found() {
                break Finish::Stop;
            }
            if tokens.len() < most {
                logits = self.decode(&mut sequence, id)?;
                steps += 1;
            }
        };
        if !stop.found() {
            let shown = stream.finish()?;
            let said = whole.map(|whole| whole.finish()).transpose()?;
            emit(stop.push(said.as_deref().unwrap_or(&shown), &shown));
            emit(stop.finish());
        }
        let decode = start.elapsed().as_secs_f64();
        let rate = |n: usize, seconds: f64| if n == 0 { 0.0 } else { n as f64 / seconds.max(1e-9) };
        let timings = Timings {
            prefill_ms: prefill * 1e3,
            decode_ms: decode * 1e3,
            prefill_tokens_per_s: rate(prompt_tokens, prefill),
            decode_tokens_per_s: rate(steps, decode),
        };
        Ok(Generation { text, tokens, prompt_tokens, finish, timings })
    }
}
