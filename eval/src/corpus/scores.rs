//! What a model scored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a model scored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scores {
    /// The checkpoint.
    pub model: String,
    /// Where it ran.
    pub device: String,
    /// Answers that were made side by side, where an answer may depend on those beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// One entry a task.
    pub tasks: Vec<Task>,
}

/// What a model scored on one task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// The corpus, or what its samples call it.
    pub name: String,
    /// Share of the questions that were answered word for word.
    pub accuracy: f64,
    /// Share of the most frequent answer, which asks for no model.
    pub baseline: f64,
    /// Questions.
    pub n: usize,
    /// Every answer.
    pub answers: Vec<Answer>,
}

/// One question and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// The sample.
    pub key: String,
    /// What was asked.
    pub question: String,
    /// What the corpus answers.
    pub expected: String,
    /// What the model answered.
    pub said: String,
}

impl Answer {
    /// Whether the model answered as the corpus does.
    pub fn is_right(&self) -> bool {
        self.said == self.expected
    }
}

impl Task {
    /// What some answers come to.
    pub fn new(name: String, answers: Vec<Answer>) -> Self {
        let n = answers.len();
        let share = |k: usize| if n == 0 { 0.0 } else { k as f64 / n as f64 };
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        answers.iter().for_each(|a| *counts.entry(&a.expected).or_default() += 1);
        let most = counts.values().max().copied().unwrap_or(0);
        let right = answers.iter().filter(|a| a.is_right()).count();
        Self { name, accuracy: share(right), baseline: share(most), n, answers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_is_the_most_frequent_answer() {
        let answer = |expected: &str, said: &str| Answer {
            key: String::new(),
            question: String::new(),
            expected: expected.into(),
            said: said.into(),
        };
        let answers = vec![answer("a", "a"), answer("a", "b"), answer("b", "b"), answer("a", "aa")];
        let task = Task::new("x".into(), answers);
        assert_eq!((task.accuracy, task.baseline, task.n), (0.5, 0.75, 4));
        assert_eq!(Task::new("x".into(), Vec::new()).accuracy, 0.0);
    }
}
