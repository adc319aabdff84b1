//! Stop strings in streamed text.

use std::collections::VecDeque;

/// Passes text on until a stop string appears, holding back what could still become one.
pub struct StopStrings {
    strings: Vec<String>,
    /// Text that was generated and not passed on yet.
    held: String,
    /// The pieces of it: their bytes, and what is shown of them.
    pieces: VecDeque<(usize, String)>,
    /// The one that appeared.
    found: Option<usize>,
}

impl StopStrings {
    /// Watches for any of these; empty strings are ignored.
    pub fn new(strings: &[String]) -> Self {
        let strings = strings.iter().filter(|s| !s.is_empty()).cloned().collect();
        Self { strings, held: String::new(), pieces: VecDeque::new(), found: None }
    }

    /// The text that may be passed on after `text` was generated, of which `shown` is shown: special tokens are part of
    /// the text and not shown. After a stop string nothing is passed on.
    pub fn push(&mut self, text: &str, shown: &str) -> String {
        if self.found.is_some() {
            return String::new();
        }
        self.held.push_str(text);
        self.pieces.push_back((text.len(), shown.to_owned()));
        let places =
            self.strings.iter().enumerate().filter_map(|(i, s)| Some((self.held.find(s.as_str())?, i)));
        if let Some((at, which)) = places.min() {
            self.found = Some(which);
            let text = self.release(at);
            self.held.clear();
            self.pieces.clear();
            return text;
        }
        let keep = self.strings.iter().map(|s| overlap(&self.held, s)).max().unwrap_or(0);
        self.release(self.held.len() - keep)
    }

    /// What is shown of the first bytes.
    fn release(&mut self, bytes: usize) -> String {
        let (mut text, mut left) = (String::new(), bytes);
        while let Some((length, shown)) = self.pieces.front_mut() {
            if *length <= left {
                left -= *length;
                text.push_str(shown);
                self.pieces.pop_front();
                continue;
            }
            // A part of a piece is passed on where all of it is shown.
            if left > 0 && *length == shown.len() && shown.is_char_boundary(left) {
                text.push_str(&shown[..left]);
                shown.drain(..left);
                *length -= left;
                left = 0;
            }
            break;
        }
        self.held.drain(..bytes - left);
        text
    }

    /// The stop string that appeared: the earliest, and of those at one place the first that was given.
    pub fn found(&self) -> Option<&str> {
        self.found.map(|i| self.strings[i].as_str())
    }

    /// What was held back, when no more text comes.
    pub fn finish(self) -> String {
        self.pieces.into_iter().map(|(_, shown)| shown).collect()
    }
}

/// Bytes at the end of `text` that begin `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let begins = stop.char_indices().map(|(i, _)| i).skip(1).collect::<Vec<_>>();
    begins.into_iter().rev().find(|&n| text.ends_with(&stop[..n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_held_only_while_it_may_be_a_stop_string() {
        let mut s = StopStrings::new(&["\n\nUser".into(), "é!".into(), String::new()]);
        assert_eq!(s.push("a\n", "a\n"), "a");
        assert_eq!(s.push("\n", "\n"), "");
        assert_eq!(s.push("b", "b"), "\n\nb");
        assert_eq!(s.push("é", "é"), "");
        assert_eq!(s.push("?é", "?é"), "é?");
        assert_eq!(s.push("!tail", "!tail"), "");
        assert_eq!(s.found(), Some("é!"));
        assert_eq!((s.push("more", "more"), s.finish()), (String::new(), String::new()));
        let mut s = StopStrings::new(&["ab".into(), "xab".into()]);
        assert_eq!((s.push("1xa", "1xa"), s.push("b2", "b2")), ("1".to_string(), String::new()));
        let mut s = StopStrings::new(&["stop".into()]);
        assert_eq!((s.push("non-st", "non-st"), s.finish()), ("non-".to_string(), "st".to_string()));
    }

    #[test]
    fn special_tokens_stop_although_they_are_not_shown() {
        let mut s = StopStrings::new(&["<|end|>".into(), "a<x>b".into()]);
        assert_eq!(s.push("hi <", "hi <"), "hi ");
        assert_eq!(s.push("|end|", "|end|"), "");
        assert_eq!((s.push("<y>", ""), s.push("a", "a")), ("<|end|".to_string(), String::new()));
        assert_eq!((s.push("<x>", ""), s.push("c", "c")), (String::new(), "ac".to_string()));
        assert_eq!((s.push("ok", "ok"), s.push("<|end|>", "")), ("ok".to_string(), String::new()));
        assert_eq!(s.found(), Some("<|end|>"));
    }
}
