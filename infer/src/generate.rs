//! Generation: tokens after a prompt, until the model or a limit ends them.

use std::time::Instant;

use percept_modalities::Inputs;
use percept_modalities::text::DecodeStream;
use percept_model::CausalModel;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::sampler::{Sampler, Sampling};
use crate::session::{CHUNK, Part, Prompt, Sequence, Session};
use crate::stop::StopStrings;

/// The options of a generation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerateOptions {
    /// The largest number of tokens to generate; the model's context limits it too.
    pub max_tokens: Option<usize>,
    /// The largest number of tokens of the prompt and its continuation together, where `max_tokens` is not given.
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
    /// The reason for its end.
    pub finish: Finish,
    /// The times that its parts took.
    pub timings: Timings,
}

/// A prompt to continue, with its options.
pub struct Request {
    /// The prompt and its media, as the model's processor prepared them.
    pub inputs: Inputs,
    /// The options of its generation.
    pub options: GenerateOptions,
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
        let plan = Plan::new(self, inputs, options)?;
        self.reserve(plan.room)?;
        let model = self.shared_model();
        let mut answer = Answer::start(self, plan, options, &*model)?;
        let mut logits = self.read(&mut answer.sequence, answer.prompt_tokens - 1)?;
        answer.prefilled();
        while answer.advance(self, &mut logits, on_text)?.is_none() {
            let last = answer.sequence.len() - 1;
            logits = self.read(&mut answer.sequence, last)?;
        }
        answer.finish(on_text)
    }

    /// Continue many prompts, `batch` of them at a time, in steps that read rows of all of them. Each is continued as
    /// if it were alone. `requests` gives the next one when there is room, and `done` gets what became of each, by its
    /// number, as soon as it ended.
    ///
    /// # Errors
    /// As [`Session::generate`], and what `requests` and `done` answer.
    pub fn generate_all<E: From<Error>>(
        &mut self,
        requests: impl IntoIterator<Item = Result<Request, E>>,
        batch: usize,
        mut done: impl FnMut(usize, Generation) -> Result<(), E>,
    ) -> Result<(), E> {
        let model = self.shared_model();
        let mut requests = requests.into_iter().enumerate();
        let mut running: Vec<(usize, Answer<'_>)> = Vec::new();
        let mut has_more = true;
        loop {
            while has_more && running.len() < batch.max(1) {
                let Some((number, request)) = requests.next() else {
                    has_more = false;
                    break;
                };
                let Request { inputs, options } = request?;
                let plan = Plan::new(self, &inputs, &options)?;
                // Room for a whole batch of requests like this one, so that the cache need not become larger soon.
                if running.is_empty() {
                    self.reserve_for(plan.room, batch.max(1))?;
                }
                running.push((number, Answer::start(self, plan, &options, &*model)?));
            }
            if running.is_empty() {
                return Ok(());
            }
            let found = self.step_answers(&mut running)?;
            let mut ended = Vec::new();
            for ((i, (_, answer)), logits) in running.iter_mut().enumerate().zip(found) {
                let Some(mut logits) = logits else { continue };
                answer.prefilled();
                if answer.advance(self, &mut logits, &mut |_| {})?.is_some() {
                    ended.push(i);
                }
            }
            for i in ended.into_iter().rev() {
                let (number, answer) = running.remove(i);
                done(number, answer.finish(&mut |_| {})?)?;
            }
        }
    }

    /// One step over as many answers as fit: the next token of each whose prompt was read, and rows of prompts. Gives the
    /// logits of those that have none to read any more.
    fn step_answers(&mut self, running: &mut [(usize, Answer<'_>)]) -> Result<Vec<Option<Vec<f32>>>> {
        let mut waiting = 0;
        loop {
            running.iter_mut().for_each(|(_, answer)| self.refresh(&mut answer.sequence));
            let rows = step_rows(&running[..running.len() - waiting]);
            let chosen = running.iter_mut().zip(&rows).filter(|(_, rows)| **rows > 0);
            let mut parts: Vec<Part<'_>> = chosen
                .map(|((_, answer), rows)| {
                    let logits = usize::from(answer.sequence.held() + rows == answer.sequence.len());
                    Part { sequence: &mut answer.sequence, rows: *rows, logits }
                })
                .collect();
            match self.step(&mut parts) {
                Ok(found) => {
                    let mut found =
                        parts.iter().map(|part| part.logits).collect::<Vec<_>>().into_iter().zip(found);
                    let logits = |rows: &usize| {
                        (*rows > 0)
                            .then(|| found.next())
                            .flatten()
                            .filter(|(n, _)| *n > 0)
                            .map(|(_, logits)| logits)
                    };
                    let mut all: Vec<Option<Vec<f32>>> = rows.iter().map(logits).collect();
                    all.resize(running.len(), None);
                    return Ok(all);
                }
                // The youngest gives its pages back, and is read again when others have ended.
                Err(Error::CacheFull { .. }) if waiting + 1 < running.len() => {
                    waiting += 1;
                    let youngest = running.len() - waiting;
                    running[youngest].1.sequence.release();
                }
                Err(Error::CacheFull { .. }) if self.may_grow() => {
                    self.grow()?;
                    waiting = 0;
                }
                Err(e) => return Err(e),
            }
        }
    }
}

/// How many rows of each answer the next step reads: a row of each that has one to read, and of the prompts a run of
/// [`CHUNK`] rows together.
fn step_rows(running: &[(usize, Answer<'_>)]) -> Vec<usize> {
    let mut left = CHUNK;
    let rows = |(_, answer): &(usize, Answer<'_>)| {
        let sequence = &answer.sequence;
        match sequence.len() - sequence.held() {
            1 => 1,
            _ if left == 0 => 0,
            _ => {
                let run = sequence.next_run(left);
                // A block that is wider than what is left waits for a step of its own.
                let run = if run > left && left < CHUNK { 0 } else { run };
                left = left.saturating_sub(run);
                run
            }
        }
    };
    running.iter().map(rows).collect()
}

/// A prompt and how far it may be continued, before anything runs.
struct Plan {
    prompt: Prompt,
    /// New tokens at most.
    most: usize,
    /// Rows that the cache should have room for.
    room: usize,
    ends: Vec<i32>,
    sampler: Sampler,
}

/// Rows that an answer without a limit is given room for at first.
const FIRST_ROOM: usize = 1024;

impl Plan {
    fn new(session: &Session, inputs: &Inputs, options: &GenerateOptions) -> Result<Self> {
        let context = session.model().decoder().context;
        let prompt = session.prompt(inputs)?;
        let prompt_tokens = prompt.len();
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
        let room = prompt_tokens + if limit.is_some() { most } else { most.min(FIRST_ROOM) };
        let ends = session.model().ends()?;
        let mut sampling = options.sampling.clone();
        sampling.ends.extend(&ends);
        sampling.max_length.get_or_insert(prompt_tokens + most);
        let sampler = Sampler::new(sampling, prompt.ids(), session.model().decoder().vocab)?;
        Ok(Self { prompt, most, room, ends, sampler })
    }
}

/// An answer that is being made.
struct Answer<'m> {
    sequence: Sequence,
    prompt_tokens: usize,
    most: usize,
    ends: Vec<i32>,
    sampler: Sampler,
    stream: DecodeStream<'m>,
    /// Texts that end an answer may be special tokens, which are not shown: the text with them.
    whole: Option<DecodeStream<'m>>,
    stop: StopStrings,
    tokens: Vec<i32>,
    text: String,
    steps: usize,
    finish: Finish,
    begun: Instant,
    prefill: Option<f64>,
}

impl<'m> Answer<'m> {
    fn start(
        session: &mut Session,
        plan: Plan,
        options: &GenerateOptions,
        model: &'m dyn CausalModel,
    ) -> Result<Self> {
        let Plan { prompt, most, ends, sampler, .. } = plan;
        let (begun, prompt_tokens) = (Instant::now(), prompt.len());
        let tokenizer = model.processor().tokenizer();
        Ok(Self {
            sequence: session.start(prompt)?,
            prompt_tokens,
            most,
            ends,
            sampler,
            stream: tokenizer.stream(true),
            whole: (!options.stop.is_empty()).then(|| tokenizer.stream(false)),
            stop: StopStrings::new(&options.stop),
            tokens: Vec::new(),
            text: String::new(),
            steps: 0,
            finish: Finish::Length,
            begun,
            prefill: None,
        })
    }

    /// The prompt was read.
    fn prefilled(&mut self) {
        if self.prefill.is_none() {
            self.prefill = Some(self.begun.elapsed().as_secs_f64());
            self.begun = Instant::now();
        }
    }

    /// Choose the next token from its logits, and add it to the sequence unless it ends the answer.
    fn advance(
        &mut self,
        session: &Session,
        logits: &mut [f32],
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Option<Finish>> {
        let finish = self.choose(logits, on_text)?;
        match finish {
            Some(finish) => self.finish = finish,
            None => {
                session.push(&mut self.sequence, &self.tokens[self.tokens.len() - 1..])?;
                self.steps += 1;
            }
        }
        Ok(finish)
    }

    fn choose(&mut self, logits: &mut [f32], on_text: &mut dyn FnMut(&str)) -> Result<Option<Finish>> {
        if self.tokens.len() == self.most {
            return Ok(Some(Finish::Length));
        }
        let id = self.sampler.choose(logits);
        if self.ends.contains(&id) {
            return Ok(Some(Finish::Stop));
        }
        self.tokens.push(id);
        let shown = self.stream.push(id as u32)?;
        let decoded = self.whole.as_mut().map(|whole| whole.push(id as u32)).transpose()?;
        let more = self.stop.push(decoded.as_deref().unwrap_or(&shown), &shown);
        if !more.is_empty() {
            on_text(&more);
            self.text.push_str(&more);
        }
        if self.stop.found() {
            return Ok(Some(Finish::Stop));
        }
        Ok((self.tokens.len() == self.most).then_some(Finish::Length))
    }

    fn finish(self, on_text: &mut dyn FnMut(&str)) -> Result<Generation> {
        let Self { mut text, tokens, prompt_tokens, finish, .. } = self;
        if !self.stop.found() {
            let (shown, mut stop) = (self.stream.finish()?, self.stop);
            let decoded = self.whole.map(DecodeStream::finish).transpose()?;
            let certain = stop.push(decoded.as_deref().unwrap_or(&shown), &shown);
            for more in [certain, stop.finish()] {
                if !more.is_empty() {
                    on_text(&more);
                    text.push_str(&more);
                }
            }
        }
        let (prefill, decode) = (self.prefill.unwrap_or_default(), self.begun.elapsed().as_secs_f64());
        let rate = |n: usize, seconds: f64| if n == 0 { 0.0 } else { n as f64 / seconds.max(1e-9) };
        let timings = Timings {
            prefill_ms: prefill * 1e3,
            decode_ms: decode * 1e3,
            prefill_tokens_per_s: rate(prompt_tokens, prefill),
            decode_tokens_per_s: rate(self.steps, decode),
        };
        Ok(Generation { text, tokens, prompt_tokens, finish, timings })
    }
}
