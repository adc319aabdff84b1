//! What a run tells while it goes.

use std::path::PathBuf;

use percept_hal::OpTiming;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::router::RouterReport;

/// Something that happened in a run, as a line of `log.jsonl` holds it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins, or goes on after `step` steps.
    Begin {
        /// Steps that were done before.
        step: u64,
        /// Steps in all.
        steps: u64,
        /// The device's id.
        device: String,
        /// How many processes take part.
        processes: usize,
        /// The stage; empty for a run without stages.
        #[serde(skip_serializing_if = "String::is_empty")]
        stage: String,
        /// What it is about to do.
        #[serde(flatten)]
        outlook: Outlook,
    },
    /// A step was taken.
    Step(StepEvent),
    /// A held-out corpus was measured.
    Evaluate(Evaluation),
    /// A checkpoint or the finished model was written.
    Save {
        /// How many steps were done by then.
        step: u64,
        /// The folder that was written.
        path: PathBuf,
    },
    /// A warning, or something else that a user should know.
    Note {
        /// How many steps were done by then.
        step: u64,
        /// What is to be known, in a sentence.
        text: String,
    },
}

/// What a run is about to do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outlook {
    /// What it trains on.
    pub corpora: Vec<Corpus>,
    /// Samples of the first step, which others have too where the run asks for so many, and about as many
    /// otherwise.
    pub samples_per_step: usize,
    /// Tokens of the first step's samples.
    pub tokens_per_step: usize,
    /// Parameters that are trained, those of adapters included; a tied one counts once.
    pub trained_parameters: u64,
    /// All parameters, those of adapters included.
    pub parameters: u64,
    /// Bytes of parameters, moments and gradients, and of the values between them in a step, on the device.
    pub expected_memory: u64,
}

/// A corpus, and how often a run goes through it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Corpus {
    /// What it is called.
    pub name: String,
    /// How many samples it has.
    pub samples: u64,
    /// How often each is seen over the whole run.
    pub epochs: f64,
}

/// Why a run should stop before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The user pressed Ctrl-C (SIGINT).
    Interrupt,
    /// Another program, such as a scheduler, asked for it (SIGTERM).
    Terminate,
}

impl Stop {
    /// The signal's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit code of a process that it ended: 128 and the signal's number.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// A step that was taken.
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
    /// How rows were spread over experts, in a model that has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterReport>,
    /// Nothing was changed, because gradients overflowed in f16.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
    /// Tokens of samples a second, over all processes.
    pub tokens_per_s: f64,
    /// Samples a second, over all processes.
    pub samples_per_s: f64,
    /// Seconds that the step took, with its data.
    pub seconds: f64,
    /// Seconds left at this pace.
    pub seconds_left: f64,
    /// Bytes of memory at most so far.
    pub memory: u64,
}

/// A held-out corpus, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// How many steps were done before it.
    pub step: u64,
    /// The name of the corpus.
    pub corpus: String,
    /// How many of its samples were measured on.
    pub samples: usize,
    /// Mean loss of the answer tokens, nats.
    pub loss: f64,
    /// Share of answer tokens that are the most likely ones.
    pub token_accuracy: f64,
    /// Share of samples whose whole answer the model gives when it always takes the most likely token.
    pub accuracy: f64,
    /// Some of the answers that the model gives.
    pub said: Vec<Said>,
}

/// A question of a held-out sample, and what the model answers to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The key of the sample.
    pub key: String,
    /// The answer of the corpus.
    pub expected: String,
    /// The answer of the model.
    pub answer: String,
}

/// Something that follows a run.
pub trait Watch {
    /// Called for everything that happens, in order.
    ///
    /// # Errors
    /// When what is written cannot be written.
    fn event(&mut self, event: &Event) -> Result<()>;

    /// Whether the run should stop: it then saves a checkpoint after the step that it is at.
    fn stop(&self) -> Option<Stop> {
        None
    }

    /// Whether the operations of this step are to be timed one by one.
    fn wants_timeline(&self, step: u64) -> bool {
        let _ = step;
        false
    }

    /// Take a step's timeline.
    ///
    /// # Errors
    /// When it cannot be written.
    fn timeline(&mut self, events: &[OpTiming]) -> Result<()> {
        let _ = events;
        Ok(())
    }
}

/// Follows nothing.
impl Watch for () {
    fn event(&mut self, _event: &Event) -> Result<()> {
        Ok(())
    }
}
