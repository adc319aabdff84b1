//! Continuous batching: requests join and leave between steps, each of which reads rows of many of them.

mod batch;

use std::fmt;

use percept_model::LayerAdapter;

use crate::error::{Error, Result};
use crate::generate::{Generation, Plan, Request, TokenLogprob};
use crate::session::{AdapterId, CHUNK, Session};
pub(crate) use batch::Batch;

/// How many requests a scheduler holds, and how it divides a step among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Sequences that one step reads rows of at most.
    pub running: usize,
    /// Requests that wait at most; more are refused.
    pub waiting: usize,
    /// Rows of prompts that one step reads at most, beside one row (and its guesses) of each sequence whose prompt was
    /// read: how long those wait for their next token. An image block that is wider is read all the same.
    pub prompt_rows: usize,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self { running: crate::generate::BATCH, waiting: 256, prompt_rows: CHUNK }
    }
}

/// A request of a scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What becomes of a request. The last event of each is `Finished` or `Failed`, unless it was cancelled.
#[derive(Debug, Clone)]
pub enum Event {
    /// Its prompt begins to be read.
    Started {
        /// Tokens of the prompt, placeholders of media among them.
        prompt_tokens: usize,
        /// Those of them that the cache holds already.
        cached_tokens: usize,
    },
    /// A token was chosen.
    Token {
        /// The token.
        id: i32,
        /// Its log-probability, when the options ask for it.
        logprob: Option<TokenLogprob>,
        /// The text that became certain by it, often none.
        text: String,
    },
    /// It ended.
    Finished {
        /// The end of the text that was held back until now.
        text: String,
        /// All of it.
        generation: Generation,
    },
    /// It cannot be continued; others can, unless the device failed.
    Failed(Error),
}

/// What a scheduler holds and has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedulerStatistics {
    /// Requests whose rows are read.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Pages of the cache, of the kind of layer that keeps most.
    pub pages: usize,
    /// Those of them that sequences hold.
    pub pages_used: usize,
    /// Tokens of prompts that were looked for in the cache.
    pub prefix_queries: u64,
    /// Those of them that were there.
    pub prefix_hits: u64,
    /// Tokens of prompts that were started.
    pub prompt_tokens: u64,
    /// Tokens that were chosen.
    pub generated_tokens: u64,
    /// How often a sequence gave its pages back, to be read again.
    pub preemptions: u64,
    /// Tokens that were guessed and read.
    pub drafted_tokens: u64,
    /// Those of them that were right.
    pub accepted_tokens: u64,
    /// Answers that the draft model does not guess for, because it lacks the media of their prompt, or one of their tokens.
    pub undrafted_unread: u64,
    /// Answers that the draft model does not guess for any more, because they are longer than its context.
    pub undrafted_long: u64,
    /// How often an answer was not guessed for in a step, because the draft model's cache was full.
    pub undrafted_full: u64,
    /// Runs of encoders.
    pub encoder_runs: u64,
    /// Runs of encoders that were not needed, because their result was kept.
    pub encoder_hits: u64,
}

/// Continuous batching over one [`Session`]. It owns no thread and no clock: whoever runs it calls
/// [`Scheduler::step`] as long as there is something to do.
///
/// A request is continued as if it were alone. They are admitted in the order in which they came; when the cache is full,
/// the youngest gives its pages back and is read again later.
pub struct Scheduler {
    session: Session,
    batch: Batch,
}

impl Scheduler {
    /// A scheduler without requests.
    ///
    /// # Errors
    /// When an option is out of its range.
    pub fn new(session: Session, options: SchedulerOptions) -> Result<Self> {
        Ok(Self { session, batch: Batch::new(&options)? })
    }

    /// What it runs on.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, without its requests.
    pub fn into_session(self) -> Session {
        self.session
    }

    /// As [`Session::add_adapter`]; requests name it by [`crate::GenerateOptions::adapter`].
    ///
    /// # Errors
    /// As [`Session::add_adapter`].
    pub fn add_adapter(&mut self, adapter: LayerAdapter) -> Result<AdapterId> {
        self.session.add_adapter(adapter)
    }

    /// As [`Session::remove_adapter`]: requests with it that were queued are answered.
    ///
    /// # Errors
    /// As [`Session::remove_adapter`].
    pub fn remove_adapter(&mut self, id: AdapterId) -> Result<()> {
        self.session.remove_adapter(id)
    }

    /// Queue a request. All of it is checked: settings, its length against the context and the cache.
    ///
    /// # Errors
    /// [`Error::QueueFull`] when as many wait as may; when a setting is out of its range or the prompt leaves no room.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        self.batch.check_queue()?;
        let Request { inputs, options, constraint } = request;
        self.batch.submit(Plan::new(&self.session, &inputs, &options, constraint)?)
    }

    /// Forget a request, whose pages are free at once; false when there is none of this id any more. It has no further
    /// event.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        self.batch.cancel(id)
    }

    /// One step over what runs and waits. False when nothing is left to do.
    ///
    /// # Errors
    /// When the device failed. All requests were told, and none is left.
    pub fn step(&mut self, on_event: &mut dyn FnMut(RequestId, Event)) -> Result<bool> {
        self.batch.step(&mut self.session, on_event)
    }

    /// What it holds and has done.
    pub fn statistics(&self) -> SchedulerStatistics {
        self.batch.statistics(&self.session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_may_run_on_another_thread() {
        fn moves<T: Send>() {}
        moves::<Scheduler>();
        moves::<Event>();
    }
}
