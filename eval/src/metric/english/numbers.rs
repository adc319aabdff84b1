//! Spelled-out numbers as digits, by the rules of Whisper's English normalizer.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::pattern;

static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\d+(\.\d+)?$"));
static HALF: LazyLock<Regex> = LazyLock::new(|| pattern(r"\band\s+a\s+half\b"));
static LETTER_DIGIT: LazyLock<Regex> = LazyLock::new(|| pattern(r"([a-z])([0-9])"));
static DIGIT_LETTER: LazyLock<Regex> = LazyLock::new(|| pattern(r"([0-9])([a-z])"));
static SUFFIX: LazyLock<Regex> = LazyLock::new(|| pattern(r"([0-9])\s+(st|nd|rd|th|s)\b"));
static CENTS: LazyLock<Regex> = LazyLock::new(|| pattern(r"([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b"));
static FEW_CENTS: LazyLock<Regex> = LazyLock::new(|| pattern(r"[€£$]0.([0-9]{1,2})\b"));
static ONE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b1(s?)\b"));

/// A number on its way: a whole one that can still grow, or digits that are only joined.
#[derive(Clone)]
enum Value {
    Whole(u128),
    Digits(String),
}

impl Value {
    fn text(&self) -> String {
        match self {
            Value::Whole(n) => n.to_string(),
            Value::Digits(d) => d.clone(),
        }
    }
}

pub(super) struct Numbers {
    ones: HashMap<String, u128>,
    ones_suffixed: HashMap<String, (u128, &'static str)>,
    tens: HashMap<String, u128>,
    tens_suffixed: HashMap<String, (u128, &'static str)>,
    multipliers: HashMap<String, u128>,
    multipliers_suffixed: HashMap<String, (u128, &'static str)>,
    words: HashSet<String>,
}

const ZEROS: [&str; 3] = ["o", "oh", "zero"];
const ONES: [&str; 19] = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
const MULTIPLIERS: [(&str, u32); 12] = [
    ("hundred", 2),
    ("thousand", 3),
    ("million", 6),
    ("billion", 9),
    ("trillion", 12),
    ("quadrillion", 15),
    ("quintillion", 18),
    ("sextillion", 21),
    ("septillion", 24),
    ("octillion", 27),
    ("nonillion", 30),
    ("decillion", 33),
];
const BEFORE: [(&str, &str); 4] = [("minus", "-"), ("negative", "-"), ("plus", "+"), ("positive", "+")];
const AFTER: [(&str, &str); 8] = [
    ("pound", "£"),
    ("pounds", "£"),
    ("euro", "€"),
    ("euros", "€"),
    ("dollar", "$"),
    ("dollars", "$"),
    ("cent", "¢"),
    ("cents", "¢"),
];
const SPECIAL: [&str; 4] = ["and", "double", "triple", "point"];

fn find<'a>(table: &[(&str, &'a str)], word: &str) -> Option<&'a str> {
    table.iter().find(|(w, _)| *w == word).map(|(_, sign)| *sign)
}

/// A decimal number times a whole one, when that is whole.
fn times(digits: &str, multiplier: u128) -> Option<Option<u128>> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = [whole, fraction].concat();
    if all.is_empty() || !all.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let product = all.parse::<u128>().ok()?.checked_mul(multiplier)?;
    let unit = 10u128.checked_pow(fraction.len() as u32)?;
    Some((product % unit == 0).then_some(product / unit))
}

/// A number whose last three digits are multiplied: two thousand three | hundred. Far from any that people say it ends.
fn grown(value: u128, multiplier: u128) -> u128 {
    (value / 1000 * 1000).saturating_add((value % 1000).saturating_mul(multiplier))
}

/// The words so far, and the number that is being read.
#[derive(Default)]
struct Reading {
    out: Vec<String>,
    prefix: Option<String>,
    value: Option<Value>,
}

impl Reading {
    fn put(&mut self, text: String) {
        self.out.push(self.prefix.take().unwrap_or_default() + &text);
        self.value = None;
    }

    fn put_value(&mut self) {
        if let Some(value) = self.value.take() {
            self.put(value.text());
        }
    }
}

impl Numbers {
    pub fn new() -> Self {
        let ones: HashMap<String, u128> = ONES.iter().zip(1..).map(|(w, n)| (w.to_string(), n)).collect();
        let mut ones_suffixed = HashMap::new();
        for (name, &n) in &ones {
            ones_suffixed.insert(if name == "six" { "sixes".into() } else { format!("{name}s") }, (n, "s"));
            if n > 3 && n != 5 && n != 12 {
                ones_suffixed
                    .insert(format!("{name}{}", if name.ends_with('t') { "h" } else { "th" }), (n, "th"));
            }
        }
        let irregular = [
            ("zeroth", 0, "th"),
            ("first", 1, "st"),
            ("second", 2, "nd"),
            ("third", 3, "rd"),
            ("fifth", 5, "th"),
            ("twelfth", 12, "th"),
        ];
        ones_suffixed.extend(irregular.map(|(w, n, s)| (w.to_string(), (n, s))));
        let tens: HashMap<String, u128> =
            TENS.iter().zip(2..).map(|(w, n)| (w.to_string(), 10 * n)).collect();
        let suffixed = |(name, &n): (&String, &u128)| {
            [(name.replace('y', "ies"), (n, "s")), (name.replace('y', "ieth"), (n, "th"))]
        };
        let tens_suffixed = tens.iter().flat_map(suffixed).collect::<HashMap<_, _>>();
        let multipliers: HashMap<String, u128> =
            MULTIPLIERS.iter().map(|(w, e)| (w.to_string(), 10u128.pow(*e))).collect();
        let suffixed =
            |(name, &n): (&String, &u128)| [(format!("{name}s"), (n, "s")), (format!("{name}th"), (n, "th"))];
        let multipliers_suffixed = multipliers.iter().flat_map(suffixed).collect::<HashMap<_, _>>();
        let fixed = ZEROS
            .iter()
            .chain(&SPECIAL)
            .chain(BEFORE.iter().chain(&AFTER).map(|(w, _)| w))
            .chain(&["per", "percent"]);
        let words = fixed
            .map(|w| w.to_string())
            .chain(ones.keys().chain(tens.keys()).chain(multipliers.keys()).cloned())
            .chain(
                ones_suffixed.keys().chain(tens_suffixed.keys()).chain(multipliers_suffixed.keys()).cloned(),
            )
            .collect();
        Self { ones, ones_suffixed, tens, tens_suffixed, multipliers, multipliers_suffixed, words }
    }

    /// The number that `value` becomes when a number below 20 follows; as text where it is only joined.
    fn with_ones(&self, value: &Value, previous: Option<&str>, n: u128) -> Value {
        let after_ones = previous.is_some_and(|p| self.ones.contains_key(p));
        let after_tens = previous.is_some_and(|p| self.tens.contains_key(p));
        match value {
            Value::Whole(v) if !after_ones => match v % if n < 10 { 10 } else { 100 } {
                0 => Value::Whole(v.saturating_add(n)),
                _ => Value::Digits(format!("{v}{n}")),
            },
            other => {
                let text = other.text();
                match after_tens && n < 10 {
                    true => Value::Digits(format!("{}{n}", &text[..text.len() - 1])),
                    false => Value::Digits(format!("{text}{n}")),
                }
            }
        }
    }

    fn with_tens(&self, value: &Value, n: u128) -> Value {
        match value {
            Value::Whole(v) if v % 100 == 0 => Value::Whole(v.saturating_add(n)),
            other => Value::Digits(format!("{}{n}", other.text())),
        }
    }

    fn read(&self, words: &[&str]) -> Vec<String> {
        let mut r = Reading::default();
        let mut skip = false;
        for (i, &word) in words.iter().enumerate() {
            let previous = i.checked_sub(1).map(|i| words[i]);
            let next = words.get(i + 1).copied();
            if std::mem::take(&mut skip) {
                continue;
            }
            let next_is_number = next.is_some_and(|n| NUMBER.is_match(n));
            let next_counts = next_is_number || next.is_some_and(|n| self.words.contains(n));
            let sign = word.chars().next().filter(|c| "-+£€$¢".contains(*c));
            let bare = &word[sign.map_or(0, char::len_utf8)..];
            if NUMBER.is_match(bare) {
                if let Some(value) = r.value.clone() {
                    if let Value::Digits(d) = &value
                        && d.ends_with('.')
                    {
                        r.value = Some(Value::Digits(format!("{d}{word}")));
                        continue;
                    }
                    r.put_value();
                }
                if let Some(sign) = sign {
                    r.prefix = Some(sign.to_string());
                }
                r.value = Some(match times(bare, 1) {
                    Some(Some(n)) => Value::Whole(n),
                    _ => Value::Digits(bare.to_string()),
                });
            } else if !self.words.contains(word) {
                r.put_value();
                r.put(word.to_string());
            } else if ZEROS.contains(&word) {
                let before = r.value.as_ref().filter(|v| !matches!(v, Value::Whole(0))).map(Value::text);
                r.value = Some(Value::Digits(before.unwrap_or_default() + "0"));
            } else if let Some(&n) = self.ones.get(word) {
                r.value = Some(r.value.as_ref().map_or(Value::Whole(n), |v| self.with_ones(v, previous, n)));
            } else if let Some(&(n, suffix)) = self.ones_suffixed.get(word) {
                let whole = r.value.as_ref().map_or(Value::Whole(n), |v| self.with_ones(v, previous, n));
                r.put(whole.text() + suffix);
            } else if let Some(&n) = self.tens.get(word) {
                r.value = Some(r.value.as_ref().map_or(Value::Whole(n), |v| self.with_tens(v, n)));
            } else if let Some(&(n, suffix)) = self.tens_suffixed.get(word) {
                let whole = r.value.as_ref().map_or(Value::Whole(n), |v| self.with_tens(v, n));
                r.put(whole.text() + suffix);
            } else if let Some(&m) = self.multipliers.get(word) {
                r.value = Some(match r.value.clone() {
                    None => Value::Whole(m),
                    Some(Value::Whole(0)) => Value::Whole(0),
                    Some(Value::Digits(d)) => match times(&d, m) {
                        Some(Some(product)) => Value::Whole(product),
                        _ => {
                            r.put(d);
                            Value::Whole(m)
                        }
                    },
                    Some(Value::Whole(v)) => Value::Whole(grown(v, m)),
                });
            } else if let Some(&(m, suffix)) = self.multipliers_suffixed.get(word) {
                match r.value.clone() {
                    None => r.put(format!("{m}{suffix}")),
                    Some(Value::Digits(d)) => match times(&d, m) {
                        Some(Some(product)) => r.put(format!("{product}{suffix}")),
                        _ => {
                            r.put(d);
                            r.put(format!("{m}{suffix}"));
                        }
                    },
                    Some(Value::Whole(v)) => r.put(format!("{}{suffix}", grown(v, m))),
                }
            } else if let Some(sign) = find(&BEFORE, word) {
                r.put_value();
                match next_counts {
                    true => r.prefix = Some(sign.to_string()),
                    false => r.put(word.to_string()),
                }
            } else if let Some(sign) = find(&AFTER, word) {
                match r.value.is_some() {
                    true => {
                        r.prefix = Some(sign.to_string());
                        r.put_value();
                    }
                    false => r.put(word.to_string()),
                }
            } else if word == "percent" || word == "per" {
                match r.value.clone() {
                    Some(value) if word == "percent" => r.put(value.text() + "%"),
                    Some(value) if next == Some("cent") => {
                        r.put(value.text() + "%");
                        skip = true;
                    }
                    _ => {
                        r.put_value();
                        r.put(word.to_string());
                    }
                }
            } else if !next_counts
                || (word == "and" && !previous.is_some_and(|p| self.multipliers.contains_key(p)))
            {
                r.put_value();
                r.put(word.to_string());
            } else if word == "double" || word == "triple" {
                let next = next.unwrap_or_default();
                match self.ones.get(next).copied().or(ZEROS.contains(&next).then_some(0)) {
                    Some(n) => {
                        let before =
                            r.value.as_ref().filter(|v| !matches!(v, Value::Whole(0))).map(Value::text);
                        let repeated = n.to_string().repeat(if word == "double" { 2 } else { 3 });
                        r.value = Some(Value::Digits(before.unwrap_or_default() + &repeated));
                        skip = true;
                    }
                    None => {
                        r.put_value();
                        r.put(word.to_string());
                    }
                }
            } else if word == "point" {
                let next = next.unwrap_or_default();
                let decimal =
                    self.ones.contains_key(next) || self.tens.contains_key(next) || ZEROS.contains(&next);
                if decimal || next_is_number {
                    let before = r.value.as_ref().filter(|v| !matches!(v, Value::Whole(0))).map(Value::text);
                    r.value = Some(Value::Digits(before.unwrap_or_default() + "."));
                }
            }
        }
        r.put_value();
        r.out
    }

    fn prepare(&self, s: &str) -> String {
        let segments: Vec<&str> = HALF.split(s).collect();
        let mut parts = Vec::new();
        for (i, segment) in segments.iter().enumerate() {
            if segment.trim().is_empty() {
                continue;
            }
            parts.push(*segment);
            if i + 1 < segments.len() {
                let last = segment.split_whitespace().last().unwrap_or_default();
                let number = self.ones.contains_key(last)
                    || self.tens.contains_key(last)
                    || ZEROS.contains(&last)
                    || self.multipliers.contains_key(last);
                parts.push(if number { "point five" } else { "and a half" });
            }
        }
        let s = parts.join(" ");
        let s = LETTER_DIGIT.replace_all(&s, "$1 $2").into_owned();
        let s = DIGIT_LETTER.replace_all(&s, "$1 $2").into_owned();
        SUFFIX.replace_all(&s, "$1$2").into_owned()
    }

    /// A text with its numbers as digits.
    pub fn apply(&self, s: &str) -> String {
        let prepared = self.prepare(s);
        let s = self.read(&prepared.split_whitespace().collect::<Vec<_>>()).join(" ");
        let joined = |m: &Captures| format!("{}{}.{:02}", &m[1], &m[2], m[3].parse::<u32>().unwrap_or(0));
        let s = CENTS.replace_all(&s, joined).into_owned();
        let s = FEW_CENTS
            .replace_all(&s, |m: &Captures| format!("¢{}", m[1].parse::<u32>().unwrap_or(0)))
            .into_owned();
        ONE.replace_all(&s, "one$1").into_owned()
    }
}
