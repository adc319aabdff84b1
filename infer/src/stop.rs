//! Stop strings in streamed text.

/// Passes text on until a stop string appears, holding back what could still become one.
pub struct StopStrings {
    strings: Vec<String>,
    held: String,
    found: bool,
}

impl StopStrings {
    /// Watches for any of these; empty strings are ignored.
    pub fn new(strings: &[String]) -> Self {
        let strings = strings.iter().filter(|s| !s.is_empty()).cloned().collect();
        Self { strings, held: String::new(), found: false }
    }

    /// The text that may be passed on after `more` came in. After a stop string nothing is.
    pub fn push(&mut self, more: &str) -> String {
        if self.found {
            return String::new();
        }
        self.held.push_str(more);
        let first = self.strings.iter().filter_map(|s| self.held.find(s.as_str())).min();
        if let Some(at) = first {
            self.found = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.strings.iter().map(|s| overlap(&self.held, s)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether a stop string appeared.
    pub fn found(&self) -> bool {
        self.found
    }

    /// What was held back, when no more text comes.
    pub fn finish(self) -> String {
        self.held
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
        assert_eq!(s.push("a\n"), "a");
        assert_eq!(s.push("\n"), "");
        assert_eq!(s.push("b"), "\n\nb");
        assert_eq!(s.push("é"), "");
        assert_eq!(s.push("?é"), "é?");
        assert_eq!(s.push("!tail"), "");
        assert!(s.found());
        assert_eq!((s.push("more"), s.finish()), (String::new(), String::new()));
        let mut s = StopStrings::new(&["ab".into(), "xab".into()]);
        assert_eq!((s.push("1xa"), s.push("b2")), ("1".to_string(), String::new()));
        let mut s = StopStrings::new(&["stop".into()]);
        assert_eq!((s.push("non-st"), s.finish()), ("non-".to_string(), "st".to_string()));
    }
}
