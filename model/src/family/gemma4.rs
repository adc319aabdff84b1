//! Gemma 4: norms before and after attention and the MLP, values that are normalized too, sliding layers between
//! layers that see everything with wider heads and a rotation of their own, last layers that attend to the keys
//! of earlier ones, and vectors that every layer reads of each token.

use percept_graph::Activation;
use serde_json::{Value, json};

use crate::block::{Biases, BlockSpec, Norm, Norms, QkNorm};
use crate::config::Config;
use crate::decoder::Decoder;
use crate::error::Result;
use crate::family::DecoderNames;
use crate::family::llama::{rotary, slides};
use crate::mixture::{MIXTURE, Mixture, MixtureNames, Router};
use crate::names;
use crate::per_layer::PerLayer;
use crate::rope::Rope;

/// Index of the rotation of layers that see everything; sliding layers have the other.
const FULL: usize = 0;
/// Index of the rotation of sliding layers.
const SLIDING: usize = 1;

/// A Gemma 4 decoder.
///
/// # Errors
/// When a value is missing or impossible.
pub fn decoder(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 262144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "global_head_dim": 512,
        "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
        "sliding_window": 512, "num_kv_shared_layers": 0, "pad_token_id": 0,
        "vocab_size_per_layer_input": 262144, "hidden_size_per_layer_input": 256,
    }));
    // Its two rotations have a shape of their own and are read below.
    let plain = c.without(&["rope_parameters", "rope_scaling"]);
    let mut d = rotary(&plain, names, 1e6)?;
    d.embedding_scale = Some((d.hidden as f64).sqrt() as f32);
    d.logit_cap = c.maybe_f64("final_logit_softcapping")?.map(|cap| cap as f32);
    d.layer_scalar = true;
    d.per_layer = per_layer(&c, names, &d)?;
    let layers = Layers::read(&c, d.stack.blocks.len())?;
    for (i, block) in d.stack.blocks.iter_mut().enumerate() {
        block.names = names::GEMMA4;
        block.mixture = mixture(&c, block.mlp.activation)?;
        block.norms = Norms::Around;
        layers.attention(&c, i, block)?;
    }
    // Wider heads than those of sliding layers, of which all have the same width.
    let width = |full: bool| {
        let of_kind = |(i, _): &(usize, &BlockSpec)| layers.slides[*i] != full;
        d.stack.blocks.iter().enumerate().find(of_kind).map(|(_, block)| block.attention.head_dim)
    };
    let (full, sliding) = (width(true), width(false));
    let usual = c.positive("head_dim")?;
    d.ropes = vec![
        rope(&c, "full_attention", full.unwrap_or(usual))?,
        rope(&c, "sliding_attention", sliding.unwrap_or(usual))?,
    ];
    Ok(d)
}

/// What differs from layer to layer.
struct Layers {
    /// Which of them see through a window.
    slides: Vec<bool>,
    /// The first of those that have no keys of their own.
    shared_from: usize,
    /// Image blocks see both ways in sliding layers.
    in_blocks: bool,
    window: usize,
    bias: bool,
    double_wide: bool,
}

impl Layers {
    fn read(c: &Config, count: usize) -> Result<Self> {
        let mut all = Vec::with_capacity(count);
        for i in 0..count {
            // The last one sees everything, whatever is said of it.
            all.push(i + 1 < count && slides(c, i)?.unwrap_or((i + 1) % 6 > 0));
        }
        let shared = c.usize("num_kv_shared_layers")?;
        let Some(shared_from) = count.checked_sub(shared).filter(|from| *from > 0) else {
            let why = format!("is {shared}: of {count} layers at least one must have keys of its own");
            return Err(c.error("num_kv_shared_layers", &why));
        };
        let in_blocks = match c.get("use_bidirectional_attention") {
            None => false,
            Some(Value::String(kind)) if kind == "vision" => true,
            Some(other) => {
                let why = format!(
                    "is {other}; known: null, \"vision\" (decoders that see both ways are not run here)"
                );
                return Err(c.error("use_bidirectional_attention", &why));
            }
        };
        Ok(Self {
            slides: all,
            shared_from,
            in_blocks,
            window: c.positive("sliding_window")?,
            bias: c.flag("attention_bias")?,
            double_wide: c.flag("use_double_wide_mlp")?,
        })
    }

    /// Makes layer `i` of a block of Llama's kind.
    fn attention(&self, c: &Config, i: usize, block: &mut BlockSpec) -> Result<()> {
        let slides = self.slides[i];
        let (head_dim, kv_heads) = heads(c, i, slides)?;
        let attention = &mut block.attention;
        if kv_heads == 0 || !attention.heads.is_multiple_of(kv_heads) {
            let why = format!("is {kv_heads}, which does not divide {} heads", attention.heads);
            return Err(c.error("num_global_key_value_heads", &why));
        }
        if head_dim == 0 || !head_dim.is_multiple_of(2) || head_dim > 1 << 16 {
            let why = format!("is {head_dim}, which is no number of pairs");
            return Err(c.error("global_head_dim", &why));
        }
        (attention.head_dim, attention.kv_heads) = (head_dim, kv_heads);
        attention.scale = 1.0;
        attention.bias = Biases::all(self.bias);
        attention.qk_norm = QkNorm::PerHead(block.norm);
        attention.v_norm = Some(Norm::bare(block.norm.eps));
        attention.k_is_v = !slides && c.flag("attention_k_eq_v")?;
        attention.window = slides.then_some(self.window);
        attention.in_blocks = slides && self.in_blocks;
        attention.rope = Some(if slides { SLIDING } else { FULL });
        if i >= self.shared_from {
            let before = self.slides[..self.shared_from].iter().rposition(|other| *other == slides);
            attention.keys_of = Some(before.ok_or_else(|| {
                let why = format!(
                    "leaves layer {i} without an earlier layer of its kind whose keys it could share"
                );
                c.error("num_kv_shared_layers", &why)
            })?);
            block.mlp.width *= if self.double_wide { 2 } else { 1 };
        }
        Ok(())
    }
}

/// Features of a head and heads of keys in layer `i`: as `per_layer_config` says, where there is one, or else as the
/// keys of published configurations do.
fn heads(c: &Config, i: usize, slides: bool) -> Result<(usize, usize)> {
    let usual = (c.positive("head_dim")?, c.positive("num_key_value_heads")?);
    if c.get("per_layer_config").is_some() {
        let nested = c.section("per_layer_config", json!({}))?;
        let own = nested.section(&i.to_string(), json!({}))?;
        own.refuse_others(&["head_dim", "num_key_value_heads"])?;
        let count = |key: &str, usual: usize| own.maybe_usize(key).map(|own| own.unwrap_or(usual));
        return Ok((count("head_dim", usual.0)?, count("num_key_value_heads", usual.1)?));
    }
    if slides {
        return Ok(usual);
    }
    let own = match c.flag("attention_k_eq_v")? {
        true => c.maybe_usize("num_global_key_value_heads")?,
        false => None,
    };
    Ok((c.positive("global_head_dim")?, own.unwrap_or(usual.1)))
}

/// The mixture beside a layer's MLP; `None` where there is none.
fn mixture(c: &Config, activation: Activation) -> Result<Option<Mixture>> {
    if !c.flag("enable_moe_block")? {
        return Ok(None);
    }
    let (experts, chosen) = (c.positive("num_experts")?, c.positive("top_k_experts")?);
    if chosen > experts {
        return Err(c.error("top_k_experts", &format!("is {chosen}, of {experts} experts")));
    }
    let names = MixtureNames {
        router: "router.proj",
        expert_scale: "router.per_expert_scale",
        experts: "experts",
        ..MIXTURE
    };
    Ok(Some(Mixture {
        experts,
        chosen,
        width: c.positive("moe_intermediate_size")?,
        activation,
        router: Router { expert_scale: true, ..Router::softmax(true) },
        shared: None,
        balance: 0.0,
        names,
    }))
}

/// The rotation of a kind of layers.
fn rope(c: &Config, kind: &str, head_dim: usize) -> Result<Rope> {
    let usual = match kind {
        "full_attention" => {
            json!({ "rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1e6 })
        }
        _ => json!({ "rope_type": "default", "rope_theta": 1e4 }),
    };
    let all = c.section("rope_parameters", json!({ kind: usual }))?;
    let own = all.section(kind, json!({}))?;
    if own.get("rope_type").is_none_or(|kind| kind != "proportional") {
        return Rope::from_parameters(c, all.get(kind).unwrap_or(&json!({})), head_dim, 1e4);
    }
    let positive = |key: &str, usual: f64| -> Result<f64> {
        let value = own.maybe_f64(key)?.unwrap_or(usual);
        match value.is_finite() && value > 0.0 {
            true => Ok(value),
            false => Err(own.error(key, "must be positive")),
        }
    };
    let share = own.maybe_f64("partial_rotary_factor")?.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&share) {
        return Err(own.error("partial_rotary_factor", &format!("is {share}; it is a share of a head")));
    }
    let pairs = (share * head_dim as f64 / 2.0) as usize;
    Ok(Rope::proportional(head_dim, positive("rope_theta", 1e6)?, pairs, positive("factor", 1.0)?))
}

/// The vectors that layers read of each token; `None` when they have no width.
fn per_layer(c: &Config, names: &DecoderNames, d: &Decoder) -> Result<Option<PerLayer>> {
    let width = c.usize("hidden_size_per_layer_input")?;
    if width == 0 {
        return Ok(None);
    }
    let vocab = c.positive("vocab_size_per_layer_input")?;
    let pad = c.usize("pad_token_id")?;
    if vocab < d.vocab || pad >= vocab {
        let why = format!(
            "is {vocab}; every token needs a row of the table, of {} and the one of padding ({pad})",
            d.vocab
        );
        return Err(c.error("vocab_size_per_layer_input", &why));
    }
    let activation = d.stack.blocks.first().map_or(Activation::GeluTanh, |block| block.mlp.activation);
    Ok(Some(PerLayer {
        prefix: names.model.clone(),
        vocab,
        width,
        layers: d.stack.blocks.len(),
        pad: pad as i32,
        activation,
        norm: d.norm,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: Value) -> Result<Decoder> {
        let c = Config::new("config.json", &file, json!({})).unwrap();
        decoder(&c, &DecoderNames { model: "model.".into(), head: "model.embed_tokens.weight".into() })
    }

    // Gemma4TextConfig of transformers 5.24.
    #[test]
    fn what_is_not_said_is_as_the_class_has_it() {
        let d = read(json!({})).unwrap();
        let kinds: Vec<_> = d.stack.blocks.iter().map(|b| b.attention.window).collect();
        assert_eq!(
            (kinds.len(), &kinds[..7]),
            (30, &[[Some(512); 5].as_slice(), &[None, Some(512)]].concat()[..])
        );
        let full = &d.stack.blocks[5].attention;
        assert_eq!((full.head_dim, full.kv_heads, full.k_is_v, full.scale), (512, 4, false, 1.0));
        assert_eq!(d.ropes, [Rope::proportional(512, 1e6, 64, 1.0), Rope::new(256, 1e4)]);
        assert_eq!((d.logit_cap, d.per_layer.unwrap().width), (None, 256));
    }

    #[test]
    fn the_last_layers_share_the_keys_of_the_last_of_their_kind() {
        let types = [
            "sliding_attention",
            "full_attention",
            "sliding_attention",
            "sliding_attention",
            "sliding_attention",
        ];
        let file = json!({
            "num_hidden_layers": 5, "layer_types": types, "num_kv_shared_layers": 2, "use_double_wide_mlp": true,
            "intermediate_size": 10, "hidden_size_per_layer_input": 0,
        });
        let d = read(file.clone()).unwrap();
        let of = |f: fn(&BlockSpec) -> Option<usize>| d.stack.blocks.iter().map(f).collect::<Vec<_>>();
        // The last layer sees everything, whatever is said of it.
        assert_eq!(of(|b| b.attention.keys_of), [None, None, None, Some(2), Some(1)]);
        assert_eq!(of(|b| Some(b.mlp.width)), [10, 10, 10, 20, 20].map(Some));
        assert!(d.per_layer.is_none());
        let with = |key: &str, value: Value| {
            let mut file = file.clone();
            file[key] = value;
            read(file).unwrap_err().to_string()
        };
        assert!(with("num_kv_shared_layers", json!(4)).contains("without an earlier layer"));
        assert!(with("num_kv_shared_layers", json!(5)).contains("at least one"));
        assert!(with("use_bidirectional_attention", json!("all")).contains("\"all\""));
        let e = with("per_layer_config", json!({ "1": { "sliding_window": 3 } }));
        assert!(e.contains("per_layer_config: 1: 'sliding_window'"), "{e}");
    }

    #[test]
    fn heads_are_said_in_two_spellings() {
        let file = |own: Value| {
            let mut file = json!({
                "num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"], "head_dim": 8,
                "num_attention_heads": 4, "num_key_value_heads": 2, "attention_k_eq_v": true,
            });
            file.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            let d = read(file).unwrap();
            d.stack.blocks.iter().map(|b| (b.attention.head_dim, b.attention.kv_heads)).collect::<Vec<_>>()
        };
        let hub = json!({ "global_head_dim": 16, "num_global_key_value_heads": 1 });
        let nested = json!({ "per_layer_config": { "1": { "head_dim": 16, "num_key_value_heads": 1 } } });
        assert_eq!((file(hub), file(nested)), (vec![(8, 2), (16, 1)], vec![(8, 2), (16, 1)]));
    }
}
