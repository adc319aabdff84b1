//! Texts as Python handles them.

use super::fault::Result;
use super::lex::is_space;
use super::meter::{Writer, spend_bytes};

/// A text with HTML's special characters escaped, as markupsafe does it.
pub(super) fn escape(out: &mut Writer, text: &str) -> Result<()> {
    let mut plain = 0;
    for (at, c) in text.char_indices() {
        let escaped = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '\'' => "&#39;",
            '"' => "&#34;",
            _ => continue,
        };
        out.push(&text[plain..at])?;
        out.push(escaped)?;
        plain = at + 1;
    }
    out.push(&text[plain..])
}

/// A text between characters that fill up.
pub(super) fn pad(out: &mut Writer, text: &str, fill: char, before: usize, after: usize) -> Result<()> {
    out.fill(fill, before)?;
    out.push(text)?;
    out.fill(fill, after)
}

/// Python's `str.center` puts the odd place before or after by the parity of the width.
pub(super) fn centered(text: &str, width: usize, fill: char) -> Result<String> {
    let room = width.saturating_sub(text.chars().count());
    let before = room / 2 + (room & width & 1);
    let mut out = Writer::new();
    pad(&mut out, text, fill, before, room - before)?;
    Ok(out.finish())
}

/// A character as the first of a title.
fn title_char(c: char) -> String {
    let mut upper = c.to_uppercase();
    let first = upper.next().into_iter();
    let rest: String = upper.collect();
    first.chain(rest.to_lowercase().chars()).collect()
}

/// Python's `str.capitalize`.
pub(super) fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => {
            // The rest of the whole text, so that a final sigma is one.
            let lower = text.to_lowercase();
            let skip: usize = first.to_lowercase().map(char::len_utf8).sum();
            title_char(first) + &lower[skip..]
        }
        None => String::new(),
    }
}

/// Python's `str.title`.
pub(super) fn title(text: &str) -> String {
    let mut within = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if within {
            out.extend(c.to_lowercase());
        } else {
            out += &title_char(c);
        }
        within = cased(c);
    }
    out
}

/// Whether a character has a case.
pub(super) fn cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || title_case(c)
}

/// The few characters that are titles by themselves.
fn title_case(c: char) -> bool {
    matches!(c, '\u{1c5}' | '\u{1c8}' | '\u{1cb}' | '\u{1f2}')
}

/// Python's `str.casefold`.
pub(super) fn casefold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let upper: String = c.to_uppercase().collect();
        match c {
            'ς' => out.push('σ'),
            'ẞ' => out.push_str("ss"),
            _ if upper.chars().count() > 1 => out += &upper.to_lowercase().replace('ς', "σ"),
            _ => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// Lines as Python's `str.splitlines` parts them.
pub(super) fn lines(text: &str, keep: bool) -> Result<Vec<&str>> {
    spend_bytes(text.len())?;
    let mut all = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        let ends =
            matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
        if !ends {
            continue;
        }
        let mut next = at + c.len_utf8();
        if c == '\r' && characters.peek().is_some_and(|(_, c)| *c == '\n') {
            characters.next();
            next += 1;
        }
        all.push(&text[start..if keep { next } else { at }]);
        start = next;
    }
    if start < text.len() {
        all.push(&text[start..]);
    }
    Ok(all)
}

/// Words between white space, at most `most` splits, from the left.
pub(super) fn words(text: &str, most: Option<usize>) -> Vec<&str> {
    let mut all = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        if most.is_some_and(|most| all.len() >= most) {
            all.push(rest);
            break;
        }
        let end = rest.find(is_space).unwrap_or(rest.len());
        all.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    all
}

/// As [`words`], from the right.
pub(super) fn words_from_right(text: &str, most: Option<usize>) -> Vec<&str> {
    let mut all = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        if most.is_some_and(|most| all.len() >= most) {
            all.push(rest);
            break;
        }
        let start =
            rest.rfind(is_space).map_or(0, |at| at + rest[at..].chars().next().map_or(0, char::len_utf8));
        all.push(&rest[start..]);
        rest = rest[..start].trim_end_matches(is_space);
    }
    all.reverse();
    all
}
