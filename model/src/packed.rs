//! The folder that sentence-transformers writes: what its files say beside those of transformers.

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::text_encoder::Pooling;
use crate::weights::Weights;

/// What the files of sentence-transformers say beside those of transformers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Packed {
    /// Which rows stand for a text; `None` where the files do not say.
    pub pooling: Option<Pooling>,
    /// Tokens of a text, those that begin and end it included; longer texts are cut.
    pub length: Option<usize>,
    /// Put before every text.
    pub instruction: String,
}

impl Packed {
    /// Reads them from beside the weights; a model without them has none.
    ///
    /// # Errors
    /// When one is damaged, or asks for a module or a way of pooling that is not run here, naming it.
    pub fn read(weights: &Weights) -> Result<Self> {
        let json = |name: &str| -> Result<Option<Value>> {
            let Some(bytes) = weights.checkpoint().file(name)? else { return Ok(None) };
            let value = serde_json::from_slice(&bytes);
            value
                .map(Some)
                .map_err(|e| Error::Content { file: name.into(), why: format!("it is no JSON: {e}") })
        };
        let mut packed = Self::default();
        let wrong = |why: String| Error::Content { file: "modules.json".into(), why };
        let modules = json("modules.json")?.unwrap_or(Value::Null);
        for module in modules.as_array().into_iter().flatten() {
            let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or("");
            let kind = text("type").rsplit('.').next().unwrap_or("");
            match kind {
                // Every embedding has length one here.
                "Transformer" | "Normalize" => {}
                "Pooling" => {
                    let name = format!("{}/config.json", text("path"));
                    let file = json(&name)?
                        .ok_or_else(|| wrong(format!("it names the file {name}, which is not there")))?;
                    packed.pooling = Some(pooling(&Config::new(&name, &file, json!({}))?)?);
                }
                other => {
                    let known = "Transformer, Pooling, Normalize";
                    return Err(wrong(format!("it has a module of type '{other}'; known: {known}")));
                }
            }
        }
        if let Some(file) = json("sentence_bert_config.json")? {
            let c = Config::new("sentence_bert_config.json", &file, json!({}))?;
            packed.length = c.maybe_usize("max_seq_length")?;
            if c.flag("do_lower_case")? {
                return Err(
                    c.error("do_lower_case", "is true; the tokenizer must write texts in lower case itself")
                );
            }
            if packed.length.is_some_and(|length| length < 3) {
                return Err(c.error("max_seq_length", "leaves no room for a text"));
            }
        }
        if let Some(file) = json("config_sentence_transformers.json")? {
            let c = Config::new("config_sentence_transformers.json", &file, json!({}))?;
            if c.get("default_prompt_name").is_some() {
                let prompts = c.section("prompts", json!({}))?;
                packed.instruction = prompts.text(c.text("default_prompt_name")?)?.to_string();
            }
        }
        Ok(packed)
    }
}

/// The one way of pooling that a module's file asks for, by either of its spellings.
fn pooling(c: &Config) -> Result<Pooling> {
    if c.get("include_prompt").is_some_and(|v| v == false) {
        return Err(c.error("include_prompt", "is false: rows of an instruction are pooled with the text's"));
    }
    let known = "cls, mean, lasttoken";
    let by_name = |key: &str, name: &str| match name {
        "cls" => Ok(Pooling::First),
        "mean" => Ok(Pooling::Mean),
        "lasttoken" => Ok(Pooling::Last),
        other => Err(c.error(key, &format!("is '{other}'; known: {known}"))),
    };
    if c.get("pooling_mode").is_some() {
        return by_name("pooling_mode", c.text("pooling_mode")?);
    }
    let mut found = None;
    for (key, name) in [
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_lasttoken", "lasttoken"),
        ("pooling_mode_max_tokens", "max"),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
        ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ] {
        if c.flag(key)? && found.replace(by_name(key, name)?).is_some() {
            return Err(c.error(key, "is true beside another; one way of pooling is run at a time"));
        }
    }
    Ok(found.unwrap_or(Pooling::Mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_of_pooling_is_read_and_the_others_are_refused_by_key() {
        let of = |file: Value| pooling(&Config::new("1_Pooling/config.json", &file, json!({})).unwrap());
        let mean = json!({ "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true });
        assert_eq!(of(mean).unwrap(), Pooling::Mean);
        assert_eq!(of(json!({ "pooling_mode_cls_token": true })).unwrap(), Pooling::First);
        assert_eq!(of(json!({ "pooling_mode": "lasttoken" })).unwrap(), Pooling::Last);
        for (file, key) in [
            (json!({ "pooling_mode_max_tokens": true }), "pooling_mode_max_tokens"),
            (json!({ "pooling_mode": "max" }), "pooling_mode"),
            (json!({ "include_prompt": false }), "include_prompt"),
            (
                json!({ "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true }),
                "pooling_mode_mean_tokens",
            ),
        ] {
            let e = of(file).unwrap_err().to_string();
            assert!(e.starts_with(&format!("1_Pooling/config.json: '{key}'")), "{e}");
        }
    }
}
