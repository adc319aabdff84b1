//! The keys of a GGUF file, from a config.json and the decoder that it describes.

use serde_json::{Value as Json, json};

use super::architecture::Architecture;
use super::config::{self, Facts, implied_scalar, llama3_factors, yarn_magnitude};
use super::metadata::Metadata;
use super::whisper;
use super::write::Given;
use crate::block::BlockSpec;
use crate::config::Config;
use crate::decoder::Decoder;
use crate::family::{self, DecoderNames};
use crate::rope::rope_parameters;

/// What a model's configuration becomes in a GGUF file.
pub(crate) struct Described {
    /// The keys under the architecture's name.
    pub keys: Vec<(String, Given)>,
    /// The factors by which llama.cpp divides each rotary frequency, where the scaling is Llama 3's.
    pub rope_factors: Option<Vec<f32>>,
    /// Heads for queries and for keys.
    pub heads: [usize; 2],
    /// Rows of the table of embeddings.
    pub vocab: usize,
    /// Their width.
    pub hidden: usize,
    /// What llama.cpp computes otherwise than the keys say.
    pub notes: Vec<String>,
}

/// The key that holds Llama 3's rule of rotary scaling, of which llama.cpp's own keys have the result alone.
pub(super) const LLAMA3_RULE: &str = "percept.rope_scaling";

/// Describe a model of this config.json, or of this part of one.
///
/// # Errors
/// The key of config.json that is missing, or that a file of the architecture cannot say.
pub(crate) fn of_config(config: &Json, architecture: &Architecture) -> Result<Described, String> {
    if architecture.is_whisper() {
        return whisper::describe(config);
    }
    let c = Config::new("config.json", config, json!({})).map_err(|e| e.to_string())?;
    let decoder = decoder(&c)?;
    let block = decoder.stack.blocks.first().ok_or("config.json says that there are no layers")?;
    let (attention, name) = (&block.attention, architecture.name);
    let mut described = Described {
        keys: Vec::new(),
        rope_factors: None,
        heads: [attention.heads, attention.kv_heads],
        vocab: decoder.vocab,
        hidden: decoder.hidden,
        notes: Vec::new(),
    };
    let notes = &mut described.notes;
    let mut keys: Vec<(String, Given)> = Vec::new();
    let mut set = |key: &str, value: Given| keys.push((format!("{name}.{key}"), value));
    let context = config.get("max_position_embeddings").and_then(Json::as_u64);
    set("block_count", whole("num_hidden_layers", decoder.stack.blocks.len())?);
    set("context_length", whole("max_position_embeddings", context.map_or(decoder.context, |n| n as usize))?);
    set("embedding_length", whole("hidden_size", decoder.hidden)?);
    set("feed_forward_length", whole("intermediate_size", block.mlp.width)?);
    set("attention.head_count", whole("num_attention_heads", attention.heads)?);
    set("attention.head_count_kv", whole("num_key_value_heads", attention.kv_heads)?);
    set("attention.key_length", whole("head_dim", attention.head_dim)?);
    set("attention.value_length", whole("head_dim", attention.head_dim)?);
    set("vocab_size", whole("vocab_size", decoder.vocab)?);
    set("attention.layer_norm_rms_epsilon", Given::F32(block.norm.eps));
    let gemma = name == "gemma3";
    // Gemma 2 and 3 give scores and logits keys of their own.
    let scaled = gemma || name == "gemma2";
    let own = |key: &str| c.get(key);
    let (full, sliding) = match gemma {
        true => family::gemma3_rope_parameters(own),
        false => (rope_parameters(own).cloned().unwrap_or(json!({})), json!({})),
    };
    let theta = |of: &Json, key: &str, default: f64| {
        of.get("rope_theta").or(c.get(key)).and_then(Json::as_f64).unwrap_or(default)
    };
    let rope = Rope { parameters: &full, theta: theta(&full, "rope_theta", if gemma { 1e6 } else { 1e4 }) };
    set("rope.freq_base", single("rope_theta", rope.theta)?);
    if name == "llama" {
        set("rope.dimension_count", whole("head_dim", attention.head_dim)?);
    }
    described.rope_factors = rope.describe(&c, attention.head_dim, &mut set)?;
    if architecture.is_multimodal() {
        let mut sections = decoder.ropes.first().map(|r| r.sections()).unwrap_or_default();
        sections.resize(4, 0);
        set("rope.dimension_sections", Given::I32s(sections.iter().map(|n| *n as i32).collect()));
    }
    if gemma {
        let local = theta(&sliding, "rope_local_base_freq", 1e4);
        set("rope.freq_base_swa", single("rope_local_base_freq", local)?);
    }
    if scaled {
        of_gemma(&c, &decoder, name, &mut set, notes)?;
    } else if let Some(window) = attention.window.filter(|_| name == "llama") {
        set("attention.sliding_window", whole("sliding_window", window)?);
        notes.push(format!(
            "llama.cpp leaves 'attention.sliding_window' aside in files of architecture 'llama', so it sees more than \
             the last {window} tokens"
        ));
    }
    if described.rope_factors.is_some() && !rope.scales_alike() {
        keys.push((LLAMA3_RULE.into(), Given::Text(rope.parameters.to_string())));
    }
    described.keys = keys;
    Ok(described)
}

/// Refuses keys that a reader makes another model of than config.json describes, and names what differs.
///
/// # Errors
/// When they do, or cannot be read.
pub(crate) fn check(
    keys: &[(String, Given)],
    facts: &Facts,
    config: &Json,
    architecture: &Architecture,
) -> Result<(), String> {
    if architecture.is_whisper() {
        // All of its configuration goes along.
        return Ok(());
    }
    let c = Config::new("config.json", config, json!({})).map_err(|e| e.to_string())?;
    let metadata = Metadata::of(keys).map_err(|e| e.to_string())?;
    let part = config.get("model_type").and_then(Json::as_str).filter(|_| architecture.is_multimodal());
    let read = config::synthesize(&metadata, architecture.name, Some(architecture), facts, part)
        .map_err(|e| e.to_string())?;
    let read = Config::new("GGUF", &read, json!({})).map_err(|e| e.to_string())?;
    let found = differences(&decoder(&c)?, &decoder(&read)?);
    if found.is_empty() {
        return Ok(());
    }
    Err(format!(
        "GGUF's architecture '{}' cannot hold what config.json says about {}; keep the model in safetensors",
        architecture.name,
        found.join(", ")
    ))
}

fn decoder(c: &Config) -> Result<Decoder, String> {
    let names = DecoderNames { model: "model.".into(), head: "lm_head.weight".into() };
    family::decoder(c, &names).map_err(|e| e.to_string())
}

/// The keys of config.json in which two decoders differ.
fn differences(a: &Decoder, b: &Decoder) -> Vec<String> {
    let mut found = Vec::new();
    let mut differ = |same: bool, what: String| {
        if !same && !found.contains(&what) {
            found.push(what);
        }
    };
    let ropes = a.ropes.len() == b.ropes.len() && a.ropes.iter().zip(&b.ropes).all(|(a, b)| a.is_near(b));
    differ(a.vocab == b.vocab, "'vocab_size'".into());
    differ(a.hidden == b.hidden, "'hidden_size'".into());
    differ(ropes, "its rotary positions ('rope_parameters', 'rope_scaling', 'rope_theta')".into());
    differ(a.context == b.context, "'max_position_embeddings'".into());
    differ(a.logit_cap == b.logit_cap, "'final_logit_softcapping'".into());
    differ(a.embedding_scale == b.embedding_scale, "the scale of its embeddings".into());
    differ(a.norm == b.norm, "'rms_norm_eps'".into());
    differ(a.stack.blocks.len() == b.stack.blocks.len(), "'num_hidden_layers'".into());
    for (a, b) in a.stack.blocks.iter().zip(&b.stack.blocks) {
        let (p, q) = (&a.attention, &b.attention);
        differ(p.heads == q.heads, "'num_attention_heads'".into());
        differ(p.kv_heads == q.kv_heads, "'num_key_value_heads'".into());
        differ(p.head_dim == q.head_dim, "'head_dim'".into());
        differ(p.bias == q.bias, "'attention_bias'".into());
        let (own, other) = (p.window, q.window);
        differ(own == other, format!("'sliding_window' ({own:?}, a reader would take {other:?})"));
        differ(p.rope == q.rope, "'layer_types' or 'sliding_window_pattern'".into());
        differ(near(p.scale, q.scale), "'query_pre_attn_scalar'".into());
        differ(p.soft_cap == q.soft_cap, "'attn_logit_softcapping'".into());
        differ(p.causal == q.causal, "'use_bidirectional_attention'".into());
        differ(a.mlp.width == b.mlp.width, "'intermediate_size'".into());
        differ(
            a.mlp.activation == b.mlp.activation,
            format!("'hidden_act' ({:?}, a reader would take {:?})", a.mlp.activation, b.mlp.activation),
        );
        differ(a.mlp.bias == b.mlp.bias, "'mlp_bias'".into());
        differ(a.norm == b.norm, "'rms_norm_eps'".into());
        let parts = |b: &BlockSpec| (b.norms, b.layer_scale, b.names, b.cross.is_some(), b.mlp.gated);
        differ(parts(a) == parts(b) && p.qk_norm == q.qk_norm, "the parts of its layers".into());
    }
    found
}

fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
}

fn whole(key: &str, value: usize) -> Result<Given, String> {
    let short =
        u32::try_from(value).map_err(|_| format!("config.json: '{key}' is {value}, too large for GGUF"));
    short.map(Given::U32)
}

fn single(key: &str, value: f64) -> Result<Given, String> {
    let short = value as f32;
    let fits = short.is_finite() && (short != 0.0 || value == 0.0);
    fits.then_some(Given::F32(short)).ok_or(format!("config.json: '{key}' is {value}, which is no f32"))
}

/// The windows, the caps and the scale of Gemma 2 and 3.
fn of_gemma(
    c: &Config,
    d: &Decoder,
    name: &str,
    set: &mut impl FnMut(&str, Given),
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let attention = &d.stack.blocks[0].attention;
    let window = c.get("sliding_window").and_then(Json::as_u64).unwrap_or(4096);
    set("attention.sliding_window", whole("sliding_window", window as usize)?);
    let layers = d.stack.blocks.len();
    if name == "gemma3" {
        // Every so many layers one sees everything; where none does, the period is longer than the stack.
        let full = |b: &BlockSpec| b.attention.window.is_none();
        let period = d.stack.blocks.iter().position(full).map_or(layers, |i| i) + 1;
        if period != 6 && !(period > layers && layers < 6) {
            set("attention.sliding_window_pattern", whole("sliding_window_pattern", period)?);
        }
    }
    // An absent cap is Gemma 2's usual one, and of 0 none.
    if let Some(cap) = attention.soft_cap.or((name == "gemma2").then_some(0.0)) {
        set("attn_logit_softcapping", Given::F32(cap));
    }
    if let Some(cap) = d.logit_cap.or((name == "gemma2").then_some(0.0)) {
        set("final_logit_softcapping", Given::F32(cap));
    }
    let implied = implied_scalar(name, layers, d.hidden, attention.heads, attention.head_dim);
    if !near(attention.scale, (implied as f64).powf(-0.5) as f32) {
        set("attention.scale", Given::F32(attention.scale));
        notes.push(
            "llama.cpp leaves 'attention.scale' (1 / sqrt of 'query_pre_attn_scalar') aside and takes that of \
             Gemma's published sizes"
                .into(),
        );
    }
    Ok(())
}

/// The rotary parameters that apply to full attention.
struct Rope<'a> {
    parameters: &'a Json,
    theta: f64,
}

impl Rope<'_> {
    fn number(&self, key: &str) -> Result<f64, String> {
        let value = self.parameters.get(key).and_then(Json::as_f64);
        value.ok_or_else(|| format!("config.json has no number '{key}' in its rotary scaling"))
    }

    /// Whether LongRoPE scales texts of every length alike, and their attention not at all: what reading
    /// makes of factors that follow no rule.
    fn scales_alike(&self) -> bool {
        let p = self.parameters;
        let short = p.get("short_factor");
        short.is_some()
            && short == p.get("long_factor")
            && p.get("attention_factor").and_then(Json::as_f64) == Some(1.0)
    }

    /// The keys of a scaling; for Llama 3's, the factors instead.
    fn describe(
        &self,
        c: &Config,
        head_dim: usize,
        set: &mut impl FnMut(&str, Given),
    ) -> Result<Option<Vec<f32>>, String> {
        let p = self.parameters;
        let kind = p.get("rope_type").or(p.get("type")).and_then(Json::as_str).unwrap_or("default");
        match kind {
            "default" | "mrope" => {}
            "llama3" => return llama3_factors(p, self.theta, head_dim).map(Some),
            "longrope" if self.scales_alike() => {
                let factors = p["short_factor"].as_array().into_iter().flatten().filter_map(Json::as_f64);
                return Ok(Some(factors.map(|f| f as f32).collect()));
            }
            "linear" => {
                set("rope.scaling.type", Given::Text(kind.into()));
                set("rope.scaling.factor", single("factor", self.number("factor")?)?);
            }
            "yarn" => {
                let context = c.get("max_position_embeddings").and_then(Json::as_f64);
                let original = "original_max_position_embeddings";
                let trained = c.get(original).or(p.get(original)).and_then(Json::as_f64).or(context);
                let trained = trained.ok_or(format!("config.json has no number '{original}'"))?;
                let stretched = || context.map(|n| n / trained).ok_or("config.json has no YaRN 'factor'");
                let factor = self.number("factor").or_else(|_| stretched())?;
                set("rope.scaling.type", Given::Text(kind.into()));
                set("rope.scaling.factor", single("factor", factor)?);
                set("rope.scaling.original_context_length", whole(original, trained as usize)?);
                // llama.cpp multiplies its own magnitude by this.
                let own = |key: &str| p.get(key).and_then(Json::as_f64);
                let ratio = |key: &str| own(key).filter(|m| *m != 0.0).map(|m| yarn_magnitude(factor, m));
                let magnitude = own("attention_factor")
                    .or(ratio("mscale").zip(ratio("mscale_all_dim")).map(|(m, all)| m / all));
                if let Some(magnitude) = magnitude {
                    let given = single("attention_factor", magnitude / yarn_magnitude(factor, 1.0))?;
                    set("rope.scaling.attn_factor", given);
                }
                for key in ["beta_fast", "beta_slow"] {
                    if let Some(beta) = own(key).filter(|b| *b != 0.0) {
                        set(&format!("rope.scaling.yarn_{key}"), single(key, beta)?);
                    }
                }
            }
            other => return Err(format!("GGUF has no key for the rotary scaling '{other}' of config.json")),
        }
        Ok(None)
    }
}
