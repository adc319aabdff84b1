//! What a run tells while it goes.

use std::path::PathBuf;

use percept_hal::TraceEvent;
use serde::Serialize;

use crate::error::Result;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins, or goes on after `step` steps.
    Begin {
        /// Steps done before.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// The device's id.
        device: String,
        /// Processes.
        processes: usize,
    },
    /// A step was taken.
    Step(StepEvent),
    /// A held-out corpus was measured.
    Evaluate(Evaluation),
    /// A checkpoint or the finished model was written.
    Save {
        /// Steps done.
        step: u64,
        /// The folder.
        path: PathBuf,
    },
    /// Something to know.
    Note {
        /// Steps done.
        step: u64,
        /// In words.
        text: String,
    },
}

/// A step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepEvent {
    /// Its number, from 1.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Mean loss of the answer tokens, nats.
    pub loss: f64,
    /// Norm of the gradients before clipping.
    pub norm: f64,
    /// The learning rate.
    pub rate: f64,
    /// Nothing was changed, because gradients overflowed in f16.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Tokens of samples a second, over all processes.
    pub tokens_per_s: f64,
    /// Samples a second.
    pub samples_per_s: f64,
    /// Seconds that the step took, with its data.
    pub seconds: f64,
    /// Seconds left at this pace.
    pub seconds_left: f64,
    /// Bytes of memory at most so far.
    pub memory: u64,
}

/// A held-out corpus, measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluation {
    /// Steps done.
    pub step: u64,
    /// The corpus.
    pub corpus: String,
    /// Samples.
    pub samples: usize,
    /// Mean loss of the answer tokens, nats.
    pub loss: f64,
    /// Share of answer tokens that are the most likely ones.
    pub token_accuracy: f64,
    /// Share of samples whose whole answer the model gives when it always takes the most likely token.
    pub accuracy: f64,
    /// Some of what the model says.
    pub said: Vec<Said>,
}

/// What the model answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Said {
    /// The sample.
    pub key: String,
    /// What should be said.
    pub expected: String,
    /// What is said.
    pub answer: String,
}

/// Something that follows a run.
pub trait Watch {
    /// Take notice.
    ///
    /// # Errors
    /// When what is written cannot be written.
    fn event(&mut self, event: &Event) -> Result<()>;

    /// Whether the operations of this step are to be timed one by one.
    fn wants_timeline(&self, step: u64) -> bool {
        let _ = step;
        false
    }

    /// Take a step's timeline.
    ///
    /// # Errors
    /// When it cannot be written.
    fn timeline(&mut self, events: &[TraceEvent]) -> Result<()> {
        let _ = events;
        Ok(())
    }
}

/// Watching nothing.
impl Watch for () {
    fn event(&mut self, _event: &Event) -> Result<()> {
        Ok(())
    }
}
