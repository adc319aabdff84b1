//! Chat templates: Jinja as transformers' `apply_chat_template` sets it up.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::jinja::{Fault, Template};
use super::settings::{TokenizerSettings, object};
use crate::error::{Error, Result};

/// Name under which the template is known.
const NAME: &str = "chat template";
/// Names that a message's reasoning goes by; the first is the one that most templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A template that turns a conversation into a prompt.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    template: Template,
    source: String,
    /// Special tokens by name, which templates read as variables.
    tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// From a template's text and the special tokens that it may name (`bos_token`, `eos_token` ...).
    ///
    /// # Errors
    /// When the text is not a template.
    pub fn new(source: &str, tokens: BTreeMap<String, String>) -> Result<ChatTemplate> {
        let template = Template::parse(source).map_err(fault)?;
        Ok(ChatTemplate { template, source: source.to_owned(), tokens })
    }

    /// From the files of a checkpoint: `chat_template.jinja`, `chat_template.json`, or the text in
    /// `tokenizer_config.json`, where a list of named templates offers the one called `default`. `file` gives a file's
    /// bytes, or `None` when there is no such file.
    ///
    /// # Errors
    /// When a file cannot be read or is wrong.
    pub fn find<E: From<Error>>(
        file: impl Fn(&str) -> std::result::Result<Option<Vec<u8>>, E>,
    ) -> std::result::Result<Option<ChatTemplate>, E> {
        let config = file("tokenizer_config.json")?;
        let map = file("special_tokens_map.json")?;
        let settings = TokenizerSettings::read(config.as_deref(), map.as_deref())?;
        if let Some(bytes) = file("chat_template.jinja")? {
            let source = String::from_utf8(bytes).map_err(|_| Error::Config {
                file: "chat_template.jinja".into(),
                why: "it is not UTF-8".into(),
            })?;
            return Ok(Some(ChatTemplate::new(&source, settings.tokens)?));
        }
        if let Some(bytes) = file("chat_template.json")?
            && let Some(template) = object("chat_template.json", &bytes)?.remove("chat_template")
        {
            let settings = TokenizerSettings { chat_template: Some(template), ..settings };
            return Ok(ChatTemplate::from_settings(&settings)?);
        }
        Ok(ChatTemplate::from_settings(&settings)?)
    }

    /// Adds special tokens that the template's own files do not name, as those of a GGUF file do not.
    pub fn with_tokens(mut self, tokens: &BTreeMap<String, String>) -> ChatTemplate {
        for (name, token) in tokens {
            self.tokens.entry(name.clone()).or_insert_with(|| token.clone());
        }
        self
    }

    /// The template that a tokenizer's settings hold.
    ///
    /// # Errors
    /// When it is not a template.
    pub fn from_settings(settings: &TokenizerSettings) -> Result<Option<ChatTemplate>> {
        let source = match &settings.chat_template {
            None | Some(serde_json::Value::Null) => return Ok(None),
            Some(serde_json::Value::String(source)) => Some(source.as_str()),
            // A list of {"name", "template"}, or an object of templates by name.
            Some(serde_json::Value::Array(list)) => list
                .iter()
                .find(|entry| entry.get("name").is_some_and(|name| name == "default"))
                .and_then(|entry| entry.get("template")?.as_str()),
            Some(other) => other.get("default").and_then(serde_json::Value::as_str),
        };
        let source = source.ok_or_else(|| Error::Config {
            file: "tokenizer_config.json".into(),
            why: "chat_template holds neither a text nor a template called `default`".into(),
        })?;
        Ok(Some(ChatTemplate::new(source, settings.tokens.clone())?))
    }

    /// The prompt of a conversation. `messages` is anything that serializes to a list of messages; `variables` are what
    /// the template reads beyond them (`tools`, `enable_thinking` ...).
    ///
    /// As in transformers, what is null in a message is left out, and its reasoning goes by all the names that templates
    /// know it by.
    ///
    /// # Errors
    /// When the template refuses the messages, or takes too many steps or too much memory.
    pub fn render(
        &self,
        messages: &(impl Serialize + ?Sized),
        add_generation_prompt: bool,
        variables: &Map<String, Value>,
    ) -> Result<String> {
        let mut messages = serde_json::to_value(messages)
            .map_err(|error| Error::Prompt(format!("the messages: {error}")))?;
        if let Value::Array(messages) = &mut messages {
            messages.iter_mut().filter_map(Value::as_object_mut).for_each(as_templates_know);
        }
        let tokens = self.tokens.iter().map(|(name, token)| (name.clone(), Value::from(token.as_str())));
        let mut context: Map<String, Value> = tokens.collect();
        context.insert("tools".into(), Value::Null);
        context.insert("documents".into(), Value::Null);
        context.extend(variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        context.insert("messages".into(), messages);
        context.insert("add_generation_prompt".into(), Value::from(add_generation_prompt));
        self.template.render(&context).map_err(fault)
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// A message without what is null, and with its reasoning under every name.
fn as_templates_know(message: &mut Map<String, Value>) {
    message.retain(|_, value| !value.is_null());
    let Some(reasoning) = REASONING.iter().find_map(|name| message.get(*name)).cloned() else { return };
    if !message.contains_key("thinking") {
        // The first of all, as transformers puts it.
        let rest = std::mem::take(message);
        message.insert("thinking".into(), reasoning.clone());
        message.extend(rest);
    }
    message.insert("reasoning_content".into(), reasoning);
}

fn fault(fault: Fault) -> Error {
    let between = if fault.line.is_some() { ", " } else { ": " };
    Error::Prompt(format!("{NAME}{between}{fault}"))
}
