//! GLM-4: four norms a block, one matrix into the MLP, and neighbouring features of a part of each head that turn.

use serde_json::json;

use crate::block::{Biases, Norms};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::DecoderNames;
use crate::family::llama::rotary;
use crate::names;
use crate::rope::{Rope, rope_parameters};

/// A GLM-4 decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40,
        "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "hidden_act": "silu",
        "max_position_embeddings": 131072, "rms_norm_eps": 1.5625e-7,
    }));
    let bias = c.flag("attention_bias")?;
    between_norms(&c, names, Biases { out: false, ..Biases::all(bias) }, 0.5)
}

/// The decoder of GLM-4V and GLM-4.6V.
///
/// # Errors
/// When a value is missing or impossible.
pub fn multimodal(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_hidden_layers": 40,
        "num_attention_heads": 32, "num_key_value_heads": 2, "hidden_act": "silu",
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
    }));
    let mut d = between_norms(&c, names, Biases { out: false, ..Biases::all(true) }, 1.0)?;
    let named = rope_parameters(|key| c.get(key)).is_some_and(|p| p.get("mrope_section").is_some());
    if !named {
        let usual = [8, 12, 12];
        let pairs = d.ropes[0].pairs();
        if pairs != usual.iter().sum::<usize>() {
            let why =
                format!("has no 'mrope_section', which divides {pairs} pairs among time, height and width");
            return Err(c.error("rope_parameters", &why));
        }
        d.ropes = d.ropes.drain(..).map(|r| r.chunked(&usual)).collect();
    }
    Ok(d)
}

/// A decoder whose heads turn by this share of their features unless the configuration says another.
fn between_norms(c: &Config, names: &DecoderNames, bias: Biases, share: f64) -> Result<Decoder> {
    let none = json!({});
    let mut rotation = rope_parameters(|key| c.get(key)).unwrap_or(&none).clone();
    let given = rotation.as_object_mut().and_then(|r| r.remove("partial_rotary_factor"));
    let stated = c.over(json!({ "partial_rotary_factor": given.unwrap_or(json!(share)) }));
    let share = stated.f64("partial_rotary_factor")?;
    let mut d = rotary(&c.without(&["rope_scaling", "rope_parameters"]), names, 1e4)?;
    let head_dim = d.stack.blocks.first().map_or(2, |block| block.attention.head_dim);
    let turning = (head_dim as f64 * share) as usize;
    if turning < 2 || turning > head_dim || !turning.is_multiple_of(2) {
        let why = format!("is {share}: {turning} of {head_dim} features are no number of pairs of them");
        return Err(c.error("partial_rotary_factor", &why));
    }
    let theta = c.maybe_f64("rope_theta")?.unwrap_or(1e4);
    let rope = Rope::from_parameters(c, &rotation, turning, theta)?;
    d.context = c.positive("max_position_embeddings")?.max(rope.reach());
    d.ropes = vec![rope];
    for block in &mut d.stack.blocks {
        block.norms = Norms::Around;
        block.names = names::GLM;
        block.attention.bias = bias;
        block.attention.neighbours = true;
    }
    Ok(d)
}
