//! Whisper's normalizers (Radford et al. 2022, appendix C), so that a word error rate counts words and not
//! their spelling. The table of spellings is the one that the paper's code ships.

mod numbers;

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use numbers::Numbers;

const SPELLING: &str = include_str!("spelling.tsv");

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

/// The patterns, made once.
struct English {
    before: Vec<(Regex, &'static str)>,
    after: Vec<(Regex, &'static str)>,
    numbers: Numbers,
    spelling: HashMap<&'static str, &'static str>,
}

static ENGLISH: LazyLock<English> = LazyLock::new(English::new);
static IN_BRACKETS: LazyLock<Regex> = LazyLock::new(|| pattern(r"[<\[][^>\]]*[>\]]"));
static IN_PARENTHESES: LazyLock<Regex> = LazyLock::new(|| pattern(r"\(([^)]+?)\)"));
static SPACES: LazyLock<Regex> = LazyLock::new(|| pattern(r"\s+"));
static MARK: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\p{Mn}$"));
static SYMBOL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\p{M}\p{S}\p{P}]$"));

/// A pattern of this crate.
pub(super) fn pattern(text: &str) -> Regex {
    // All of them are written here, and tests use each.
    Regex::new(text).expect("the pattern is well-formed")
}

impl English {
    fn new() -> Self {
        let of = |table: &[(&str, &'static str)]| table.iter().map(|(p, with)| (pattern(p), *with)).collect();
        let first = [(r"\b(hmm|mm|mhm|mmm|uh|um)\b", ""), (r"\s+'", "'")];
        let last = [(r"'m\b", " am"), (r"(\d),(\d)", "$1$2"), (r"\.([^0-9]|$)", " $1")];
        Self {
            before: of(&[&first[..], &REPLACED[..], &last[..]].concat()),
            after: of(&[(r"[.$¢€£]([^0-9])", " $1"), (r"([^0-9])%", "$1 ")]),
            numbers: Numbers::new(),
            spelling: SPELLING.lines().filter_map(|line| line.split_once('\t')).collect(),
        }
    }
}

fn replaced(text: String, patterns: &[(Regex, &str)]) -> String {
    patterns.iter().fold(text, |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

/// A text in lower case without what stands in brackets.
fn without_brackets(text: &str) -> String {
    let text = text.to_lowercase();
    let text = IN_BRACKETS.replace_all(&text, "");
    IN_PARENTHESES.replace_all(&text, "").into_owned()
}

/// An English text in lower case, without fillers, brackets and punctuation, in American spelling and with digits.
pub fn normalize(text: &str) -> String {
    let text = replaced(without_brackets(text), &ENGLISH.before);
    let text = ENGLISH.numbers.apply(&plain(&text));
    let american = |word| ENGLISH.spelling.get(word).copied().unwrap_or(word);
    let text = text.split_whitespace().map(american).collect::<Vec<_>>().join(" ");
    SPACES.replace_all(&replaced(text, &ENGLISH.after), " ").into_owned()
}

/// A text of any language in lower case, without brackets, and with spaces for marks, symbols and punctuation.
pub fn normalize_basic(text: &str) -> String {
    let text: String = without_brackets(text)
        .nfkc()
        .map(|c| if SYMBOL.is_match(c.encode_utf8(&mut [0; 4])) { ' ' } else { c })
        .collect();
    SPACES.replace_all(&text.to_lowercase(), " ").into_owned()
}

/// Without marks, and with spaces for symbols and punctuation but those of numbers.
fn plain(s: &str) -> String {
    let mut out = String::new();
    for c in s.nfkd() {
        let mut buffer = [0; 4];
        let text: &str = c.encode_utf8(&mut buffer);
        if ".%$¢€£".contains(c) {
            out.push(c);
        } else if let Some((_, letters)) = LETTERS.iter().find(|(l, _)| *l == c) {
            out.push_str(letters);
        } else if MARK.is_match(text) {
        } else if SYMBOL.is_match(text) {
            out.push(' ');
        } else {
            out.push(c);
        }
    }
    out
}
