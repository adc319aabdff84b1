//! Exact match.

use super::python;

/// What is left out before texts are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ignore {
    /// Upper and lower case.
    pub case: bool,
    /// ASCII's punctuation.
    pub punctuation: bool,
    /// White space at the ends.
    pub ends: bool,
}

/// Whether an answer is one of the right ones.
pub fn is_right(answer: &str, right: &[String], ignore: Ignore) -> bool {
    let plain = |text: &str| {
        let text = if ignore.ends { text.trim() } else { text };
        let text = if ignore.case { text.to_lowercase() } else { text.to_owned() };
        match ignore.punctuation {
            true => text.chars().filter(|letter| !python::is_punctuation(*letter)).collect(),
            false => text,
        }
    };
    let answer: String = plain(answer);
    right.iter().any(|right| plain(right) == answer)
}
