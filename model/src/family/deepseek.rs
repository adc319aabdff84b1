//! DeepSeek-V2 and V3: multi-head latent attention, and mixtures with shared experts behind the first layers.

use serde_json::{Value, json};

use crate::block::{Mlp, Norm};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::DecoderNames;
use crate::family::llama::rotary;
use crate::family::qwen3_moe::routed;
use crate::latent::Latent;
use crate::mixture::{Groups, Mixture, Router, Scores, Shared};
use crate::rope::rope_parameters;

/// A DeepSeek-V2 decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn v2(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "kv_lora_rank": 512,
        "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "first_k_dense_replace": 0, "moe_intermediate_size": 1407, "n_routed_experts": 64, "n_shared_experts": 2,
        "routed_scaling_factor": 1.0, "topk_method": "greedy", "rope_interleave": true,
    }));
    let groups = match c.text("topk_method")? {
        "greedy" => None,
        "group_limited_greedy" => groups(&c, 1)?,
        other => {
            let known = "greedy, group_limited_greedy";
            return Err(c.error("topk_method", &format!("is '{other}'; known: {known}")));
        }
    };
    if c.flag("norm_topk_prob")? {
        return Err(c.error(
            "norm_topk_prob",
            "is true, which no published model of this family is and transformers \
                                              does not do; it must be false",
        ));
    }
    let scale = c.f64("routed_scaling_factor")? as f32;
    build(&c, names, Router { groups, scale, ..Router::softmax(false) })
}

/// A DeepSeek-V3 decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn v3(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
        "num_attention_heads": 128, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6, "kv_lora_rank": 512,
        "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "first_k_dense_replace": 3, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1,
        "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "norm_topk_prob": true,
        "routed_scaling_factor": 2.5, "rope_interleave": true,
    }));
    let router = Router {
        scores: Scores::Sigmoid,
        corrected: true,
        groups: groups(&c, 2)?,
        renormalized: c.flag("norm_topk_prob")?.then_some(1e-20),
        scale: c.f64("routed_scaling_factor")? as f32,
        expert_scale: false,
    };
    build(&c, names, router)
}

/// The groups that a configuration has, judged by so many of their best scores.
fn groups(c: &Config, best: usize) -> Result<Option<Groups>> {
    let (count, kept) = (c.positive("n_group")?, c.positive("topk_group")?);
    let experts = c.positive("n_routed_experts")?;
    if !experts.is_multiple_of(count) {
        return Err(c.error("n_group", &format!("is {count}, which does not divide {experts} experts")));
    }
    if kept > count {
        return Err(c.error("topk_group", &format!("is {kept}, of {count} groups")));
    }
    let chosen = c.positive("num_experts_per_tok")?;
    if chosen > kept * (experts / count) {
        let why = format!("is {chosen}, more experts than {kept} groups have");
        return Err(c.error("num_experts_per_tok", &why));
    }
    Ok(Some(Groups { count, kept, best }))
}

fn build(c: &Config, names: &DecoderNames, router: Router) -> Result<Decoder> {
    let (nope, rope) = (c.positive("qk_nope_head_dim")?, c.positive("qk_rope_head_dim")?);
    let (rank, value) = (c.positive("kv_lora_rank")?, c.positive("v_head_dim")?);
    // What turns is a part of each head, whose width is another one's name here.
    let plain = c.without(&["head_dim", "num_key_value_heads", "partial_rotary_factor"]);
    let mut d = rotary(&plain.over(json!({ "head_dim": rope })), names, 10000.0)?;
    let bias = c.flag("attention_bias")?;
    let latent = Latent {
        query_rank: c.maybe_usize("q_lora_rank")?.filter(|rank| *rank > 0),
        rank,
        nope,
        rope,
        value,
        interleaved: c.flag("rope_interleave")?,
        norm: Norm::rms(1e-6),
        bias,
    };
    let scale = ((nope + rope) as f64).powf(-0.5) * stretched(c)?;
    let (dense, mlp_bias) = (c.usize("first_k_dense_replace")?, c.flag("mlp_bias")?);
    let shared = c.maybe_usize("n_shared_experts")?.unwrap_or(0);
    for (i, block) in d.stack.blocks.iter_mut().enumerate() {
        let attention = &mut block.attention;
        (attention.latent, attention.scale) = (Some(latent), scale as f32);
        // What a cache holds.
        (attention.kv_heads, attention.head_dim) = (1, rank + rope);
        block.mlp = Mlp { bias: mlp_bias, ..block.mlp };
        if i < dense {
            continue;
        }
        if mlp_bias && shared > 0 {
            return Err(c.error("mlp_bias", "is true; shared experts have no biases here"));
        }
        let routed = routed(c, &["n_routed_experts"], block.mlp.activation, router)?;
        let shared = (shared > 0).then(|| Shared { width: routed.width * shared, gated: false });
        // transformers has no balancing loss for this family.
        block.mixture = Some(Mixture { shared, balance: 0.0, ..routed });
    }
    Ok(d)
}

/// What the scores are multiplied by where YaRN stretches the context: the square of its magnitude.
fn stretched(c: &Config) -> Result<f64> {
    let Some(parameters) = rope_parameters(|key| c.get(key)) else { return Ok(1.0) };
    let s = Config::new("config.json: the rope parameters", parameters, json!({}))?;
    let kind = s.any(&["rope_type", "type"]).and_then(Value::as_str).unwrap_or("default");
    let all = s.maybe_f64("mscale_all_dim")?.filter(|all| *all != 0.0);
    let (Some(all), false) = (all, kind == "default") else { return Ok(1.0) };
    let factor = s.f64("factor")?;
    let magnitude = if factor <= 1.0 { 1.0 } else { 0.1 * all * factor.ln() + 1.0 };
    Ok(magnitude * magnitude)
}
