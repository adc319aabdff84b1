//! BERT, RoBERTa and XLM-RoBERTa as embedders of texts, in the folder that sentence-transformers writes.

use serde_json::json;

use crate::block::{Attention, Biases, BlockSpec, Mlp, Norm, Norms, Stack};
use crate::config::Config;
use crate::error::Result;
use crate::family::Model;
use crate::names;
use crate::packed::Packed;
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
        residual_scale: None,
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
        // What that library takes for granted.
        pooling: packed.pooling.unwrap_or(Pooling::Mean),
        stack: Stack {
            prefix: format!("{prefix}encoder.layer"),
            blocks: vec![block; c.layers("num_hidden_layers")?],
        },
        norm,
        prefix,
        weights,
    })))
}
