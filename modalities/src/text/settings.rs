//! `tokenizer_config.json` and `special_tokens_map.json`.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use tokenizers::AddedToken;

use crate::error::{Error, Result};

/// What the files beside `tokenizer.json` say about a tokenizer.
#[derive(Debug, Clone, Default)]
pub struct TokenizerSettings {
    /// Named special tokens: `bos_token`, `eos_token`, `pad_token`, `image_token` ...; chat templates see
    /// them too.
    pub tokens: BTreeMap<String, String>,
    /// The longest input that the model takes, where the file says one.
    pub model_max_length: Option<usize>,
    /// `left` or `right` (the default).
    pub pad_left: bool,
    /// `added_tokens_decoder`, by number: these tokens with these flags, whatever `tokenizer.json` says of
    /// them.
    pub(super) numbered: Vec<AddedToken>,
    /// Named and extra tokens, which must exist, in the order in which missing ones are given numbers.
    pub(super) added: Vec<AddedToken>,
    /// `chat_template`: one text, or a list of named ones.
    pub(super) chat_template: Option<Value>,
}

impl TokenizerSettings {
    /// Reads the files that exist.
    ///
    /// # Errors
    /// When one is not a JSON object.
    pub fn read(
        tokenizer_config: Option<&[u8]>,
        special_tokens_map: Option<&[u8]>,
    ) -> Result<TokenizerSettings> {
        let mut settings = TokenizerSettings::default();
        if let Some(bytes) = tokenizer_config {
            let config = object("tokenizer_config.json", bytes)?;
            if config.get("split_special_tokens").and_then(Value::as_bool) == Some(true) {
                return Err(Error::Config {
                    file: "tokenizer_config.json".into(),
                    why: "split_special_tokens is true: special tokens in texts are to be cut up like other words, which is \
                          not done here; remove it if they are tokens in the texts"
                        .into(),
                });
            }
            settings.model_max_length =
                config.get("model_max_length").and_then(Value::as_u64).map(|n| n as usize);
            settings.pad_left = config.get("padding_side").and_then(Value::as_str) == Some("left");
            settings.chat_template = config.get("chat_template").cloned();
            settings.take_tokens(&config);
        }
        // As in transformers, the older file counts where the newer one does not list the tokens itself.
        if let Some(bytes) = special_tokens_map.filter(|_| settings.numbered.is_empty()) {
            settings.take_tokens(&object("special_tokens_map.json", bytes)?);
        }
        Ok(settings)
    }

    /// Tokens by name, those listed as special, and those with numbers; what is known already stays.
    fn take_tokens(&mut self, file: &serde_json::Map<String, Value>) {
        let mut numbered: Vec<(u64, AddedToken)> = Vec::new();
        if let Some(Value::Object(entries)) = file.get("added_tokens_decoder") {
            for (id, entry) in entries {
                if let (Ok(id), Some(token)) = (id.parse(), added_token(entry)) {
                    numbered.push((id, token));
                }
            }
        }
        numbered.sort_by_key(|(id, _)| *id);
        self.numbered.extend(numbered.into_iter().map(|(_, token)| token));
        for (name, value) in file {
            if let (true, Some(token)) = (name.ends_with("_token"), added_token(value)) {
                self.tokens.entry(name.clone()).or_insert_with(|| token.content.clone());
                self.added.push(AddedToken { special: true, ..token });
            }
        }
        for key in ["extra_special_tokens", "additional_special_tokens"] {
            match file.get(key) {
                Some(Value::Array(tokens)) => self.added.extend(
                    tokens.iter().filter_map(added_token).map(|token| AddedToken { special: true, ..token }),
                ),
                // A map gives names to tokens.
                Some(Value::Object(tokens)) => self.take_tokens(tokens),
                _ => {}
            }
        }
    }

    /// The tokens to add to a tokenizer that has these: those with other flags, and those that are missing.
    pub(super) fn to_add<'k>(&self, known: impl Iterator<Item = &'k AddedToken>) -> Vec<AddedToken> {
        let mut contents = HashMap::new();
        for token in known {
            contents.insert(token.content.clone(), token.clone());
        }
        let named: HashSet<&String> = self.tokens.values().collect();
        let mut all: Vec<AddedToken> = Vec::new();
        for token in &self.numbered {
            if contents.get(&token.content) != Some(token) {
                let special = token.special || named.contains(&token.content);
                all.push(AddedToken { special, ..token.clone() });
                contents.insert(token.content.clone(), token.clone());
            }
        }
        for token in &self.added {
            if !contents.contains_key(&token.content) {
                all.push(token.clone());
                contents.insert(token.content.clone(), token.clone());
            }
        }
        all
    }
}

/// A token written as its text or as an object with flags.
fn added_token(value: &Value) -> Option<AddedToken> {
    if let Some(content) = value.as_str() {
        return Some(AddedToken::from(content, true));
    }
    let content = value.get("content")?.as_str()?;
    let flag = |name: &str, default: bool| value.get(name).and_then(Value::as_bool).unwrap_or(default);
    let special = flag("special", false);
    Some(
        AddedToken::from(content, special)
            .single_word(flag("single_word", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .normalized(flag("normalized", !special)),
    )
}

/// The JSON object in a file.
pub(super) fn object(file: &str, bytes: &[u8]) -> Result<serde_json::Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Error::Config { file: file.into(), why: "it must hold a JSON object".into() }),
        Err(error) => Err(Error::Config { file: file.into(), why: format!("it is not JSON: {error}") }),
    }
}
