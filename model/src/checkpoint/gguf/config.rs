//! A config.json in Hugging Face's shape, from the keys of a GGUF file.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use percept_graph::DType;
use serde_json::{Map, Value as Json, json};

use super::super::error::{Result, damaged, unsupported};
use super::super::tensor::Stored;
use super::architecture::Architecture;
use super::metadata::{Metadata, Value};

/// Makes the configuration of a file of the architecture `name`. One that is not `known` gets its name as
/// `model_type` and nothing else, so that whoever looks for its family can say which there are.
pub fn synthesize(
    metadata: &Metadata,
    name: &str,
    known: Option<&Architecture>,
    tensors: &BTreeMap<String, Stored>,
) -> Result<Json> {
    let Some(architecture) = known else { return Ok(json!({ "model_type": name })) };
    let keys = Keys { metadata, name };
    let mut config = Map::new();
    let mut set = |key: &str, value: Json| config.insert(key.to_string(), value);

    let hidden = keys.required("embedding_length")?;
    let heads = keys.required("attention.head_count")?;
    let blocks = keys.required("block_count")?;
    let context = keys.required("context_length")?;
    if heads == 0 {
        return Err(damaged(metadata.path(), format!("key '{name}.attention.head_count' is 0")));
    }
    let head_dim = keys.optional("attention.key_length")?.unwrap_or(hidden / heads);
    let theta = keys.float("rope.freq_base").unwrap_or(if name == "gemma3" { 1e6 } else { 1e4 });
    set("architectures", json!([architecture.class]));
    set("model_type", json!(architecture.model_type));
    set("hidden_size", json!(hidden));
    set("intermediate_size", json!(keys.required("feed_forward_length")?));
    set("num_hidden_layers", json!(blocks));
    set("num_attention_heads", json!(heads));
    set("num_key_value_heads", json!(keys.optional("attention.head_count_kv")?.unwrap_or(heads)));
    set("head_dim", json!(head_dim));
    set("max_position_embeddings", json!(context));
    set("rms_norm_eps", json!(keys.float("attention.layer_norm_rms_epsilon").unwrap_or(1e-6)));
    set("rope_theta", json!(theta));
    set("rope_scaling", rope_scaling(&keys, theta, head_dim, tensors)?);
    // The head is the table of embeddings unless the file has one of its own.
    set("tie_word_embeddings", json!(!tensors.contains_key("output.weight")));
    let rows = tensors.get("token_embd.weight").and_then(|t| t.ty.dims.first().copied());
    let Some(vocabulary) = keys.optional("vocab_size")?.or(rows.map(|n| n as u64)) else {
        return Err(damaged(metadata.path(), "there is no tensor 'token_embd.weight'"));
    };
    set("vocab_size", json!(vocabulary));
    for (key, ggml) in [("bos", "bos"), ("eos", "eos"), ("pad", "padding")] {
        let id = metadata.unsigned(&format!("tokenizer.ggml.{ggml}_token_id"));
        set(&format!("{key}_token_id"), json!(id));
    }
    set("torch_dtype", json!(dense_dtype(tensors)));
    match name {
        "gemma3" => {
            // llama.cpp tells the 27B model, whose scale is that of hidden / heads, by its 62 blocks.
            let scalar = if blocks == 62 { hidden / heads } else { head_dim };
            set("query_pre_attn_scalar", json!(scalar));
            set("hidden_activation", json!("gelu_pytorch_tanh"));
            set("sliding_window", json!(keys.required("attention.sliding_window")?));
            set("sliding_window_pattern", json!(6));
            set("rope_local_base_freq", json!(keys.float("rope.freq_base_swa").unwrap_or(1e4)));
            set("final_logit_softcapping", json!(keys.float("final_logit_softcapping")));
            set("attn_logit_softcapping", json!(keys.float("attn_logit_softcapping")));
            set("attention_bias", json!(tensors.contains_key("blk.0.attn_q.bias")));
        }
        _ => {
            set("hidden_act", json!("silu"));
            // Qwen2 always has these biases and no key for them.
            if name != "qwen2" {
                set("attention_bias", json!(tensors.contains_key("blk.0.attn_q.bias")));
            }
            if name == "llama" {
                set("mlp_bias", json!(tensors.contains_key("blk.0.ffn_gate.bias")));
            }
        }
    }
    Ok(Json::Object(config))
}

/// The keys under the architecture's name.
struct Keys<'a> {
    metadata: &'a Metadata,
    name: &'a str,
}

impl Keys<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&format!("{}.{key}", self.name))
    }

    /// A whole number. Some architectures give one for each block; those here do not.
    fn optional(&self, key: &str) -> Result<Option<u64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        // Extents and counts; larger ones could not be added up.
        let number = value.unsigned().filter(|v| *v <= u64::from(u32::MAX));
        let wrong = || damaged(self.metadata.path(), format!("key '{}.{key}' is no whole number", self.name));
        number.ok_or_else(wrong).map(Some)
    }

    fn required(&self, key: &str) -> Result<u64> {
        let absent = || damaged(self.metadata.path(), format!("key '{}.{key}' is not there", self.name));
        self.optional(key)?.ok_or_else(absent)
    }

    fn float(&self, key: &str) -> Option<f64> {
        self.get(key)?.float()
    }
}

/// The dtype that most of a model was before its matrices were quantized, as far as its dense matrices tell.
fn dense_dtype(tensors: &BTreeMap<String, Stored>) -> &'static str {
    let dense = |dtype: DType| tensors.values().any(|t| t.ty.rank() > 1 && t.ty.dtype == dtype);
    if dense(DType::BF16) {
        "bfloat16"
    } else if dense(DType::F16) {
        "float16"
    } else {
        "float32"
    }
}

fn rope_scaling(keys: &Keys, theta: f64, head_dim: u64, tensors: &BTreeMap<String, Stored>) -> Result<Json> {
    if let Some(factors) = tensors.get("rope_freqs.weight") {
        return llama3(keys, theta, head_dim, factors);
    }
    let kind = keys.metadata.text(&format!("{}.rope.scaling.type", keys.name))?;
    let factor = keys.float("rope.scaling.factor").or(keys.float("rope.scale_linear"));
    let original = keys.optional("rope.scaling.original_context_length")?;
    match (kind.as_deref(), factor) {
        (Some("none") | None, None) | (Some("none"), _) => Ok(Json::Null),
        (Some("linear") | None, Some(1.0)) => Ok(Json::Null),
        (Some("linear") | None, Some(factor)) => Ok(json!({ "rope_type": "linear", "factor": factor })),
        (Some("yarn"), Some(factor)) => {
            let mut scaling = json!({ "rope_type": "yarn", "factor": factor });
            if let Some(original) = original {
                scaling["original_max_position_embeddings"] = json!(original);
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

/// Llama 3.1 and later: the file has the factor of every frequency instead of the rule. The rule's published models
/// differ in `factor` only, so that is read off and the rest is checked against it.
fn llama3(keys: &Keys, theta: f64, head_dim: u64, factors: &Stored) -> Result<Json> {
    const ORIGINAL: f64 = 8192.0;
    const LOW: f64 = 1.0;
    const HIGH: f64 = 4.0;
    let path = keys.metadata.path();
    let unlike =
        || unsupported(path, "tensor 'rope_freqs.weight' does not follow Llama 3's rule of rotary scaling");
    if factors.ty.dtype != DType::F32 || factors.ty.dims != [head_dim as usize / 2] {
        return Err(unlike());
    }
    let weight = factors.load("rope_freqs.weight")?;
    let given: Vec<f64> = weight
        .bytes()
        .chunks_exact(4)
        .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
        .collect();
    let factor = given.iter().copied().fold(1.0, f64::max);
    for (i, given) in given.iter().enumerate() {
        let length = TAU * theta.powf(2.0 * i as f64 / head_dim as f64);
        let smooth = ((ORIGINAL / length - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
        let expected = 1.0 / ((1.0 - smooth) / factor + smooth);
        let difference = (given / expected - 1.0).abs();
        if difference.is_nan() || difference > 1e-3 {
            return Err(unlike());
        }
    }
    Ok(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": LOW,
        "high_freq_factor": HIGH,
        "original_max_position_embeddings": ORIGINAL as u64,
    }))
}
