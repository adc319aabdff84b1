//! Gemma 3: norms before and after attention and the MLP, norms of queries and keys, scaled embeddings, and
//! layers that slide over a window with a rotation of their own between layers that see everything.

use serde_json::{Value, json};

use crate::block::{Biases, QkNorm};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::DecoderNames;
use crate::family::gemma2::sandwich;
use crate::family::llama::{rotary, slides};
use crate::rope::Rope;

/// Index of the rotation of layers that see everything; sliding layers have the other.
const FULL: usize = 0;
/// Index of the rotation of sliding layers.
const SLIDING: usize = 1;

/// A Gemma 3 decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
    }));
    // Its two rotations have a shape of their own and are read below.
    let plain = c.without(&["rope_parameters", "rope_scaling"]);
    let mut d = rotary(&plain, names, 1e6)?;
    let head_dim = c.positive("head_dim")?;
    d.ropes = ropes(&c, head_dim)?;
    sandwich(&mut d);
    d.logit_cap = c.maybe_f64("final_logit_softcapping")?.map(|cap| cap as f32);
    let bias = c.flag("attention_bias")?;
    let scale = c.f64("query_pre_attn_scalar")?.powf(-0.5) as f32;
    let window = c.positive("sliding_window")?;
    let pattern =
        c.maybe_usize("_sliding_window_pattern")?.unwrap_or(c.usize("sliding_window_pattern")?).max(1);
    let both_ways = c.flag("use_bidirectional_attention")?;
    for (i, block) in d.stack.blocks.iter_mut().enumerate() {
        let attention = &mut block.attention;
        attention.bias = Biases::all(bias);
        attention.qk_norm = QkNorm::PerHead(d.norm);
        // `attn_logit_softcapping` is a key of Gemma 2 that transformers reads and leaves aside here.
        attention.scale = scale;
        attention.causal = !both_ways;
        if slides(&c, i)?.unwrap_or((i + 1) % pattern > 0) {
            // A window that reaches both ways is given by its whole width.
            attention.window = Some(if both_ways { window / 2 + 1 } else { window });
            attention.rope = Some(SLIDING);
        } else {
            attention.rope = Some(FULL);
        }
    }
    Ok(d)
}

/// The rotations of full and sliding layers.
fn ropes(c: &Config, head_dim: usize) -> Result<Vec<Rope>> {
    let local = c.maybe_f64("rope_local_base_freq")?.unwrap_or(10_000.0);
    let global = c.maybe_f64("rope_theta")?.unwrap_or(1e6);
    let (full, sliding) = parameters(|key| c.get(key));
    let mut ropes = vec![Rope::new(head_dim, global); 2];
    ropes[FULL] = Rope::from_parameters(c, &full, head_dim, global)?;
    ropes[SLIDING] = Rope::from_parameters(c, &sliding, head_dim, local)?;
    Ok(ropes)
}

/// The rotary parameters of full and of sliding layers: nested in `rope_parameters` under the kind of layer,
/// with those of `rope_scaling` laid over the full layers' (`Gemma3TextConfig` of transformers 5). `get`
/// gives the values of the configuration that are not null.
pub fn parameters<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> (Value, Value) {
    let kind = |name: &str| {
        let nested = get("rope_parameters").and_then(|p| p.get(name)).filter(|p| !p.is_null());
        nested.cloned().unwrap_or(json!({}))
    };
    let mut full = kind("full_attention");
    if let (Some(full), Some(Value::Object(over))) = (full.as_object_mut(), get("rope_scaling")) {
        full.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    (full, kind("sliding_attention"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_two_caps_only_the_logits_own_is_kept() {
        let caps = json!({ "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0 });
        let c = Config::new("config.json", &caps, json!({})).unwrap();
        let names = DecoderNames { model: "model.".into(), head: "lm_head.weight".into() };
        let d = decoder(&c, &names).unwrap();
        assert_eq!((d.stack.blocks[0].attention.soft_cap, d.logit_cap), (None, Some(30.0)));
    }
}
