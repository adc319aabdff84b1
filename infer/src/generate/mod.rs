//! Generation: tokens after a prompt, until the model or a limit ends them.
//!
//! One loop continues prompts, that of [`crate::scheduler`]: [`Session::generate`] gives it one, [`Session::generate_all`] many.

mod answer;
mod constraint;
mod draft;
mod lanes;
mod logprobs;
mod plan;
mod stop;
mod text;

use percept_modalities::Inputs;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::sampler::Sampling;
use crate::scheduler::{Batch, Event, SchedulerOptions};
use crate::session::{AdapterId, Session};
pub(crate) use answer::Answer;
pub use constraint::Constraint;
pub(crate) use draft::guess;
pub use draft::{Draft, NotDrafted, PromptLookup};
pub use logprobs::TokenLogprob;
pub(crate) use plan::Plan;

/// The options of a generation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerateOptions {
    /// The largest number of tokens to generate; the model's context and a cache of a fixed size limit it too.
    pub max_tokens: Option<usize>,
    /// The largest number of tokens of the prompt and its continuation together, where `max_tokens` is not given.
    pub max_length: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the continuation, which may name special tokens; they are not part of it.
    pub stop: Vec<String>,
    /// Give the log-probability of each token, and those of so many of the most likely ones at its place.
    pub logprobs: Option<usize>,
    /// As `logprobs`, of the tokens of the prompt. All of it is read then, also what the cache holds already.
    pub prompt_logprobs: Option<usize>,
    /// Added to the logits of tokens, after those of [`Sampling::sequence_bias`].
    pub logit_bias: Vec<(i32, f32)>,
    /// Tokens that would end the continuation are tokens as others are.
    pub ignore_ends: bool,
    /// Guess the next tokens, and read the guesses together: the tokens stay the same, and come sooner where guesses are
    /// right.
    pub draft: Option<Draft>,
    /// The adapter of the session that the prompt and its continuation are read with.
    pub adapter: Option<AdapterId>,
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

/// What ended a continuation that was not too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoppedBy {
    /// The model, with this token.
    Token(i32),
    /// This text of [`GenerateOptions::stop`].
    Text(String),
    /// The constraint, which nothing could follow.
    Constraint,
}

/// How long the parts of a generation took.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Timings {
    /// Milliseconds of the encoders and the prompt.
    pub prefill_ms: f64,
    /// Milliseconds of everything after the prompt.
    pub decode_ms: f64,
    /// Prompt tokens a second.
    pub prefill_tokens_per_s: f64,
    /// Decoding steps a second; 0 when the prompt's logits were enough.
    pub decode_tokens_per_s: f64,
}

/// The generated continuation of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Its text, without what stopped it.
    pub text: String,
    /// Its tokens, without the one that ended it.
    pub tokens: Vec<i32>,
    /// Tokens of the prompt, placeholders of media among them.
    pub prompt_tokens: usize,
    /// Those of them that the cache held already.
    pub cached_tokens: usize,
    /// The reason for its end.
    pub finish: Finish,
    /// Tokens that were guessed, as [`GenerateOptions::draft`] says.
    pub drafted_tokens: usize,
    /// Those of them that were right.
    pub accepted_tokens: usize,
    /// Why the draft model made no guesses at some time, where there was a reason.
    pub not_drafted: Option<NotDrafted>,
    /// What stopped it, where [`Finish::Stop`] is the reason.
    pub stopped_by: Option<StoppedBy>,
    /// For each token, when [`GenerateOptions::logprobs`] asks for them.
    pub logprobs: Vec<TokenLogprob>,
    /// For each token of the prompt but those that features stand for and the first, which nothing comes before, when
    /// [`GenerateOptions::prompt_logprobs`] asks for them.
    pub prompt_logprobs: Vec<Option<TokenLogprob>>,
    /// The times that its parts took.
    pub timings: Timings,
}

/// A prompt to continue, with its options.
pub struct Request {
    /// The prompt and its media, as the model's processor prepared them.
    pub inputs: Inputs,
    /// The options of its generation.
    pub options: GenerateOptions,
    /// What restricts its tokens, if anything does.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl Request {
    /// A prompt whose continuation nothing restricts.
    pub fn new(inputs: Inputs, options: GenerateOptions) -> Self {
        Self { inputs, options, constraint: None }
    }
}

/// The default batch size: the number of sequences that are generated in parallel.
pub const BATCH: usize = 16;

impl Session {
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
        let mut batch = Batch::new(&SchedulerOptions { running: 1, waiting: 1, prompt_rows: self.chunk() })?;
        batch.submit(Plan::new(self, inputs, options, None)?)?;
        let mut ended = None;
        while ended.is_none() {
            let mut told = |text: &str| {
                if !text.is_empty() {
                    on_text(text);
                }
            };
            batch.step(self, &mut |_, event| match event {
                Event::Started { .. } => {}
                Event::Token { text, .. } => told(&text),
                Event::Finished { text, generation } => {
                    told(&text);
                    ended = Some(Ok(generation));
                }
                Event::Failed(e) => ended = Some(Err(e)),
            })?;
        }
        ended.unwrap_or_else(|| Err(Error::Setting("the generation ended without a result".into())))
    }

    /// Continue many prompts, `batch` of them at a time, in steps that read rows of all of them. Each is continued as
    /// if it were alone, here or in a lane ([`Session::with_lanes`]). `requests` gives the next one when there is room, and
    /// `done` gets what became of each, by its number: as soon as it ended, and from lanes in the order of the requests.
    ///
    /// # Errors
    /// As [`Session::generate`], and what `requests` and `done` answer.
    pub fn generate_all<E: From<Error>>(
        &mut self,
        requests: impl IntoIterator<Item = Result<Request, E>>,
        batch: usize,
        mut done: impl FnMut(usize, Generation) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.lanes.is_empty() {
            return lanes::generate_in_lanes(&mut self.lanes, requests, batch, done);
        }
        let running = batch.max(1);
        let prompt_rows = self.chunk();
        let mut batch = Batch::new(&SchedulerOptions { running, waiting: running, prompt_rows })?;
        let mut requests = requests.into_iter();
        let mut numbers = std::collections::HashMap::new();
        let (mut ended, mut failed) = (Vec::new(), None);
        loop {
            while batch.requests() < running {
                let Some(request) = requests.next() else { break };
                let Request { inputs, options, constraint } = request?;
                let plan = Plan::new(self, &inputs, &options, constraint)?;
                // Room for a whole batch of requests like this one, so that the cache need not become larger soon.
                if batch.requests() == 0 {
                    self.reserve_for(plan.room, running)?;
                }
                let number = numbers.len();
                numbers.insert(batch.submit(plan)?, number);
            }
            if batch.requests() == 0 {
                return Ok(());
            }
            batch.step(self, &mut |id, event| match event {
                Event::Started { .. } | Event::Token { .. } => {}
                Event::Finished { generation, .. } => ended.push((numbers[&id], generation)),
                Event::Failed(e) => failed = Some(e),
            })?;
            if let Some(e) = failed.take() {
                return Err(e.into());
            }
            for (number, generation) in ended.drain(..) {
                done(number, generation)?;
            }
        }
    }
}
