//! How the answers to a request are read: with reasoning split off, and calls of tools found.

use std::sync::Arc;

use percept_infer::{Finish, Generation};
use serde_json::{Map, Value, json};

use crate::answers::{Answers, News, Usage, finish_reason};
use crate::core::Formed;
use crate::failure::Failure;
use crate::models::{Language, Vocabulary};
use crate::observe::Record;
use crate::reply::{CallFormat, Calls, Piece, Reader};
use crate::sampling::Choice;
use crate::telling::whole;
use crate::tools::Tools;

/// How answers are read.
#[derive(Clone, Default)]
pub(crate) struct Reading {
    thinks: bool,
    calls: Option<CallFormat>,
    /// The tokens, where marks of calls are tokens that are no text.
    vocabulary: Option<Arc<Vocabulary>>,
}

/// What a request offers its model: the template is told of the tools, and answers that must call one have a form.
pub(crate) fn offered(
    tools: Option<Tools>,
    form: Option<Formed>,
    language: &Language,
    choice: &Choice,
    variables: &mut Map<String, Value>,
) -> Result<(Option<Formed>, Reading), Failure> {
    let mut reading = Reading { thinks: language.thinks, ..Reading::default() };
    // An answer that has a form from its first character on has no room for reasoning.
    let formed = |form: Option<Formed>, reading: Reading| {
        let thinks = reading.thinks && form.is_none();
        (form, Reading { thinks, ..reading })
    };
    let Some(tools) = tools else { return Ok(formed(form, reading)) };
    let Some(format) = tools.format(language)? else { return Ok(formed(form, reading)) };
    let vocabulary = language.vocabulary()?;
    if format.marks().iter().any(|mark| vocabulary.mark(mark).starts_with("<[")) {
        if !choice.options.stop.is_empty() {
            let why =
                "`stop` cannot be given beside `tools` for this model, whose calls are marked by tokens";
            return Err(Failure::unsupported("stop", why));
        }
        reading.vocabulary = Some(vocabulary.clone());
    }
    reading.calls = Some(format);
    variables.insert("tools".into(), tools.variable());
    match (tools.form(format, &vocabulary)?, form) {
        (Some(_), Some((_, param))) => {
            let why = format!("`{param}` cannot be given where a tool must be called; leave one of both out");
            Err(Failure::field(param, why))
        }
        (Some(called), None) => Ok(formed(Some((called, "tools")), reading)),
        // The answer has the form, so nothing in it is a call.
        (None, Some(form)) => Ok(formed(Some(form), Reading { calls: None, ..reading })),
        (None, None) => Ok((None, reading)),
    }
}

impl Reading {
    /// What reads one answer.
    pub fn reader(&self, is_thinking: bool) -> Reader {
        Reader::new(self.thinks, is_thinking && self.thinks, self.calls.map(Calls::new))
    }

    /// The text of a token, as it is read: marks are part of it where they are tokens.
    pub fn seen(&self, id: i32, text: String) -> String {
        let marks = self.calls.map_or(&[][..], CallFormat::marks);
        let mark = self.vocabulary.as_ref().and_then(|vocabulary| vocabulary.special(id));
        match mark.filter(|mark| marks.contains(mark)) {
            Some(mark) => text + mark,
            None => text,
        }
    }

    /// Waits until all answers ended: what they are made of and how they were generated, in the order of their numbers.
    pub async fn replies(
        &self,
        answers: Answers,
        n: usize,
        record: &Record,
    ) -> Result<(Vec<(Reply, Generation)>, Usage), Failure> {
        let mut readers: Vec<Reader> = (0..n).map(|_| self.reader(answers.is_thinking)).collect();
        let mut replies: Vec<Reply> = (0..n).map(|_| Reply::default()).collect();
        let read = |choice: usize, news: &News| {
            let (Some(reader), Some(reply)) = (readers.get_mut(choice), replies.get_mut(choice)) else {
                return;
            };
            match news {
                News::Started { .. } => {}
                News::Token { id, text, .. } => reply.add(reader.push(&self.seen(*id, text.clone()))),
                News::Ended { text, .. } => {
                    reply.add(reader.push(text));
                    reply.add(reader.finish());
                }
            }
        };
        let (generations, usage) = whole(answers, n, record, read).await?;
        Ok((replies.into_iter().zip(generations).collect(), usage))
    }
}

/// A tool that was called.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Call {
    pub id: String,
    pub name: String,
    /// JSON, as the model wrote it.
    pub arguments: String,
}

/// What an answer is made of.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reply {
    pub text: String,
    pub reasoning: String,
    pub calls: Vec<Call>,
}

impl Reply {
    /// What pieces make.
    pub fn of(pieces: Vec<Piece>) -> Self {
        let mut reply = Self::default();
        reply.add(pieces);
        reply
    }

    fn add(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.text.push_str(&text),
                Piece::Reasoning(text) => self.reasoning.push_str(&text),
                Piece::Call { id, name, .. } => {
                    self.calls.push(Call { id, name, arguments: String::new() });
                }
                Piece::Arguments { index, text } => {
                    if let Some(call) = self.calls.get_mut(index) {
                        call.arguments.push_str(&text);
                    }
                }
            }
        }
    }

    /// OpenAI's message of it.
    pub fn message(&self) -> Value {
        let nothing = self.text.is_empty() && !self.calls.is_empty();
        let content = if nothing { Value::Null } else { json!(self.text) };
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning);
        }
        if !self.calls.is_empty() {
            let one = |call: &Call| {
                let function = json!({ "name": call.name, "arguments": call.arguments });
                json!({ "id": call.id, "type": "function", "function": function })
            };
            message["tool_calls"] = self.calls.iter().map(one).collect();
        }
        message
    }
}

/// OpenAI's word for the reason of an end.
pub(crate) fn ended(has_called: bool, finish: Finish) -> &'static str {
    match finish {
        Finish::Stop if has_called => "tool_calls",
        other => finish_reason(other),
    }
}
