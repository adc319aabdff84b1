//! Qwen3.5, where llama.cpp has the heads of the delta rule's values in an order of its own: those that share a head of
//! keys stand apart by the number of these, not beside each other.

use serde_json::{Value as Json, json};

use super::super::super::regroup::Regroup;
use super::super::super::tensor::{Change, StoredTensor};
use super::super::architecture::*;
use super::{Own, channels, extend, plain, turned_share};
use percept_graph::DType;

/// The layers' rows but those of their MLPs.
macro_rules! rows {
    ($($mlp:expr),* $(,)?) => {
        &[
            EMBED,
            NORM,
            HEAD,
            Q,
            K,
            V,
            O,
            Q_NORM,
            K_NORM,
            ATTN_NORM,
            row("blk.N.post_attention_norm", "model.layers.N.post_attention_layernorm"),
            row("blk.N.attn_qkv", "model.layers.N.linear_attn.in_proj_qkv"),
            row("blk.N.attn_gate", "model.layers.N.linear_attn.in_proj_z"),
            row("blk.N.ssm_alpha", "model.layers.N.linear_attn.in_proj_a"),
            row("blk.N.ssm_beta", "model.layers.N.linear_attn.in_proj_b"),
            row("blk.N.ssm_conv1d", "model.layers.N.linear_attn.conv1d"),
            row("blk.N.ssm_norm", "model.layers.N.linear_attn.norm"),
            row("blk.N.ssm_out", "model.layers.N.linear_attn.out_proj"),
            $($mlp),*
        ]
    };
}

/// With one MLP a layer.
pub(crate) const ROWS: &[Row] = rows![GATE, UP, DOWN];

/// With a mixture and a shared expert in each layer.
pub(crate) const MIXTURE_ROWS: &[Row] = rows![
    ROUTER,
    GATES,
    UPS,
    DOWNS,
    row("blk.N.ffn_gate_inp_shexp", "model.layers.N.mlp.shared_expert_gate"),
    row("blk.N.ffn_gate_shexp", "model.layers.N.mlp.shared_expert.gate_proj"),
    row("blk.N.ffn_up_shexp", "model.layers.N.mlp.shared_expert.up_proj"),
    row("blk.N.ffn_down_shexp", "model.layers.N.mlp.shared_expert.down_proj"),
];

/// Qwen3.5 and its mixtures.
pub(crate) const OWN: Own = Own {
    exact: &[
        row("blk.N.ssm_a", "model.layers.N.linear_attn.A_log"),
        row("blk.N.ssm_dt.bias", "model.layers.N.linear_attn.dt_bias"),
    ],
    config: |keys, facts, config| {
        let experts = keys.optional("expert_count")?.filter(|n| *n > 0);
        if experts.is_some() {
            // No layer has an MLP of its own, so nothing says its width.
            let heads = keys.required("attention.head_count")?;
            let own = json!({
                "num_key_value_heads": keys.optional("attention.head_count_kv")?.unwrap_or(heads),
                "head_dim": keys.head_dim()?,
                "num_experts": experts,
                "num_experts_per_tok": keys.required("expert_used_count")?,
                "moe_intermediate_size": keys.required("expert_feed_forward_length")?,
                "shared_expert_intermediate_size": keys.required("expert_shared_feed_forward_length")?,
            });
            extend(config, own);
        } else {
            plain(keys, config)?;
        }
        let layers = config.get("num_hidden_layers").and_then(Json::as_u64).unwrap_or(0);
        let kind = |i: u64| match facts.has(&format!("blk.{i}.ssm_out.weight")) {
            true => "linear_attention",
            false => "full_attention",
        };
        let (heads, inner) = (keys.required("ssm.time_step_rank")?, keys.required("ssm.inner_size")?);
        if heads == 0 || !inner.is_multiple_of(heads) {
            return Err(keys.wrong("ssm.inner_size", &format!("is {inner}, and there are {heads} heads")));
        }
        let mut rope = keys.rope_scaling(facts)?;
        if rope.is_null() {
            rope = json!({ "rope_type": "default" });
        }
        rope["mrope_section"] = json!(keys.sections()?);
        rope["mrope_interleaved"] = json!(true);
        rope["partial_rotary_factor"] = json!(turned_share(keys)?);
        let more = json!({
            "hidden_act": "silu",
            "attention_bias": facts.has("blk.0.attn_q.bias"),
            "layer_types": (0..layers).map(kind).collect::<Vec<_>>(),
            "linear_conv_kernel_dim": keys.required("ssm.conv_kernel")?,
            "linear_key_head_dim": keys.required("ssm.state_size")?,
            "linear_num_key_heads": keys.required("ssm.group_count")?,
            "linear_num_value_heads": heads,
            "linear_value_head_dim": inner / heads,
            "rope_scaling": rope,
        });
        extend(config, more);
        Ok(())
    },
    adapt,
};

fn adapt(name: &str, stored: &mut StoredTensor, config: &Json) {
    let Some((_, inside)) = name.split_once(".linear_attn.") else { return };
    let extent = |key: &str| config.get(key).and_then(Json::as_u64).unwrap_or(0) as usize;
    let (groups, heads) = (extent("linear_num_key_heads"), extent("linear_num_value_heads"));
    let (key, value) = (extent("linear_key_head_dim"), extent("linear_value_head_dim"));
    if inside == "conv1d.weight" {
        channels(stored);
    }
    let numel = stored.ty.numel();
    let row = numel / stored.ty.dims.first().copied().unwrap_or(1).max(1);
    let of = heads / groups.max(1);
    let rows = |first: usize, unit: usize| {
        let (first, unit) = (first.saturating_mul(row), unit.saturating_mul(row));
        Regroup { period: numel, first, unit, groups, of }
    };
    let order = match inside {
        "in_proj_qkv.weight" | "conv1d.weight" => rows(groups.saturating_mul(2).saturating_mul(key), value),
        "in_proj_z.weight" => rows(0, value),
        "in_proj_a.weight" | "in_proj_b.weight" | "A_log" | "dt_bias" => rows(0, 1),
        "out_proj.weight" => Regroup { period: row, first: 0, unit: value, groups, of },
        _ => return,
    };
    // What does not fit is left alone, and refused by its shape when the model is built.
    if !order.fits(numel) {
        return;
    }
    if !order.is_whole(stored.form.block_len()) {
        stored.ty.dtype = DType::F32;
    }
    stored.change = if inside == "A_log" { Change::Rates(order) } else { Change::Regroup(order) };
}
