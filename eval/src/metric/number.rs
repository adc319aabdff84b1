//! The last number of an answer, as in school problems that are solved step by step (GSM8K).

use regex::Regex;
use std::sync::LazyLock;

use super::Compat;

static NUMBERS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"-?\$?\d[\d,]*(?:\.\d+)?").ok());
/// lm-evaluation-harness's, which two of marks and digits satisfy.
static FREE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(-?[$0-9.,]{2,})|(-?[0-9]+)").ok());
static STRICT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"The answer is (-?[0-9.,]+).").ok());
const PHRASE: &str = "the answer is";

/// The last number of an answer, without marks.
pub fn read(answer: &str) -> Option<String> {
    let found = NUMBERS.as_ref()?.find_iter(answer).last()?;
    Some(found.as_str().replace(['$', ','], ""))
}

/// Whether the last number of an answer is right, and whether the one after *the answer is* is. What is right may be a solution whose
/// number stands after `####`.
pub fn are_right(answer: &str, right: &str, compat: Compat) -> [bool; 2] {
    match compat {
        Compat::LmmsEval => published(answer, right),
        Compat::None => {
            let number = |text: &str| read(text)?.parse::<f64>().ok();
            let right = number(right.rsplit("####").next().unwrap_or(right));
            let after = |text: &str| {
                let at = text.to_lowercase().rfind(PHRASE)?;
                // The lower case of a letter may be longer than the letter.
                let rest = text.get(at + PHRASE.len()..)?;
                let first = NUMBERS.as_ref()?.find(rest)?;
                number(first.as_str())
            };
            let same = |found: Option<f64>| match (found, right) {
                (Some(found), Some(right)) => (found - right).abs() <= 1e-9 * right.abs().max(1.0),
                _ => false,
            };
            [same(number(answer)), same(after(answer))]
        }
    }
}

/// What the harness does: texts are compared, without commas, dollars, the solution and a stop at the end.
fn published(answer: &str, right: &str) -> [bool; 2] {
    let plain = |text: &str| {
        let text = text.replace([',', '$'], "");
        let text = text.rfind("#### ").map_or(text.as_str(), |at| &text[at + 5..]);
        text.strip_suffix('.').unwrap_or(text).to_lowercase()
    };
    let right = plain(right);
    let free = FREE.as_ref().and_then(|pattern| pattern.find_iter(answer).last()).map(|found| found.as_str());
    let strict =
        STRICT.as_ref().and_then(|pattern| pattern.captures(answer)?.get(1)).map(|found| found.as_str());
    [free, strict].map(|found| plain(found.unwrap_or("[invalid]").trim()) == right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers() {
        let right = "So 9 * 2 = <<9*2=18>>18\n#### 18";
        for (answer, expected) in [
            ("9 eggs at $2 are $18.00.", [true, false]),
            ("The answer is 18", [true, true]),
            ("The answer is 18. That is 3 more than 15", [false, true]),
            ("-18", [false, false]),
            ("eighteen", [false, false]),
        ] {
            assert_eq!(are_right(answer, right, Compat::None), expected, "{answer}");
        }
        assert_eq!(are_right("$1,018.5", "1018.50", Compat::None), [true, false]);
        // As published, the stop that has to follow takes the last digit where there is none.
        assert_eq!(are_right("The answer is 18", right, Compat::LmmsEval), [true, false]);
    }
}
