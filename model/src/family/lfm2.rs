//! LFM2: gated short convolutions, and attention in some layers.

use serde_json::{Value, json};

use crate::block::{Attention, QkNorm};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::DecoderNames;
use crate::family::llama::rotary;
use crate::names;
use crate::recurrent::{Conv, Recurrent};

/// An LFM2 decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 65_536, "hidden_size": 2560, "intermediate_size": 12_288, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 128_000,
        "norm_eps": 1e-5, "conv_L_cache": 3, "block_multiple_of": 256, "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": true,
    }));
    let own = json!({ "intermediate_size": width(&c)?, "rms_norm_eps": c.f64("norm_eps")? });
    let mut d = rotary(&c.without(&["intermediate_size", "rms_norm_eps"]).over(own), names, 1e6)?;
    let conv = Conv { taps: c.positive("conv_L_cache")?, bias: c.flag("conv_bias")? };
    if conv.taps > 64 {
        return Err(
            c.error("conv_L_cache", &format!("is {}; a short convolution has up to 64 taps", conv.taps))
        );
    }
    let states = layers_with_states(&c, d.stack.blocks.len())?;
    for (block, has_state) in d.stack.blocks.iter_mut().zip(states) {
        block.names = names::LFM2;
        block.recurrent = has_state.then_some(Recurrent::Conv(conv));
        block.attention = Attention { qk_norm: QkNorm::PerHead(block.norm), ..block.attention.clone() };
    }
    d.norm_name = format!("{}embedding_norm", names.model);
    Ok(d)
}

/// Features between the layers of an MLP.
fn width(c: &Config) -> Result<usize> {
    let width = match c.maybe_usize("block_ff_dim")? {
        Some(width) => width,
        None => c.usize("intermediate_size")?,
    };
    if !c.flag("block_auto_adjust_ff_dim")? {
        return Ok(width);
    }
    let width = 2 * width / 3;
    let width = match c.maybe_f64("block_ffn_dim_multiplier")? {
        Some(by) => (by * width as f64) as usize,
        None => width,
    };
    let multiple = c.positive("block_multiple_of")?;
    if width > 1 << 32 || multiple > 1 << 32 {
        return Err(c.error("intermediate_size", "makes an MLP wider than that of any model"));
    }
    Ok(width.next_multiple_of(multiple))
}

/// Which of so many layers are convolutions: those that `layer_types` names, or all that `full_attn_idxs` does not.
fn layers_with_states(c: &Config, layers: usize) -> Result<Vec<bool>> {
    let Some(kinds) = c.get("layer_types") else {
        let attention = match c.get("full_attn_idxs") {
            Some(_) => c.list("full_attn_idxs")?,
            None => (0..layers).collect(),
        };
        return Ok((0..layers).map(|i| !attention.contains(&i)).collect());
    };
    let kind = |kind: &Value| match kind.as_str() {
        Some("conv") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(c.error("layer_types", &format!("has {kind}; known: conv, full_attention"))),
    };
    let states: Vec<bool> = kinds.as_array().into_iter().flatten().map(kind).collect::<Result<_>>()?;
    if states.len() != layers {
        return Err(c.error("layer_types", &format!("is no list of the kinds of {layers} layers")));
    }
    Ok(states)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_and_kinds_of_layers_are_those_of_the_configuration() {
        let read = |file: Value| {
            let small = json!({
                "vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2,
                "num_key_value_heads": 1, "block_multiple_of": 16,
            });
            let c = Config::new("config.json", &file, small).unwrap();
            let names = DecoderNames { model: "model.".into(), head: "model.embed_tokens.weight".into() };
            let d = decoder(&c, &names)?;
            let states: Vec<bool> = d.stack.blocks.iter().map(|b| b.recurrent.is_some()).collect();
            Ok::<_, crate::Error>((d.stack.blocks[0].mlp.width, states))
        };
        assert_eq!(read(json!({ "intermediate_size": 48 })).unwrap(), (32, vec![false; 3]));
        let scaled =
            json!({ "intermediate_size": 49, "block_ffn_dim_multiplier": 1.1, "full_attn_idxs": [1] });
        assert_eq!(read(scaled).unwrap(), (48, vec![true, false, true]));
        let whole = json!({ "block_ff_dim": 40, "block_auto_adjust_ff_dim": false });
        assert_eq!(read(whole).unwrap().0, 40);
        let e = read(json!({ "layer_types": ["conv", "conv", "mamba"] })).unwrap_err().to_string();
        assert!(e.contains("'layer_types' has \"mamba\""), "{e}");
    }
}
