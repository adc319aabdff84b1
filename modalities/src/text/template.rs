//! Chat templates: Jinja as transformers' `apply_chat_template` sets it up.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use super::jinja::{Fault, Template};
use super::settings::{TokenizerSettings, object};
use crate::error::{Error, Result};

/// Name under which the template is known.
const NAME: &str = "chat template";
/// The template that transformers' tokenizers take for a conversation with tools, where there is one of this name.
const TOOL_USE: &str = "tool_use";
/// The file of that template beside `chat_template.jinja`.
pub const TOOL_USE_FILE: &str = "additional_chat_templates/tool_use.jinja";
/// Names that a message's reasoning goes by; the first is the one that most templates read.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A template that turns a conversation into a prompt.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    template: Template,
    /// The one for conversations with tools, where it is another.
    tool_use: Option<Template>,
    source: String,
    /// The names and texts in the code of both.
    words: BTreeSet<String>,
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
        let words = Template::words(source).map_err(fault)?;
        Ok(ChatTemplate { template, tool_use: None, source: source.to_owned(), words, tokens })
    }

    /// Takes another template for conversations with tools.
    ///
    /// # Errors
    /// When the text is not a template.
    pub fn with_tool_use(mut self, source: Option<&str>) -> Result<ChatTemplate> {
        self.tool_use = source.map(|source| Template::parse(source).map_err(fault)).transpose()?;
        self.words.extend(source.map(Template::words).transpose().map_err(fault)?.into_iter().flatten());
        Ok(self)
    }

    /// From the files of a checkpoint: `chat_template.jinja`, `chat_template.json`, or the text in
    /// `tokenizer_config.json`, where a list of named templates offers the one called `default`, and the one called
    /// `tool_use` for conversations with tools; beside `chat_template.jinja` that one has a file of its own. `file` gives a
    /// file's bytes, or `None` when there is no such file.
    ///
    /// # Errors
    /// When a file cannot be read or is wrong.
    pub fn find<E: From<Error>>(
        file: impl Fn(&str) -> std::result::Result<Option<Vec<u8>>, E>,
    ) -> std::result::Result<Option<ChatTemplate>, E> {
        let config = file("tokenizer_config.json")?;
        let map = file("special_tokens_map.json")?;
        let settings = TokenizerSettings::read(config.as_deref(), map.as_deref())?;
        let text = |name: &str| match file(name)? {
            None => Ok::<_, E>(None),
            Some(bytes) => {
                let why = "it is not UTF-8".into();
                Ok(Some(String::from_utf8(bytes).map_err(|_| Error::Config { file: name.into(), why })?))
            }
        };
        if let Some(source) = text("chat_template.jinja")? {
            let template = ChatTemplate::new(&source, settings.tokens)?;
            return Ok(Some(template.with_tool_use(text(TOOL_USE_FILE)?.as_deref())?));
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
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(source)) => Some(source.as_str()),
            Some(several) => named(several, "default"),
        };
        let source = source.ok_or_else(|| Error::Config {
            file: "tokenizer_config.json".into(),
            why: "chat_template holds neither a text nor a template called `default`".into(),
        })?;
        let template = ChatTemplate::new(source, settings.tokens.clone())?;
        let tool_use = settings.chat_template.as_ref().and_then(|several| named(several, TOOL_USE));
        Ok(Some(template.with_tool_use(tool_use)?))
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
        let with_tools = context.get("tools").is_some_and(|tools| !tools.is_null());
        let template = self.tool_use.as_ref().filter(|_| with_tools).unwrap_or(&self.template);
        template.render(&context).map_err(fault)
    }

    /// Whether a variable, or a field of a message, of this name may be read: whether the code of the template, or of the
    /// one for conversations with tools, has the name.
    pub fn reads(&self, name: &str) -> bool {
        self.words.contains(name)
    }

    /// That tools among these variables are read. Where the template knows none, transformers leaves them aside, and the
    /// model never sees them.
    ///
    /// # Errors
    /// When there are tools and the template does not name them.
    pub fn check_tools(&self, variables: &Map<String, Value>) -> Result<()> {
        let are_some =
            variables.get("tools").and_then(Value::as_array).is_some_and(|tools| !tools.is_empty());
        if !are_some || self.tool_use.is_some() || self.reads("tools") {
            return Ok(());
        }
        let why =
            "the model's chat template knows no tools, so that the model would not see them; leave them out";
        Err(Error::Prompt(why.into()))
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// One template of a list of {"name", "template"}, or of an object of templates by name; the last of its name, as in
/// Python.
fn named<'v>(several: &'v Value, name: &str) -> Option<&'v str> {
    match several {
        Value::Array(list) => {
            let found = list.iter().rev().find(|entry| entry.get("name").is_some_and(|own| own == name));
            found.and_then(|entry| entry.get("template")?.as_str())
        }
        other => other.get(name).and_then(Value::as_str),
    }
}

/// A message without what is null, and with its reasoning under every name.
fn as_templates_know(message: &mut Map<String, Value>) {
    message.retain(|_, value| !value.is_null());
    let Some(reasoning) = REASONING.iter().find_map(|name| message.get(*name)).cloned() else { return };
    // The first of all, as transformers puts it.
    let mut rest = std::mem::take(message);
    let thinking = rest.shift_remove("thinking").unwrap_or_else(|| reasoning.clone());
    message.insert("thinking".into(), thinking);
    message.extend(rest);
    message.insert("reasoning_content".into(), reasoning);
}

fn fault(fault: Fault) -> Error {
    let between = if fault.line.is_some() { ", " } else { ": " };
    Error::Prompt(format!("{NAME}{between}{fault}"))
}
