//! Classes: what was taken for what, and what that says of each class.

use serde::Serialize;

/// Counts of what was taken for what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confusion {
    /// The classes.
    pub classes: Vec<String>,
    /// For each class how often each class was given for it, and at the end how often none was.
    pub counts: Vec<Vec<u64>>,
}

/// What is known of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScores {
    /// The class.
    pub class: String,
    /// Samples of it.
    pub support: u64,
    /// The share of it among what was given as it; 0 where nothing was.
    pub precision: f64,
    /// The share of it that was found: its recall.
    pub sensitivity: f64,
    /// The share of all others that was not taken for it.
    pub specificity: f64,
    /// The harmonic mean of precision and sensitivity; 0 where both are.
    pub f1: f64,
}

/// A quotient; 0 where there is nothing to divide by, as scikit-learn has it.
pub(crate) fn quotient(part: f64, all: f64) -> f64 {
    if all == 0.0 { 0.0 } else { part / all }
}

impl Confusion {
    /// No counts yet.
    pub fn new(classes: Vec<String>) -> Self {
        let width = classes.len() + 1;
        Self { counts: vec![vec![0; width]; classes.len()], classes }
    }

    /// What is known of each class.
    pub fn scores(&self) -> Vec<ClassScores> {
        let all: u64 = self.counts.iter().flatten().sum();
        let score = |(at, class): (usize, &String)| {
            let support: u64 = self.counts[at].iter().sum();
            let given: u64 = self.counts.iter().map(|row| row[at]).sum();
            let right = self.counts[at][at];
            let others = all - support;
            let (precision, sensitivity) =
                (quotient(right as f64, given as f64), quotient(right as f64, support as f64));
            ClassScores {
                class: class.clone(),
                support,
                precision,
                sensitivity,
                specificity: quotient((others - (given - right)) as f64, others as f64),
                f1: quotient(2.0 * right as f64, (given + support) as f64),
            }
        };
        self.classes.iter().enumerate().map(score).collect()
    }
}

/// Expected calibration error (Naeini et al. 2015): over `bins` equally wide bins of confidence, the mean difference of
/// confidence and accuracy, each bin times its share of the answers. Confidences are of 0..=1; a bin includes its upper end.
pub fn calibration_error(answers: &[(f64, bool)], bins: usize) -> f64 {
    let mut sums = vec![(0.0, 0.0); bins.max(1)];
    let last = sums.len() - 1;
    for (confidence, right) in answers {
        let bin = ((confidence * sums.len() as f64).ceil() as usize).saturating_sub(1).min(last);
        sums[bin].0 += confidence;
        sums[bin].1 += f64::from(u8::from(*right));
    }
    let gaps: f64 = sums.iter().map(|(confidence, right)| (confidence - right).abs()).sum();
    quotient(gaps, answers.len() as f64)
}
