//! `/v1/chat/completions`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use percept_infer::{Generation, TokenLogprob};
use serde_json::{Map, Value, json};

use super::{DONE, event, harmless, streaming, usage};
use crate::answers::{News, Usage};
use crate::app::Shared;
use crate::clock::unix_seconds;
use crate::constraint::Form;
use crate::conversing::{Ask, Protocol, answer};
use crate::core::{Asked, Prompt, named};
use crate::failure::Failure;
use crate::fields::Fields;
use crate::logprobs::Logprobs;
use crate::media;
use crate::models::Language;
use crate::observe::{Record, unique};
use crate::reading::{Reading, Reply, ended, offered};
use crate::reply::{Piece, Reader};
use crate::sampling;
use crate::telling::Teller;
use crate::tools::Tools;

/// Fields of OpenAI's that change an answer and are not honoured.
const REFUSED: [(&str, &str); 7] = [
    ("audio", "answers are text"),
    ("function_call", "it was replaced by `tool_choice`"),
    ("functions", "it was replaced by `tools`"),
    ("moderation", "leave it out"),
    ("prediction", "leave it out"),
    ("reasoning_effort", "models are told otherwise: see `chat_template_kwargs`"),
    ("web_search_options", "the server searches nothing"),
];

/// Answers a conversation.
pub(crate) async fn chat(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    answer(app, record, headers, body, parse).await
}

/// How answers are given.
pub(crate) struct Completion {
    head: Head,
    /// Answers that are asked for.
    n: usize,
    tells_usage: bool,
    logprobs: Option<Logprobs>,
}

impl Protocol for Completion {
    fn teller(self, reading: Reading, is_thinking: bool) -> impl Teller + 'static {
        let Self { head, n, tells_usage, logprobs } = self;
        let readers = (0..n).map(|_| reading.reader(is_thinking)).collect();
        Chunks { head, tells_usage, logprobs, reading, readers }
    }

    fn document(self, replies: Vec<(Reply, Generation)>, used: Usage) -> Result<Value, Failure> {
        let choices = replies.iter().enumerate().map(|(index, (reply, generation))| {
            json!({
                "index": index, "message": reply.message(),
                "logprobs": self.logprobs.as_ref().map(|logprobs| content(logprobs, &generation.logprobs)),
                "finish_reason": ended(!reply.calls.is_empty(), generation.finish),
            })
        });
        let mut document = self.head.document("chat.completion", choices.collect());
        document["usage"] = usage(used);
        Ok(document)
    }
}

/// What a body asks of its model.
pub(crate) fn parse(app: &Shared, mut fields: Fields) -> Result<Ask<Completion>, Failure> {
    let (name, language) = named(app, &mut fields)?;
    let messages = fields.take("messages").ok_or_else(|| fields.missing("messages"))?;
    let messages = media::messages(messages)?;
    let lengths = ["max_completion_tokens", "max_tokens"];
    let mut choice = sampling::choice(&mut fields, &language, &app.limits, &lengths)?;
    let (streams, tells_usage) = streaming(&mut fields)?;
    let top = fields.count("top_logprobs", 0, 20)?;
    let asked = fields.flag("logprobs")?.unwrap_or(false);
    if top.is_some() && !asked {
        return Err(Failure::field("top_logprobs", "`top_logprobs` needs `logprobs`: true"));
    }
    let logprobs = if asked { Some(Logprobs(language.vocabulary()?)) } else { None };
    choice.options.logprobs = asked.then_some(top.unwrap_or(0) as usize);
    let mut variables = variables(&mut fields, &language)?;
    let form = Form::take(&mut fields)?.map(|form| (form, "response_format"));
    let (form, reading) = offered(Tools::take(&mut fields)?, form, &language, &choice, &mut variables)?;
    harmless(&mut fields)?;
    fields.only("modalities", &[json!(["text"])], "answers are text")?;
    fields.only("verbosity", &[json!("medium")], "leave it out")?;
    fields.refuse(&REFUSED)?;
    fields.finish()?;
    let head = Head { id: format!("chatcmpl-{}", unique()), created: unix_seconds(), model: name.clone() };
    let protocol = Completion { head, n: choice.n, tells_usage, logprobs };
    let asked = Asked { name, prompt: Prompt::Talk { messages, variables }, choice, form };
    Ok(Ask { asked, streams, reading, protocol })
}

/// `chat_template_kwargs`: what the chat template reads beside the messages.
pub(super) fn variables(fields: &mut Fields, language: &Language) -> Result<Map<String, Value>, Failure> {
    const NAME: &str = "chat_template_kwargs";
    let Some(value) = fields.take(NAME) else { return Ok(Map::new()) };
    let Value::Object(variables) = value else {
        return Err(Failure::field(NAME, format!("`{NAME}` must be an object")));
    };
    let own = ["messages", "add_generation_prompt", "tools"];
    if let Some(name) = own.into_iter().find(|name| variables.contains_key(*name)) {
        return Err(Failure::field(NAME, format!("`{NAME}.{name}`: the request itself gives it")));
    }
    if let Some(name) = variables.keys().find(|name| !language.reads_named(name)) {
        let name = format!("{NAME}.{}", name.chars().take(80).collect::<String>());
        let why = format!(
            "`{name}` is not known here: the model's chat template reads no such variable; leave it out"
        );
        return Err(Failure::field(&name, why).with_code("unknown_parameter"));
    }
    Ok(variables)
}

/// What all documents of an answer begin with.
struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn document(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id, "object": object, "created": self.created, "model": self.model, "choices": choices,
        })
    }
}

fn content<'t>(logprobs: &Logprobs, tokens: impl IntoIterator<Item = &'t TokenLogprob>) -> Value {
    let tokens: Vec<Value> = tokens.into_iter().map(|token| logprobs.chat(token)).collect();
    json!({ "content": tokens, "refusal": null })
}

/// An answer in chunks.
struct Chunks {
    head: Head,
    tells_usage: bool,
    logprobs: Option<Logprobs>,
    reading: Reading,
    readers: Vec<Reader>,
}

impl Chunks {
    fn chunk(&self, choice: usize, delta: Value, logprobs: Value, finish: Value) -> String {
        let choice =
            json!({ "index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish });
        self.document(vec![choice], Value::Null)
    }

    fn document(&self, choices: Vec<Value>, usage: Value) -> String {
        let mut document = self.head.document("chat.completion.chunk", choices);
        if self.tells_usage {
            document["usage"] = usage;
        }
        event(&document)
    }
}

impl Chunks {
    /// The chunks of pieces; the first has the log-probability that came with them.
    fn pieces(&self, choice: usize, pieces: Vec<Piece>, logprobs: Option<Value>) -> String {
        let mut told = String::new();
        let mut logprobs = logprobs;
        for piece in pieces {
            let delta = match piece {
                Piece::Text(text) => json!({ "content": text }),
                Piece::Reasoning(text) => json!({ "reasoning_content": text }),
                Piece::Call { index, id, name } => {
                    let function = json!({ "name": name, "arguments": "" });
                    json!({ "tool_calls": [{ "index": index, "id": id, "type": "function", "function": function }] })
                }
                Piece::Arguments { index, text } => {
                    json!({ "tool_calls": [{ "index": index, "function": { "arguments": text } }] })
                }
            };
            told += &self.chunk(choice, delta, logprobs.take().unwrap_or_default(), Value::Null);
        }
        match logprobs {
            // No text is certain by this token, and its log-probability is told all the same.
            Some(logprobs) => told + &self.chunk(choice, json!({ "content": "" }), logprobs, Value::Null),
            None => told,
        }
    }
}

impl Teller for Chunks {
    fn news(&mut self, choice: usize, news: News) -> String {
        let Some(reader) = self.readers.get_mut(choice) else { return String::new() };
        match news {
            News::Started { .. } => {
                self.chunk(choice, json!({ "role": "assistant", "content": "" }), Value::Null, Value::Null)
            }
            News::Token { id, text, logprob } => {
                let logprobs = self.logprobs.as_ref().zip(logprob).map(|(all, token)| content(all, [&token]));
                let pieces = reader.push(&self.reading.seen(id, text));
                self.pieces(choice, pieces, logprobs)
            }
            News::Ended { text, generation } => {
                let mut pieces = reader.push(&text);
                pieces.extend(reader.finish());
                let reason = ended(reader.has_called(), generation.finish);
                self.pieces(choice, pieces, None) + &self.chunk(choice, json!({}), Value::Null, json!(reason))
            }
        }
    }

    fn end(&mut self, used: Usage) -> String {
        let last = if self.tells_usage { self.document(Vec::new(), usage(used)) } else { String::new() };
        last + DONE
    }

    fn failed(&mut self, failure: &Failure) -> String {
        event(&failure.openai()) + DONE
    }
}
