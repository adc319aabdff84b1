//! Qwen3 with mixtures of experts in place of most MLPs.

use serde_json::json;

use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::{DecoderNames, qwen3};
use crate::mixture::{MIXTURE, Mixture, Router};

/// A Qwen3-MoE decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    // Where a window is used all layers have it, whatever the keys of the dense family say.
    let c = c.without(&["max_window_layers", "layer_types"]).over(json!({
        "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": null, "max_window_layers": 0,
        "moe_intermediate_size": 768, "num_experts_per_tok": 8, "num_experts": 128,
    }));
    let mut d = qwen3::decoder(&c, names)?;
    let router = Router::softmax(c.flag("norm_topk_prob")?);
    mixtures(&c, &mut d, router)?;
    Ok(d)
}

/// Puts mixtures in place of the MLPs of the layers that have them: all but those of `mlp_only_layers`, of every
/// `decoder_sparse_step` layers the last.
///
/// # Errors
/// When a value is missing or impossible.
pub fn mixtures(c: &Config, d: &mut Decoder, router: Router) -> Result<()> {
    let c = c.over(json!({ "decoder_sparse_step": 1 }));
    let step = c.positive("decoder_sparse_step")?;
    let dense = c.list("mlp_only_layers")?;
    for (i, block) in d.stack.blocks.iter_mut().enumerate() {
        if !dense.contains(&i) && (i + 1).is_multiple_of(step) {
            let counts = ["num_local_experts", "num_experts"];
            block.mixture = Some(routed(&c, &counts, block.mlp.activation, router)?);
        }
    }
    Ok(())
}

/// A mixture without shared experts of the extents that a configuration has, the number of experts under one of some
/// keys.
///
/// # Errors
/// When a value is missing or impossible.
pub fn routed(
    c: &Config,
    counts: &[&str],
    activation: percept_graph::Activation,
    router: Router,
) -> Result<Mixture> {
    let key = counts.iter().find(|key| c.get(key).is_some()).or(counts.last()).copied().unwrap_or_default();
    let (experts, chosen) = (c.positive(key)?, c.positive("num_experts_per_tok")?);
    if chosen > experts {
        return Err(c.error("num_experts_per_tok", &format!("is {chosen}, of {experts} experts")));
    }
    let width = c.positive("moe_intermediate_size")?;
    // As in transformers, where the loss is computed for those who look at the router's logits.
    let balance = match c.flag("output_router_logits")? {
        true => c.maybe_f64("router_aux_loss_coef")?.unwrap_or(1e-3) as f32,
        false => 0.0,
    };
    Ok(Mixture { experts, chosen, width, activation, router, shared: None, balance, names: MIXTURE })
}
