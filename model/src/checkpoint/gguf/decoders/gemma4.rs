//! Gemma 4, whose layers differ in their heads, in the width of their MLPs and in whether they have keys.

use serde_json::{Map, Value as Json, json};

use super::super::architecture::*;
use super::{NOTHING, Own, extend};

/// Its tensors.
pub(crate) const ROWS: &[Row] = &[
    EMBED,
    NORM,
    HEAD,
    Q,
    K,
    V,
    O,
    Q_NORM,
    K_NORM,
    GATE,
    UP,
    DOWN,
    ATTN_NORM,
    row("blk.N.post_attention_norm", "model.layers.N.post_attention_layernorm"),
    row("blk.N.ffn_norm", "model.layers.N.pre_feedforward_layernorm"),
    row("blk.N.post_ffw_norm", "model.layers.N.post_feedforward_layernorm"),
    row("blk.N.pre_ffw_norm_2", "model.layers.N.pre_feedforward_layernorm_2"),
    row("blk.N.post_ffw_norm_1", "model.layers.N.post_feedforward_layernorm_1"),
    row("blk.N.post_ffw_norm_2", "model.layers.N.post_feedforward_layernorm_2"),
    row("per_layer_token_embd", "model.embed_tokens_per_layer"),
    row("per_layer_model_proj", "model.per_layer_model_projection"),
    row("per_layer_proj_norm", "model.per_layer_projection_norm"),
    row("blk.N.inp_gate", "model.layers.N.per_layer_input_gate"),
    row("blk.N.proj", "model.layers.N.per_layer_projection"),
    row("blk.N.post_norm", "model.layers.N.post_per_layer_input_norm"),
    row("blk.N.ffn_gate_inp", "model.layers.N.router.proj"),
    row("blk.N.ffn_gate_exps", "model.layers.N.experts.gate_proj"),
    row("blk.N.ffn_up_exps", "model.layers.N.experts.up_proj"),
    row("blk.N.ffn_down_exps", "model.layers.N.experts.down_proj"),
    row("blk.N.ffn_gate_up_exps", "model.layers.N.experts.gate_up_proj"),
];

/// Gemma 4.
pub(crate) const OWN: Own = Own {
    exact: &[
        row("blk.N.layer_output_scale.weight", "model.layers.N.layer_scalar"),
        row("blk.N.ffn_gate_inp.scale", "model.layers.N.router.scale"),
        row("blk.N.ffn_down_exps.scale", "model.layers.N.router.per_expert_scale"),
    ],
    config: |keys, facts, config| {
        let layers = keys.required("block_count")?;
        let slides = keys.flags("attention.sliding_window_pattern", layers)?;
        let heads = keys.each("attention.head_count_kv", layers)?;
        let full = keys.head_dim()?;
        let sliding = keys.optional("attention.key_length_swa")?.unwrap_or(full);
        if let Some(turned) = keys.optional("rope.dimension_count_swa")?.filter(|n| *n != sliding) {
            let why = format!("turns {turned} features of heads of sliding layers, which have {sliding}");
            return Err(keys.wrong("rope.dimension_count_swa", &why));
        }
        let shared = keys.optional("attention.shared_kv_layers")?.unwrap_or(0);
        let widths = keys.each("feed_forward_length", layers)?;
        let (first, last) = (widths.first().copied().unwrap_or(0), widths.last().copied().unwrap_or(0));
        let double = shared > 0 && first.checked_mul(2) == Some(last);
        let own = layers.saturating_sub(shared);
        let expected = |i: u64| if double && i >= own { last } else { first };
        if let Some((i, width)) = (0..).zip(&widths).find(|(i, width)| expected(*i) != **width) {
            let why = format!("is {width} in layer {i}, and {} is expected", expected(i));
            return Err(keys.wrong("feed_forward_length", &why));
        }
        // Layers that see everything may have heads of their own, one by one.
        let mut each = Map::new();
        let of_sliding = slides.iter().zip(&heads).find_map(|(slides, n)| slides.then_some(*n));
        let usual = of_sliding.or(heads.first().copied()).unwrap_or(1);
        for (i, (slides, heads)) in slides.iter().zip(&heads).enumerate() {
            let width = if *slides { sliding } else { full };
            if (width, *heads) != (sliding, usual) {
                each.insert(i.to_string(), json!({ "head_dim": width, "num_key_value_heads": heads }));
            }
        }
        let lacks_values = |i: u64| {
            facts.has(&format!("blk.{i}.attn_k.weight")) && !facts.has(&format!("blk.{i}.attn_v.weight"))
        };
        let turned = facts
            .rope_factors()
            .map_or(full / 2, |factors| factors.iter().filter(|factor| **factor == 1.0).count() as u64);
        let experts = keys.optional("expert_count")?.filter(|n| *n > 0);
        let kind = |slides: &bool| if *slides { "sliding_attention" } else { "full_attention" };
        let per_layer = facts.rows("per_layer_token_embd.weight").unwrap_or(0);
        let more = json!({
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": facts.has("blk.0.attn_q.bias"),
            "intermediate_size": first,
            "use_double_wide_mlp": double,
            "layer_types": slides.iter().map(kind).collect::<Vec<_>>(),
            "num_key_value_heads": usual,
            "head_dim": sliding,
            "per_layer_config": each,
            "attention_k_eq_v": (0..own).any(lacks_values),
            "num_kv_shared_layers": shared,
            "sliding_window": keys.required("attention.sliding_window")?,
            "final_logit_softcapping": keys.float("final_logit_softcapping"),
            "hidden_size_per_layer_input": keys.optional("embedding_length_per_layer_input")?.unwrap_or(0),
            "vocab_size_per_layer_input": per_layer,
            "pad_token_id": config.get("pad_token_id").filter(|id| !id.is_null()).cloned().unwrap_or(json!(0)),
            "enable_moe_block": experts.is_some(),
            "num_experts": experts,
            "top_k_experts": keys.optional("expert_used_count")?,
            "moe_intermediate_size": keys.optional("expert_feed_forward_length")?,
            "rope_parameters": {
                "full_attention": {
                    "rope_type": "proportional",
                    "partial_rotary_factor": 2.0 * turned as f64 / full.max(1) as f64,
                    "rope_theta": keys.float("rope.freq_base").unwrap_or(1e6),
                },
                "sliding_attention": {
                    "rope_type": "default",
                    "rope_theta": keys.float("rope.freq_base_swa").unwrap_or(1e4),
                },
            },
        });
        extend(config, more);
        config.remove("rope_theta");
        config.remove("rope_scaling");
        let text = config.get("per_layer_config").and_then(Json::as_object);
        if text.is_some_and(Map::is_empty) {
            config.remove("per_layer_config");
            // Nothing differs, which the keys of published configurations say too.
            extend(config, json!({ "global_head_dim": full }));
        }
        Ok(())
    },
    ..NOTHING
};
