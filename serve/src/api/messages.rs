//! `/v1/messages`, as Anthropic's clients speak it.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use percept_infer::{Finish, Generation, StoppedBy};
use percept_modalities::Message;
use percept_model::input_ids;
use serde_json::{Value, json};

use super::chat::variables;
use crate::answers::{News, Usage};
use crate::app::Shared;
use crate::conversing::{Ask, Protocol, answer, only};
use crate::core::{Asked, Prompt, named, parsed};
use crate::failure::{Failure, json_response};
use crate::fields::Fields;
use crate::media::{self, Fetched};
use crate::observe::{Record, unique};
use crate::reading::{Reading, Reply, offered};
use crate::reply::{Piece, Reader};
use crate::sampling;
use crate::telling::Teller;
use crate::tools::{ToolChoice, Tools, function_of};

/// Answers a conversation.
pub(crate) async fn messages(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    answer(app, record, headers, body, parse).await
}

/// How an answer is given.
pub(crate) struct Said {
    id: String,
    model: String,
}

impl Protocol for Said {
    fn teller(self, reading: Reading, is_thinking: bool) -> impl Teller + 'static {
        let Self { id, model } = self;
        let reader = reading.reader(is_thinking);
        Events { id, model, reading, reader, block: None, blocks: 0, last: None, usage: Usage::default() }
    }

    fn document(self, replies: Vec<(Reply, Generation)>, used: Usage) -> Result<Value, Failure> {
        let (reply, generation) = only(replies)?;
        let (reason, sequence) = stop(!reply.calls.is_empty(), &generation);
        Ok(json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": blocks(&reply),
            "stop_reason": reason, "stop_sequence": sequence, "usage": usage(used),
        }))
    }
}

/// Counts the tokens of a conversation.
pub(crate) async fn count_tokens(
    State(app): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let count = parsed(&app, &headers, body, |app, mut fields| {
        let (_, language) = named(app, &mut fields)?;
        let messages = talk(&mut fields)?;
        let mut variables = variables(&mut fields, &language)?;
        if let Some(tools) = tools(&mut fields)?
            && tools.format(&language)?.is_some()
        {
            variables.insert("tools".into(), tools.variable());
        }
        fields.finish()?;
        let inputs = media::inputs(&language, messages, variables, &Fetched::new(), &app.limits)?;
        Ok(input_ids(&inputs).map_err(|error| Failure::server(error.to_string()))?.len())
    });
    Ok(json_response(StatusCode::OK, &json!({ "input_tokens": count.await? })))
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt - usage.cached.min(usage.prompt), "output_tokens": usage.generated,
        "cache_read_input_tokens": usage.cached, "cache_creation_input_tokens": 0,
    })
}

/// Why an answer ended, and the stop sequence that it met.
fn stop(has_called: bool, generation: &Generation) -> (&'static str, Option<String>) {
    match (&generation.stopped_by, generation.finish) {
        (Some(StoppedBy::Text(text)), _) => ("stop_sequence", Some(text.clone())),
        (_, Finish::Length) => ("max_tokens", None),
        _ if has_called => ("tool_use", None),
        _ => ("end_turn", None),
    }
}

fn blocks(reply: &Reply) -> Vec<Value> {
    let mut blocks = Vec::new();
    if !reply.reasoning.is_empty() {
        blocks.push(json!({ "type": "thinking", "thinking": reply.reasoning, "signature": "" }));
    }
    if !reply.text.is_empty() || reply.calls.is_empty() {
        blocks.push(json!({ "type": "text", "text": reply.text }));
    }
    for call in &reply.calls {
        // Arguments that were cut off are no JSON: nothing of them can be told in this protocol.
        let input = serde_json::from_str::<Value>(&call.arguments).unwrap_or_else(|_| json!({}));
        blocks.push(json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input }));
    }
    blocks
}

/// What a body asks of its model.
pub(crate) fn parse(app: &Shared, mut fields: Fields) -> Result<Ask<Said>, Failure> {
    let (name, language) = named(app, &mut fields)?;
    let messages = talk(&mut fields)?;
    fields.rename("stop_sequences", "stop")?;
    let choice = sampling::only_choice(&mut fields, &language, &app.limits, "max_tokens")?;
    let streams = fields.flag("stream")?.unwrap_or(false);
    let mut variables = variables(&mut fields, &language)?;
    let (form, reading) = offered(tools(&mut fields)?, None, &language, &choice, &mut variables)?;
    if let Some(thinking) = fields.take("thinking") {
        let mut thinking = Fields::of(thinking, "thinking")?;
        let why = "whether a model thinks is told to its template, with `chat_template_kwargs`";
        thinking.only("type", &[json!("disabled")], why)?;
        thinking.finish()?;
        let told = language.think(false, &mut variables);
        told.map_err(|why| Failure::unsupported("thinking", format!("`thinking`: {why}")))?;
    }
    fields.accept(&["metadata", "cache_control"]);
    fields.only(
        "service_tier",
        &[json!("auto"), json!("standard_only")],
        "there is one tier; leave it out",
    )?;
    fields.refuse(&[
        ("container", "nothing is run here"),
        ("mcp_servers", "the server calls no others"),
        ("context_management", "leave it out"),
        ("output_config", "leave it out"),
    ])?;
    fields.finish()?;
    let protocol = Said { id: format!("msg_{}", unique()), model: name.clone() };
    let asked = Asked { name, prompt: Prompt::Talk { messages, variables }, choice, form };
    Ok(Ask { asked, streams, reading, protocol })
}

/// `tools` and `tool_choice`.
fn tools(fields: &mut Fields) -> Result<Option<Tools>, Failure> {
    // An empty list is no tools, as elsewhere.
    let tools = fields.take("tools").filter(|tools| *tools != json!([]));
    let choice = fields.take("tool_choice");
    let (mut parallel, mut chosen) = (true, ToolChoice::Auto);
    if let Some(choice) = choice {
        let mut choice = Fields::of(choice, "tool_choice")?;
        let kind = choice.needed_text("type")?;
        chosen = match kind.as_str() {
            "auto" => ToolChoice::Auto,
            "any" => ToolChoice::Required,
            "none" => ToolChoice::None,
            "tool" => ToolChoice::Named(choice.needed_text("name")?),
            _ => {
                return Err(Failure::field(
                    "tool_choice.type",
                    "`tool_choice.type` must be auto, any, tool or none",
                ));
            }
        };
        parallel = !choice.flag("disable_parallel_tool_use")?.unwrap_or(false);
        choice.finish()?;
    }
    let Some(tools) = tools else {
        return match chosen {
            ToolChoice::Auto | ToolChoice::None => Ok(None),
            _ => Err(Failure::field("tool_choice", "`tool_choice` needs `tools`")),
        };
    };
    let Value::Array(list) = tools else { return Err(Failure::field("tools", "`tools` must be a list")) };
    let read = |(i, tool): (usize, Value)| {
        let mut tool = Fields::of(tool, &format!("tools[{i}]"))?;
        tool.only("type", &[json!("custom")], "tools are functions of the client's")?;
        tool.accept(&["cache_control"]);
        function_of(tool, "input_schema")
    };
    let tools = list.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    Tools::of(tools, chosen, parallel).map(Some)
}

/// `system` and `messages`, as chat templates read them.
fn talk(fields: &mut Fields) -> Result<Vec<Message>, Failure> {
    let mut all = Vec::new();
    if let Some(system) = fields.take("system") {
        all.push(json!({ "role": "system", "content": texts(system, "system")? }));
    }
    let messages = fields.take("messages").ok_or_else(|| fields.missing("messages"))?;
    let Value::Array(messages) = messages else {
        return Err(Failure::field("messages", "`messages` must be a list of messages"));
    };
    if messages.is_empty() {
        return Err(Failure::field("messages", "`messages` is empty; give at least one"));
    }
    for (i, message) in messages.into_iter().enumerate() {
        let place = format!("messages[{i}]");
        let mut message = Fields::of(message, &place)?;
        let role = message.needed_text("role")?;
        if !matches!(role.as_str(), "user" | "assistant") {
            let why = format!("`{place}.role` must be user or assistant; what comes before is `system`");
            return Err(Failure::field(format!("{place}.role"), why));
        }
        let content = message.take("content").ok_or_else(|| message.missing("content"))?;
        message.finish()?;
        match content {
            Value::Array(blocks) => turn(&role, blocks, &place, &mut all)?,
            text @ Value::String(_) => all.push(json!({ "role": role, "content": text })),
            _ => {
                let why = format!("`{place}.content` must be a text or a list of blocks");
                return Err(Failure::field(format!("{place}.content"), why));
            }
        }
    }
    media::messages(Value::Array(all))
}

const NO_CITATIONS: &str = "models are shown none; leave it out";

/// A text, or blocks of text.
fn texts(value: Value, place: &str) -> Result<String, Failure> {
    let list = match value {
        Value::String(text) => return Ok(text),
        Value::Array(list) => list,
        _ => {
            return Err(Failure::field(
                place,
                format!("`{place}` must be a text or a list of blocks of text"),
            ));
        }
    };
    let mut text = String::new();
    for (i, block) in list.into_iter().enumerate() {
        let mut block = Fields::of(block, &format!("{place}[{i}]"))?;
        block.only("type", &[json!("text")], "only text can stand here")?;
        text.push_str(&block.needed_text("text")?);
        block.accept(&["cache_control"]);
        block.only("citations", &[json!([])], NO_CITATIONS)?;
        block.finish()?;
    }
    Ok(text)
}

/// A turn of blocks. Results of tools become turns of their own.
fn turn(role: &str, blocks: Vec<Value>, place: &str, all: &mut Vec<Value>) -> Result<(), Failure> {
    let (mut parts, mut calls, mut reasoning) = (Vec::new(), Vec::new(), String::new());
    for (k, block) in blocks.into_iter().enumerate() {
        let place = format!("{place}.content[{k}]");
        let mut block = Fields::of(block, &place)?;
        let kind = block.needed_text("type")?;
        block.accept(&["cache_control"]);
        block.only("citations", &[json!([])], NO_CITATIONS)?;
        match (role, kind.as_str()) {
            (_, "text") => parts.push(json!({ "type": "text", "text": block.needed_text("text")? })),
            ("user", "image") => {
                let source = block.take("source").ok_or_else(|| block.missing("source"))?;
                parts.push(json!({ "type": "image_url", "image_url": { "url": image(source, &place)? } }));
            }
            ("user", "tool_result") => {
                let id = block.needed_text("tool_use_id")?;
                // The text says what went wrong.
                block.flag("is_error")?;
                let content = block.take("content").unwrap_or_else(|| json!(""));
                let content = texts(content, &format!("{place}.content"))?;
                all.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
            }
            ("assistant", "tool_use") => {
                let (id, name) = (block.needed_text("id")?, block.needed_text("name")?);
                let input = block.take("input").unwrap_or_else(|| json!({}));
                let function = json!({ "name": name, "arguments": input });
                calls.push(json!({ "id": id, "type": "function", "function": function }));
            }
            ("assistant", "thinking") => {
                reasoning.push_str(&block.needed_text("thinking")?);
                block.accept(&["signature"]);
            }
            _ => {
                let kind: String = kind.chars().take(40).collect();
                let why =
                    format!("`{place}`: blocks of type `{kind}` are not supported in a turn of the {role}");
                return Err(Failure::unsupported(&place, why));
            }
        }
        block.finish()?;
    }
    if parts.is_empty() && calls.is_empty() && reasoning.is_empty() {
        return Ok(());
    }
    // Templates of models of text alone read a text.
    let is_text = parts.iter().all(|part| part["type"] == "text");
    let content = match is_text {
        true => json!(parts.iter().filter_map(|part| part["text"].as_str()).collect::<String>()),
        false => Value::Array(parts),
    };
    let mut message = json!({ "role": role, "content": content });
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    if !reasoning.is_empty() {
        message["reasoning_content"] = json!(reasoning);
    }
    all.push(message);
    Ok(())
}

/// The URL of an image's source.
fn image(source: Value, place: &str) -> Result<String, Failure> {
    let mut source = Fields::of(source, &format!("{place}.source"))?;
    let kind = source.needed_text("type")?;
    let url = match kind.as_str() {
        "base64" => {
            let media = source.text("media_type")?.unwrap_or_default();
            let data = source.needed_text("data")?;
            format!("data:{};base64,{data}", if media.contains(',') { "" } else { &media })
        }
        "url" => source.needed_text("url")?,
        _ => {
            let name = source.name("type");
            return Err(Failure::unsupported(&name, format!("`{name}` must be base64 or url")));
        }
    };
    source.finish()?;
    Ok(url)
}

/// A block that is being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    Tool,
}

/// An answer in events.
struct Events {
    id: String,
    model: String,
    reading: Reading,
    reader: Reader,
    block: Option<Block>,
    /// Blocks that began.
    blocks: usize,
    last: Option<(&'static str, Option<String>)>,
    usage: Usage,
}

fn event(document: &Value) -> String {
    format!("event: {}\ndata: {document}\n\n", document["type"].as_str().unwrap_or_default())
}

impl Events {
    fn close(&mut self) -> String {
        match self.block.take() {
            Some(_) => event(&json!({ "type": "content_block_stop", "index": self.blocks - 1 })),
            None => String::new(),
        }
    }

    /// Begins a block of a kind, unless one is open.
    fn open(&mut self, kind: Block, block: Value) -> String {
        if self.block == Some(kind) && kind != Block::Tool {
            return String::new();
        }
        let closed = self.close();
        self.block = Some(kind);
        self.blocks += 1;
        closed
            + &event(
                &json!({ "type": "content_block_start", "index": self.blocks - 1, "content_block": block }),
            )
    }

    fn delta(&self, delta: Value) -> String {
        event(
            &json!({ "type": "content_block_delta", "index": self.blocks.saturating_sub(1), "delta": delta }),
        )
    }

    fn pieces(&mut self, pieces: Vec<Piece>) -> String {
        let mut told = String::new();
        for piece in pieces {
            told += &match piece {
                Piece::Text(text) => {
                    let opened = self.open(Block::Text, json!({ "type": "text", "text": "" }));
                    opened + &self.delta(json!({ "type": "text_delta", "text": text }))
                }
                Piece::Reasoning(text) => {
                    let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
                    let opened = self.open(Block::Thinking, block);
                    opened + &self.delta(json!({ "type": "thinking_delta", "thinking": text }))
                }
                Piece::Call { id, name, .. } => {
                    self.open(Block::Tool, json!({ "type": "tool_use", "id": id, "name": name, "input": {} }))
                }
                Piece::Arguments { text, .. } => {
                    self.delta(json!({ "type": "input_json_delta", "partial_json": text }))
                }
            };
        }
        told
    }
}

impl Teller for Events {
    fn news(&mut self, _: usize, news: News) -> String {
        match news {
            News::Started { prompt, cached } => {
                self.usage = Usage { prompt, cached, generated: 0 };
                event(&json!({ "type": "message_start", "message": {
                    "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": [],
                    "stop_reason": null, "stop_sequence": null, "usage": usage(self.usage),
                } }))
            }
            News::Token { id, text, .. } => {
                let pieces = self.reader.push(&self.reading.seen(id, text));
                self.pieces(pieces)
            }
            News::Ended { text, generation } => {
                let mut pieces = self.reader.push(&text);
                pieces.extend(self.reader.finish());
                self.last = Some(stop(self.reader.has_called(), &generation));
                self.pieces(pieces)
            }
        }
    }

    fn end(&mut self, used: Usage) -> String {
        // A message has one block at least.
        let mut told = match self.blocks {
            0 => self.open(Block::Text, json!({ "type": "text", "text": "" })),
            _ => String::new(),
        };
        told += &self.close();
        let (reason, sequence) = self.last.take().unwrap_or(("end_turn", None));
        told += &event(&json!({
            "type": "message_delta", "delta": { "stop_reason": reason, "stop_sequence": sequence }, "usage": usage(used),
        }));
        told + &event(&json!({ "type": "message_stop" }))
    }

    fn failed(&mut self, failure: &Failure) -> String {
        event(&anthropic(failure))
    }

    fn alive(&self) -> String {
        event(&json!({ "type": "ping" }))
    }
}

/// Anthropic's document of a failure.
pub(crate) fn anthropic(failure: &Failure) -> Value {
    let kind = match failure.status.as_u16() {
        401 => "authentication_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    json!({ "type": "error", "error": { "type": kind, "message": failure.message } })
}
