//! Metrics, one file each, and none of them asks a model.
//!
//! What a sample contributes is a few numbers that add up ([`crate::scoring`]), so that scores of categories and of drawn samples
//! are made of sums.

pub mod anls;
pub mod boxes;
pub mod caption;
pub mod choice;
pub mod classes;
pub mod english;
pub mod exact;
pub mod interval;
pub mod number;
pub mod open_answer;
pub mod paired;
pub(crate) mod python;
pub mod ranks;
pub mod relaxed;
pub mod substring;
pub mod vqa;
pub mod words;
pub mod yes_no;

/// Whose rules hold where the published ones are doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
pub enum Compat {
    /// What is right.
    #[default]
    #[serde(rename = "none")]
    None,
    /// What lmms-eval does, for comparison with its scores.
    #[serde(rename = "lmms-eval")]
    LmmsEval,
}

#[cfg(test)]
mod golden;
