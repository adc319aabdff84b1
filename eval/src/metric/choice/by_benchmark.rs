//! Rules that one benchmark has for itself.

use super::super::Compat;
use super::{Rules, letter, ranked};

/// The only option whose text stands in an answer, in any case. A text that is part of another that is there too does not count: *red*
/// where *dark red* is said.
pub(super) fn named(answer: &str, options: &[String]) -> Option<usize> {
    let lower = answer.to_lowercase();
    let stands = |text: &str| {
        lower.match_indices(text).any(|(at, _)| {
            let before = lower[..at].chars().next_back();
            let after = lower[at + text.len()..].chars().next();
            ![before, after].into_iter().flatten().any(char::is_alphanumeric)
        })
    };
    let texts: Vec<String> = options.iter().map(|option| option.trim().to_lowercase()).collect();
    let there: Vec<usize> =
        (0..texts.len()).filter(|at| !texts[*at].is_empty() && stands(&texts[*at])).collect();
    let is_part = |at: &usize| {
        there.iter().any(|other| texts[*other] != texts[*at] && texts[*other].contains(&texts[*at]))
    };
    match there.iter().filter(|at| !is_part(at)).collect::<Vec<_>>()[..] {
        [only] => Some(*only),
        _ => None,
    }
}

/// What lmms-eval reads, where its rules are for one benchmark.
pub(super) fn published(rules: Rules, answer: &str, options: &[String]) -> Option<usize> {
    let at_letter = |text: &str| (0..options.len()).find(|at| letter(*at) == text);
    match rules {
        Rules::Bare => at_letter(answer),
        Rules::Mmbench => mmbench(answer.trim(), options),
        Rules::Mathvista => Some(mathvista(answer.trim(), options)),
        Rules::Tempcompass => {
            let start = answer.get(..2).filter(|start| start.ends_with(['.', ')'])).map(|start| &start[..1]);
            at_letter(start.unwrap_or(answer)).filter(|at| *at < 4)
        }
        _ => ranked(answer, options.len(), Compat::LmmsEval),
    }
}

/// A word that is one of the letters A to E, alone or with marks around it; then the only option whose text the answer has; then the ranked
/// rules over four letters. Where a column has no option, its text is *nan*.
fn mmbench(answer: &str, options: &[String]) -> Option<usize> {
    let words: Vec<&str> = answer.split_whitespace().collect();
    let with = |before: &str, after: &str| -> Vec<usize> {
        (0..5).filter(|at| words.contains(&format!("{before}{}{after}", letter(*at)).as_str())).collect()
    };
    // An A in a long answer may be an article.
    if let [only] = with("", "")[..]
        && !(words.contains(&"A") && words.len() > 3)
    {
        return Some(only);
    }
    const MARKS: [(&str, &str); 12] = [
        ("", "."),
        ("", ","),
        ("", ":"),
        ("", ")"),
        ("", ")."),
        ("(", ")"),
        ("(", ")."),
        (":", ""),
        (":", ","),
        (":", "."),
        (":", ")"),
        (":", ")."),
    ];
    for (before, after) in MARKS {
        if let [only] = with(before, after)[..] {
            return Some(only);
        }
    }
    let lower = answer.to_lowercase();
    let text = |at: usize| options.get(at).map_or_else(|| "nan".to_owned(), |option| option.to_lowercase());
    let there: Vec<usize> = (0..4).filter(|at| lower.contains(&text(*at))).collect();
    if let [only] = there[..] {
        return Some(only);
    }
    ranked(answer, 4, Compat::LmmsEval)
}

/// A letter in brackets or alone; otherwise the option that is nearest in letters to change, the first of equals.
fn mathvista(answer: &str, options: &[String]) -> usize {
    let brackets = answer.match_indices('(').find_map(|(at, _)| {
        let mut rest = answer[at + 1..].chars();
        let (inner, end) = (rest.next()?, rest.next()?);
        (inner.is_ascii_alphabetic() && end == ')').then(|| inner.to_ascii_uppercase().to_string())
    });
    let answer = brackets.as_deref().unwrap_or(answer);
    let by_letter = (0..options.len()).find(|at| letter(*at) == answer);
    let nearest = || (0..options.len()).min_by_key(|at| strsim::levenshtein(answer, &options[*at]));
    by_letter.or_else(nearest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_an_option_is_read_where_no_letter_is() {
        let options: Vec<String> = ["red", "dark red", "blue"].map(String::from).to_vec();
        for (answer, expected) in [
            ("It is dark red.", Some(1)),
            ("red", Some(0)),
            ("a coloured thing", None),
            ("Blue or red", None),
            ("blueish", None),
        ] {
            assert_eq!(named(answer, &options), expected, "{answer}");
        }
    }
}
