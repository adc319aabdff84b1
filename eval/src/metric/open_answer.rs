//! Open questions as MMMU's authors score them (Yue et al. 2023): what follows words such as *is* or *therefore*, and the
//! numbers in it, are what an answer says.

use fancy_regex::Regex;
use std::sync::LazyLock;

use super::{Compat, python};

const KEYS: [&str; 8] = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "];
const NOTHING: [&str; 7] = [":", ",", ".", "!", "?", ";", "'"];

static NUMBERS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let patterns = [
        // with commas, in scientific notation, plain
        r"-?\b\d{1,3}(?:,\d{3})+\b",
        r"-?\d+(?:\.\d+)?[eE][+-]?\d+",
        r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])",
    ];
    patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect()
});

/// A text or number as it is compared.
#[derive(Debug, Clone, PartialEq)]
enum Said {
    Text(String),
    Number(f64),
}

fn normalized(text: &str) -> Vec<Said> {
    let text = text.trim();
    let bare = text.replace(',', "");
    if let Some(number) = python::float(&bare) {
        return vec![Said::Number(python::round(number, 2))];
    }
    let text = text.to_lowercase();
    match text.chars().count() {
        // So that a letter is not found in every word.
        1 => vec![Said::Text(format!(" {text}")), Said::Text(format!("{text} "))],
        _ => vec![Said::Text(text)],
    }
}

/// What an answer says, shortest reading of each line.
fn said(answer: &str) -> Vec<Said> {
    let answer = answer.trim().trim_matches('.').to_lowercase();
    let lines: Vec<&str> = answer.split('\n').collect();
    let mut readings: Vec<String> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        // The last line may be an equation.
        let keys = KEYS.into_iter().chain((at + 1 == lines.len()).then_some("="));
        let mut shortest: Option<&str> = None;
        for key in keys.filter(|key| line.contains(key)) {
            let rest = line.rsplit(key).next().unwrap_or(line).trim();
            let is_better = |best: &str| best.is_empty() || rest.chars().count() < best.chars().count();
            if shortest.is_none_or(is_better) {
                shortest = Some(rest);
            }
        }
        let reading = shortest.filter(|text| !text.is_empty() && !NOTHING.contains(text));
        readings.extend(reading.map(str::to_owned));
    }
    if readings.is_empty() {
        readings.push(answer);
    }
    let numbers: Vec<String> = readings
        .iter()
        .flat_map(|text| NUMBERS.iter().flat_map(move |pattern| pattern.find_iter(text)))
        .filter_map(|found| Some(found.ok()?.as_str().to_owned()))
        .collect();
    readings.iter().chain(&numbers).flat_map(|text| normalized(text)).collect()
}

/// Whether an answer says one of the right ones: a text is found in it, a number is one of its own to two digits.
///
/// MMMU writes several right answers as the text of a list, which its authors read as one. lmms-eval takes it for one text.
pub fn is_right(answer: &str, right: &str, compat: Compat) -> bool {
    let listed = (compat == Compat::None && right.trim_start().starts_with('['))
        .then(|| python::list(right))
        .flatten();
    let right: Vec<Said> = match listed {
        Some(several) => several.iter().flat_map(|text| normalized(text)).collect(),
        None => normalized(right),
    };
    let is_one = |said: &Said| match said {
        Said::Text(text) => {
            right.iter().any(|right| matches!(right, Said::Text(right) if text.contains(right.as_str())))
        }
        Said::Number(_) => right.contains(said),
    };
    said(answer).iter().any(is_one)
}
