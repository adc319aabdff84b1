//! `/api/chat`, `/api/generate` and `/api/tags`, as Ollama's clients speak them.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use percept_infer::Generation;
use serde_json::{Map, Value, json};

use super::completions::text_inputs;
use crate::answers::{News, Usage, finish_reason};
use crate::app::Shared;
use crate::clock::timestamp;
use crate::constraint::Form;
use crate::conversing::{Ask, Protocol, answer, only};
use crate::core::{Asked, Formed, Prompt, named};
use crate::failure::{Failure, json_response};
use crate::fields::Fields;
use crate::media;
use crate::models::{Kind, Language};
use crate::observe::Record;
use crate::reading::{Reading, Reply, offered};
use crate::reply::{Piece, Reader};
use crate::sampling::{self, Choice};
use crate::telling::Teller;
use crate::tools::Tools;

/// Which of the two endpoints answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Chat,
    Generate,
}

/// Answers a conversation.
pub(crate) async fn chat(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    answer(app, record, headers, body, parse_chat).await
}

/// Answers a prompt.
pub(crate) async fn generate(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    answer(app, record, headers, body, parse_generate).await
}

/// The models that there are.
pub(crate) async fn tags(State(app): State<Shared>) -> Response {
    let described = |entry: &Arc<crate::models::Entry>| {
        let family = match entry.kind() {
            Some(Kind::Language(language)) => language.family(),
            _ => String::new(),
        };
        let details = json!({ "format": "", "family": family, "families": [family], "parameter_size": "", "quantization_level": "" });
        json!({
            "name": entry.name, "model": entry.name, "modified_at": timestamp(), "size": 0, "digest": "", "details": details,
        })
    };
    let models: Vec<Value> = app.registry.entries().iter().map(described).collect();
    json_response(StatusCode::OK, &json!({ "models": models }))
}

/// The version of the server.
pub(crate) async fn version() -> Response {
    json_response(StatusCode::OK, &json!({ "version": env!("CARGO_PKG_VERSION") }))
}

/// How an answer is given.
pub(crate) struct Told {
    endpoint: Endpoint,
    model: String,
    /// When the request was understood.
    began: Instant,
}

impl Protocol for Told {
    const STREAM: &'static str = "application/x-ndjson";

    fn teller(self, reading: Reading, is_thinking: bool) -> impl Teller + 'static {
        let reader = reading.reader(is_thinking);
        Lines { told: self, reading, reader, calls: Vec::new(), last: None }
    }

    fn document(self, replies: Vec<(Reply, Generation)>, used: Usage) -> Result<Value, Failure> {
        let (reply, generation) = only(replies)?;
        let mut document = self.piece(&reply);
        finish(&mut document, &generation, used, self.began);
        Ok(document)
    }
}

impl Told {
    /// A document with a piece of an answer, or all of it.
    fn piece(&self, reply: &Reply) -> Value {
        let mut document = json!({ "model": self.model, "created_at": timestamp() });
        let thinking = (!reply.reasoning.is_empty()).then(|| json!(reply.reasoning));
        match self.endpoint {
            Endpoint::Chat => {
                let mut message = json!({ "role": "assistant", "content": reply.text });
                if let Some(thinking) = thinking {
                    message["thinking"] = thinking;
                }
                if !reply.calls.is_empty() {
                    let calls = reply.calls.iter().map(|call| {
                        let arguments =
                            serde_json::from_str::<Value>(&call.arguments).unwrap_or_else(|_| json!({}));
                        json!({ "function": { "name": call.name, "arguments": arguments } })
                    });
                    message["tool_calls"] = calls.collect();
                }
                document["message"] = message;
            }
            Endpoint::Generate => {
                document["response"] = json!(reply.text);
                if let Some(thinking) = thinking {
                    document["thinking"] = thinking;
                }
            }
        }
        document["done"] = json!(false);
        document
    }
}

/// What the last document has beside.
fn finish(document: &mut Value, generation: &Generation, used: Usage, began: Instant) {
    let nanoseconds = |ms: f64| (ms * 1e6) as u64;
    document["done"] = json!(true);
    document["done_reason"] = json!(finish_reason(generation.finish));
    document["total_duration"] = json!(began.elapsed().as_nanos() as u64);
    document["load_duration"] = json!(0);
    document["prompt_eval_count"] = json!(used.prompt);
    document["prompt_eval_duration"] = json!(nanoseconds(generation.timings.prefill_ms));
    document["eval_count"] = json!(used.generated);
    document["eval_duration"] = json!(nanoseconds(generation.timings.decode_ms));
}

/// What both endpoints share.
struct Common {
    choice: Choice,
    streams: bool,
    form: Option<Formed>,
    variables: Map<String, Value>,
}

fn common(app: &Shared, fields: &mut Fields, language: &Language) -> Result<Common, Failure> {
    let streams = fields.flag("stream")?.unwrap_or(true);
    fields.accept(&["keep_alive"]);
    let mut variables = Map::new();
    if let Some(think) = fields.flag("think")? {
        let told = language.think(think, &mut variables);
        told.map_err(|why| Failure::unsupported("think", format!("`think`: {why}")))?;
    }
    let form = match fields.take("format") {
        None => None,
        Some(Value::String(word)) if word == "json" => Some(Form::Schema(json!({ "type": "object" }))),
        Some(Value::String(word)) if word.is_empty() => None,
        Some(schema @ Value::Object(_)) => Some(Form::Schema(schema)),
        Some(_) => return Err(Failure::field("format", "`format` must be \"json\" or a JSON schema")),
    };
    let options = fields.take("options").unwrap_or_else(|| json!({}));
    let mut options = Fields::of(options, "options")?;
    options.rename("num_predict", "max_tokens")?;
    options.rename("repeat_penalty", "repetition_penalty")?;
    // -1 is what its clients write for no limit.
    options.drop_if("max_tokens", &json!(-1));
    let choice = sampling::only_choice(&mut options, language, &app.limits, "max_tokens")?;
    let context = language.model().decoder().context as u64;
    if let Some(rows) = options.count("num_ctx", 1, u64::MAX)?
        && rows > context
    {
        let why = format!("`options.num_ctx`: the model's context holds {context} tokens, fewer than {rows}");
        return Err(Failure::field("options.num_ctx", why));
    }
    options.finish()?;
    Ok(Common { choice, streams, form: form.map(|form| (form, "format")), variables })
}

/// An answer to what is asked, at an endpoint.
fn asking(endpoint: Endpoint, asked: Asked, streams: bool, reading: Reading) -> Ask<Told> {
    let protocol = Told { endpoint, model: asked.name.clone(), began: Instant::now() };
    Ask { asked, streams, reading, protocol }
}

/// What a body of `/api/chat` asks of its model.
pub(crate) fn parse_chat(app: &Shared, mut fields: Fields) -> Result<Ask<Told>, Failure> {
    let (name, language) = named(app, &mut fields)?;
    let Common { choice, streams, form, mut variables } = common(app, &mut fields, &language)?;
    let messages = fields.take("messages").ok_or_else(|| fields.missing("messages"))?;
    let Value::Array(messages) = messages else {
        return Err(Failure::field("messages", "`messages` must be a list of messages"));
    };
    let messages =
        messages.into_iter().enumerate().map(|(i, message)| turn(message, &format!("messages[{i}]")));
    let messages = media::messages(Value::Array(messages.collect::<Result<_, _>>()?))?;
    let (form, reading) = offered(Tools::take(&mut fields)?, form, &language, &choice, &mut variables)?;
    fields.finish()?;
    let prompt = Prompt::Talk { messages, variables };
    Ok(asking(Endpoint::Chat, Asked { name, prompt, choice, form }, streams, reading))
}

/// A message whose images stand beside its text.
fn turn(message: Value, place: &str) -> Result<Value, Failure> {
    let Value::Object(mut map) = message else {
        return Err(Failure::field(place, format!("`{place}` must be an object")));
    };
    // The name of the tool that was called, which templates read as the name of its turn.
    if let Some(name) = map.remove("tool_name").filter(|name| !name.is_null()) {
        map.insert("name".into(), name);
    }
    let images = map.remove("images").filter(|images| !images.is_null());
    let Some(images) = images else { return Ok(Value::Object(map)) };
    let text = map.get("content").and_then(Value::as_str).unwrap_or_default();
    let parts = shown(images, text, &format!("{place}.images"))?;
    map.insert("content".into(), parts);
    Ok(Value::Object(map))
}

/// Images in base64, and the text after them.
fn shown(images: Value, text: &str, place: &str) -> Result<Value, Failure> {
    let wrong = || Failure::field(place, format!("`{place}` must be a list of images in base64"));
    let part = |image: &Value| {
        let data = image.as_str()?;
        Some(json!({ "type": "image_url", "image_url": { "url": format!("data:;base64,{data}") } }))
    };
    let parts: Option<Vec<Value>> = images.as_array().ok_or_else(wrong)?.iter().map(part).collect();
    let mut parts = parts.ok_or_else(wrong)?;
    parts.push(json!({ "type": "text", "text": text }));
    Ok(Value::Array(parts))
}

/// What a body of `/api/generate` asks of its model.
pub(crate) fn parse_generate(app: &Shared, mut fields: Fields) -> Result<Ask<Told>, Failure> {
    let (name, language) = named(app, &mut fields)?;
    let Common { choice, streams, form, mut variables } = common(app, &mut fields, &language)?;
    let text = fields.text("prompt")?.unwrap_or_default();
    let system = fields.text("system")?;
    let images = fields.take("images").filter(|images| *images != json!([]));
    let raw = fields.flag("raw")?.unwrap_or(false);
    fields.refuse(&[
        ("suffix", "models continue a text and do not fill gaps"),
        ("template", "the model's own is used; send `raw`: true and a prompt that is rendered already"),
        ("context", "send the conversation to /api/chat"),
    ])?;
    fields.finish()?;
    if raw {
        if system.is_some() || images.is_some() {
            return Err(Failure::field(
                "raw",
                "`raw`: a rendered prompt has no room for `system` and `images`",
            ));
        }
        let inputs = text_inputs(&text, language.model().processor().tokenizer(), "prompt")?;
        let (prompt, reading) = (Prompt::Inputs(Box::new(inputs)), Reading::default());
        return Ok(asking(Endpoint::Generate, Asked { name, prompt, choice, form }, streams, reading));
    }
    let mut messages = Vec::new();
    messages.extend(system.map(|system| json!({ "role": "system", "content": system })));
    let content = match images {
        Some(images) => shown(images, &text, "images")?,
        None => json!(text),
    };
    messages.push(json!({ "role": "user", "content": content }));
    let messages = media::messages(Value::Array(messages))?;
    let (form, reading) = offered(None, form, &language, &choice, &mut variables)?;
    let prompt = Prompt::Talk { messages, variables };
    Ok(asking(Endpoint::Generate, Asked { name, prompt, choice, form }, streams, reading))
}

/// An answer in lines.
struct Lines {
    told: Told,
    reading: Reading,
    reader: Reader,
    /// The pieces of calls, which are told whole.
    calls: Vec<Piece>,
    last: Option<Generation>,
}

impl Lines {
    fn line(document: &Value) -> String {
        format!("{document}\n")
    }

    fn pieces(&mut self, pieces: Vec<Piece>) -> String {
        let mut told_so_far = String::new();
        for piece in pieces {
            let reply = match piece {
                Piece::Text(text) => Reply { text, ..Reply::default() },
                Piece::Reasoning(reasoning) => Reply { reasoning, ..Reply::default() },
                call => {
                    self.calls.push(call);
                    continue;
                }
            };
            told_so_far += &Self::line(&self.told.piece(&reply));
        }
        told_so_far
    }
}

impl Teller for Lines {
    fn news(&mut self, _: usize, news: News) -> String {
        match news {
            News::Started { .. } => String::new(),
            News::Token { id, text, .. } => {
                let pieces = self.reader.push(&self.reading.seen(id, text));
                self.pieces(pieces)
            }
            News::Ended { text, generation } => {
                let mut pieces = self.reader.push(&text);
                pieces.extend(self.reader.finish());
                self.last = Some(*generation);
                let mut told_so_far = self.pieces(pieces);
                if !self.calls.is_empty() {
                    let reply = Reply::of(std::mem::take(&mut self.calls));
                    told_so_far += &Self::line(&self.told.piece(&reply));
                }
                told_so_far
            }
        }
    }

    fn end(&mut self, used: Usage) -> String {
        let mut document = self.told.piece(&Reply::default());
        if let Some(generation) = &self.last {
            finish(&mut document, generation, used, self.told.began);
        }
        Self::line(&document)
    }

    fn failed(&mut self, failure: &Failure) -> String {
        Self::line(&ollama(failure))
    }

    fn alive(&self) -> String {
        // A line without a document is skipped by no client, so nothing is sent.
        String::new()
    }
}

/// Ollama's document of a failure.
pub(crate) fn ollama(failure: &Failure) -> Value {
    json!({ "error": failure.message })
}
