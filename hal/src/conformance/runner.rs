//! Runs the table on a device, in this process or in workers.

use std::process::Command;
use std::time::Duration;

use super::case::{Case, Level, Outcome, Subject};
use super::cases::all;
use super::report::Report;
use super::worker::Worker;

/// Which cases run, and how long each may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Highest rung to climb.
    pub level: Level,
    /// Only cases whose id contains this.
    pub filter: Option<String>,
    /// Only cases of these operations; all when empty.
    pub ops: Vec<String>,
    /// Time a case may take in a worker before it counts as hung.
    pub timeout: Duration,
    /// Cases of the program's own, behind those of the table.
    pub more: fn() -> Vec<Case>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Level::L4,
            filter: None,
            ops: Vec::new(),
            timeout: Duration::from_secs(120),
            more: Vec::new,
        }
    }
}

/// Where the cases run: in this process, or each in one of its own.
pub enum Runner<'a> {
    /// In this process: fast, for devices that are trusted not to crash.
    InProcess(&'a Subject),
    /// In child processes made by this command, which call [`serve`](super::serve).
    Workers(&'a dyn Fn() -> Command),
}

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No case has the filter in its id.
    #[error("no case up to {level} contains '{filter}'")]
    NoCase {
        /// The highest rung that was requested.
        level: Level,
        /// What was looked for.
        filter: String,
    },
    /// The worker cannot be started.
    #[error("{0}")]
    Worker(String),
}

/// Time a device may take to open.
const OPENING: Duration = Duration::from_secs(120);

/// Run the cases of the options; `progress` is called with every outcome, with its number and the number of
/// all.
///
/// # Errors
/// When no case is left by the filter, or a worker cannot be started.
pub fn run(
    device: &str,
    runner: &Runner<'_>,
    options: &Options,
    progress: &mut dyn FnMut(&Outcome, usize, usize),
) -> Result<Report, RunError> {
    let cases: Vec<Case> = all()
        .into_iter()
        .chain((options.more)())
        .filter(|c| c.level <= options.level)
        .filter(|c| options.filter.as_ref().is_none_or(|f| c.id.contains(f.as_str())))
        .filter(|c| options.ops.is_empty() || options.ops.contains(&c.op))
        .collect();
    if cases.is_empty() {
        return Err(RunError::NoCase {
            level: options.level,
            filter: options.filter.clone().unwrap_or_else(|| options.ops.join("', '")),
        });
    }
    let mut outcomes = Vec::with_capacity(cases.len());
    let mut worker = None;
    for (i, case) in cases.iter().enumerate() {
        let outcome = match runner {
            Runner::InProcess(subject) => case.run(subject),
            Runner::Workers(command) => {
                let ready = match worker.take() {
                    Some(w) => w,
                    None => Worker::start(command(), OPENING).map_err(RunError::Worker)?,
                };
                let (outcome, left) = ready.run(case, options.timeout);
                worker = left;
                outcome
            }
        };
        progress(&outcome, i + 1, cases.len());
        outcomes.push(outcome);
    }
    Ok(Report::new(device, outcomes))
}
