//! Chat templates: Jinja as transformers' `apply_chat_template` sets it up.
//!
//! Blocks are trimmed and stripped; `raise_exception`, `strftime_now`, loop controls, `{% generation %}` and Python's
//! methods of strings, lists and dictionaries exist; values print as Python prints them. A template comes from outside,
//! so the steps it may take are counted.

mod python;

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value, ValueKind};
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;

use super::settings::{TokenizerSettings, object};
use crate::error::{Error, Result};

/// Steps that one rendering may take; a long conversation takes some hundred thousand.
const FUEL: u64 = 50_000_000;
/// Name under which the template is known.
const NAME: &str = "chat template";

/// A template that turns a conversation into a prompt.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
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
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(fault)?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(python::method);
        environment.set_formatter(|output, _, value| {
            if let Some(text) = value.as_str() {
                return Ok(output.write_str(text)?);
            }
            Ok(output.write_str(&python::to_str(value)?)?)
        });
        environment.add_filter("tojson", to_json);
        environment.add_filter("string", |value: &Value| python::to_str(value));
        environment.add_test("sequence", |value: &Value| {
            matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map | ValueKind::Undefined)
        });
        environment.add_test("iterable", |value: &Value| {
            value.kind() == ValueKind::String || value.try_iter().is_ok()
        });
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", |format: &str| {
            let now = jiff::Zoned::now();
            jiff::fmt::strtime::format(format, &now)
                .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))
        });
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(fault)?;
        Ok(ChatTemplate { environment, source: source.to_owned(), tokens })
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
    /// # Errors
    /// When the template refuses the messages, or takes too many steps.
    pub fn render(
        &self,
        messages: &(impl Serialize + ?Sized),
        add_generation_prompt: bool,
        variables: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<String> {
        let mut context: BTreeMap<&str, Value> =
            self.tokens.iter().map(|(name, token)| (name.as_str(), Value::from(token.as_str()))).collect();
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        context.extend(variables.iter().map(|(name, value)| (name.as_str(), Value::from(Serde(value)))));
        context.insert("messages", Value::from(Serde(messages)));
        context.insert("add_generation_prompt", Value::from(add_generation_prompt));
        self.environment.get_template(NAME).map_err(fault)?.render(context).map_err(fault)
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// `{% generation %}` marks what an assistant says for training. Its contents are a scope of their own, as in
/// `{% with %}`.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = ["{{", "{%", "{#"].iter().filter_map(|open| rest.find(open)).min() {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let length = tag_length(tag);
        let (tag, after) = tag.split_at(length);
        let word = tag.trim_start_matches(['{', '%', '-', '+']).trim_end_matches(['}', '%', '-', '+']).trim();
        match word {
            "generation" if tag.starts_with("{%") => out.push_str(&tag.replacen(word, "with", 1)),
            "endgeneration" if tag.starts_with("{%") => out.push_str(&tag.replacen(word, "endwith", 1)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out + rest
}

/// Bytes up to the end of the tag, expression or comment at the start of `text`; its strings may hold other tags.
fn tag_length(text: &str) -> usize {
    let close = match &text[..2] {
        "{{" => "}}",
        "{%" => "%}",
        _ => return text.find("#}").map_or(text.len(), |at| at + 2),
    };
    let mut quote = None;
    let mut characters = text.char_indices().skip(2);
    while let Some((at, c)) = characters.next() {
        match (quote, c) {
            (Some(_), '\\') => {
                characters.next();
            }
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, _) if text[at..].starts_with(close) => return at + 2,
            _ => {}
        }
    }
    text.len()
}

/// transformers' `tojson`: Python's `json.dumps` without HTML escapes.
fn to_json(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let json = python::Json::new(&options)?;
    options.assert_all_used()?;
    json.dump(value)
}

/// An error of the template engine, with its place.
fn fault(error: minijinja::Error) -> Error {
    let place = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    Error::Prompt(format!("{NAME}{place}: {what}"))
}
