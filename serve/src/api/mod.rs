//! The endpoints, one family of them a file.

pub(crate) mod admin;
pub(crate) mod audio;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod messages;
pub(crate) mod ollama;
pub(crate) mod openapi;
pub(crate) mod responses;
mod responses_events;
pub(crate) mod status;
pub(crate) mod tokens;

use serde_json::{Value, json};

use crate::answers::Usage;
use crate::failure::Failure;
use crate::fields::Fields;

/// Fields of OpenAI's that change nothing of an answer here.
const HARMLESS: [&str; 5] =
    ["user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"];

/// Takes the fields of OpenAI's that change nothing here, where they have values with which they change nothing.
fn harmless(fields: &mut Fields) -> Result<(), Failure> {
    fields.accept(&HARMLESS);
    fields.only("store", &[json!(false)], "the server keeps nothing; leave it out")?;
    fields.only("service_tier", &[json!("auto"), json!("default")], "there is one tier; leave it out")
}

/// `stream` and `stream_options`: whether the answer is streamed, and whether its usage is told at the end.
fn streaming(fields: &mut Fields) -> Result<(bool, bool), Failure> {
    let streams = fields.flag("stream")?.unwrap_or(false);
    let Some(options) = fields.take("stream_options") else { return Ok((streams, false)) };
    if !streams {
        return Err(Failure::field("stream_options", "`stream_options` needs `stream`: true"));
    }
    let mut options = Fields::of(options, "stream_options")?;
    let usage = options.flag("include_usage")?.unwrap_or(false);
    // Padding against those who watch the lengths of packets is not added.
    options.only("include_obfuscation", &[json!(false)], "leave it out")?;
    options.finish()?;
    Ok((streams, usage))
}

/// OpenAI's account of what was read and generated.
fn usage(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt, "completion_tokens": usage.generated,
        "total_tokens": usage.prompt + usage.generated,
        "prompt_tokens_details": { "cached_tokens": usage.cached },
    })
}

/// A line of a stream of server-sent events.
fn event(document: &Value) -> String {
    format!("data: {document}\n\n")
}

/// What ends OpenAI's streams.
const DONE: &str = "data: [DONE]\n\n";
