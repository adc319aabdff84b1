//! `/v1/responses`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use percept_infer::{Finish, Generation};
use percept_modalities::Message;
use serde_json::{Map, Value, json};

use super::responses_events::Events;
use crate::answers::Usage;
use crate::app::Shared;
use crate::clock::unix_seconds;
use crate::constraint::Form;
use crate::conversing::{Ask, Protocol, answer, only};
use crate::core::{Asked, Formed, Prompt, named};
use crate::failure::Failure;
use crate::fields::Fields;
use crate::media;
use crate::observe::{Record, unique};
use crate::reading::{Reading, Reply, offered};
use crate::sampling;
use crate::telling::Teller;
use crate::tools::{ToolChoice, Tools, function_of};

/// Answers a conversation.
pub(crate) async fn responses(
    State(app): State<Shared>,
    Extension(record): Extension<Arc<Record>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    answer(app, record, headers, body, parse).await
}

impl Protocol for Head {
    fn teller(self, reading: Reading, is_thinking: bool) -> impl Teller + 'static {
        let reader = reading.reader(is_thinking);
        Events::new(self, reading, reader)
    }

    fn document(self, replies: Vec<(Reply, Generation)>, used: Usage) -> Result<Value, Failure> {
        let (reply, generation) = only(replies)?;
        Ok(self.ended(output(&reply), &generation, used))
    }
}

/// What all documents of a response have.
pub(crate) struct Head {
    pub id: String,
    created: u64,
    model: String,
    echo: Map<String, Value>,
}

impl Head {
    /// The response as it is in this state.
    pub fn in_state(&self, status: &str, output: Vec<Value>, usage: Value) -> Value {
        let mut document = json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status, "error": null,
            "incomplete_details": null, "model": self.model, "output": output, "usage": usage,
            "previous_response_id": null, "store": false, "background": false, "truncation": "disabled",
            "service_tier": "default",
        });
        for (name, value) in &self.echo {
            document[name] = value.clone();
        }
        document
    }

    /// The response when its answer ended.
    pub fn ended(&self, output: Vec<Value>, generation: &Generation, used: Usage) -> Value {
        let is_cut = generation.finish == Finish::Length;
        let status = if is_cut { "incomplete" } else { "completed" };
        let mut document = self.in_state(status, output, usage(used));
        if is_cut {
            document["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        document
    }
}

fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt, "input_tokens_details": { "cached_tokens": usage.cached },
        "output_tokens": usage.generated, "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": usage.prompt + usage.generated,
    })
}

/// The item of reasoning.
pub(super) fn reasoning_item(id: &str, status: &str, text: Option<&str>) -> Value {
    let content: Vec<Value> =
        text.iter().map(|text| json!({ "type": "reasoning_text", "text": text })).collect();
    json!({ "type": "reasoning", "id": id, "status": status, "summary": [], "content": content })
}

/// The item of a message.
pub(super) fn message_item(id: &str, status: &str, text: Option<&str>) -> Value {
    let content: Vec<Value> = text.iter().map(|text| text_part(text)).collect();
    json!({ "type": "message", "id": id, "status": status, "role": "assistant", "content": content })
}

/// The part of a message that is its text.
pub(super) fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

/// The item of a call.
pub(super) fn call_item(id: &str, status: &str, call: &str, name: &str, arguments: &str) -> Value {
    json!({
        "type": "function_call", "id": id, "status": status, "call_id": call, "name": name, "arguments": arguments,
    })
}

/// The items of an answer.
fn output(reply: &Reply) -> Vec<Value> {
    let mut items = Vec::new();
    if !reply.reasoning.is_empty() {
        items.push(reasoning_item(&format!("rs_{}", unique()), "completed", Some(&reply.reasoning)));
    }
    if !reply.text.is_empty() || reply.calls.is_empty() {
        items.push(message_item(&format!("msg_{}", unique()), "completed", Some(&reply.text)));
    }
    for call in &reply.calls {
        let id = format!("fc_{}", unique());
        items.push(call_item(&id, "completed", &call.id, &call.name, &call.arguments));
    }
    items
}

/// Fields of OpenAI's that change an answer and are not honoured.
const REFUSED: [(&str, &str); 5] = [
    ("conversation", "the server keeps no conversations; send all of it as `input`"),
    ("max_tool_calls", "tools are called by the client"),
    ("moderation", "leave it out"),
    ("previous_response_id", "the server keeps no responses; send the conversation as `input`"),
    ("prompt", "the server keeps no prompts"),
];

/// What a body asks of its model.
pub(crate) fn parse(app: &Shared, mut fields: Fields) -> Result<Ask<Head>, Failure> {
    let (name, language) = named(app, &mut fields)?;
    let mut echo = Map::new();
    let instructions = fields.text("instructions")?;
    let messages = input(&mut fields, instructions.as_deref())?;
    echo.insert("instructions".into(), json!(instructions));
    let choice = sampling::only_choice(&mut fields, &language, &app.limits, "max_output_tokens")?;
    echo.insert("max_output_tokens".into(), json!(choice.options.max_tokens));
    echo.insert("temperature".into(), json!(choice.options.sampling.temperature));
    echo.insert("top_p".into(), json!(choice.options.sampling.top_p));
    let mut variables = super::chat::variables(&mut fields, &language)?;
    let (mut form, mut text) = (None, json!({ "format": { "type": "text" } }));
    if let Some(given) = fields.take("text") {
        text = given.clone();
        form = format(given)?;
    }
    echo.insert("text".into(), text);
    let tools = tools(&mut fields, &mut echo)?;
    let (form, reading) = offered(tools, form, &language, &choice, &mut variables)?;
    let streams = fields.flag("stream")?.unwrap_or(false);
    if let Some(options) = fields.take("stream_options") {
        let mut options = Fields::of(options, "stream_options")?;
        options.only("include_obfuscation", &[json!(false)], "leave it out")?;
        options.finish()?;
    }
    let metadata = fields.take("metadata").unwrap_or_else(|| json!({}));
    echo.insert("metadata".into(), metadata);
    super::harmless(&mut fields)?;
    if let Some(reasoning) = fields.take("reasoning") {
        let mut reasoning = Fields::of(reasoning, "reasoning")?;
        let why = "models are told otherwise: see `chat_template_kwargs`";
        reasoning.refuse(&[
            ("effort", why),
            ("summary", "it is given whole"),
            ("generate_summary", "it is given whole"),
        ])?;
        reasoning.finish()?;
    }
    echo.insert("reasoning".into(), json!({ "effort": null, "summary": null }));
    fields.only("background", &[json!(false)], "the answer is given to its request")?;
    fields.only("include", &[json!([])], "there is nothing more to give")?;
    fields.only("truncation", &[json!("disabled")], "a conversation that is too long is refused")?;
    fields.only("top_logprobs", &[json!(0)], "ask /v1/chat/completions for them")?;
    fields.refuse(&REFUSED)?;
    fields.finish()?;
    let protocol =
        Head { id: format!("resp_{}", unique()), created: unix_seconds(), model: name.clone(), echo };
    let asked = Asked { name, prompt: Prompt::Talk { messages, variables }, choice, form };
    Ok(Ask { asked, streams, reading, protocol })
}

/// `text`: the form of the answer.
fn format(text: Value) -> Result<Option<Formed>, Failure> {
    let mut text = Fields::of(text, "text")?;
    text.only("verbosity", &[json!("medium")], "leave it out")?;
    let format = text.take("format");
    text.finish()?;
    let Some(format) = format else { return Ok(None) };
    let mut format = Fields::of(format, "text.format")?;
    let form = match format.needed_text("type")?.as_str() {
        "text" => None,
        "json_object" => Some(Form::Schema(json!({ "type": "object" }))),
        "json_schema" => Some(Form::schema(&mut format)?),
        _ => {
            return Err(Failure::field(
                "text.format.type",
                "`text.format.type` must be text, json_object or json_schema",
            ));
        }
    };
    format.finish()?;
    Ok(form.map(|form| (form, "text.format")))
}

/// `tools`, `tool_choice` and `parallel_tool_calls`.
fn tools(fields: &mut Fields, echo: &mut Map<String, Value>) -> Result<Option<Tools>, Failure> {
    let (tools, choice) = (fields.take("tools"), fields.take("tool_choice"));
    let parallel = fields.flag("parallel_tool_calls")?;
    echo.insert("tools".into(), tools.clone().unwrap_or_else(|| json!([])));
    echo.insert("tool_choice".into(), choice.clone().unwrap_or_else(|| json!("auto")));
    echo.insert("parallel_tool_calls".into(), json!(parallel.unwrap_or(true)));
    let wrong = || {
        let what = "\"auto\", \"none\", \"required\" or {\"type\": \"function\", \"name\": ...}";
        Failure::field("tool_choice", format!("`tool_choice` must be {what}"))
    };
    let choice = match choice {
        None => ToolChoice::Auto,
        Some(Value::String(word)) => ToolChoice::of_word(&word).ok_or_else(wrong)?,
        Some(object) => {
            let mut object = Fields::of(object, "tool_choice")?;
            if object.text("type")?.as_deref() != Some("function") {
                return Err(wrong());
            }
            let name = object.needed_text("name")?;
            object.finish()?;
            ToolChoice::Named(name)
        }
    };
    let Some(tools) = tools.filter(|tools| tools != &json!([])) else {
        return match choice {
            ToolChoice::Auto | ToolChoice::None => Ok(None),
            _ => Err(Failure::field("tool_choice", "`tool_choice` needs `tools`")),
        };
    };
    let Value::Array(list) = tools else { return Err(Failure::field("tools", "`tools` must be a list")) };
    let read = |(i, tool): (usize, Value)| {
        let mut tool = Fields::of(tool, &format!("tools[{i}]"))?;
        let why = "the server runs no tools of its own; tools are functions of the client's";
        tool.only("type", &[json!("function")], why)?;
        function_of(tool, "parameters")
    };
    let tools = list.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    Tools::of(tools, choice, parallel.unwrap_or(true)).map(Some)
}

/// `input`: a text, or a list of messages, calls and their results.
fn input(fields: &mut Fields, instructions: Option<&str>) -> Result<Vec<Message>, Failure> {
    let mut all = Vec::new();
    all.extend(instructions.map(|text| json!({ "role": "system", "content": text })));
    let items = match fields.take("input").ok_or_else(|| fields.missing("input"))? {
        Value::String(text) => vec![json!({ "role": "user", "content": text })],
        Value::Array(items) if !items.is_empty() => items,
        _ => return Err(Failure::field("input", "`input` must be a text or a list of items, not empty")),
    };
    for (i, item) in items.into_iter().enumerate() {
        let place = format!("input[{i}]");
        let mut item = Fields::of(item, &place)?;
        item.accept(&["id", "status"]);
        let kind = item.text("type")?.unwrap_or_else(|| "message".into());
        match kind.as_str() {
            "message" => {
                let role = item.needed_text("role")?;
                let role = if role == "developer" { "system".into() } else { role };
                let content = item.take("content").ok_or_else(|| item.missing("content"))?;
                all.push(json!({ "role": role, "content": parts(content, &format!("{place}.content"))? }));
            }
            "function_call" => {
                let (call, name) = (item.needed_text("call_id")?, item.needed_text("name")?);
                let function = json!({ "name": name, "arguments": item.needed_text("arguments")? });
                let call = json!({ "id": call, "type": "function", "function": function });
                // Calls of one turn stand together.
                let last = all.last_mut().filter(|last: &&mut Value| last["role"] == "assistant");
                match last.and_then(|last| last.as_object_mut()) {
                    Some(last) => {
                        let calls = last.entry("tool_calls").or_insert_with(|| json!([]));
                        calls.as_array_mut().into_iter().for_each(|calls| calls.push(call.clone()));
                    }
                    None => all.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] })),
                }
            }
            "function_call_output" => {
                let call = item.needed_text("call_id")?;
                let output = item.take("output").ok_or_else(|| item.missing("output"))?;
                let content = parts(output, &format!("{place}.output"))?;
                all.push(json!({ "role": "tool", "tool_call_id": call, "content": content }));
            }
            // What a model thought before is not shown to it again, as its templates do.
            "reasoning" => item.accept(&["summary", "content", "encrypted_content"]),
            _ => {
                let kind: String = kind.chars().take(40).collect();
                return Err(Failure::unsupported(
                    &place,
                    format!("`{place}`: items of type `{kind}` are not supported"),
                ));
            }
        }
        item.finish()?;
    }
    media::messages(Value::Array(all))
}

/// The content of a message, with the names that its parts have in chats.
fn parts(content: Value, place: &str) -> Result<Value, Failure> {
    let list = match content {
        Value::Array(list) => list,
        text => return Ok(text),
    };
    let mut all = Vec::new();
    for (k, part) in list.into_iter().enumerate() {
        let place = format!("{place}[{k}]");
        let mut part = Fields::of(part, &place)?;
        match part.needed_text("type")?.as_str() {
            "input_text" | "output_text" | "text" => {
                all.push(json!({ "type": "text", "text": part.needed_text("text")? }));
                part.accept(&["annotations", "logprobs"]);
            }
            "input_image" => {
                part.only("detail", &[json!("auto")], "leave it out")?;
                part.refuse(&[("file_id", "the server keeps no files; give `image_url`")])?;
                let url = part.needed_text("image_url")?;
                all.push(json!({ "type": "image_url", "image_url": { "url": url } }));
            }
            "input_audio" => {
                let audio = part.take("input_audio").ok_or_else(|| part.missing("input_audio"))?;
                all.push(json!({ "type": "input_audio", "input_audio": audio }));
            }
            kind => {
                let kind: String = kind.chars().take(40).collect();
                let why = format!("`{place}`: parts of type `{kind}` are not supported");
                return Err(Failure::unsupported(&place, why));
            }
        }
        part.finish()?;
    }
    if all.iter().all(|part| part["type"] == "text") {
        return Ok(json!(all.iter().filter_map(|part| part["text"].as_str()).collect::<String>()));
    }
    Ok(Value::Array(all))
}
