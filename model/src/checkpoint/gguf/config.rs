//! A config.json in Hugging Face's shape, from the keys of a GGUF file.

use std::collections::BTreeMap;
use std::f64::consts::TAU;
use std::path::Path;

use percept_graph::{DType, TensorType};
use serde_json::{Map, Value as Json, json};

use super::super::error::{Error, Result, damaged, unsupported};
use super::super::tensor::StoredTensor;
use super::architecture::Architecture;
use super::keys::LLAMA3_RULE;
use super::metadata::{Metadata, Value};
use super::whisper;

/// More blocks than any decoder has.
const MOST_BLOCKS: usize = 1 << 16;

/// What a configuration tells from a file's tensors, under ggml's names.
pub(crate) struct Facts<'a> {
    types: BTreeMap<&'a str, &'a TensorType>,
    /// The values of `rope_freqs.weight`, where it is f32.
    rope_factors: Option<Vec<f32>>,
}

impl<'a> Facts<'a> {
    pub fn new(
        types: impl Iterator<Item = (&'a str, &'a TensorType)>,
        rope_factors: Option<Vec<f32>>,
    ) -> Self {
        Facts { types: types.collect(), rope_factors }
    }

    /// The facts of a file's tensors.
    ///
    /// # Errors
    /// When the rotary factors cannot be loaded.
    pub fn of(tensors: &'a BTreeMap<String, StoredTensor>) -> Result<Self> {
        let name = "rope_freqs.weight";
        let floats = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        let rope_factors = match tensors.get(name).filter(|t| t.ty.dtype == DType::F32) {
            Some(stored) => Some(stored.load(name)?.bytes().chunks_exact(4).map(floats).collect()),
            None => None,
        };
        Ok(Facts::new(tensors.iter().map(|(name, t)| (name.as_str(), &t.ty)), rope_factors))
    }

    pub fn has(&self, name: &str) -> bool {
        self.types.contains_key(name)
    }

    /// The rows of a table.
    pub fn rows(&self, name: &str) -> Option<u64> {
        self.types.get(name)?.dims.first().map(|n| *n as u64)
    }

    /// By what rotary frequencies are divided.
    pub fn rope_factors(&self) -> Option<&[f32]> {
        self.rope_factors.as_deref()
    }
}

/// Makes the configuration of a file of the architecture `name`, as the text part of type `part` of a pair if
/// it is one. One that is not `known` gets its name as `model_type` and nothing else, so that whoever looks
/// for its family can say which there are.
pub fn synthesize(
    metadata: &Metadata,
    name: &str,
    known: Option<&Architecture>,
    facts: &Facts,
    part: Option<&str>,
) -> Result<Json> {
    let Some(architecture) = known else { return Ok(json!({ "model_type": name })) };
    if architecture.is_whisper() {
        return whisper::synthesize(metadata, facts);
    }
    let keys = Keys { metadata, name };
    let mut config = common(&keys, architecture, facts)?;
    if let Some(own) = architecture.own {
        (own.config)(&keys, facts, &mut config)?;
        return Ok(Json::Object(config));
    }
    let mut set = |key: &str, value: Json| config.insert(key.to_string(), value);
    let hidden = keys.required("embedding_length")?;
    let heads = keys.required("attention.head_count")?;
    let blocks = keys.required("block_count")?;
    let context = keys.required("context_length")?;
    let head_dim = keys.head_dim()?;
    keys.turns_whole_heads(head_dim)?;
    let theta = keys.float("rope.freq_base").unwrap_or(if name == "gemma3" { 1e6 } else { 1e4 });
    let window = keys.optional("attention.sliding_window")?.filter(|w| *w > 0);
    // Mistral is llama.cpp's Llama, and its window the one difference.
    let axes = part.filter(|_| architecture.is_multimodal());
    let model_type = match axes {
        Some(part) => part,
        None if name == "llama" && window.is_some() => "mistral",
        None => architecture.model_type,
    };
    set("model_type", json!(model_type));
    set("intermediate_size", json!(keys.required("feed_forward_length")?));
    set("num_key_value_heads", json!(keys.optional("attention.head_count_kv")?.unwrap_or(heads)));
    set("head_dim", json!(head_dim));
    set("rope_theta", json!(theta));
    let mut scaling = rope_scaling(&keys, theta, head_dim, context, facts)?;
    if axes.is_some() {
        let sections = keys.sections()?;
        if scaling.is_null() {
            scaling = json!({ "rope_type": "default" });
        }
        scaling["mrope_section"] = json!(sections);
        if name == "qwen3vl" {
            scaling["mrope_interleaved"] = json!(true);
        }
    }
    set("rope_scaling", scaling);
    match name {
        "gemma2" | "gemma3" => {
            let of = |n: u64| n as usize;
            let scalar = match keys.float("attention.scale") {
                Some(scale) => json!(tidy(scale.powf(-2.0), |scalar| scalar.powf(-0.5), scale)),
                None => json!(implied_scalar(name, of(blocks), of(hidden), of(heads), of(head_dim))),
            };
            set("query_pre_attn_scalar", scalar);
            set("hidden_activation", json!("gelu_pytorch_tanh"));
            set("attention_bias", json!(facts.has("blk.0.attn_q.bias")));
            if name == "gemma2" {
                let cap = |key: &str, usual: f64| match keys.float(key).unwrap_or(usual) {
                    0.0 => Json::Null,
                    cap => json!(cap),
                };
                set("sliding_window", json!(window.unwrap_or(4096)));
                set("attn_logit_softcapping", cap("attn_logit_softcapping", 50.0));
                set("final_logit_softcapping", cap("final_logit_softcapping", 30.0));
                return Ok(Json::Object(config));
            }
            set("sliding_window", json!(keys.required("attention.sliding_window")?));
            let pattern = keys.optional("attention.sliding_window_pattern")?;
            set("sliding_window_pattern", json!(pattern.unwrap_or(6)));
            set("rope_local_base_freq", json!(keys.float("rope.freq_base_swa").unwrap_or(1e4)));
            set("final_logit_softcapping", json!(keys.float("final_logit_softcapping")));
            set("attn_logit_softcapping", json!(keys.float("attn_logit_softcapping")));
        }
        _ => {
            set("hidden_act", json!("silu"));
            // Qwen2 always has these biases and no key for them.
            if !["qwen2", "qwen2vl"].contains(&name) {
                set("attention_bias", json!(facts.has("blk.0.attn_q.bias")));
            }
            if name == "qwen3moe" {
                // llama.cpp always divides the chosen scores by their sum.
                set("norm_topk_prob", json!(true));
                set("num_experts", json!(keys.required("expert_count")?));
                set("num_experts_per_tok", json!(keys.required("expert_used_count")?));
                set("moe_intermediate_size", json!(keys.required("expert_feed_forward_length")?));
            }
            if name == "llama" {
                set("mlp_bias", json!(facts.has("blk.0.ffn_gate.bias")));
                set("sliding_window", json!(window));
            }
        }
    }
    Ok(Json::Object(config))
}

/// What all decoders say in the same keys, and what their tensors tell.
fn common(keys: &Keys, architecture: &Architecture, facts: &Facts) -> Result<Map<String, Json>> {
    let mut config = Map::new();
    let mut set = |key: &str, value: Json| config.insert(key.to_string(), value);
    let heads = keys.required("attention.head_count")?;
    let blocks = keys.required("block_count")?;
    if heads == 0 {
        return Err(keys.wrong("attention.head_count", "is 0"));
    }
    keys.check(blocks, facts)?;
    set("architectures", json!([architecture.class]));
    set("model_type", json!(architecture.model_type));
    set("hidden_size", json!(keys.required("embedding_length")?));
    set("num_attention_heads", json!(heads));
    // Blocks behind the last guess at tokens further ahead, and are left out.
    set("num_hidden_layers", json!(blocks.saturating_sub(keys.guessing()?)));
    set("max_position_embeddings", json!(keys.required("context_length")?));
    set("rms_norm_eps", json!(keys.float("attention.layer_norm_rms_epsilon").unwrap_or(1e-6)));
    set("rope_theta", json!(keys.float("rope.freq_base").unwrap_or(1e4)));
    // The head is the table of embeddings unless the file has one of its own.
    set("tie_word_embeddings", json!(!facts.has("output.weight")));
    let rows = facts.types.get("token_embd.weight").and_then(|ty| ty.dims.first().copied());
    let Some(vocabulary) = keys.optional("vocab_size")?.or(rows.map(|n| n as u64)) else {
        return Err(damaged(keys.metadata.path(), "there is no tensor 'token_embd.weight'"));
    };
    set("vocab_size", json!(vocabulary));
    for (key, ggml) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")] {
        let id = keys.metadata.unsigned(&format!("tokenizer.ggml.{ggml}_token_id"));
        set(&format!("{key}_token_id"), json!(id));
    }
    set("torch_dtype", json!(dense_dtype(facts)));
    Ok(config)
}

/// The keys under the architecture's name.
pub(crate) struct Keys<'a> {
    metadata: &'a Metadata,
    name: &'a str,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&format!("{}.{key}", self.name))
    }

    /// A whole number. Some architectures give one for each block ([`Self::each`]); most do not.
    pub fn optional(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        // Extents and counts; larger ones could not be added up.
        let number = value.unsigned().filter(|v| *v <= u64::from(u32::MAX));
        let wrong = || damaged(self.metadata.path(), format!("key '{}.{key}' is no whole number", self.name));
        number.ok_or_else(wrong).map(Some)
    }

    pub fn required(&self, key: &str) -> Result<u64> {
        let absent = || damaged(self.metadata.path(), format!("key '{}.{key}' is not there", self.name));
        self.optional(key)?.ok_or_else(absent)
    }

    /// A number; what is not finite is refused before ([`Keys::check`]).
    pub fn float(&self, key: &str) -> Option<f64> {
        self.get(key)?.float()
    }

    /// Whether there is a key.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A key that is true or false.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.metadata.bool(&format!("{}.{key}", self.name))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.metadata.path()
    }

    /// What is wrong with a key.
    pub fn wrong(&self, key: &str, why: &str) -> Error {
        damaged(self.path(), format!("key '{}.{key}' {why}", self.name))
    }

    /// A whole number for each of so many blocks, where all may have the same.
    pub fn each(&self, key: &str, blocks: u64) -> Result<Vec<u64>> {
        let Some(Value::Array { .. }) = self.get(key) else {
            return Ok(vec![self.required(key)?; blocks as usize]);
        };
        let numbers = self.metadata.numbers(&format!("{}.{key}", self.name), MOST_BLOCKS)?;
        let of = |v: &Value| v.unsigned().filter(|n| *n <= u64::from(u32::MAX));
        let numbers: Option<Vec<u64>> = numbers.iter().map(of).collect();
        let fits = numbers.filter(|n| n.len() as u64 == blocks);
        fits.ok_or_else(|| {
            self.wrong(key, &format!("is no list of a whole number for each of {blocks} blocks"))
        })
    }

    /// Whether it is so, for each of so many blocks.
    pub fn flags(&self, key: &str, blocks: u64) -> Result<Vec<bool>> {
        let flags = self.metadata.numbers(&format!("{}.{key}", self.name), MOST_BLOCKS)?;
        let of = |v: &Value| match v {
            Value::Bool(flag) => Some(*flag),
            other => other.unsigned().map(|n| n != 0),
        };
        let flags: Option<Vec<bool>> = flags.iter().map(of).collect();
        let fits = flags.filter(|n| n.len() as u64 == blocks);
        fits.ok_or_else(|| self.wrong(key, &format!("is no list of a truth for each of {blocks} blocks")))
    }

    /// Blocks behind the last that guess at tokens further ahead.
    fn guessing(&self) -> Result<u64> {
        Ok(self.optional("nextn_predict_layers")?.unwrap_or(0))
    }

    /// Features of a head.
    pub fn head_dim(&self) -> Result<u64> {
        let (hidden, heads) = (self.required("embedding_length")?, self.required("attention.head_count")?);
        Ok(self.optional("attention.key_length")?.unwrap_or(hidden / heads.max(1)))
    }

    /// Which pairs of features turn with which axis of an image.
    pub fn sections(&self) -> Result<Vec<u64>> {
        let key = format!("{}.rope.dimension_sections", self.name);
        let sections = self.metadata.numbers(&key, 4)?;
        let mut sections: Vec<u64> = sections.iter().filter_map(Value::unsigned).collect();
        sections.truncate(3);
        match sections.len() {
            3 => Ok(sections),
            _ => Err(self.wrong(
                "rope.dimension_sections",
                "does not say which pairs turn with which axis of an image",
            )),
        }
    }

    /// The scaling of rotary positions of heads that turn whole, as far as it is the same for all layers.
    pub fn rope_scaling(&self, facts: &Facts) -> Result<Json> {
        let theta = self.float("rope.freq_base").unwrap_or(1e4);
        let turned = self.optional("rope.dimension_count")?.map_or_else(|| self.head_dim(), Ok)?;
        rope_scaling(self, theta, turned, self.required("context_length")?, facts)
    }

    /// Refuses heads of which a part turns.
    pub fn turns_whole_heads(&self, head_dim: u64) -> Result<()> {
        match self.optional("rope.dimension_count")?.filter(|n| *n != head_dim) {
            None => Ok(()),
            Some(turned) => Err(self.wrong(
                "rope.dimension_count",
                &format!("is {turned}, and heads have {head_dim} dimensions, all of which are turned"),
            )),
        }
    }

    /// Refuse what no file that llama.cpp takes says.
    fn check(&self, blocks: u64, facts: &Facts) -> Result<()> {
        let own = |key: &str| key.strip_prefix(self.name).is_some_and(|rest| rest.starts_with('.'));
        if let Some(key) = self.metadata.not_finite().find(|key| own(key)) {
            return Err(damaged(self.path(), format!("key '{key}' is no finite number")));
        }
        let block = |name: &&str| name.strip_prefix("blk.")?.split('.').next()?.parse::<u64>().ok();
        if let Some(beyond) = facts.types.keys().find(|name| block(name).is_some_and(|n| n >= blocks)) {
            let name = self.name;
            let why = format!("there is a tensor '{beyond}', and key '{name}.block_count' is {blocks}");
            return Err(damaged(self.path(), why));
        }
        if blocks > MOST_BLOCKS as u64 || self.guessing()? >= blocks.max(1) {
            return Err(self.wrong("block_count", &format!("is {blocks}, which is no number of layers")));
        }
        Ok(())
    }
}

/// The dtype that most of a model was before its matrices were quantized, as far as its dense matrices tell.
fn dense_dtype(facts: &Facts) -> &'static str {
    let dense = |dtype: DType| facts.types.values().any(|ty| ty.rank() > 1 && ty.dtype == dtype);
    if dense(DType::BF16) {
        "bfloat16"
    } else if dense(DType::F16) {
        "float16"
    } else {
        "float32"
    }
}

fn rope_scaling(keys: &Keys, theta: f64, head_dim: u64, context: u64, facts: &Facts) -> Result<Json> {
    if facts.has("rope_freqs.weight") {
        return factors(keys, theta, head_dim as usize, context, facts);
    }
    let kind = keys.metadata.text(&format!("{}.rope.scaling.type", keys.name))?;
    let factor = keys.float("rope.scaling.factor").or(keys.float("rope.scale_linear"));
    match (kind.as_deref(), factor) {
        (Some("none") | None, None) | (Some("none"), _) => Ok(Json::Null),
        (Some("linear") | None, Some(1.0)) => Ok(Json::Null),
        (Some("linear") | None, Some(factor)) => Ok(json!({ "rope_type": "linear", "factor": factor })),
        (Some("yarn"), Some(factor)) => {
            let mut scaling = json!({ "rope_type": "yarn", "factor": factor });
            if let Some(original) = keys.optional("rope.scaling.original_context_length")? {
                scaling["original_max_position_embeddings"] = json!(original);
            }
            if let Some(given) = keys.float("rope.scaling.attn_factor") {
                let own = yarn_magnitude(factor, 1.0);
                scaling["attention_factor"] = json!(tidy(given * own, |whole| whole / own, given));
            }
            for key in ["beta_fast", "beta_slow"] {
                if let Some(beta) = keys.float(&format!("rope.scaling.yarn_{key}")) {
                    scaling[key] = json!(beta);
                }
            }
            // These change what nothing here computes; the last is DeepSeek's to read.
            let multiplier = Some("yarn_log_multiplier").filter(|_| keys.name != "deepseek2");
            for key in ["yarn_ext_factor", "yarn_attn_factor"].into_iter().chain(multiplier) {
                if keys.get(&format!("rope.scaling.{key}")).is_some() {
                    let why = format!("key '{}.rope.scaling.{key}' is not known here", keys.name);
                    return Err(unsupported(keys.metadata.path(), why));
                }
            }
            Ok(scaling)
        }
        (kind, _) => {
            let kind = kind.unwrap_or_default();
            let why =
                format!("rotary scaling '{kind}' (key '{}.rope.scaling.type') is not known here", keys.name);
            Err(unsupported(keys.metadata.path(), why))
        }
    }
}

/// The magnitude of attention in YaRN: that of `factor`, weighted.
pub(super) fn yarn_magnitude(factor: f64, weight: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 }
}

/// What scores of Gemma's queries are divided by the square root of. llama.cpp tells the 27B models, whose
/// scale is that of hidden / heads, by their 46 or 62 blocks.
pub(super) fn implied_scalar(
    name: &str,
    blocks: usize,
    hidden: usize,
    heads: usize,
    head_dim: usize,
) -> usize {
    let largest = if name == "gemma2" { 46 } else { 62 };
    if blocks == largest { hidden / heads.max(1) } else { head_dim }
}

/// The number with the fewest digits that `value` may stand for, where `to_single` of it rounds to the f32
/// `single`.
fn tidy(value: f64, to_single: impl Fn(f64) -> f64, single: f64) -> f64 {
    let shorter = (1..9).filter_map(|digits| format!("{value:.digits$e}").parse::<f64>().ok());
    shorter.into_iter().find(|v| to_single(*v) as f32 == single as f32).unwrap_or(value)
}

/// A file with the factor of every frequency. Llama 3.1 and later have them instead of a rule: ours is beside
/// them in files written here, and published models differ in `factor` only, so that is read off and the rest
/// is checked against it. Any other factors are taken as they are, as LongRoPE's for every length.
fn factors(keys: &Keys, theta: f64, head_dim: usize, context: u64, facts: &Facts) -> Result<Json> {
    let path = keys.metadata.path();
    let given = facts.rope_factors.as_deref().filter(|f| f.len() == head_dim / 2);
    let wrong = || damaged(path, format!("tensor 'rope_freqs.weight' is not f32[{}]", head_dim / 2));
    let given = given.ok_or_else(wrong)?;
    if let Some(bad) = given.iter().find(|f| !(f.is_finite() && **f > 0.0)) {
        return Err(damaged(
            path,
            format!("tensor 'rope_freqs.weight' holds {bad}, by which nothing is divided"),
        ));
    }
    let follows = |rule: &Json, tolerance: f32| {
        let expected = llama3_factors(rule, theta, head_dim).unwrap_or_default();
        let near = |(given, expected): (&f32, &f32)| (given / expected - 1.0).abs() <= tolerance;
        expected.len() == given.len() && given.iter().zip(&expected).all(near)
    };
    if let Some(text) = keys.metadata.text(LLAMA3_RULE)? {
        let rule = serde_json::from_str::<Json>(&text).ok().filter(|rule| follows(rule, 1e-5));
        let unlike =
            || damaged(path, format!("key '{LLAMA3_RULE}' is not the rule of tensor 'rope_freqs.weight'"));
        return rule.ok_or_else(unlike);
    }
    let published = json!({
        "rope_type": "llama3",
        "factor": given.iter().copied().fold(1.0, f32::max),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    if follows(&published, 1e-3) {
        return Ok(published);
    }
    Ok(json!({
        "rope_type": "longrope",
        "short_factor": given,
        "long_factor": given,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": context,
    }))
}

/// The factors by which Llama 3's rule divides each rotary frequency.
///
/// # Errors
/// The number that the rule lacks.
pub(super) fn llama3_factors(
    rule: &Json,
    theta: f64,
    head_dim: usize,
) -> std::result::Result<Vec<f32>, String> {
    let number = |key: &str| {
        let value = rule.get(key).and_then(Json::as_f64);
        value.ok_or_else(|| format!("config.json has no number '{key}' in its rotary scaling"))
    };
    let (factor, original) = (number("factor")?, number("original_max_position_embeddings")?);
    let (low, high) = (number("low_freq_factor")?, number("high_freq_factor")?);
    let one = |i: usize| {
        let length = TAU * theta.powf(2.0 * i as f64 / head_dim as f64);
        let smooth = ((original / length - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    };
    Ok((0..head_dim / 2).map(one).collect())
}
