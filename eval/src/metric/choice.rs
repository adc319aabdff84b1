//! Multiple choice: which option an answer in free words takes.
//!
//! The rules are published ones, named for where they come from. As they stand, some of them take letters out of words or guess
//! where there is nothing to read. Here a letter counts only where it stands alone, and an answer that
//! says no option is *unparsed*: wrong, and counted. [`Compat`] gives the rules as they are published.

mod by_benchmark;

use fancy_regex::Regex;
use std::sync::LazyLock;

use super::Compat;

/// Published rules of reading an option from an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rules {
    /// Those that lmms-eval shares among its tasks: letters in brackets, before a stop, after phrases such as *the answer
    /// is*, at the start and at the end, each with a rank.
    Ranked,
    /// Those of MMMU's authors: letters in brackets, letters alone, then the text of an option.
    Mmmu,
    /// Those of MMAU: as MMMU's without texts of options, and for four options.
    Mmau,
    /// Those of ScienceQA in LLaVA: the letter alone, or the letter and a stop at the start.
    Letter,
    /// Those of MVBench: the letter and a stop at the start, or the first letter that stands alone.
    Mvbench,
    /// As ranked, or the only option whose text is in the answer. lmms-eval takes nothing but the letter, as for MMMU-Pro's pictures of
    /// questions.
    Bare,
    /// As bare. lmms-eval takes a word that is a letter, the text of an option, or what the ranked rules find, as in MMBench.
    Mmbench,
    /// As bare. lmms-eval takes the letter, or the option with the fewest letters to change, as in MathVista.
    Mathvista,
    /// As bare. lmms-eval takes the letter, alone or before a stop or a bracket at the start, as in TempCompass.
    Tempcompass,
}

const PHRASES: [&str; 29] = [
    "the answer is",
    "answer is",
    "the correct answer is",
    "correct answer is",
    "the best answer is",
    "best answer is",
    "the correct option is",
    "correct option is",
    "the best option is",
    "best option is",
    "the choice is",
    "choice is",
    "the correct choice is",
    "correct choice is",
    "i choose",
    "i select",
    "i pick",
    "my answer is",
    "my choice is",
    // Korean
    "옵션",
    "정답은",
    "답은",
    "답:",
    // Chinese
    "答案是",
    "答案为",
    "选",
    // Japanese
    "答えは",
    // Both of these are how models write the first of all in Markdown.
    "**answer:**",
    "answer:",
];
/// How many of them are published; the rest are read unless the published rules are asked for.
const PUBLISHED: usize = 27;

/// The letter of option `at`: A, B, C ...
pub fn letter(at: usize) -> String {
    u8::try_from(at)
        .ok()
        .filter(|at| *at < 26)
        .map_or_else(|| format!("#{}", at + 1), |at| char::from(b'A' + at).to_string())
}

/// The index of the option that an answer takes, by some rules; `None` where it takes none.
pub fn choose(rules: Rules, answer: &str, options: &[String], compat: Compat) -> Option<usize> {
    match rules {
        Rules::Ranked => ranked(answer, options.len(), compat),
        Rules::Mmmu => mmmu(answer, options, compat),
        Rules::Mmau => mmau(answer, options.len(), compat),
        Rules::Letter => first(answer, options.len()),
        Rules::Mvbench => mvbench(answer, options.len()),
        Rules::Bare | Rules::Mmbench | Rules::Mathvista | Rules::Tempcompass => match compat {
            Compat::None => {
                ranked(answer, options.len(), compat).or_else(|| by_benchmark::named(answer, options))
            }
            Compat::LmmsEval => by_benchmark::published(rules, answer, options),
        },
    }
}

/// Whether the letter at a byte of a text is no part of a word, and no article of one: *A dog* takes no option.
fn stands_alone(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    let mut after = text[at + 1..].chars();
    let next = after.next();
    let is_article = matches!(&text[at..=at], "A" | "I")
        && next == Some(' ')
        && after.next().is_some_and(char::is_lowercase);
    !before.is_some_and(char::is_alphanumeric) && !next.is_some_and(char::is_alphanumeric) && !is_article
}

fn ranked(answer: &str, options: usize, compat: Compat) -> Option<usize> {
    let mut text = answer.trim();
    for letter in [',', '.', '!', '?', ';', ':', '\'', '"'] {
        text = text.trim_matches(letter);
    }
    let text = format!(" {text} ");
    let lower = text.to_lowercase();
    let bare = text.trim();
    let verbatim = compat == Compat::LmmsEval;
    // Rank, place and option of whatever is found.
    let mut found: Vec<(u8, usize, usize)> = Vec::new();
    // The last place of a pattern whose letter, `within` bytes into it, stands alone.
    let last = |pattern: &str, within: usize| {
        text.rmatch_indices(pattern).map(|(at, _)| at).find(|at| verbatim || stands_alone(&text, at + within))
    };
    let letters: Vec<String> = (0..options.min(26)).map(letter).collect();
    let shapes: [(u8, &str, &str); 5] =
        [(6, "(", ")"), (5, "", "."), (4, "", ":"), (3, "", ")"), (2, "", " ")];
    for (rank, before, after) in shapes {
        for (option, letter) in letters.iter().enumerate() {
            if let Some(at) = last(&format!("{before}{letter}{after}"), before.len()) {
                found.push((rank, at, option));
            }
        }
    }
    let phrases = if verbatim { &PHRASES[..PUBLISHED] } else { &PHRASES[..] };
    for phrase in phrases {
        let Some(at) = lower.find(phrase) else { continue };
        // Places of the lower-case text are those of the text unless a letter's lower case is longer.
        let after = at + phrase.len();
        let Some(rest) = text.get(after..) else { continue };
        for (option, letter) in letters.iter().enumerate() {
            let places = rest.match_indices(letter.as_str()).map(|(place, _)| after + place);
            if let Some(at) = places.into_iter().find(|at| verbatim || stands_alone(&text, *at)) {
                found.push((7, at, option));
            }
        }
    }
    for (option, letter) in letters.iter().enumerate() {
        let alone = |beside: Option<char>| !beside.is_some_and(char::is_alphabetic);
        let stands = |at: usize| verbatim || stands_alone(bare, at);
        if let Some(rest) = bare.strip_prefix(letter.as_str())
            && alone(rest.chars().next())
            && stands(0)
        {
            found.push((10, 0, option));
        }
        if let Some(rest) = bare.strip_suffix(letter.as_str())
            && alone(rest.chars().next_back())
            && stands(rest.len())
        {
            found.push((9, text.len() - 1, option));
        }
    }
    if found.is_empty() && verbatim {
        // Any letter anywhere, as in *Cannot say*.
        let anywhere = letters
            .iter()
            .enumerate()
            .filter_map(|(option, letter)| Some((0, text.rfind(letter.as_str())?, option)));
        found.extend(anywhere);
    }
    // Of equals the first found stays, as a stable sort leaves it.
    let best = found.iter().map(|(rank, at, _)| (*rank, *at)).max()?;
    found.iter().find(|(rank, at, _)| (*rank, *at) == best).map(|(_, _, option)| *option)
}

/// An answer without marks at its ends, between spaces.
fn spaced(answer: &str) -> String {
    let mut text = answer;
    for letter in [',', '.', '!', '?', ';', ':', '\''] {
        text = text.trim_matches(letter);
    }
    format!(" {text} ")
}

/// The options whose letter is in a text between two others.
fn having(text: &str, count: usize, before: &str, after: &str, compat: Compat) -> Vec<usize> {
    let is_there = |option: &usize| {
        let pattern = format!("{before}{}{after}", letter(*option));
        let mut places = text.match_indices(&pattern).map(|(at, _)| at + before.len());
        places.any(|at| compat == Compat::LmmsEval || stands_alone(text, at))
    };
    (0..count.min(26)).filter(is_there).collect()
}

/// The option that is found last; where none is found as it is looked for, the first.
fn latest(candidates: &[usize], place: impl Fn(usize) -> Option<usize>) -> Option<usize> {
    let places: Vec<Option<usize>> = candidates.iter().map(|option| place(*option)).collect();
    let best = places.iter().max().copied().flatten();
    let at = places.iter().position(|place| *place == best)?;
    candidates.get(at).copied()
}

fn mmmu(answer: &str, options: &[String], compat: Compat) -> Option<usize> {
    let text = spaced(answer);
    let count = options.len();
    let in_brackets = having(&text, count, "(", ")", compat);
    if !in_brackets.is_empty() {
        return latest(&in_brackets, |option| text.rfind(&format!("({})", letter(option))));
    }
    let alone = [" ", "."].iter().map(|after| having(&text, count, "", after, compat));
    if let Some(found) = alone.into_iter().find(|found| !found.is_empty()) {
        return latest(&found, |option| text.rfind(&format!(" {} ", letter(option))));
    }
    if text.split_whitespace().count() <= 5 {
        return None;
    }
    let lower = text.to_lowercase();
    let texts: Vec<String> = options.iter().map(|option| option.to_lowercase()).collect();
    let named: Vec<usize> = (0..count).filter(|at| lower.contains(&texts[*at])).collect();
    latest(&named, |option| lower.rfind(&texts[option]))
}

fn mmau(answer: &str, count: usize, compat: Compat) -> Option<usize> {
    let text = spaced(answer);
    let count = if compat == Compat::LmmsEval { 4 } else { count };
    let shapes = [("(", ")"), (" ", " "), ("", ".")];
    let mut found = shapes.iter().map(|(before, after)| having(&text, count, before, after, compat));
    let found = found.find(|found| !found.is_empty())?;
    latest(&found, |option| text.rfind(&format!(" {} ", letter(option))))
}

fn first(answer: &str, options: usize) -> Option<usize> {
    let text = answer.trim();
    let mut letters = text.chars();
    let first = letters.next()?;
    let is_option = match letters.next() {
        None => true,
        Some(next) => next == '.' && first.is_uppercase(),
    };
    let at = (first.to_ascii_uppercase() as usize).checked_sub('A' as usize)?;
    (is_option && at < options).then_some(at)
}

static STOPPED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?i)^([A-E])\.\s*(.+)$").ok());
static ALONE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?i)\b([A-E])\b").ok());

fn mvbench(answer: &str, options: usize) -> Option<usize> {
    let text = answer.trim();
    let found = |pattern: &Option<Regex>, text: &str| {
        let letter = pattern.as_ref()?.captures(text).ok()??.get(1)?.as_str().to_ascii_uppercase();
        (0..options).find(|at| self::letter(*at) == letter)
    };
    if let Some(at) = found(&STOPPED, text) {
        return Some(at);
    }
    let text = super::vqa::without_punctuation(&text.replace(['\n', '\t'], " "));
    let text = text.trim_matches('\'').trim_matches('"').trim_matches(')').trim_matches('(');
    found(&ALONE, text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_counts_where_it_stands_alone() {
        let options: Vec<String> = ["red", "green", "blue", "black"].map(String::from).to_vec();
        let by = |rules, answer: &str| choose(rules, answer, &options, Compat::None);
        for answer in [
            "B",
            "b.",
            "(B)",
            "B. green",
            "The answer is B.",
            "It is (A)... no, the answer is (B)",
            "**Answer:** B",
        ] {
            let expected = (answer != "b.").then_some(1);
            assert_eq!(by(Rules::Ranked, answer), expected, "{answer}");
        }
        // What the published rules take for A, C and D.
        for (answer, published) in [("A dog is there", 0), ("Cannot say", 2), ("DNA is shown", 0)] {
            assert_eq!(by(Rules::Ranked, answer), None, "{answer}");
            assert_eq!(
                choose(Rules::Ranked, answer, &options, Compat::LmmsEval),
                Some(published),
                "{answer}"
            );
        }
        assert_eq!(by(Rules::Mmmu, "I think that it must be the green one"), Some(1));
        assert_eq!(by(Rules::Mmmu, "nobody knows"), None);
        assert_eq!(
            [by(Rules::Letter, "c"), by(Rules::Letter, "C. blue"), by(Rules::Letter, "Cat")],
            [Some(2), Some(2), None]
        );
        assert_eq!([by(Rules::Mvbench, "(D) black"), by(Rules::Mvbench, "nothing")], [Some(3), None]);
        assert_eq!([letter(0), letter(25), letter(26)], ["A", "Z", "#27"]);
    }
}
