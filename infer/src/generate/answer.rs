//! One answer that is being made.

use std::time::Instant;

use super::constraint::Constrained;
use super::draft::{Place, Source};
use super::logprobs::Row;
use super::text::AnswerText;
use super::{Finish, Generation, Plan, StoppedBy, Timings, TokenLogprob};
use crate::error::{Error, Result};
use crate::sampler::Sampler;
use crate::session::{Sequence, Session};

/// A token that was chosen.
pub(crate) struct Chosen {
    pub(crate) id: i32,
    pub(crate) logprob: Option<TokenLogprob>,
    /// The text that became certain by it.
    pub(crate) text: String,
}

/// Rows of a prompt that are read at a time when the logits of all of them are wanted, which take much memory.
const ROWS_OF_LOGITS: usize = 64;

/// An answer that is being made.
pub(crate) struct Answer {
    pub(crate) sequence: Sequence,
    prompt_tokens: usize,
    /// Tokens of the prompt that were not read, because the cache held them.
    cached: usize,
    /// Rows of the prompt that the cache held at some time, read or found.
    seen: usize,
    most: usize,
    ends: Vec<i32>,
    sampler: Sampler,
    constraint: Option<Constrained>,
    text: AnswerText,
    tokens: Vec<i32>,
    logprobs: Option<usize>,
    chosen: Vec<TokenLogprob>,
    prompt_logprobs: Option<usize>,
    /// Of the prompt's first tokens, as far as it was read.
    prompt: Vec<Option<TokenLogprob>>,
    source: Option<Source>,
    /// Tokens that were guessed, and those of them that were right.
    guessed: (usize, usize),
    steps: usize,
    finish: Option<(Finish, Option<StoppedBy>)>,
    /// Whether a step was to read rows of it.
    is_begun: bool,
    begun: Instant,
    prefill: Option<f64>,
}

impl Answer {
    /// Its encoders run, and no row is read yet.
    pub(crate) fn start(session: &mut Session, plan: Plan) -> Result<Self> {
        let (begun, prompt_tokens) = (Instant::now(), plan.prompt.len());
        Ok(Self {
            sequence: session.start_unread(plan.prompt)?,
            cached: 0,
            seen: 0,
            prompt_tokens,
            most: plan.most,
            ends: plan.ends,
            sampler: plan.sampler,
            constraint: plan.constraint,
            text: AnswerText::new(session.shared_model(), &plan.stop),
            tokens: Vec::new(),
            logprobs: plan.logprobs,
            chosen: Vec::new(),
            prompt_logprobs: plan.prompt_logprobs,
            // Nothing comes before the first.
            prompt: plan.prompt_logprobs.iter().map(|_| None).collect(),
            source: plan.draft.map(|draft| draft.start(session)).transpose()?,
            guessed: (0, 0),
            steps: 0,
            finish: None,
            is_begun: false,
            begun,
            prefill: None,
        })
    }

    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    pub(crate) fn cached_tokens(&self) -> usize {
        self.cached
    }

    /// Rows of it are read: true for the first time.
    pub(crate) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.is_begun, true)
    }

    /// Whether a token was chosen, or the prompt's logits were enough.
    pub(crate) fn is_decoding(&self) -> bool {
        self.prefill.is_some()
    }

    /// Whether rows that others have read need not be read again: not where the logits of all are wanted.
    pub(crate) fn shares(&self) -> bool {
        self.prompt_logprobs.is_none() || self.prompt.len() == self.prompt_tokens
    }

    /// Share what the cache holds by now of rows that were not read yet; gives the tokens of the prompt that were found.
    pub(crate) fn share(&mut self, session: &mut Session) -> usize {
        let before = self.sequence.held();
        if !self.shares() || before + 1 >= self.sequence.len() {
            return 0;
        }
        session.share_prefix(&mut self.sequence);
        if self.is_decoding() {
            return 0;
        }
        // What is read again because the pages were taken was found before, or was not.
        let found = self.sequence.held().saturating_sub(before.max(self.seen));
        self.seen = self.seen.max(self.sequence.held());
        self.cached += found;
        found
    }

    /// Where it stands, if its next tokens are guessed at all: they are once all before them are read.
    pub(super) fn place(&mut self) -> Option<Place<'_>> {
        let is_read = self.is_decoding() && self.sequence.held() + 1 == self.sequence.len();
        let most = if is_read { self.most.saturating_sub(self.tokens.len() + 1) } else { 0 };
        let Self { source, sequence, ends, .. } = self;
        source.as_mut().map(|source| Place { source, sequence, ends, most })
    }

    /// Tokens that were guessed and read, and those of them that were right.
    pub(crate) fn guessed(&self) -> (usize, usize) {
        self.guessed
    }

    /// Give back all pages. It goes on when its rows are read again.
    pub(crate) fn release(&mut self) {
        self.sequence.release();
        self.source.iter_mut().for_each(Source::release);
    }

    /// Rows that the next step may read, of `limit` rows.
    pub(crate) fn next_run(&self, limit: usize) -> usize {
        self.sequence.next_run(if self.shares() { limit } else { limit.min(ROWS_OF_LOGITS) })
    }

    /// The last of the next `rows` rows whose logits are wanted.
    pub(crate) fn wanted(&self, rows: usize) -> usize {
        let mut from = self.sequence.certain() - 1;
        if !self.shares() {
            from = from.min(self.prompt.len().saturating_sub(1));
        }
        (self.sequence.held() + rows).saturating_sub(from.max(self.sequence.held()))
    }

    /// Take the logits of the last rows that were read: choose tokens where they decide some. True when the answer ended.
    pub(crate) fn take(
        &mut self,
        session: &mut Session,
        logits: &mut [f32],
        on_token: &mut dyn FnMut(Chosen),
    ) -> Result<bool> {
        let vocab = session.model().decoder().vocab;
        let first = self.sequence.held() - logits.len() / vocab.max(1);
        let certain = self.sequence.certain();
        let mut right = 0;
        self.guessed.0 += self.sequence.drafts();
        for (row, logits) in (first..).zip(logits.chunks_exact_mut(vocab.max(1))) {
            if row + 1 < self.prompt_tokens {
                self.take_prompt(row + 1, logits);
            }
            // What follows a guess counts where the guess was right.
            if row + 1 != certain + right {
                continue;
            }
            if self.prefill.is_none() {
                self.prefill = Some(self.begun.elapsed().as_secs_f64());
                self.begun = Instant::now();
            }
            let before = self.tokens.len();
            self.finish = self.choose(logits, on_token)?;
            let guess = self.sequence.ids().get(certain + right);
            let is_right = self.tokens.len() > before && guess == self.tokens.last();
            self.guessed.1 += usize::from(is_right);
            if self.finish.is_some() {
                return Ok(true);
            }
            self.steps += 1;
            if is_right {
                right += 1;
                continue;
            }
            session.keep_drafts(&mut self.sequence, right);
            session.push(&mut self.sequence, &self.tokens[self.tokens.len() - 1..])?;
            return Ok(false);
        }
        Ok(false)
    }

    /// The log-probability of token `at` of the prompt.
    fn take_prompt(&mut self, at: usize, logits: &[f32]) {
        let Some(top) = self.prompt_logprobs else { return };
        if self.prompt.len() == at {
            let id = self.sequence.ids()[at];
            self.prompt.push((!self.sequence.is_feature(at)).then(|| Row::new(logits).token(id, top)));
        }
    }

    /// Choose the next token, unless the answer ends.
    fn choose(
        &mut self,
        logits: &mut [f32],
        on_token: &mut dyn FnMut(Chosen),
    ) -> Result<Option<(Finish, Option<StoppedBy>)>> {
        if self.tokens.len() == self.most {
            return Ok(Some((Finish::Length, None)));
        }
        if self.sampler.is_lost(logits) {
            return Err(Error::NotFinite { token: self.tokens.len() + 1 });
        }
        let raw = self.logprobs.map(|_| logits.to_vec());
        if let Some(constraint) = &mut self.constraint
            && !constraint.restrict(logits, &self.ends)?
        {
            return Ok(Some((Finish::Stop, Some(StoppedBy::Constraint))));
        }
        let id = self.sampler.choose(logits);
        self.constraint.as_ref().map_or(Ok(()), |constraint| constraint.check(id))?;
        if self.ends.contains(&id) {
            return Ok(Some((Finish::Stop, Some(StoppedBy::Token(id)))));
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(id)?;
        }
        self.tokens.push(id);
        let text = self.text.push(id)?;
        let logprob = raw.zip(self.logprobs).map(|(raw, top)| Row::new(&raw).token(id, top));
        self.chosen.extend(logprob.clone());
        on_token(Chosen { id, logprob, text });
        if let Some(stop) = self.text.stopped() {
            return Ok(Some((Finish::Stop, Some(StoppedBy::Text(stop.to_owned())))));
        }
        Ok((self.tokens.len() == self.most).then_some((Finish::Length, None)))
    }

    /// What was made, and the end of its text that was held back.
    pub(crate) fn finish(mut self) -> Result<(Generation, String)> {
        self.sequence.release();
        let (finish, stopped_by) = self.finish.unwrap_or((Finish::Length, None));
        let (text, rest) = self.text.finish()?;
        let (prefill, decode) = (self.prefill.unwrap_or_default(), self.begun.elapsed().as_secs_f64());
        let rate = |n: usize, seconds: f64| if n == 0 { 0.0 } else { n as f64 / seconds.max(1e-9) };
        let timings = Timings {
            prefill_ms: prefill * 1e3,
            decode_ms: decode * 1e3,
            prefill_tokens_per_s: rate(self.prompt_tokens, prefill),
            decode_tokens_per_s: rate(self.steps, decode),
        };
        let generation = Generation {
            text,
            tokens: self.tokens,
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.cached,
            drafted_tokens: self.guessed.0,
            accepted_tokens: self.guessed.1,
            not_drafted: self.source.as_ref().and_then(Source::not_drafted),
            finish,
            stopped_by,
            logprobs: self.chosen,
            prompt_logprobs: self.prompt,
            timings,
        };
        Ok((generation, rest))
    }
}
