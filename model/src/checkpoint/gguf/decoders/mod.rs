//! Decoders with parts that few have: what their files say beyond what all do, and what reading undoes in their tensors.
//! A small one stands here, and the others in files of their own.

pub(crate) mod deepseek;
pub(crate) mod gemma4;
pub(crate) mod qwen3_5;

use serde_json::{Map, Value as Json, json};

use super::super::error::{Result, unsupported};
use super::super::tensor::StoredTensor;
use super::architecture::*;
use super::config::{Facts, Keys};

/// What an architecture has of its own.
pub(crate) struct Own {
    /// Tensors whose names are not those of a weight or a bias of a layer, in full.
    pub exact: &'static [Row],
    /// Completes a configuration that has what all decoders have ([`super::config`]).
    pub config: fn(&Keys, &Facts, &mut Map<String, Json>) -> Result<()>,
    /// Undoes what llama.cpp's converter has done to a tensor of this plain name.
    pub adapt: fn(&str, &mut StoredTensor, &Json),
}

const NOTHING: Own = Own { exact: &[], config: |_, _, _| Ok(()), adapt: |_, _, _| {} };

/// Sets keys.
pub(super) fn extend(config: &mut Map<String, Json>, more: Json) {
    if let Json::Object(more) = more {
        config.extend(more);
    }
}

/// The extents that Llama's and its followers' files have, all layers alike.
///
/// # Errors
/// When one is not there.
pub(super) fn plain(keys: &Keys, config: &mut Map<String, Json>) -> Result<()> {
    let heads = keys.required("attention.head_count")?;
    let more = json!({
        "intermediate_size": keys.required("feed_forward_length")?,
        "num_key_value_heads": keys.optional("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": keys.head_dim()?,
    });
    extend(config, more);
    Ok(())
}

/// The share of a head that turns.
pub(super) fn turned_share(keys: &Keys) -> Result<f64> {
    let head_dim = keys.head_dim()?;
    let turned = keys.optional("rope.dimension_count")?.unwrap_or(head_dim);
    match turned.is_multiple_of(2) && turned > 0 && turned <= head_dim {
        true => Ok(turned as f64 / head_dim as f64),
        false => {
            let why = format!("turns {turned} of {head_dim} features of a head, which are no pairs of them");
            Err(keys.wrong("rope.dimension_count", &why))
        }
    }
}

/// The first Gemma.
pub(crate) const GEMMA: Own = Own {
    config: |keys, facts, config| {
        plain(keys, config)?;
        keys.turns_whole_heads(keys.head_dim()?)?;
        let more = json!({
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": facts.has("blk.0.attn_q.bias"),
            "rope_scaling": keys.rope_scaling(facts)?,
        });
        extend(config, more);
        Ok(())
    },
    ..NOTHING
};

/// Granite, whose scale of attention is that of the heads' width where a file says none.
pub(crate) const GRANITE: Own = Own {
    config: |keys, facts, config| {
        plain(keys, config)?;
        let head_dim = keys.head_dim()?;
        keys.turns_whole_heads(head_dim)?;
        let number = |key: &str, usual: f64| keys.float(key).filter(|n| *n != 0.0).unwrap_or(usual);
        let more = json!({
            "hidden_act": "silu",
            "attention_multiplier": number("attention.scale", (head_dim as f64).powf(-0.5)),
            "embedding_multiplier": number("embedding_scale", 1.0),
            "residual_multiplier": number("residual_scale", 1.0),
            "logits_scaling": number("logit_scale", 1.0),
            "attention_bias": facts.has("blk.0.attn_q.bias"),
            "mlp_bias": facts.has("blk.0.ffn_gate.bias"),
            "rope_scaling": keys.rope_scaling(facts)?,
        });
        extend(config, more);
        Ok(())
    },
    ..NOTHING
};

/// GLM-4's tensors: four norms a block, and one matrix into the MLP.
pub(crate) const GLM4_ROWS: &[Row] = &[
    EMBED,
    NORM,
    HEAD,
    Q,
    K,
    V,
    O,
    DOWN,
    ATTN_NORM,
    FFN_NORM,
    row("blk.N.ffn_up", "model.layers.N.mlp.gate_up_proj"),
    row("blk.N.post_attention_norm", "model.layers.N.post_self_attn_layernorm"),
    row("blk.N.post_ffw_norm", "model.layers.N.post_mlp_layernorm"),
];

/// GLM-4.
pub(crate) const GLM4: Own = Own {
    config: |keys, facts, config| {
        if keys.has("rope.dimension_sections") {
            let why = "is there: the text models of GLM-4V are not read from GGUF files; take the folder that it was made of";
            return Err(unsupported(keys.path(), format!("key 'glm4.rope.dimension_sections' {why}")));
        }
        plain(keys, config)?;
        let more = json!({
            "hidden_act": "silu",
            "attention_bias": facts.has("blk.0.attn_q.bias"),
            "partial_rotary_factor": turned_share(keys)?,
            "rope_scaling": keys.rope_scaling(facts)?,
        });
        extend(config, more);
        Ok(())
    },
    ..NOTHING
};

/// LFM2's tensors.
pub(crate) const LFM2_ROWS: &[Row] = &[
    EMBED,
    HEAD,
    Q,
    K,
    V,
    row("token_embd_norm", "model.embedding_norm"),
    // As the first converters called it.
    row("output_norm", "model.embedding_norm"),
    row("blk.N.attn_output", "model.layers.N.self_attn.out_proj"),
    row("blk.N.attn_q_norm", "model.layers.N.self_attn.q_layernorm"),
    row("blk.N.attn_k_norm", "model.layers.N.self_attn.k_layernorm"),
    row("blk.N.attn_norm", "model.layers.N.operator_norm"),
    row("blk.N.ffn_norm", "model.layers.N.ffn_norm"),
    row("blk.N.ffn_gate", "model.layers.N.feed_forward.w1"),
    row("blk.N.ffn_down", "model.layers.N.feed_forward.w2"),
    row("blk.N.ffn_up", "model.layers.N.feed_forward.w3"),
    row("blk.N.shortconv.conv", "model.layers.N.conv.conv"),
    row("blk.N.shortconv.in_proj", "model.layers.N.conv.in_proj"),
    row("blk.N.shortconv.out_proj", "model.layers.N.conv.out_proj"),
];

/// LFM2, where layers without heads of keys are convolutions.
pub(crate) const LFM2: Own = Own {
    config: |keys, facts, config| {
        let layers = keys.required("block_count")?;
        let heads = keys.each("attention.head_count_kv", layers)?;
        let kinds: Vec<&str> =
            heads.iter().map(|n| if *n == 0 { "conv" } else { "full_attention" }).collect();
        let most = heads.iter().copied().max().filter(|n| *n > 0);
        if let Some(other) = heads.iter().find(|n| **n > 0 && Some(**n) != most) {
            let why = format!("has {other} beside {}; layers of attention are alike", most.unwrap_or(0));
            return Err(keys.wrong("attention.head_count_kv", &why));
        }
        if keys.optional("attention.sliding_window")?.is_some_and(|n| n > 0) {
            return Err(
                keys.wrong("attention.sliding_window", "is there, which no published model of it has")
            );
        }
        let head_dim = keys.head_dim()?;
        keys.turns_whole_heads(head_dim)?;
        let more = json!({
            "block_ff_dim": keys.required("feed_forward_length")?,
            "block_auto_adjust_ff_dim": false,
            "layer_types": kinds,
            "num_key_value_heads": most.unwrap_or(1),
            "head_dim": head_dim,
            "norm_eps": config.get("rms_norm_eps").cloned(),
            "conv_L_cache": keys.required("shortconv.l_cache")?,
            "conv_bias": false,
            "rope_scaling": keys.rope_scaling(facts)?,
        });
        extend(config, more);
        Ok(())
    },
    adapt: |name, stored, _| {
        if name.ends_with(".conv.conv.weight") {
            channels(stored);
        }
    },
    ..NOTHING
};

/// Gives the taps of a convolution along time, [channels,taps] in a file, the one feature that each channel reads.
pub(super) fn channels(stored: &mut StoredTensor) {
    if let [channels, taps] = stored.ty.dims[..] {
        stored.ty.dims = vec![channels, 1, taps];
    }
}

/// The text part of Qwen3-VL's mixtures, alone: all positions of text are alike.
pub(crate) const QWEN3_VL_MOE: Own = Own {
    config: |keys, facts, config| {
        plain(keys, config)?;
        keys.turns_whole_heads(keys.head_dim()?)?;
        let more = json!({
            "hidden_act": "silu",
            "attention_bias": facts.has("blk.0.attn_q.bias"),
            "norm_topk_prob": true,
            "num_experts": keys.required("expert_count")?,
            "num_experts_per_tok": keys.required("expert_used_count")?,
            "moe_intermediate_size": keys.required("expert_feed_forward_length")?,
            "rope_scaling": keys.rope_scaling(facts)?,
        });
        extend(config, more);
        Ok(())
    },
    ..NOTHING
};
