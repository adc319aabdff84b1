//! Lines of a width, as Python's `textwrap` makes them.

use super::super::fault::{Result, value_error};
use super::super::meter::{room_for, spend};

/// The characters that `textwrap` parts words at.
fn blank(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\x0b' | '\x0c' | '\r' | ' ')
}

fn letter(c: char) -> bool {
    c == '_' || (c.is_alphanumeric() && !c.is_numeric())
}

fn word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// What may come before a dash between words.
fn before_dash(c: char) -> bool {
    word(c) || matches!(c, '!' | '"' | '\'' | '&' | '.' | ',' | '?')
}

/// The pieces between which a line may end.
fn pieces(text: &[char], hyphens: bool) -> Vec<&[char]> {
    let mut all = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let end = if blank(text[at]) {
            text[at..].iter().position(|&c| !blank(c)).map_or(text.len(), |n| at + n)
        } else if !hyphens {
            text[at..].iter().position(|&c| blank(c)).map_or(text.len(), |n| at + n)
        } else {
            piece_end(text, at)
        };
        all.push(&text[at..end]);
        at = end;
    }
    all
}

/// How many hyphens stand at a place.
fn dashes(text: &[char], at: usize) -> usize {
    text[at.min(text.len())..].iter().take_while(|&&c| c == '-').count()
}

/// Where the piece that begins at `at` ends: a dash between words, a hyphen within a word, or the end of the
/// word.
fn piece_end(text: &[char], at: usize) -> usize {
    let is = |i: usize, test: fn(char) -> bool| text.get(i).is_some_and(|&c| test(c));
    let dash_here = |i: usize| {
        let n = dashes(text, i);
        n >= 2 && i > 0 && is(i - 1, before_dash) && is(i + n, word)
    };
    if dash_here(at) {
        return at + dashes(text, at);
    }
    let mut end = at + 1;
    loop {
        // Behind a hyphen that two letters, or two letters with a hyphen between them, come before.
        if end < text.len() && text[end] == '-' {
            let i = end;
            let two = i >= 2 && is(i - 1, letter) && is(i - 2, letter);
            let parted = i >= 3 && is(i - 1, letter) && text[i - 2] == '-' && is(i - 3, letter);
            let follows = is(i + 1, letter)
                && (is(i + 2, letter) || (text.get(i + 2) == Some(&'-') && is(i + 3, letter)));
            if (two || parted) && follows {
                return i + 1;
            }
        }
        if end == text.len() || blank(text[end]) || dash_here(end) {
            return end;
        }
        end += 1;
    }
}

/// A text as lines of at most `width` characters.
pub(super) fn wrap(text: &str, width: i128, long: bool, hyphens: bool) -> Result<Vec<String>> {
    if width <= 0 {
        return Err(value_error(format!("invalid width {width} (must be > 0)")));
    }
    let width = usize::try_from(width).unwrap_or(usize::MAX);
    room_for(text.len(), 40)?;
    spend(text.len())?;
    let characters: Vec<char> = text.chars().collect();
    let mut pieces = pieces(&characters, hyphens);
    pieces.reverse();
    let empty = |piece: &[char]| piece.iter().all(|&c| super::super::lex::is_space(c));
    let mut lines: Vec<String> = Vec::new();
    while !pieces.is_empty() {
        spend(1)?;
        let mut line: Vec<&[char]> = Vec::new();
        let mut length = 0;
        if !lines.is_empty() && pieces.last().is_some_and(|piece| empty(piece)) {
            pieces.pop();
        }
        while let Some(piece) = pieces.last().filter(|piece| length + piece.len() <= width) {
            length += piece.len();
            line.push(piece);
            pieces.pop();
        }
        if let Some(piece) = pieces.last().copied().filter(|piece| piece.len() > width) {
            let left = width - length;
            if long {
                let mut end = left;
                if hyphens && piece.len() > left {
                    let hyphen = piece[..left].iter().rposition(|&c| c == '-').unwrap_or(0);
                    if hyphen > 0 && piece[..hyphen].iter().any(|&c| c != '-') {
                        end = hyphen + 1;
                    }
                }
                line.push(&piece[..end]);
                pieces.pop();
                pieces.push(&piece[end..]);
            } else if line.is_empty() {
                line.push(piece);
                pieces.pop();
            }
        }
        if line.last().is_some_and(|piece| empty(piece)) {
            line.pop();
        }
        if !line.is_empty() {
            lines.push(line.concat().into_iter().collect());
        }
    }
    Ok(lines)
}
