//! Training: one TOML file is a run.
//!
//! [`run`] follows a [`Config`]: packed batches from the data's shards, a forward pass traced over the
//! model's own decoder and encoders, gradients, an optimizer recorded into the same graph, checkpoints and
//! logs. A step is one program where nothing stands between gradients and their use, else one that adds
//! gradients up and one that uses them.

mod adapter;
pub mod batch;
mod check;
mod checkpoints;
mod communicator;
mod config;
mod diagnose;
pub mod encode;
mod error;
mod evaluate;
mod feed;
mod folder;
pub mod forward;
mod initial;
mod keys;
mod leakage;
mod log;
#[cfg(feature = "mpi")]
mod mpi;
mod optimizer;
mod outlook;
mod patterns;
mod plan;
mod router;
mod run;
mod schedule;
mod settings;
mod stages;
mod state;
mod steps;
mod trainer;
mod watch;

pub use communicator::{Communicator, Single};
pub use config::{
    CheckpointConfig, Config, Curve, DataConfig, EvaluateConfig, GroupConfig, LoraConfig, ModelConfig,
    Onward, OptimizerConfig, PrecisionConfig, Schedule, SourceConfig,
};
pub use error::{Error, Result};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use optimizer::OptimizerKind;
pub use router::RouterReport;
pub use run::{RunContext, Summary, run};
pub use trainer::{LossScale, Measured, StepReport, Trainer};
pub use watch::{Corpus, Evaluation, Event, Outlook, Said, StepEvent, Stop, Watch};
