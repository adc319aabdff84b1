//! `results.json`: the scores of a demo under the names that checks outside rely on.

use std::collections::BTreeMap;

use percept::eval::corpus::{Scores, Task};
use serde::Serialize;

use super::command::Shell;
use super::runs::{FLAGS, GENERAL, Work};
use crate::cli::Failure;
use crate::cli::failure::read_text;
use crate::cli::table::table;

/// A demo's results.
#[derive(Debug, Serialize)]
pub struct Results {
    /// The seed of the demo.
    pub seed: u64,
    /// The id of the device.
    pub device: String,
    /// The size of the demo.
    pub scale: &'static str,
    /// Seconds from the first command to the last.
    pub seconds: f64,
    /// Every task's score, before and after fine-tuning.
    pub scores: BTreeMap<String, Score>,
    /// Every answer before fine-tuning.
    #[serde(skip)]
    pub before: Vec<Task>,
    /// Every answer after fine-tuning.
    #[serde(skip)]
    pub after: Vec<Task>,
}

/// The score of one task.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Share of held-out questions that were answered word for word.
    pub accuracy: f64,
    /// Share of the most frequent answer.
    pub baseline: f64,
    /// The number of held-out questions.
    pub n: usize,
}

impl From<&Task> for Score {
    fn from(task: &Task) -> Self {
        Self { accuracy: task.accuracy, baseline: task.baseline, n: task.n }
    }
}

/// Read what both evaluations wrote.
///
/// # Errors
/// When a file is missing or lacks a task.
pub fn gather(work: &Work, shell: &Shell, seconds: f64) -> Result<Results, Failure> {
    let [before, after] = ["before", "after"].map(|when| -> Result<Vec<Task>, Failure> {
        let path = work.file(&format!("scores/{when}/scores.json"));
        let scores: Scores = serde_json::from_str(&read_text(&path)?)
            .map_err(|e| Failure::Content { path: path.clone(), why: e.to_string() })?;
        Ok(scores.tasks)
    });
    let (before, after) = (before?, after?);
    let mut scores = BTreeMap::new();
    for name in GENERAL.into_iter().chain([FLAGS]) {
        let find = |tasks: &[Task]| {
            tasks.iter().find(|t| t.name == name).map(Score::from).ok_or_else(|| Failure::Content {
                path: work.file("scores"),
                why: format!("the task '{name}' was not evaluated"),
            })
        };
        let first = if name == FLAGS { "flags_before".to_string() } else { name.to_string() };
        scores.insert(first, find(&before)?);
        scores.insert(format!("{name}_after"), find(&after)?);
    }
    Ok(Results {
        seed: work.seed,
        device: shell.device().to_string(),
        scale: work.scale.name(),
        seconds,
        scores,
        before,
        after,
    })
}

impl Results {
    /// The score of a task before or after fine-tuning.
    pub fn score(&self, task: &str, after: bool) -> Option<Score> {
        let name = match (after, task == FLAGS) {
            (true, _) => format!("{task}_after"),
            (false, true) => format!("{task}_before"),
            (false, false) => task.to_string(),
        };
        self.scores.get(&name).copied()
    }

    /// The scores as a table for the terminal.
    pub fn table(&self) -> String {
        let mut t = table(
            &["task", "most frequent answer", "before", "after fine-tuning", "questions"],
            &[1, 2, 3, 4],
        );
        let percent = |v: f64| format!("{:.1} %", 100.0 * v);
        for task in GENERAL.into_iter().chain([FLAGS]) {
            if let (Some(before), Some(after)) = (self.score(task, false), self.score(task, true)) {
                t.add_row([
                    task.to_string(),
                    percent(before.baseline),
                    percent(before.accuracy),
                    percent(after.accuracy),
                    before.n.to_string(),
                ]);
            }
        }
        t.to_string()
    }
}
