//! Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and a window in the upper layers where
//! asked for.

use serde_json::json;

use crate::block::Biases;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::DecoderNames;
use crate::family::llama::{rotary, slides};

/// A Qwen2 decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu",
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
    }));
    let mut d = rotary(&c, names, 10000.0)?;
    d.stack.blocks.iter_mut().for_each(|b| b.attention.bias = Biases { out: false, ..Biases::all(true) });
    windows(&c, &mut d)?;
    Ok(d)
}

/// The windows of the layers that slide: those that `layer_types` names, or all from `max_window_layers` on.
///
/// # Errors
/// When a value is impossible.
pub fn windows(c: &Config, d: &mut Decoder) -> Result<()> {
    let used = c.flag("use_sliding_window")?;
    let c = c.over(json!({ "sliding_window": 4096, "max_window_layers": 28 }));
    let window = c.maybe_usize("sliding_window")?;
    let from = c.usize("max_window_layers")?;
    for (i, block) in d.stack.blocks.iter_mut().enumerate() {
        if slides(&c, i)?.unwrap_or(i >= from) && used {
            block.attention.window = window;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_slide_where_the_configuration_says_so() {
        let windows = |file| {
            let c = Config::new("config.json", &file, json!({ "use_sliding_window": true })).unwrap();
            let small =
                json!({ "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 3 });
            let heads = json!({ "num_attention_heads": 2, "num_key_value_heads": 1 });
            let names = DecoderNames { model: "model.".into(), head: "lm_head.weight".into() };
            let d = decoder(&c.over(small).over(heads), &names);
            d.map(|d| d.stack.blocks.iter().map(|b| b.attention.window).collect::<Vec<_>>())
        };
        assert_eq!(windows(json!({ "max_window_layers": 1 })).unwrap(), [None, Some(4096), Some(4096)]);
        assert_eq!(windows(json!({ "max_window_layers": 0, "sliding_window": null })).unwrap(), [None; 3]);
        let kinds = ["sliding_attention", "full_attention", "linear_attention"];
        let listed = json!({ "layer_types": [kinds[0], kinds[1], kinds[0]], "sliding_window": 5 });
        assert_eq!(windows(listed).unwrap(), [Some(5), None, Some(5)]);
        let unused = json!({ "layer_types": kinds, "use_sliding_window": false });
        let e = windows(unused).unwrap_err().to_string();
        assert!(e.contains("'layer_types' has 'linear_attention'"), "{e}");
    }
}
