//! Whisper's English normalizer (Radford et al. 2022, appendix C), so that a word error rate counts words and not
//! their spelling. The table of spellings is the one that the paper's code ships.

use std::collections::HashMap;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::numbers::Numbers;

const SPELLING: &str = include_str!("../../speech/spelling.tsv");

/// Letters that do not come apart into a letter and a mark.
const LETTERS: [(char, &str); 16] = [
    ('œ', "oe"),
    ('Œ', "OE"),
    ('ø', "o"),
    ('Ø', "O"),
    ('æ', "ae"),
    ('Æ', "AE"),
    ('ß', "ss"),
    ('ẞ', "SS"),
    ('đ', "d"),
    ('Đ', "D"),
    ('ð', "d"),
    ('Ð', "D"),
    ('þ', "th"),
    ('Þ', "th"),
    ('ł', "l"),
    ('Ł', "L"),
];

const REPLACED: [(&str, &str); 48] = [
    (r"\bwon't\b", "will not"),
    (r"\bcan't\b", "can not"),
    (r"\blet's\b", "let us"),
    (r"\bain't\b", "aint"),
    (r"\by'all\b", "you all"),
    (r"\bwanna\b", "want to"),
    (r"\bgotta\b", "got to"),
    (r"\bgonna\b", "going to"),
    (r"\bi'ma\b", "i am going to"),
    (r"\bimma\b", "i am going to"),
    (r"\bwoulda\b", "would have"),
    (r"\bcoulda\b", "could have"),
    (r"\bshoulda\b", "should have"),
    (r"\bma'am\b", "madam"),
    (r"\bmr\b", "mister "),
    (r"\bmrs\b", "missus "),
    (r"\bst\b", "saint "),
    (r"\bdr\b", "doctor "),
    (r"\bprof\b", "professor "),
    (r"\bcapt\b", "captain "),
    (r"\bgov\b", "governor "),
    (r"\bald\b", "alderman "),
    (r"\bgen\b", "general "),
    (r"\bsen\b", "senator "),
    (r"\brep\b", "representative "),
    (r"\bpres\b", "president "),
    (r"\brev\b", "reverend "),
    (r"\bhon\b", "honorable "),
    (r"\basst\b", "assistant "),
    (r"\bassoc\b", "associate "),
    (r"\blt\b", "lieutenant "),
    (r"\bcol\b", "colonel "),
    (r"\bjr\b", "junior "),
    (r"\bsr\b", "senior "),
    (r"\besq\b", "esquire "),
    (r"'d been\b", " had been"),
    (r"'s been\b", " has been"),
    (r"'d gone\b", " had gone"),
    (r"'s gone\b", " has gone"),
    (r"'d done\b", " had done"),
    (r"'s got\b", " has got"),
    (r"n't\b", " not"),
    (r"'re\b", " are"),
    (r"'s\b", " is"),
    (r"'d\b", " would"),
    (r"'ll\b", " will"),
    (r"'t\b", " not"),
    (r"'ve\b", " have"),
];

pub struct English {
    numbers: Numbers,
    spelling: HashMap<&'static str, &'static str>,
}

impl English {
    pub fn new() -> Self {
        let spelling = SPELLING.lines().filter_map(|line| line.split_once('\t')).collect();
        Self { numbers: Numbers::new(), spelling }
    }

    /// The text in lower case, without fillers, brackets and punctuation, in American spelling and with digits.
    pub fn apply(&self, s: &str) -> String {
        let replace = |s: &str, pattern: &str, with: &str| {
            Regex::new(pattern).unwrap().replace_all(s, with).into_owned()
        };
        let mut s = s.to_lowercase();
        s = replace(&s, r"[<\[][^>\]]*[>\]]", "");
        s = replace(&s, r"\(([^)]+?)\)", "");
        s = replace(&s, r"\b(hmm|mm|mhm|mmm|uh|um)\b", "");
        s = replace(&s, r"\s+'", "'");
        for (pattern, with) in REPLACED {
            s = replace(&s, pattern, with);
        }
        s = replace(&s, r"'m\b", " am");
        s = replace(&s, r"(\d),(\d)", "$1$2");
        s = replace(&s, r"\.([^0-9]|$)", " $1");
        s = plain(&s);
        s = self.numbers.apply(&s);
        s = s.split_whitespace().map(|w| *self.spelling.get(w).unwrap_or(&w)).collect::<Vec<_>>().join(" ");
        s = replace(&s, r"[.$¢€£]([^0-9])", " $1");
        s = replace(&s, r"([^0-9])%", "$1 ");
        replace(&s, r"\s+", " ")
    }
}

/// Without marks, and with spaces for symbols and punctuation but those of numbers.
fn plain(s: &str) -> String {
    let (mark, other) = (Regex::new(r"^\p{Mn}$").unwrap(), Regex::new(r"^[\p{M}\p{S}\p{P}]$").unwrap());
    let mut out = String::new();
    for c in s.nfkd() {
        let mut buffer = [0; 4];
        let text: &str = c.encode_utf8(&mut buffer);
        if ".%$¢€£".contains(c) {
            out.push(c);
        } else if let Some((_, letters)) = LETTERS.iter().find(|(l, _)| *l == c) {
            out.push_str(letters);
        } else if mark.is_match(text) {
        } else if other.is_match(text) {
            out.push(' ');
        } else {
            out.push(c);
        }
    }
    out
}

/// Words to be put in, left out or exchanged to make one text the other.
pub fn word_errors(reference: &str, hypothesis: &str) -> usize {
    let (reference, hypothesis): (Vec<&str>, Vec<&str>) =
        (reference.split_whitespace().collect(), hypothesis.split_whitespace().collect());
    let mut row: Vec<usize> = (0..=hypothesis.len()).collect();
    for (i, r) in reference.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, h) in hypothesis.iter().enumerate() {
            let exchanged = diagonal + usize::from(r != h);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[hypothesis.len()]
}
