//! Calls of tools, in the formats of the families' templates.

use super::object::{Found, Objects};
use super::{Piece, beginning, gemma};
use crate::observe::unique;

/// How a model writes the calls of tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallFormat {
    /// `<tool_call>{"name": ..., "arguments": ...}</tool_call>`: Hermes, Qwen, SmolLM.
    Hermes,
    /// The answer is `{"name": ..., "parameters": ...}`, perhaps after `<|python_tag|>`: Llama 3.
    Llama,
    /// `[TOOL_CALLS]`, and a list of `{"name": ..., "arguments": ...}` or `name[ARGS]{...}`: Mistral.
    Mistral,
    /// `<start_function_call>call:name{...}<end_function_call>`: FunctionGemma.
    Gemma,
}

impl CallFormat {
    /// The format of a chat template; `None` when it knows no tools.
    pub fn of(template: &str) -> Option<Self> {
        let has = |word: &str| template.contains(word);
        if !has("tools") {
            return None;
        }
        if has("<start_function_call>") {
            Some(CallFormat::Gemma)
        } else if has("<tool_call>") {
            Some(CallFormat::Hermes)
        } else if has("[TOOL_CALLS]") {
            Some(CallFormat::Mistral)
        } else if has("<|python_tag|>") || (has("ipython") && has("parameters")) {
            Some(CallFormat::Llama)
        } else {
            None
        }
    }

    /// What a call, or a list of them, begins with.
    pub fn begin(self) -> &'static str {
        match self {
            CallFormat::Hermes => "<tool_call>",
            CallFormat::Llama => "<|python_tag|>",
            CallFormat::Mistral => "[TOOL_CALLS]",
            CallFormat::Gemma => "<start_function_call>",
        }
    }

    /// What a call ends with, beside the end of the answer.
    pub fn end(self) -> Option<&'static str> {
        match self {
            CallFormat::Hermes => Some("</tool_call>"),
            CallFormat::Gemma => Some("<end_function_call>"),
            CallFormat::Llama | CallFormat::Mistral => None,
        }
    }

    /// The marks that may be special tokens, which are not part of the text.
    pub fn marks(self) -> &'static [&'static str] {
        match self {
            CallFormat::Hermes => &["<tool_call>", "</tool_call>"],
            CallFormat::Llama => &["<|python_tag|>"],
            CallFormat::Mistral => &["[TOOL_CALLS]", "[ARGS]"],
            CallFormat::Gemma => &["<start_function_call>", "<end_function_call>", "<escape>"],
        }
    }
}

/// What is being read.
enum State {
    /// Nothing yet: an answer may be a call from its first character on.
    Beginning,
    Text,
    /// Objects that call tools.
    Objects(Objects),
    /// A call as text, until its end.
    Whole,
    /// What could not be read as a call is text to the end of the answer.
    Broken,
}

/// Reads the calls of one answer.
pub(crate) struct Calls {
    format: CallFormat,
    state: State,
    /// Text whose kind is not known yet, or a call that is read as text.
    held: String,
    /// The text of the object that is being read, until its name is known.
    unnamed: String,
    /// Calls that were told.
    told: usize,
    /// The call that is being read was told.
    is_open: bool,
}

impl Calls {
    pub fn new(format: CallFormat) -> Self {
        Self {
            format,
            state: State::Beginning,
            held: String::new(),
            unnamed: String::new(),
            told: 0,
            is_open: false,
        }
    }

    /// Calls that were told, one that was cut off among them.
    pub fn told(&self) -> usize {
        self.told + usize::from(self.is_open)
    }

    pub fn push(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        self.held.push_str(text);
        loop {
            match &mut self.state {
                State::Beginning => {
                    let begin = self.held.trim_start();
                    if begin.is_empty() {
                        return;
                    }
                    // A model of this family answers with a call alone.
                    let calls = self.format == CallFormat::Llama && begin.starts_with('{');
                    self.state = if calls { State::Objects(Objects::new()) } else { State::Text };
                }
                State::Text => {
                    let mark = self.format.begin();
                    match self.held.split_once(mark) {
                        Some((before, after)) => {
                            let before = before.to_owned();
                            self.held = after.to_owned();
                            said(before.trim_end(), pieces);
                            self.begin();
                        }
                        None => {
                            let kept = beginning(&self.held, mark);
                            // White space before a call is no part of the text.
                            let text = &self.held[..self.held.len() - kept];
                            let certain = text.trim_end().len();
                            let certain: String = self.held.drain(..certain).collect();
                            said(&certain, pieces);
                            return;
                        }
                    }
                }
                State::Objects(_) => {
                    if !self.objects(pieces) {
                        return;
                    }
                }
                State::Whole => {
                    if !self.whole(pieces, false) {
                        return;
                    }
                }
                State::Broken => {
                    said(&std::mem::take(&mut self.held), pieces);
                    return;
                }
            }
        }
    }

    /// A mark was read, behind which calls begin.
    fn begin(&mut self) {
        self.state = match self.format {
            CallFormat::Hermes | CallFormat::Llama => State::Objects(Objects::new()),
            CallFormat::Mistral | CallFormat::Gemma => State::Whole,
        };
    }

    /// Reads objects; false when more of the answer must come.
    fn objects(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let State::Objects(objects) = &mut self.state else { return false };
        let mut found = Vec::new();
        let mut read = 0;
        for (at, c) in self.held.char_indices() {
            let is_between = !objects.is_within();
            if is_between && let Some(end) = self.format.end() {
                let rest = &self.held[at..];
                if rest.starts_with(end) {
                    self.held.drain(..at + end.len());
                    self.state = State::Text;
                    return true;
                }
                if end.starts_with(rest) {
                    self.held.drain(..at);
                    return false;
                }
            }
            if !objects.push(c, &mut found) {
                // This is no call after all: it is shown as it stands.
                let text = std::mem::take(&mut self.unnamed) + &self.held[at..];
                self.held.clear();
                self.state = State::Broken;
                said(&text, pieces);
                return false;
            }
            read = at + c.len_utf8();
            if !self.is_open && !is_between || c == '{' && is_between {
                self.unnamed.push(c);
            }
            for found in found.drain(..) {
                match found {
                    Found::Name(name) => {
                        self.unnamed.clear();
                        self.is_open = true;
                        pieces.push(Piece::Call { index: self.told, id: call_id(), name });
                    }
                    Found::Arguments(text) => pieces.push(Piece::Arguments { index: self.told, text }),
                    Found::End if self.is_open => {
                        self.is_open = false;
                        self.told += 1;
                    }
                    // An object that names no tool is text.
                    Found::End => said(&std::mem::take(&mut self.unnamed), pieces),
                }
            }
        }
        self.held.drain(..read);
        false
    }

    /// Reads calls that are not JSON, or not from their beginning; false when more of the answer must come.
    fn whole(&mut self, pieces: &mut Vec<Piece>, ended: bool) -> bool {
        if self.format == CallFormat::Mistral {
            let begin = self.held.trim_start();
            if begin.starts_with(['[', '{']) {
                self.state = State::Objects(Objects::new());
                return true;
            }
            // `name[ARGS]{...}`: what comes behind is an object of arguments alone.
            let Some(at) = self.held.find('{') else { return false };
            let name = self.held[..at].trim().trim_end_matches("[ARGS]").trim();
            let quoted = serde_json::Value::from(name).to_string();
            let mut depth = Depth::default();
            let Some(end) = self.held[at..].char_indices().find(|(_, c)| depth.closes(*c)) else {
                return false;
            };
            let end = at + end.0 + 1;
            let object = format!("{{\"name\":{quoted},\"arguments\":{}}}", &self.held[at..end]);
            self.held.drain(..end);
            self.read_whole(&object, pieces);
            self.state = State::Text;
            return true;
        }
        let Some(end) = self.format.end() else { return false };
        let text = match self.held.split_once(end) {
            Some((text, rest)) => {
                let text = text.to_owned();
                self.held = rest.to_owned();
                text
            }
            None if ended => std::mem::take(&mut self.held),
            None => return false,
        };
        match gemma::call(&text) {
            Some((name, arguments)) => {
                pieces.push(Piece::Call { index: self.told, id: call_id(), name });
                pieces.push(Piece::Arguments { index: self.told, text: arguments.to_string() });
                self.told += 1;
            }
            None => said(&text, pieces),
        }
        self.state = State::Text;
        true
    }

    fn read_whole(&mut self, object: &str, pieces: &mut Vec<Piece>) {
        let mut objects = Objects::new();
        let mut found = Vec::new();
        object.chars().for_each(|c| {
            objects.push(c, &mut found);
        });
        for found in found {
            match found {
                Found::Name(name) => pieces.push(Piece::Call { index: self.told, id: call_id(), name }),
                Found::Arguments(text) => pieces.push(Piece::Arguments { index: self.told, text }),
                Found::End => self.told += 1,
            }
        }
    }

    /// What is left when the answer ended.
    pub fn finish(&mut self, pieces: &mut Vec<Piece>) {
        if matches!(self.state, State::Whole) && self.whole(pieces, true) {
            let held = std::mem::take(&mut self.held);
            self.push(&held, pieces);
        }
        // A call that was cut off before its name was known is text.
        said(&std::mem::take(&mut self.unnamed), pieces);
        let held = std::mem::take(&mut self.held);
        if !held.trim().is_empty() || self.told == 0 {
            said(&held, pieces);
        }
    }
}

/// Brackets of JSON, outside of texts.
#[derive(Default)]
struct Depth {
    open: usize,
    in_text: bool,
    is_escaped: bool,
}

impl Depth {
    /// Whether this character closes the outermost bracket.
    fn closes(&mut self, c: char) -> bool {
        if self.in_text {
            self.in_text = c != '"' || self.is_escaped;
            self.is_escaped = c == '\\' && !self.is_escaped;
            return false;
        }
        match c {
            '"' => self.in_text = true,
            '{' | '[' => self.open += 1,
            '}' | ']' => {
                self.open = self.open.saturating_sub(1);
                return self.open == 0;
            }
            _ => {}
        }
        false
    }
}

fn said(text: &str, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// An id as the templates of all families take it: Mistral's ask for nine letters and digits.
fn call_id() -> String {
    unique().chars().take(9).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of an answer and its calls, whose pieces have some characters each.
    fn read(format: CallFormat, answer: &str, size: usize) -> (String, Vec<(String, String)>) {
        let mut calls = Calls::new(format);
        let mut pieces = Vec::new();
        let characters: Vec<char> = answer.chars().collect();
        characters.chunks(size).for_each(|c| calls.push(&c.iter().collect::<String>(), &mut pieces));
        calls.finish(&mut pieces);
        let (mut text, mut all) = (String::new(), Vec::<(String, String)>::new());
        for piece in pieces {
            match piece {
                Piece::Text(more) => text.push_str(&more),
                Piece::Call { index, name, id } => {
                    assert_eq!((index, id.len()), (all.len(), 9));
                    all.push((name, String::new()));
                }
                Piece::Arguments { index, text } => {
                    assert_eq!(index + 1, all.len());
                    all[index].1.push_str(&text);
                }
                Piece::Reasoning(_) => panic!("no model thinks here"),
            }
        }
        (text, all)
    }

    #[test]
    fn calls_of_every_format_are_read_wherever_the_pieces_are_cut() {
        use CallFormat::{Gemma, Hermes, Llama, Mistral};
        let weather = ("weather", r#"{"city": "Zürich {a}", "days": [1, {"b": "\"}"}]}"#);
        let time = ("time", "{}");
        let args = weather.1;
        let rows: Vec<(CallFormat, String, &str, Vec<(&str, &str)>)> = vec![
            (
                Hermes,
                format!("<tool_call>\n{{\"name\": \"weather\", \"arguments\": {args}}}\n</tool_call>"),
                "",
                vec![weather],
            ),
            (
                Hermes,
                format!(
                    "I look.\n<tool_call>{{\"arguments\": {args}, \"name\": \"weather\"}}</tool_call>\n<tool_call>{{\"name\":\"time\",\"arguments\":{{}}}}</tool_call>"
                ),
                "I look.",
                vec![weather, time],
            ),
            // The end was cut off with the end of the answer.
            (
                Hermes,
                format!("<tool_call>{{\"name\": \"weather\", \"arguments\": {args}}}"),
                "",
                vec![weather],
            ),
            (Hermes, "a < b and <tool".into(), "a < b and <tool", vec![]),
            (Hermes, "<tool_call>no call</tool_call>".into(), "no call</tool_call>", vec![]),
            (Hermes, "<tool_call>{\"a\": 1}</tool_call>".into(), "{\"a\": 1}", vec![]),
            (Llama, format!("{{\"name\": \"weather\", \"parameters\": {args}}}"), "", vec![weather]),
            (
                Llama,
                format!(
                    "<|python_tag|>{{\"name\": \"weather\", \"parameters\": {args}}}; {{\"name\": \"time\", \"parameters\": {{}}}}"
                ),
                "",
                vec![weather, time],
            ),
            (Llama, "Hello {you}".into(), "Hello {you}", vec![]),
            (Llama, "{\"answer\": 5}".into(), "{\"answer\": 5}", vec![]),
            (
                Mistral,
                format!(
                    "[TOOL_CALLS] [{{\"name\": \"weather\", \"arguments\": {args}}}, {{\"name\": \"time\", \"arguments\": {{}}}}]"
                ),
                "",
                vec![weather, time],
            ),
            (
                Mistral,
                format!("Well.[TOOL_CALLS]weather[ARGS]{args}[TOOL_CALLS]time{{}}"),
                "Well.",
                vec![weather, time],
            ),
            (Gemma, "<start_function_call>call:time{}<end_function_call>".into(), "", vec![time]),
            (
                Gemma,
                "So: <start_function_call>call:time{}<end_function_call><start_function_call>call:time{}"
                    .into(),
                "So:",
                vec![time, time],
            ),
            (Gemma, "<start_function_call>nothing<end_function_call>".into(), "nothing", vec![]),
        ];
        for (format, answer, text, calls) in rows {
            let calls: Vec<(String, String)> =
                calls.into_iter().map(|(name, arguments)| (name.into(), arguments.into())).collect();
            for size in 1..answer.len() + 1 {
                assert_eq!(read(format, &answer, size), (text.into(), calls.clone()), "{answer} by {size}");
            }
        }
    }

    #[test]
    fn formats_are_those_of_the_templates() {
        let of = CallFormat::of;
        assert_eq!(of("{% for m in messages %}{{ m.content }}{% endfor %}"), None);
        assert_eq!(of("{% if tools %}<tool_call>{% endif %}"), Some(CallFormat::Hermes));
        assert_eq!(of("{% if tools %}[TOOL_CALLS]{% endif %}"), Some(CallFormat::Mistral));
        assert_eq!(of("{% if tools %}<|python_tag|>{% endif %}"), Some(CallFormat::Llama));
        assert_eq!(of("{% if tools %}<start_function_call>{% endif %}"), Some(CallFormat::Gemma));
    }
}
