//! `generation_config.json`: how a checkpoint's makers recommend to generate.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::sampler::Sampling;

/// transformers' own default where tokens are drawn and no value is given.
const TOP_K: usize = 50;

/// The recommendations, with transformers' defaults for what they leave out.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommended {
    /// Whether tokens are drawn, and not the most likely taken.
    pub draws: bool,
    /// Tokens of the continuation at most.
    pub max_new_tokens: Option<usize>,
    /// Tokens of prompt and continuation at most; `max_new_tokens` comes before it.
    pub max_length: Option<usize>,
    /// Texts that end a continuation.
    pub stop: Vec<String>,
    /// Fields that have no effect here.
    pub ignored: Vec<String>,
    /// As if tokens were drawn.
    drawn: Sampling,
}

/// Fields that do not change what is generated, or that are read elsewhere.
const OTHER: [&str; 42] = [
    "_commit_hash",
    "_from_model_config",
    "_name_or_path",
    "transformers_version",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "use_cache",
    "cache_implementation",
    "cache_config",
    "max_cache_len",
    "return_legacy_cache",
    "early_stopping",
    "length_penalty",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "assistant_confidence_threshold",
    "assistant_lookbehind",
    "target_lookbehind",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "is_assistant",
    "max_matching_ngram_size",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "compile_config",
    "disable_compile",
    "continuous_batching_config",
    "low_memory",
    "prefill_chunk_size",
    "speculation_type",
    "renormalize_logits",
    "trust_remote_code",
    "chat_format",
    "max_window_size",
    "user_token_id",
    "assistant_token_id",
    "do_sample",
];

/// Values of fields that are not supported with which they change nothing.
const NEUTRAL: [(&str, f64); 6] = [
    ("num_beams", 1.0),
    ("num_beam_groups", 1.0),
    ("diversity_penalty", 0.0),
    ("guidance_scale", 1.0),
    ("num_return_sequences", 1.0),
    ("penalty_alpha", 0.0),
];

/// The fields of a file, each taken once.
struct Fields(Map<String, Value>);

impl Fields {
    fn take<T>(&mut self, name: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(&value) {
                Some(read) => Ok(Some(read)),
                None => {
                    Err(Error::Setting(format!("generation_config.json: {name} must be {what}, not {value}")))
                }
            },
        }
    }

    fn number(&mut self, name: &str, default: f32) -> Result<f32> {
        let read = |v: &Value| v.as_f64().map(|v| v as f32);
        Ok(self.take(name, "a number", read)?.unwrap_or(default))
    }

    fn count(&mut self, name: &str) -> Result<Option<usize>> {
        self.take(name, "a whole number", |v| v.as_u64().and_then(|v| usize::try_from(v).ok()))
    }

    fn ids(&mut self, name: &str) -> Result<Vec<i32>> {
        Ok(self.take(name, "a list of token ids", ids)?.unwrap_or_default())
    }
}

fn id(value: &Value) -> Option<i32> {
    value.as_i64().and_then(|id| i32::try_from(id).ok())
}

/// One id, or a list of them.
fn ids(value: &Value) -> Option<Vec<i32>> {
    match value {
        Value::Array(list) => list.iter().map(id).collect(),
        one => id(one).map(|id| vec![id]),
    }
}

/// `[[ids, bias], ...]`.
fn biases(value: &Value) -> Option<Vec<(Vec<i32>, f32)>> {
    let pair = |pair: &Value| match pair.as_array()?.as_slice() {
        [sequence @ Value::Array(_), bias] => {
            Some((ids(sequence).filter(|ids| !ids.is_empty())?, bias.as_f64()? as f32))
        }
        _ => None,
    };
    value.as_array()?.iter().map(pair).collect()
}

fn words(value: &Value) -> Option<Vec<Vec<i32>>> {
    let word = |word: &Value| ids(word).filter(|ids| word.is_array() && !ids.is_empty());
    value.as_array()?.iter().map(word).collect()
}

fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

fn decay(value: &Value) -> Option<(usize, f64)> {
    match value.as_array()?.as_slice() {
        [start, factor] => Some((start.as_u64()? as usize, factor.as_f64()?)),
        _ => None,
    }
}

impl Recommended {
    /// Reads the bytes of the file.
    ///
    /// # Errors
    /// When it is no JSON object, or a field has a value of another kind.
    pub fn read(file: &[u8]) -> Result<Recommended> {
        let wrong = |why: String| Error::Setting(format!("generation_config.json: {why}"));
        let map: Map<String, Value> =
            serde_json::from_slice(file).map_err(|error| wrong(error.to_string()))?;
        let mut f = Fields(map);
        let draws = f.take("do_sample", "true or false", Value::as_bool)?.unwrap_or(false);
        let mut drawn = Sampling {
            sequence_bias: f
                .take("sequence_bias", "a list of [[token ids], bias]", biases)?
                .unwrap_or_default(),
            encoder_repetition_penalty: f.number("encoder_repetition_penalty", 1.0)?,
            repetition_penalty: f.number("repetition_penalty", 1.0)?,
            no_repeat_ngram_size: f.count("no_repeat_ngram_size")?.unwrap_or(0),
            encoder_no_repeat_ngram_size: f.count("encoder_no_repeat_ngram_size")?.unwrap_or(0),
            bad_words: f.take("bad_words_ids", "a list of lists of token ids", words)?.unwrap_or_default(),
            min_length: f.count("min_length")?.unwrap_or(0),
            min_new_tokens: f.count("min_new_tokens")?.unwrap_or(0),
            forced_first: f.take("forced_bos_token_id", "a token id", id)?,
            forced_last: f.ids("forced_eos_token_id")?,
            remove_invalid: f
                .take("remove_invalid_values", "true or false", Value::as_bool)?
                .unwrap_or(false),
            exponential_decay: f.take("exponential_decay_length_penalty", "a pair [start, factor]", decay)?,
            suppressed: f.ids("suppress_tokens")?,
            suppressed_first: f.ids("begin_suppress_tokens")?,
            temperature: f.number("temperature", 1.0)?,
            top_k: f.count("top_k")?.unwrap_or(TOP_K),
            top_p: f.number("top_p", 1.0)?,
            min_p: f.number("min_p", 0.0)?,
            typical_p: f.number("typical_p", 1.0)?,
            epsilon_cutoff: f.number("epsilon_cutoff", 0.0)?,
            eta_cutoff: f.number("eta_cutoff", 0.0)?,
            ..Sampling::default()
        };
        if drawn.min_new_tokens > 0 {
            drawn.min_length = 0;
        }
        let max_new_tokens = f.count("max_new_tokens")?;
        let max_length = f.count("max_length")?;
        let stop = f.take("stop_strings", "a text or a list of texts", texts)?.unwrap_or_default();
        let neutral = |name: &str, value: &Value| {
            let off = value.is_null() || *value == Value::Bool(false) || *value == Value::Array(Vec::new());
            off || NEUTRAL.iter().any(|(known, number)| *known == name && value.as_f64() == Some(*number))
        };
        let left =
            f.0.into_iter().filter(|(name, value)| !OTHER.contains(&name.as_str()) && !neutral(name, value));
        let ignored = left.map(|(name, _)| name).collect();
        Ok(Recommended { draws, max_new_tokens, max_length, stop, ignored, drawn })
    }

    /// The sampling that the file recommends: the most likely token unless it sets `do_sample`.
    pub fn sampling(&self) -> Sampling {
        if self.draws {
            return self.drawn();
        }
        Sampling { temperature: 0.0, ..self.drawn.clone() }
    }

    /// The sampling that it recommends where tokens are drawn, whether it sets `do_sample` or not.
    pub fn drawn(&self) -> Sampling {
        self.drawn.clone()
    }
}

impl Default for Recommended {
    /// What transformers does without a file.
    fn default() -> Self {
        Recommended {
            draws: false,
            max_new_tokens: None,
            max_length: None,
            stop: Vec::new(),
            ignored: Vec::new(),
            drawn: Sampling { temperature: 1.0, top_k: TOP_K, ..Sampling::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_transformers() {
        let read = |json: &str| Recommended::read(json.as_bytes()).unwrap();
        assert_eq!(read("{}"), Recommended::default());
        assert_eq!(read("{}").sampling().temperature, 0.0);
        let drawn = read(r#"{"do_sample": true, "top_p": 0.9}"#).sampling();
        assert_eq!((drawn.temperature, drawn.top_k, drawn.top_p), (1.0, 50, 0.9));
        assert_eq!(read(r#"{"do_sample": true, "top_k": 0}"#).sampling().top_k, 0);
        assert_eq!(read(r#"{"stop_strings": "x"}"#).stop, ["x"]);
        let lengths = read(r#"{"max_length": 20, "max_new_tokens": 5, "forced_eos_token_id": [1, 2]}"#);
        assert_eq!((lengths.max_length, lengths.max_new_tokens), (Some(20), Some(5)));
        assert_eq!(lengths.sampling().forced_last, [1, 2]);
    }

    #[test]
    fn what_has_no_effect_is_named_and_what_is_wrong_is_refused() {
        let json = r#"{"num_beams": 4, "penalty_alpha": 0.6, "guidance_scale": 1.5, "frobnicate": 1, "num_beam_groups": 1,
            "use_cache": true, "top_h": null, "token_healing": false, "eos_token_id": 2, "forced_decoder_ids": []}"#;
        let mut ignored = Recommended::read(json.as_bytes()).unwrap().ignored;
        ignored.sort();
        assert_eq!(ignored, ["frobnicate", "guidance_scale", "num_beams", "penalty_alpha"]);
        for wrong in [
            r#"{"top_k": "many"}"#,
            r#"{"suppress_tokens": "a"}"#,
            r#"{"bad_words_ids": [1]}"#,
            r#"{"sequence_bias": [[1, 2]]}"#,
            r#"{"min_length": -1}"#,
            r#"{"do_sample": 1}"#,
            "[]",
            "{",
        ] {
            assert!(Recommended::read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
