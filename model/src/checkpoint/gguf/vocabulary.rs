//! The tokenizer's keys as plain data.

use percept_modalities::text::{GgufVocabulary, TokenKind};

use super::super::error::{Result, damaged};
use super::metadata::Metadata;

/// Tokens or merges of a vocabulary, at most: ten times the largest known.
pub const CAP: usize = 4 << 20;

/// The vocabulary, if there is one.
pub fn read(metadata: &Metadata) -> Result<Option<GgufVocabulary>> {
    let Some(model) = metadata.text("tokenizer.ggml.model")? else { return Ok(None) };
    let tokens = metadata.texts("tokenizer.ggml.tokens", CAP)?;
    if model == "gpt2" && metadata.get("tokenizer.ggml.merges").is_none() {
        let why = "key 'tokenizer.ggml.merges' is not there, without which texts come apart into bytes";
        return Err(damaged(metadata.path(), why));
    }
    let by_id = |key: &str| {
        let values = metadata.numbers(key, CAP)?;
        if !values.is_empty() && values.len() != tokens.len() {
            let why = format!("'{key}' has {} elements for {} tokens", values.len(), tokens.len());
            return Err(damaged(metadata.path(), why));
        }
        Ok(values)
    };
    let id = |key: &str| match metadata.unsigned(key) {
        None => Ok(None),
        Some(id) if id < tokens.len() as u64 => Ok(Some(id as u32)),
        Some(id) => Err(damaged(
            metadata.path(),
            format!("'{key}' is {id}, the vocabulary has {} tokens", tokens.len()),
        )),
    };
    Ok(Some(GgufVocabulary {
        pre: metadata.text("tokenizer.ggml.pre")?.unwrap_or_default(),
        scores: by_id("tokenizer.ggml.scores")?.iter().map(|v| v.float().unwrap_or(0.0) as f32).collect(),
        kinds: by_id("tokenizer.ggml.token_type")?
            .iter()
            .map(|v| TokenKind::from_ggml(v.unsigned().map_or(0, |n| n as i64)))
            .collect(),
        merges: metadata.texts("tokenizer.ggml.merges", CAP)?,
        bos: id("tokenizer.ggml.bos_token_id")?,
        eos: id("tokenizer.ggml.eos_token_id")?,
        pad: id("tokenizer.ggml.padding_token_id")?,
        unk: id("tokenizer.ggml.unknown_token_id")?,
        add_bos: metadata.bool("tokenizer.ggml.add_bos_token"),
        add_eos: metadata.bool("tokenizer.ggml.add_eos_token"),
        add_space_prefix: metadata.bool("tokenizer.ggml.add_space_prefix"),
        model,
        tokens,
    }))
}
