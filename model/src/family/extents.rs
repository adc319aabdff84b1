//! Extents that a configuration claims, held against the tensors there are before anything is made of them.

use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};

/// Numbers of layers: each has tensors of its own.
const LAYERS: [&str; 4] = ["num_hidden_layers", "depth", "encoder_layers", "decoder_layers"];

/// Extents of tensors, or their products and quotients by numbers of heads.
const EXTENTS: [&str; 44] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "head_dim",
    "moe_intermediate_size",
    "num_experts",
    "num_local_experts",
    "n_routed_experts",
    "num_experts_per_tok",
    "n_shared_experts",
    "kv_lora_rank",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "num_attention_heads",
    "num_key_value_heads",
    "d_model",
    "encoder_attention_heads",
    "decoder_attention_heads",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "num_mel_bins",
    "max_source_positions",
    "max_target_positions",
    "embed_dim",
    "num_heads",
    "mlp_ratio",
    "out_hidden_size",
    "num_position_embeddings",
    "patch_size",
    "temporal_patch_size",
    "in_channels",
    "in_chans",
    "num_channels",
    "projection_dim",
    "projection_size",
    "mm_tokens_per_image",
    "global_head_dim",
    "num_global_key_value_heads",
    "hidden_size_per_layer_input",
    "vocab_size_per_layer_input",
    "position_embedding_size",
    "output_proj_dims",
];

/// What is not large, whatever the tensors: configurations keep values of parts that a checkpoint does not
/// have.
const SMALL_EXTENT: u64 = 1 << 20;
const FEW_LAYERS: u64 = 16;

/// Refuses a configuration, anywhere in it, that claims more layers than there are tensors, or an extent that
/// the largest of them has no room for.
///
/// # Errors
/// Names the key.
pub fn check(checkpoint: &Checkpoint) -> Result<()> {
    let elements = |name: &str| checkpoint.ty(name).map_or(0, |ty| ty.numel());
    let largest = checkpoint.names().map(elements).max().unwrap_or(0);
    walk(checkpoint.config(), "config.json", checkpoint.names().len() as u64, largest as u64)
}

fn walk(value: &Value, at: &str, tensors: u64, elements: u64) -> Result<()> {
    let Some(object) = value.as_object() else { return Ok(()) };
    for (key, value) in object {
        let name = key.as_str();
        let (most, of) = match () {
            () if LAYERS.contains(&name) => {
                (tensors.max(FEW_LAYERS), format!("the checkpoint has {tensors} tensors"))
            }
            () if EXTENTS.contains(&name) => (
                elements.max(SMALL_EXTENT),
                format!("the checkpoint's largest tensor has {elements} elements"),
            ),
            () => {
                walk(value, &format!("{at}: {key}"), tensors, elements)?;
                continue;
            }
        };
        if value.as_f64().is_some_and(|n| n > most as f64) {
            return Err(Error::Content { file: at.into(), why: format!("'{key}' is {value}, but {of}") });
        }
    }
    Ok(())
}
