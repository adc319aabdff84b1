//! Whisper's variables under Hugging Face's names, and its configuration in Hugging Face's shape.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::super::error::{Result, damaged};
use super::super::tensor::{Form, StoredTensor};
use super::{Kind, ModelBin, Variable};

/// The tensors under their Hugging Face names, and config.json. `vocabulary` is the folder's list of tokens,
/// empty where there is none.
pub(crate) fn translate(
    model: &ModelBin,
    vocabulary: &[String],
) -> Result<(BTreeMap<String, StoredTensor>, Json)> {
    let path = model.source.path();
    let mut tensors = BTreeMap::new();
    for (name, variable) in &model.variables {
        let (stem, leaf) = name.rsplit_once('/').unwrap_or(("", name));
        if leaf.ends_with("_scale") || is_setting(variable, leaf) {
            continue;
        }
        let (targets, suffix) = match (targets(stem), leaf) {
            (Some(targets), "weight" | "gamma" | "encodings") => (targets, ".weight"),
            (Some(targets), "bias" | "beta") => (targets, ".bias"),
            _ => (vec![name.clone()], ""),
        };
        // The head is an alias of the embeddings in every published model; one of its own has a name of its
        // own.
        let embeddings = model.variables.get("decoder/embeddings/weight");
        if name == "decoder/projection/weight"
            && embeddings.is_some_and(|e| e.span.range() == variable.span.range())
        {
            continue;
        }
        let parts = targets.len();
        for (i, target) in targets.into_iter().enumerate() {
            let stored = part(model, name, variable, i, parts)?;
            if target.ends_with(".k_proj") && suffix == ".bias" {
                // Whisper's keys have no bias; the joint projection fills its place with zeros.
                if stored.span.as_ref().iter().any(|&b| b != 0) {
                    return Err(damaged(
                        path,
                        format!("variable '{name}' has a bias for keys, Whisper has none"),
                    ));
                }
                continue;
            }
            tensors.insert(format!("{target}{suffix}"), stored);
        }
    }
    let config = config(model, vocabulary)?;
    Ok((tensors, config))
}

/// Integers that say how to compute, such as `decoder/num_heads`.
fn is_setting(variable: &Variable, leaf: &str) -> bool {
    !variable.kind.is_float() && leaf != "weight" && variable.dims.len() <= 1
}

/// Hugging Face's modules for the rows of a layer's variables, one after another.
fn targets(stem: &str) -> Option<Vec<String>> {
    let one = |s: &str| Some(vec![s.to_string()]);
    match stem {
        "encoder/conv1" => return one("model.encoder.conv1"),
        "encoder/conv2" => return one("model.encoder.conv2"),
        "encoder/position_encodings" => return one("model.encoder.embed_positions"),
        "encoder/layer_norm" => return one("model.encoder.layer_norm"),
        "decoder/embeddings" => return one("model.decoder.embed_tokens"),
        "decoder/position_encodings" => return one("model.decoder.embed_positions"),
        "decoder/layer_norm" => return one("model.decoder.layer_norm"),
        "decoder/projection" => return one("proj_out"),
        _ => {}
    }
    let (side, rest) = stem.split_once("/layer_")?;
    let (number, module) = rest.split_once('/')?;
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    if !plain || !matches!(side, "encoder" | "decoder") {
        return None;
    }
    let modules: &[&str] = match module {
        "self_attention/layer_norm" => &["self_attn_layer_norm"],
        "self_attention/linear_0" => &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        "self_attention/linear_1" => &["self_attn.out_proj"],
        "attention/layer_norm" => &["encoder_attn_layer_norm"],
        "attention/linear_0" => &["encoder_attn.q_proj"],
        "attention/linear_1" => &["encoder_attn.k_proj", "encoder_attn.v_proj"],
        "attention/linear_2" => &["encoder_attn.out_proj"],
        "ffn/layer_norm" => &["final_layer_norm"],
        "ffn/linear_0" => &["fc1"],
        "ffn/linear_1" => &["fc2"],
        _ => return None,
    };
    Some(modules.iter().map(|m| format!("model.{side}.layers.{number}.{m}")).collect())
}

/// Rows `i / parts` to `(i + 1) / parts` of a variable, with the scales that belong to them.
fn part(model: &ModelBin, name: &str, variable: &Variable, i: usize, parts: usize) -> Result<StoredTensor> {
    let path = model.source.path();
    let mut dims = variable.dims.clone();
    if parts > 1 {
        match dims.first_mut() {
            Some(rows) if rows.is_multiple_of(parts) => *rows /= parts,
            _ => {
                let why =
                    format!("variable '{name}' {:?} is not the rows of {parts} projections", variable.dims);
                return Err(damaged(path, why));
            }
        }
    }
    let slice = |span: &super::Span| {
        let bytes = span.as_ref().len() / parts;
        span.part(i * bytes..(i + 1) * bytes, name)
    };
    let scale = model.variables.get(&format!("{name}_scale"));
    let Some(scale) = scale.filter(|_| matches!(variable.kind, Kind::I8 | Kind::I16)) else {
        return StoredTensor::new(name, variable.kind.form(), dims, slice(&variable.span)?);
    };
    if scale.kind != Kind::F32 {
        return Err(damaged(path, format!("the scales of variable '{name}' are not f32")));
    }
    let one = scale.span.as_ref().len() == 4;
    let scales = if one { scale.span.clone() } else { slice(&scale.span)? };
    let form = Form::Scaled { bytes: variable.kind.bytes(), scales };
    let mut stored = StoredTensor::new(name, form, dims, slice(&variable.span)?)?;
    // The rest of the model is in the dtype that the whole had before its matrices were quantized.
    if let Some(norm) = model.variables.get("encoder/layer_norm/gamma").filter(|n| n.kind.is_float()) {
        stored.ty.dtype = norm.kind.form().natural();
    }
    Ok(stored)
}

fn config(model: &ModelBin, vocabulary: &[String]) -> Result<Json> {
    let path = model.source.path();
    let dim = |name: &str, i: usize| {
        let dims = model.variables.get(name).map(|v| v.dims.as_slice());
        let dim = dims.and_then(|d| d.get(i)).copied().filter(|d| *d > 0);
        dim.ok_or_else(|| damaged(path, format!("variable '{name}' is not there or has no dimension {i}")))
    };
    let layers = |side: &str| {
        let norm =
            |i: &usize| model.variables.contains_key(&format!("{side}/layer_{i}/ffn/layer_norm/gamma"));
        (0..).take_while(norm).count()
    };
    let d_model = dim("decoder/embeddings/weight", 1)?;
    let heads = |side: &str| match model.variables.get(&format!("{side}/num_heads")).map(|v| v.span.as_ref())
    {
        Some(&[a, b]) => u16::from_le_bytes([a, b]) as usize,
        Some(&[a]) => a as usize,
        // Every published model has heads of 64.
        _ => d_model / 64,
    };
    let id = |token: &str| vocabulary.iter().position(|t| t == token);
    let end = id("<|endoftext|>");
    Ok(json!({
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": true,
        "activation_function": "gelu",
        "scale_embedding": false,
        "tie_word_embeddings": true,
        "d_model": d_model,
        "vocab_size": dim("decoder/embeddings/weight", 0)?,
        "num_mel_bins": dim("encoder/conv1/weight", 1)?,
        "max_source_positions": dim("encoder/position_encodings/encodings", 0)?,
        "max_target_positions": dim("decoder/position_encodings/encodings", 0)?,
        "encoder_layers": layers("encoder"),
        "decoder_layers": layers("decoder"),
        "encoder_attention_heads": heads("encoder"),
        "decoder_attention_heads": heads("decoder"),
        "encoder_ffn_dim": dim("encoder/layer_0/ffn/linear_0/weight", 0)?,
        "decoder_ffn_dim": dim("decoder/layer_0/ffn/linear_0/weight", 0)?,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": id("<|startoftranscript|>"),
    }))
}

/// generation_config.json in Hugging Face's shape: CTranslate2's own config.json says what is suppressed and
/// which heads align, the vocabulary where the special tokens are.
pub(crate) fn generation_config(own: &Json, config: &Json, vocabulary: &[String]) -> Json {
    let id = |token: &str| vocabulary.iter().position(|t| t == token);
    let mut out = Map::new();
    for key in ["bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"] {
        out.insert(key.into(), config[key].clone());
    }
    for (key, from) in [
        ("suppress_tokens", "suppress_ids"),
        ("begin_suppress_tokens", "suppress_ids_begin"),
        ("alignment_heads", "alignment_heads"),
    ] {
        out.insert(key.into(), own.get(from).cloned().unwrap_or(Json::Null));
    }
    // English-only models have the 51864 tokens of GPT-2's vocabulary and Whisper's own; multilingual ones
    // have more.
    let multilingual = config["vocab_size"].as_u64().is_some_and(|n| n >= 51_865);
    out.insert("is_multilingual".into(), json!(multilingual));
    out.insert("max_length".into(), config["max_target_positions"].clone());
    out.insert("max_initial_timestamp_index".into(), json!(50));
    out.insert("no_timestamps_token_id".into(), json!(id("<|notimestamps|>")));
    out.insert("prev_sot_token_id".into(), json!(id("<|startofprev|>")));
    out.insert("return_timestamps".into(), json!(false));
    if multilingual {
        let tasks = ["transcribe", "translate"].map(|t| (t.to_string(), json!(id(&format!("<|{t}|>")))));
        out.insert("task_to_id".into(), Json::Object(tasks.into_iter().collect()));
        let ids = own.get("lang_ids").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_u64);
        let languages = ids.filter_map(|id| Some((vocabulary.get(id as usize)?.clone(), json!(id))));
        out.insert("lang_to_id".into(), Json::Object(languages.collect()));
    }
    Json::Object(out)
}
