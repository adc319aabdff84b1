//! Qwen3.5: layers of the gated delta rule, every fourth one of attention, whose outputs have gates and whose heads turn
//! in a part of their features. Norms store their weights less one. The tower is Qwen3-VL's, without inner features.

use serde_json::{Value, json};

use crate::block::{Attention, Biases, Norm, NormKind, QkNorm};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::llama::rotary;
use crate::family::{DecoderNames, Model, qwen2_vl};
use crate::processor::QwenVersion;
use crate::recurrent::{Delta, Recurrent};
use crate::rope::{Rope, rope_parameters};
use crate::vision::QwenTower;
use crate::weights::Weights;

/// A Qwen3.5 checkpoint that reads images and videos.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    build(c, weights, "qwen3_5_text")
}

/// The same with a decoder of a `model_type`.
///
/// # Errors
/// As [`open`].
pub fn build(c: &Config, weights: Weights, text: &str) -> Result<Model> {
    let c = c.over(json!({ "image_token_id": 248_056, "video_token_id": 248_057 }));
    qwen2_vl::build(&c, weights, QwenVersion::Qwen3_5, text, |c, prefix| {
        let turns = Config::new(
            "config.json: vision_config",
            c.get("rope_parameters").unwrap_or(&json!({})),
            json!({}),
        )?;
        if let Some(theta) = turns.maybe_f64("rope_theta")?.filter(|theta| *theta != 10_000.0) {
            return Err(
                turns.error("rope_theta", &format!("is {theta}; the towers of this family turn with 10000"))
            );
        }
        QwenTower::qwen3(&c.over(json!({ "deepstack_visual_indexes": [] })), prefix)
    })
}

/// The decoder of Qwen3.5.
///
/// # Errors
/// When a value is missing or impossible.
pub fn text(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 248_320, "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 32,
        "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 256, "hidden_act": "silu",
        "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6,
    }));
    hybrid(&c, names)
}

/// What the decoders of this line have in common: all but their MLPs. Values that are not there must be among the caller's
/// defaults, those of the layers with states excepted.
///
/// # Errors
/// When a value is missing or impossible.
pub fn hybrid(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
        "linear_num_key_heads": 16, "linear_num_value_heads": 32, "full_attention_interval": 4,
        "attn_output_gate": true,
    }));
    if !c.flag("attn_output_gate")? {
        return Err(c.error("attn_output_gate", "is false; attention of this family has gates"));
    }
    let plain = c.without(&["rope_parameters", "rope_scaling"]);
    let mut d = rotary(&plain, names, THETA)?;
    let rope = rope(&c, c.positive("head_dim")?)?;
    (d.context, d.ropes) = (d.context.max(rope.reach()), vec![rope]);
    d.norm = Norm { kind: NormKind::Rms { unit_offset: true }, ..d.norm };
    let (delta, bias) = (delta(&c)?, c.flag("attention_bias")?);
    let states = layers_with_states(&c, d.stack.blocks.len())?;
    for (block, has_state) in d.stack.blocks.iter_mut().zip(states) {
        block.norm = d.norm;
        block.recurrent = has_state.then_some(Recurrent::Delta(delta));
        block.attention = Attention {
            gated: true,
            bias: Biases::all(bias),
            qk_norm: QkNorm::PerHead(d.norm),
            ..block.attention.clone()
        };
    }
    Ok(d)
}

/// The pace of rotations where a configuration names none.
const THETA: f64 = 10_000.0;

/// The rotation of a part of each head, with three axes that take turns.
fn rope(c: &Config, head_dim: usize) -> Result<Rope> {
    let mut given = rope_parameters(|key| c.get(key)).cloned().unwrap_or(json!({}));
    let (mut share, mut sections) = (c.maybe_f64("partial_rotary_factor")?, None);
    if let Value::Object(values) = &mut given {
        share = values.remove("partial_rotary_factor").and_then(|v| v.as_f64()).or(share);
        sections = values.remove("mrope_section");
    }
    let share = share.unwrap_or(0.25);
    let turned = (head_dim as f64 * share) as usize;
    if !(share > 0.0 && share <= 1.0 && turned.is_multiple_of(2) && turned > 0) {
        let why = format!("is {share}, which is no number of pairs of {head_dim} features");
        return Err(c.error("partial_rotary_factor", &why));
    }
    let theta = c.maybe_f64("rope_theta")?.unwrap_or(THETA);
    let rope = Rope::from_parameters(c, &given, turned, theta)?;
    let sections = Config::new(
        "config.json: the rope parameters",
        &json!({ "mrope_section": sections.unwrap_or(json!([11, 11, 10])) }),
        json!({}),
    )?
    .list("mrope_section")?;
    if sections.len() != 3 {
        return Err(c.error("mrope_section", &format!("is {sections:?}; there are three axes")));
    }
    Ok(rope.interleaved(&sections))
}

/// The layers of the delta rule, which are alike.
fn delta(c: &Config) -> Result<Delta> {
    let extent = |key: &str| -> Result<usize> {
        match c.positive(key)? {
            n if n > 1 << 14 => Err(c.error(key, &format!("is {n}, more than any model has"))),
            n => Ok(n),
        }
    };
    let (key_heads, value_heads) = (extent("linear_num_key_heads")?, extent("linear_num_value_heads")?);
    if !value_heads.is_multiple_of(key_heads) {
        let why = format!("is {key_heads}, which does not divide the {value_heads} heads of values");
        return Err(c.error("linear_num_key_heads", &why));
    }
    let taps = extent("linear_conv_kernel_dim")?;
    if taps > 64 {
        return Err(
            c.error("linear_conv_kernel_dim", &format!("is {taps}; a short convolution has up to 64"))
        );
    }
    Ok(Delta {
        key_heads,
        value_heads,
        key_dim: extent("linear_key_head_dim")?,
        value_dim: extent("linear_value_head_dim")?,
        taps,
        activation: c.activation("hidden_act")?,
        norm: Norm::rms(c.f64("rms_norm_eps")? as f32),
    })
}

/// Which of so many layers have a state: those that `layer_types` names, or all but every `full_attention_interval`th.
fn layers_with_states(c: &Config, layers: usize) -> Result<Vec<bool>> {
    let Some(kinds) = c.get("layer_types") else {
        let every = c.positive("full_attention_interval")?;
        return Ok((1..=layers).map(|i| !i.is_multiple_of(every)).collect());
    };
    let kind = |kind: &Value| match kind.as_str() {
        Some("linear_attention") => Ok(true),
        Some("full_attention") => Ok(false),
        _ => Err(c.error("layer_types", &format!("has {kind}; known: full_attention, linear_attention"))),
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

    fn read(file: Value) -> Result<Decoder> {
        let small = json!({
            "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 4,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
        });
        let c = Config::new("config.json", &file, small).unwrap();
        text(&c, &DecoderNames { model: "model.".into(), head: "lm_head.weight".into() })
    }

    #[test]
    fn every_so_many_layers_there_is_one_of_attention() {
        let states = |file| {
            read(file).map(|d| d.stack.blocks.iter().map(|b| b.recurrent.is_some()).collect::<Vec<_>>())
        };
        assert_eq!(states(json!({})).unwrap(), [true, true, true, false]);
        assert_eq!(states(json!({ "full_attention_interval": 2 })).unwrap(), [true, false, true, false]);
        let listed =
            json!({ "layer_types": ["full_attention", "linear_attention", "full_attention", "mamba"] });
        let e = states(listed).unwrap_err().to_string();
        assert!(e.contains("'layer_types' has \"mamba\""), "{e}");
        let e = states(json!({ "layer_types": ["full_attention"] })).unwrap_err().to_string();
        assert!(e.contains("of 4 layers"), "{e}");
    }

    #[test]
    fn a_part_of_each_head_turns() {
        let pairs = |file| read(file).map(|d| d.ropes[0].pairs());
        assert_eq!(pairs(json!({})).unwrap(), 2);
        assert_eq!(pairs(json!({ "partial_rotary_factor": 0.5 })).unwrap(), 4);
        let nested =
            json!({ "rope_parameters": { "partial_rotary_factor": 1.0, "mrope_section": [3, 3, 2] } });
        assert_eq!(read(nested).unwrap().ropes[0].sections(), [3, 3, 2]);
        for (key, file) in [
            ("partial_rotary_factor", json!({ "partial_rotary_factor": 0.2 })),
            ("linear_num_key_heads", json!({ "linear_num_key_heads": 3 })),
            ("attn_output_gate", json!({ "attn_output_gate": false })),
            ("mrope_section", json!({ "rope_parameters": { "mrope_section": [1, 1] } })),
        ] {
            let e = read(file).unwrap_err().to_string();
            assert!(e.contains(key), "{key}: {e}");
        }
    }
}
