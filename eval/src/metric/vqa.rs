//! VQA accuracy: an answer counts as far as people agree with it.
//!
//! The normalization is EvalAI's, which TextVQA and VQAv2 are scored with. Antol et al. 2015, and Singh et al. 2019.

use fancy_regex::Regex;
use std::sync::LazyLock;

/// Which texts are normalized how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// TextVQA's: EvalAI's whole processor.
    EvalAi,
    /// VQAv2's: only its punctuation, digits and articles.
    V2,
}

const PUNCTUATION: [char; 21] = [
    ';', '/', '[', ']', '"', '{', '}', '(', ')', '=', '+', '\\', '_', '-', '>', '<', '@', '`', ',', '?', '!',
];

const NUMBERS: [(&str, &str); 12] = [
    ("none", "0"),
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
];

/// Words without their apostrophe, and as they are written.
const CONTRACTIONS: &str = include_str!("contractions.tsv");

/// At most so many stops are taken away: what the published code says where it means a flag.
const STOPS: usize = 32;

static STOP: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\.(?!\d)").ok());
static COMMA: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?<=\d),+(?=\d)").ok());

/// A text without punctuation, or with spaces for it where it stands between letters.
pub(crate) fn without_punctuation(text: &str) -> String {
    let between_digits = COMMA.as_ref().is_some_and(|comma| comma.is_match(text).unwrap_or(false));
    let mut out = text.to_owned();
    for mark in PUNCTUATION {
        let beside_space = text.contains(&format!("{mark} ")) || text.contains(&format!(" {mark}"));
        out = out.replace(mark, if beside_space || between_digits { "" } else { " " });
    }
    match &*STOP {
        Some(stop) => stop.replacen(&out, STOPS, "").into_owned(),
        None => out,
    }
}

/// A text in lower case with digits for numbers, without articles and with apostrophes.
fn with_digits(text: &str) -> String {
    let lower = text.to_lowercase();
    let number = |word: &'_ str| NUMBERS.iter().find(|(name, _)| *name == word).map(|(_, digits)| *digits);
    let words = lower.split_whitespace().map(|word| number(word).unwrap_or(word));
    let words = words.filter(|word| !matches!(*word, "a" | "an" | "the"));
    let written = |word| {
        let mut known = CONTRACTIONS.lines().filter_map(|line| line.split_once('\t'));
        known.find(|(name, _)| *name == word).map_or(word, |(_, written)| written)
    };
    words.map(written).collect::<Vec<_>>().join(" ")
}

impl Normalization {
    /// A text as it is compared.
    pub fn apply(self, text: &str) -> String {
        let text = match self {
            Normalization::EvalAi => {
                text.to_lowercase().replace([',', '?'], "").replace("'s", " 's").trim().to_owned()
            }
            Normalization::V2 => text.to_owned(),
        };
        with_digits(&without_punctuation(text.replace(['\n', '\t'], " ").trim()))
    }
}

/// The mean over the people's answers of how many of the *other* people gave this answer, of three at most.
pub fn accuracy(normalization: Normalization, answer: &str, people: &[String]) -> f64 {
    if people.is_empty() {
        return 0.0;
    }
    let answer = normalization.apply(answer);
    let agreeing: Vec<bool> = people.iter().map(|other| normalization.apply(other) == answer).collect();
    let all = agreeing.iter().filter(|agrees| **agrees).count();
    let share = |agrees: &bool| ((all - usize::from(*agrees)) as f64 / 3.0).min(1.0);
    agreeing.iter().map(share).sum::<f64>() / people.len() as f64
}
