//! What an answer is made of: reasoning, text and calls of tools, told apart as it comes.

mod calls;
mod gemma;
mod object;

pub(crate) use calls::{CallFormat, Calls};

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    /// Text for the reader.
    Text(String),
    /// What the model thought before.
    Reasoning(String),
    /// A tool is called; its arguments come after.
    Call {
        /// The number of the call in its answer.
        index: usize,
        /// The id that its result refers to.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of the arguments of a call, as JSON.
    Arguments {
        /// The number of the call in its answer.
        index: usize,
        /// The text.
        text: String,
    },
}

/// What reasoning begins and ends with.
const THINK: &str = "<think>";
const THOUGHT: &str = "</think>";

/// How far the reasoning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thinking {
    /// The answer may begin with it.
    Awaited,
    /// It goes on.
    Within,
    /// It is over, and white space after it is skipped.
    Ended,
    /// The rest is the answer.
    Over,
}

/// Reads one answer.
pub(crate) struct Reader {
    thinking: Thinking,
    /// Text whose kind is not known yet.
    held: String,
    calls: Option<Calls>,
}

impl Reader {
    /// A reader of answers that may begin with reasoning, or whose prompt has begun it already, and may call tools.
    pub fn new(thinks: bool, begun: bool, calls: Option<Calls>) -> Self {
        let thinking = match (thinks, begun) {
            (_, true) => Thinking::Within,
            (true, false) => Thinking::Awaited,
            (false, false) => Thinking::Over,
        };
        Self { thinking, held: String::new(), calls }
    }

    /// What is certain after more of the answer came.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        self.held.push_str(text);
        self.split(&mut pieces);
        merged(pieces)
    }

    /// Whether a tool was called.
    pub fn has_called(&self) -> bool {
        self.calls.as_ref().is_some_and(|calls| calls.told() > 0)
    }

    /// What is left when the answer ended.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let held = std::mem::take(&mut self.held);
        match self.thinking {
            Thinking::Within if !held.is_empty() => pieces.push(Piece::Reasoning(held)),
            Thinking::Within | Thinking::Ended => {}
            Thinking::Awaited | Thinking::Over => self.answer(&held, &mut pieces),
        }
        if let Some(calls) = &mut self.calls {
            calls.finish(&mut pieces);
        }
        merged(pieces)
    }

    fn split(&mut self, pieces: &mut Vec<Piece>) {
        if self.thinking == Thinking::Awaited {
            let begin = self.held.trim_start();
            if begin.len() < THINK.len() && THINK.starts_with(begin) {
                return;
            }
            match begin.strip_prefix(THINK) {
                Some(rest) => {
                    self.held = rest.to_owned();
                    self.thinking = Thinking::Within;
                }
                None => self.thinking = Thinking::Over,
            }
        }
        if self.thinking == Thinking::Within {
            let (before, after) = match self.held.split_once(THOUGHT) {
                Some((before, after)) => (before.to_owned(), Some(after.to_owned())),
                None => {
                    let certain = self.held.len() - beginning(&self.held, THOUGHT);
                    (self.held.drain(..certain).collect(), None)
                }
            };
            if !before.is_empty() {
                pieces.push(Piece::Reasoning(before));
            }
            let Some(after) = after else { return };
            self.held = after;
            self.thinking = Thinking::Ended;
        }
        if self.thinking == Thinking::Ended {
            self.held = self.held.trim_start().to_owned();
            if self.held.is_empty() {
                return;
            }
            self.thinking = Thinking::Over;
        }
        let text = std::mem::take(&mut self.held);
        self.answer(&text, pieces);
    }

    fn answer(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        match &mut self.calls {
            Some(calls) => calls.push(text, pieces),
            None if text.is_empty() => {}
            None => pieces.push(Piece::Text(text.to_owned())),
        }
    }
}

/// Neighbours of one kind as one.
fn merged(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut all: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match (all.last_mut(), &piece) {
            (Some(Piece::Text(last)), Piece::Text(text))
            | (Some(Piece::Reasoning(last)), Piece::Reasoning(text)) => last.push_str(text),
            (Some(Piece::Arguments { index: last, text: before }), Piece::Arguments { index, text })
                if last == index =>
            {
                before.push_str(text);
            }
            _ => all.push(piece),
        }
    }
    all
}

/// Bytes at the end of a text that may be the beginning of a mark.
fn beginning(text: &str, mark: &str) -> usize {
    let most = mark.len().saturating_sub(1).min(text.len());
    (1..=most)
        .rev()
        .find(|&n| text.is_char_boundary(text.len() - n) && mark.starts_with(&text[text.len() - n..]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reasoning and the text of an answer that comes in pieces of some characters.
    fn read(thinks: bool, begun: bool, answer: &str, size: usize) -> (String, String) {
        let mut reader = Reader::new(thinks, begun, None);
        let characters: Vec<char> = answer.chars().collect();
        let mut pieces: Vec<Piece> =
            characters.chunks(size).flat_map(|c| reader.push(&c.iter().collect::<String>())).collect();
        pieces.extend(reader.finish());
        let (mut reasoning, mut text) = (String::new(), String::new());
        for piece in pieces {
            match piece {
                Piece::Reasoning(more) => reasoning.push_str(&more),
                Piece::Text(more) => text.push_str(&more),
                other => panic!("{other:?}"),
            }
        }
        (reasoning, text)
    }

    #[test]
    fn reasoning_is_split_off_wherever_the_pieces_are_cut() {
        for size in 1..20 {
            let of = |thinks, begun, answer| read(thinks, begun, answer, size);
            let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());
            assert_eq!(of(true, false, "<think>\nhm é <b\n</think>\n\nYes."), both("\nhm é <b\n", "Yes."));
            assert_eq!(of(true, false, "  <think></think>Yes."), both("", "Yes."));
            assert_eq!(of(true, true, "hm</think> Yes </think>"), both("hm", "Yes </think>"));
            assert_eq!(of(true, false, "<thin ice"), both("", "<thin ice"));
            assert_eq!(of(true, false, "<think>cut off </thi"), both("cut off </thi", ""));
            assert_eq!(of(false, false, "<think>a</think>"), both("", "<think>a</think>"));
        }
    }
}
