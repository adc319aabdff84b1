//! DeepSeek-V2 and V3, whose matrix from latents to keys and values llama.cpp has in two parts, that of the keys turned
//! around.

use std::collections::BTreeMap;
use std::path::Path;

use percept_graph::DType;
use serde_json::json;

use super::super::super::error::{Result, damaged};
use super::super::super::tensor::{Change, StoredTensor};
use super::super::architecture::*;
use super::{NOTHING, Own, extend};

/// Their tensors.
pub(crate) const ROWS: &[Row] = &[
    EMBED,
    NORM,
    HEAD,
    Q,
    O,
    GATE,
    UP,
    DOWN,
    ATTN_NORM,
    FFN_NORM,
    ROUTER,
    GATES,
    UPS,
    DOWNS,
    row("blk.N.attn_q_a", "model.layers.N.self_attn.q_a_proj"),
    row("blk.N.attn_q_a_norm", "model.layers.N.self_attn.q_a_layernorm"),
    row("blk.N.attn_q_b", "model.layers.N.self_attn.q_b_proj"),
    row("blk.N.attn_kv_a_mqa", "model.layers.N.self_attn.kv_a_proj_with_mqa"),
    row("blk.N.attn_kv_a_norm", "model.layers.N.self_attn.kv_a_layernorm"),
    // Whole, as converters had it at first.
    row("blk.N.attn_kv_b", "model.layers.N.self_attn.kv_b_proj"),
    row("blk.N.attn_k_b", "model.layers.N.self_attn.k_b_proj"),
    row("blk.N.attn_v_b", "model.layers.N.self_attn.v_b_proj"),
    row("blk.N.ffn_gate_shexp", "model.layers.N.mlp.shared_experts.gate_proj"),
    row("blk.N.ffn_up_shexp", "model.layers.N.mlp.shared_experts.up_proj"),
    row("blk.N.ffn_down_shexp", "model.layers.N.mlp.shared_experts.down_proj"),
];

/// llama.cpp's number for scores that are sigmoids.
const SIGMOID: u64 = 2;

/// Both.
pub(crate) const OWN: Own = Own {
    exact: &[row("blk.N.exp_probs_b.bias", "model.layers.N.mlp.gate.e_score_correction_bias")],
    config: |keys, facts, config| {
        let rope = keys.required("rope.dimension_count")?;
        // Those of the heads as they are, beside those of what is cached; at first there were the former alone.
        let length = |key: &str| match keys.optional(&format!("attention.{key}_mla"))? {
            None => keys.required(&format!("attention.{key}")),
            Some(length) => Ok(length),
        };
        let (key, value) = (length("key_length")?, length("value_length")?);
        let Some(nope) = key.checked_sub(rope) else {
            let why = format!("turns {rope} features of heads that have {key}");
            return Err(keys.wrong("rope.dimension_count", &why));
        };
        let layers = keys.required("block_count")?;
        let is_corrected = (0..layers).any(|i| facts.has(&format!("blk.{i}.exp_probs_b.bias")));
        let sigmoid = keys.optional("expert_gating_func")?.map_or(is_corrected, |kind| kind == SIGMOID);
        let groups = keys.optional("expert_group_count")?.unwrap_or(1);
        let mut scaling = keys.rope_scaling(facts)?;
        if let Some(weight) = keys.float("rope.scaling.yarn_log_multiplier").filter(|w| *w != 0.0) {
            // A tenth of the number in Hugging Face's configuration, which says both magnitudes alike.
            let weight = (weight * 1e5).round() / 1e4;
            (scaling["mscale"], scaling["mscale_all_dim"]) = (json!(weight), json!(weight));
        }
        let more = json!({
            "model_type": if sigmoid { "deepseek_v3" } else { "deepseek_v2" },
            "architectures": [if sigmoid { "DeepseekV3ForCausalLM" } else { "DeepseekV2ForCausalLM" }],
            "hidden_act": "silu",
            "attention_bias": false,
            "intermediate_size": keys.required("feed_forward_length")?,
            "num_key_value_heads": keys.required("attention.head_count")?,
            "q_lora_rank": keys.optional("attention.q_lora_rank")?,
            "kv_lora_rank": keys.required("attention.kv_lora_rank")?,
            "qk_rope_head_dim": rope,
            "qk_nope_head_dim": nope,
            "v_head_dim": value,
            "first_k_dense_replace": keys.optional("leading_dense_block_count")?.unwrap_or(0),
            "moe_intermediate_size": keys.required("expert_feed_forward_length")?,
            "n_routed_experts": keys.required("expert_count")?,
            "n_shared_experts": keys.optional("expert_shared_count")?.unwrap_or(0),
            "num_experts_per_tok": keys.required("expert_used_count")?,
            "routed_scaling_factor": keys.float("expert_weights_scale").unwrap_or(1.0),
            "norm_topk_prob": keys.flag("expert_weights_norm").unwrap_or(false),
            "topk_method": if groups > 1 { "group_limited_greedy" } else { "greedy" },
            "n_group": groups,
            "topk_group": keys.optional("expert_group_used_count")?.unwrap_or(1),
            "rope_interleave": true,
            "rope_scaling": scaling,
        });
        extend(config, more);
        Ok(())
    },
    ..NOTHING
};

/// Puts `{layer}.k_b_proj` [heads,rank,keys] and `{layer}.v_b_proj` [heads,values,rank] into
/// `{layer}.kv_b_proj` [heads (keys + values), rank].
///
/// # Errors
/// When a layer lacks one of them, or they do not fit each other.
pub(crate) fn join(path: &Path, tensors: &mut BTreeMap<String, StoredTensor>) -> Result<()> {
    const KEYS: &str = ".k_b_proj.weight";
    let layers: Vec<String> =
        tensors.keys().filter_map(|n| n.strip_suffix(KEYS)).map(str::to_string).collect();
    for layer in layers {
        let (name, values) = (format!("{layer}{KEYS}"), format!("{layer}.v_b_proj.weight"));
        let (Some(mut k), Some(mut v)) = (tensors.remove(&name), tensors.remove(&values)) else {
            return Err(damaged(path, format!("there is '{name}', and no '{values}'")));
        };
        let (&[heads, rank, keys], &[others, width, columns]) = (&k.ty.dims[..], &v.ty.dims[..]) else {
            return Err(damaged(path, format!("'{name}' {} and '{values}' {} are no stacks", k.ty, v.ty)));
        };
        let floats = |t: &StoredTensor| t.ty.dtype.is_float() || t.ty.dtype.is_quantized();
        if heads != others || rank != columns || !floats(&k) || !floats(&v) {
            let why = format!("'{name}' {} and '{values}' {} do not fit each other", k.ty, v.ty);
            return Err(damaged(path, why));
        }
        k.change = Change::Turn;
        k.ty.dims = vec![heads, keys, rank];
        // Blocks lie along what becomes columns.
        if k.ty.dtype.is_quantized() {
            (k.ty.dtype, v.ty.dtype) = (DType::F32, DType::F32);
        }
        let whole = format!("{layer}.kv_b_proj.weight");
        let dims = vec![heads.saturating_mul(keys.saturating_add(width)), rank];
        let joined = StoredTensor::joined(&whole, dims, vec![k, v], heads)?;
        tensors.insert(whole, joined);
    }
    Ok(())
}
