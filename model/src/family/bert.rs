//! BERT, RoBERTa and XLM-RoBERTa as embedders of texts, in the folder that sentence-transformers writes.

use serde_json::{Value, json};

use crate::block::{Attention, Biases, BlockSpec, Mlp, Norm, Norms, Stack};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::family::Model;
use crate::names;
use crate::text::tokenizer;
use crate::text_encoder::{Pooling, TextEncoder};
use crate::weights::Weights;

/// A BERT checkpoint.
///
/// # Errors
/// When the configuration, the files of sentence-transformers and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    encoder(c, weights, [30522, 0], false)
}

/// A RoBERTa or XLM-RoBERTa checkpoint, whose positions begin behind that of padding.
///
/// # Errors
/// As [`open`].
pub fn open_roberta(c: &Config, weights: Weights) -> Result<Model> {
    encoder(c, weights, [50265, 1], true)
}

fn encoder(
    c: &Config,
    weights: Weights,
    [vocab, padding]: [usize; 2],
    behind_padding: bool,
) -> Result<Model> {
    let c = c.over(json!({
        "vocab_size": vocab, "pad_token_id": padding, "hidden_size": 768, "num_hidden_layers": 12,
        "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu",
        "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
    }));
    if c.text("position_embedding_type")? != "absolute" {
        return Err(
            c.error("position_embedding_type", "must be absolute: relative positions are not run here")
        );
    }
    for key in ["is_decoder", "add_cross_attention"] {
        if c.flag(key)? {
            return Err(c.error(key, "is true: this family is run as an encoder that embeds texts"));
        }
    }
    let (hidden, heads) = (c.positive("hidden_size")?, c.positive("num_attention_heads")?);
    if !hidden.is_multiple_of(heads) {
        let why = format!("is {heads}, which does not divide hidden_size, {hidden}");
        return Err(c.error("num_attention_heads", &why));
    }
    let positions = c.positive("max_position_embeddings")?;
    let first_position = if behind_padding { c.usize("pad_token_id")?.saturating_add(1) } else { 0 };
    let room = positions.saturating_sub(first_position);
    if room < 3 {
        let why = format!("is {positions}, of which {first_position} come before a text's first");
        return Err(c.error("max_position_embeddings", &why));
    }
    let norm = Norm::layer(c.f64("layer_norm_eps")? as f32);
    let block = BlockSpec {
        hidden,
        norm,
        norms: Norms::After,
        attention: Attention {
            bias: Biases::all(true),
            segments: Some(0),
            ..Attention::plain(heads, hidden / heads, false)
        },
        recurrent: None,
        cross: None,
        mlp: Mlp {
            width: c.positive("intermediate_size")?,
            activation: c.activation("hidden_act")?,
            gated: false,
            bias: true,
        },
        mixture: None,
        layer_scale: false,
        names: names::BERT,
    };
    let prefix = weights.prefix(&["", "bert.", "roberta."], "embeddings.word_embeddings.weight").to_string();
    let tokenizer = tokenizer(weights.checkpoint())?;
    let packed = Packed::read(&weights)?;
    Ok(Model::TextEncoder(Box::new(TextEncoder {
        tokenizer,
        vocab: c.positive("vocab_size")?,
        hidden,
        positions,
        first_position,
        types: c.positive("type_vocab_size")?,
        length: packed.length.unwrap_or(room).min(room),
        instruction: packed.instruction,
        pooling: packed.pooling,
        stack: Stack {
            prefix: format!("{prefix}encoder.layer"),
            blocks: vec![block; c.layers("num_hidden_layers")?],
        },
        norm,
        prefix,
        weights,
    })))
}

/// What the files of sentence-transformers say beside those of transformers. Without them it is what that library takes
/// for granted: the mean of all rows.
struct Packed {
    pooling: Pooling,
    length: Option<usize>,
    instruction: String,
}

impl Packed {
    fn read(weights: &Weights) -> Result<Self> {
        let json = |name: &str| -> Result<Option<Value>> {
            let Some(bytes) = weights.checkpoint().file(name)? else { return Ok(None) };
            let value = serde_json::from_slice(&bytes);
            value
                .map(Some)
                .map_err(|e| Error::Content { file: name.into(), why: format!("it is no JSON: {e}") })
        };
        let mut packed = Self { pooling: Pooling::Mean, length: None, instruction: String::new() };
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
                    packed.pooling = pooling(&Config::new(&name, &file, json!({}))?)?;
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
