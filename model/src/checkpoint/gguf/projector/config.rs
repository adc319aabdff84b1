//! What a projector's file says of its model in the shape of config.json, and of its processor in that of
//! preprocessor_config.json. What no key of llama.cpp's holds is in the files that Percept carries along, or
//! as the family's published checkpoints have it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value as Json, json};

use super::super::super::error::{Result, damaged, unsupported};
use super::super::super::tensor::StoredTensor;
use super::super::metadata::{Metadata, Value};
use super::super::tokenizer::file_key;
use super::super::vocabulary::CAP;
use super::super::{Gguf, PROCESSOR_FILES};
use super::keys::differences;
use super::{CLASS, Projector, Tower};

/// Blocks of a tower, at most; the largest known has 48.
const MOST_BLOCKS: usize = 1 << 12;

/// A projector's file, once its tensors are the checkpoint's.
pub(crate) struct Media {
    /// The file.
    pub path: PathBuf,
    /// What kind it is.
    pub projector: &'static Projector,
    /// Its keys.
    pub keys: Metadata,
    /// What its keys say of a processor, where it carries none of the processor's files.
    pub files: BTreeMap<&'static str, Json>,
}

impl Media {
    /// The blocks behind which features of their own are made.
    ///
    /// # Errors
    /// When their key is something else.
    pub fn deepstack(&self) -> Result<Vec<usize>> {
        deepstack(&self.keys)
    }

    /// Another file that goes with the model.
    ///
    /// # Errors
    /// When its key is no text.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if !PROCESSOR_FILES.contains(&name) {
            return Ok(None);
        }
        let carried = self.keys.text(&file_key(name))?.map(String::into_bytes);
        Ok(carried.or_else(|| self.files.get(name).map(|file| file.to_string().into_bytes())))
    }
}

/// What is read of a projector's file: the media, its tensors, and config.json without its text part.
pub(crate) type Read = (Media, BTreeMap<String, StoredTensor>, Map<String, Json>);

/// Reads a projector's file that stands beside the keys of a text model's.
///
/// # Errors
/// When it is no projector's, of a kind that is not known or not that of the text, or lacks a key.
pub(crate) fn read(file: Gguf, text: &Metadata) -> Result<Read> {
    let Gguf { source, metadata, tensors } = file;
    let path = source.path();
    let projector = kind(&metadata)?;
    let architecture = text.text("general.architecture")?.unwrap_or_default();
    if !projector.texts.contains(&architecture.as_str()) {
        let why = format!(
            "a projector of kind '{}' goes with text models of architecture {}, and {} is '{architecture}'",
            projector.name,
            projector.texts.join(" or "),
            text.path().display()
        );
        return Err(unsupported(path, why));
    }
    if let (Some(own), Some(width)) = (
        metadata.unsigned("clip.vision.projection_dim"),
        text.unsigned(&format!("{architecture}.embedding_length")),
    ) && own != width
    {
        let why = format!(
            "its features have {own} numbers ('clip.vision.projection_dim'), the rows of {} {width}: they are not one \
             model's",
            text.path().display()
        );
        return Err(unsupported(path, why));
    }
    let deepstack = deepstack(&metadata)?;
    let tensors = projector.assemble(path, tensors, &deepstack)?;
    let types: BTreeMap<String, Vec<usize>> =
        tensors.iter().map(|(n, t)| (projector.plain(n), t.ty.dims.clone())).collect();
    let mut config = of_keys(projector, &metadata, &types)?;
    if let Some(carried) = carried_config(&metadata)? {
        let found = differences(projector, &carried, &config);
        if !found.is_empty() {
            let why = format!("its keys and 'percept.file.config.json' disagree about {}", found.join(", "));
            return Err(damaged(path, why));
        }
        lay_under(&mut config, carried);
    } else {
        from_vocabulary(projector, &mut config, text)?;
    }
    let mut files = BTreeMap::new();
    if PROCESSOR_FILES.iter().all(|name| metadata.get(&file_key(name)).is_none()) {
        files = processor(projector, &metadata, &config, text)?;
    }
    Ok((Media { path: path.to_path_buf(), projector, keys: metadata, files }, tensors, config))
}

/// The kind of a projector's file.
///
/// # Errors
/// When it is not known, or the file holds a tower for sound too.
pub(super) fn kind(metadata: &Metadata) -> Result<&'static Projector> {
    let path = metadata.path();
    let keys = ["clip.projector_type", "clip.vision.projector_type"];
    let mut named = [metadata.text(keys[0])?, metadata.text(keys[1])?].into_iter().flatten();
    // The first files were LLaVA's and had no such key.
    let first = (metadata.bool("clip.has_llava_projector") == Some(true)).then(|| "mlp".to_string());
    let absent = || damaged(path, format!("it has no key '{}', as projectors' files have", keys[0]));
    let name = named.next().or(first).ok_or_else(absent)?;
    if metadata.bool("clip.has_audio_encoder") == Some(true) {
        return Err(unsupported(
            path,
            format!("a projector for sound ('{name}'); those for images are read"),
        ));
    }
    Projector::named(&name).ok_or_else(|| {
        unsupported(path, format!("a projector of kind '{name}'; these are read: {}", Projector::names()))
    })
}

/// The blocks behind which features of their own are made.
fn deepstack(metadata: &Metadata) -> Result<Vec<usize>> {
    let flags = metadata.numbers("clip.vision.is_deepstack_layers", MOST_BLOCKS)?;
    Ok(flags.iter().enumerate().filter(|(_, flag)| **flag == Value::Bool(true)).map(|(i, _)| i).collect())
}

/// config.json as the keys have it.
pub(super) fn of_keys(
    projector: &Projector,
    metadata: &Metadata,
    dims: &BTreeMap<String, Vec<usize>>,
) -> Result<Map<String, Json>> {
    let keys = Keys(metadata);
    let has = |name: &str| dims.contains_key(name);
    let (hidden, heads) = (keys.required("embedding_length")?, keys.required("attention.head_count")?);
    let (blocks, patch) = (keys.required("block_count")?, keys.required("patch_size")?);
    if blocks > MOST_BLOCKS as u64 || hidden == 0 || heads == 0 || patch == 0 {
        return Err(damaged(
            metadata.path(),
            format!("its keys tell of {blocks} blocks of {hidden} features"),
        ));
    }
    let first = match projector.tower {
        Tower::Qwen2 => "visual.blocks.0.mlp.fc1.weight",
        Tower::Qwen2_5 => "visual.blocks.0.mlp.up_proj.weight",
        Tower::Qwen3 => "visual.blocks.0.mlp.linear_fc1.weight",
        _ => "vision_tower.encoder.layers.0.mlp.fc1.weight",
    };
    // Early files have a key of 0.
    let width = dims.get(first).and_then(|d| d.first()).map(|n| *n as u64);
    let width = width.map_or_else(|| keys.required("feed_forward_length"), Ok)?;
    let activation = match (metadata.bool("clip.use_gelu"), metadata.bool("clip.use_silu")) {
        (Some(true), Some(true)) => {
            return Err(damaged(metadata.path(), "both 'clip.use_gelu' and 'clip.use_silu' are true"));
        }
        (Some(true), _) if projector.tower == Tower::Llava && has(CLASS.1) => "gelu",
        (Some(true), _) => "gelu_pytorch_tanh",
        (_, Some(true)) => "silu",
        _ => "quick_gelu",
    };
    let mut outer = Map::new();
    outer.insert("architectures".into(), json!([projector.class]));
    outer.insert("model_type".into(), json!(projector.model_type));
    let vision = if projector.tower.is_qwen() {
        let merge = keys.optional("spatial_merge_size")?.unwrap_or(2);
        let out = keys.required("projection_dim")?;
        let mut vision = json!({
            "depth": blocks, "hidden_act": activation, "num_heads": heads, "patch_size": patch,
            "spatial_merge_size": merge, "temporal_patch_size": 2, "in_channels": 3,
        });
        match projector.tower {
            Tower::Qwen2 => {
                let ratio = if width.is_multiple_of(hidden) {
                    json!(width / hidden)
                } else {
                    json!(width as f64 / hidden as f64)
                };
                vision["embed_dim"] = json!(hidden);
                vision["hidden_size"] = json!(out);
                vision["mlp_ratio"] = ratio;
            }
            Tower::Qwen2_5 => {
                let period = keys.required("n_wa_pattern")?.max(1);
                let full: Vec<u64> = (0..blocks).filter(|i| (i + 1) % period == 0).collect();
                vision["hidden_size"] = json!(hidden);
                vision["out_hidden_size"] = json!(out);
                vision["intermediate_size"] = json!(width);
                vision["fullatt_block_indexes"] = json!(full);
                vision["window_size"] = json!(keys.optional("window_size")?.unwrap_or(112));
            }
            _ => {
                let rows = dims.get("visual.pos_embed.weight").and_then(|d| d.first()).copied();
                let absent = || damaged(metadata.path(), "there is no tensor 'v.position_embd.weight'");
                vision["hidden_size"] = json!(hidden);
                vision["out_hidden_size"] = json!(out);
                vision["intermediate_size"] = json!(width);
                vision["num_position_embeddings"] = json!(rows.ok_or_else(absent)?);
                vision["deepstack_visual_indexes"] = json!(deepstack(metadata)?);
            }
        }
        vision
    } else {
        let image = keys.required("image_size")?;
        let side = image / patch;
        match projector.tower {
            Tower::Gemma3 => {
                let to = side / keys.optional("projector.scale_factor")?.unwrap_or(4).max(1);
                outer.insert("mm_tokens_per_image".into(), json!(to * to));
            }
            Tower::Idefics3 => {
                let factor = keys.optional("projector.scale_factor")?.unwrap_or(2);
                outer.insert("scale_factor".into(), json!(factor));
            }
            _ => {
                // Where nothing is said the file ends with the block that is read.
                let mut layers = metadata.numbers("clip.vision.feature_layer", MOST_BLOCKS)?;
                layers.truncate(MOST_BLOCKS);
                let layers: Option<Vec<u64>> = layers.iter().map(Value::unsigned).collect();
                let wrong =
                    || damaged(metadata.path(), "key 'clip.vision.feature_layer' has a negative number");
                let layer = match layers.ok_or_else(wrong)?.as_slice() {
                    [] => json!(blocks),
                    [one] => json!(one),
                    several => json!(several),
                };
                let strategy = if has(CLASS.1) { "default" } else { "full" };
                outer.insert("vision_feature_layer".into(), layer);
                outer.insert("vision_feature_select_strategy".into(), json!(strategy));
                outer.insert("projector_hidden_act".into(), json!("gelu"));
                let bias = has("multi_modal_projector.linear_1.bias");
                outer.insert("multimodal_projector_bias".into(), json!(bias));
            }
        }
        let clip = projector.tower == Tower::Llava && has(CLASS.1);
        let eps = metadata.get("clip.vision.attention.layer_norm_epsilon").and_then(Value::float);
        json!({
            "model_type": if clip { "clip_vision_model" } else { "siglip_vision_model" },
            "hidden_size": hidden, "intermediate_size": width, "num_hidden_layers": blocks,
            "num_attention_heads": heads, "num_channels": 3, "image_size": image, "patch_size": patch,
            "hidden_act": activation, "layer_norm_eps": eps.unwrap_or(if clip { 1e-5 } else { 1e-6 }),
        })
    };
    outer.insert("vision_config".into(), vision);
    Ok(outer)
}

/// The keys under `clip.vision`.
struct Keys<'a>(&'a Metadata);

impl Keys<'_> {
    fn optional(&self, key: &str) -> Result<Option<u64>> {
        let name = format!("clip.vision.{key}");
        let Some(value) = self.0.get(&name) else { return Ok(None) };
        let number = value.unsigned().filter(|v| *v <= u64::from(u32::MAX));
        let wrong = || damaged(self.0.path(), format!("key '{name}' is no whole number"));
        number.ok_or_else(wrong).map(Some)
    }

    fn required(&self, key: &str) -> Result<u64> {
        let absent = || damaged(self.0.path(), format!("key 'clip.vision.{key}' is not there"));
        self.optional(key)?.ok_or_else(absent)
    }
}

fn carried_config(metadata: &Metadata) -> Result<Option<Map<String, Json>>> {
    let key = file_key("config.json");
    let Some(text) = metadata.text(&key)? else { return Ok(None) };
    let wrong = |why: String| damaged(metadata.path(), format!("key '{key}' is no JSON object: {why}"));
    serde_json::from_str(&text).map(Some).map_err(|e| wrong(e.to_string()))
}

/// What a carried config.json says goes before what is read off the keys, with which it agrees.
fn lay_under(config: &mut Map<String, Json>, mut carried: Map<String, Json>) {
    let mut vision = config.remove("vision_config").unwrap_or(Json::Null);
    if let (Some(under), Some(Json::Object(over))) = (vision.as_object_mut(), carried.remove("vision_config"))
    {
        under.extend(over);
    }
    config.extend(carried);
    config.insert("vision_config".into(), vision);
}

/// The placeholders' ids, by the tokens that the family's published checkpoints have for them.
fn from_vocabulary(projector: &Projector, config: &mut Map<String, Json>, text: &Metadata) -> Result<()> {
    let tokens: &[(&str, &str)] = match projector.tower {
        Tower::Gemma3 => &[
            ("image_token_index", "<image_soft_token>"),
            ("boi_token_index", "<start_of_image>"),
            ("eoi_token_index", "<end_of_image>"),
        ],
        Tower::Idefics3 => &[("image_token_id", "<image>")],
        Tower::Llava => &[("image_token_index", "<image>")],
        _ => &[
            ("image_token_id", "<|image_pad|>"),
            ("video_token_id", "<|video_pad|>"),
            ("vision_start_token_id", "<|vision_start|>"),
            ("vision_end_token_id", "<|vision_end|>"),
        ],
    };
    let all = text.texts("tokenizer.ggml.tokens", CAP)?;
    for (key, token) in tokens {
        let mut id = all.iter().position(|t| t == token);
        if id.is_none() && *token == "<image_soft_token>" {
            id = stand_in(&all).map(|(id, _)| id);
        }
        let id = id.ok_or_else(|| {
            let why = format!(
                "its vocabulary has no token '{token}', which stands in prompts for what {} reads",
                projector.name
            );
            unsupported(text.path(), why)
        })?;
        config.insert(key.to_string(), json!(id));
    }
    if projector.tower == Tower::Qwen2_5
        && let Some(vision) = config.get_mut("vision_config")
    {
        // As in every published checkpoint.
        vision["tokens_per_second"] = json!(2);
    }
    Ok(())
}

/// llama.cpp leaves Gemma 3's placeholder, whose id is beyond the text's table, out of the vocabulary. The
/// last token that no text has stands in: the rows where it stands are features', so its own is never looked
/// up.
fn stand_in(tokens: &[String]) -> Option<(usize, &String)> {
    tokens.iter().enumerate().rev().find(|(_, t)| t.starts_with("<unused") && t.ends_with('>'))
}

/// The processor's files as the keys have them; what they do not say is as the processors themselves have it.
fn processor(
    projector: &Projector,
    metadata: &Metadata,
    config: &Map<String, Json>,
    text: &Metadata,
) -> Result<BTreeMap<&'static str, Json>> {
    let three = |key: &str| -> Result<Json> {
        let numbers = metadata.numbers(key, 3)?;
        let numbers: Vec<f64> = numbers.iter().filter_map(Value::float).collect();
        let absent = || damaged(metadata.path(), format!("key '{key}' is no list of three numbers"));
        if numbers.len() == 3 { Ok(json!(numbers)) } else { Err(absent()) }
    };
    let (mean, std) = (three("clip.vision.image_mean")?, three("clip.vision.image_std")?);
    let value = |key: &str| config.get(key).cloned().unwrap_or(Json::Null);
    let vision = &value("vision_config");
    let (image, patch) = (&vision["image_size"], &vision["patch_size"]);
    let mut still = json!({ "image_mean": mean, "image_std": std });
    let mut own = Map::new();
    match projector.tower {
        Tower::Gemma3 => {
            still["size"] = json!({ "height": image, "width": image });
            own.insert("image_seq_length".into(), value("mm_tokens_per_image"));
            let tokens = text.texts("tokenizer.ggml.tokens", CAP)?;
            if let Some((_, token)) =
                stand_in(&tokens).filter(|(id, _)| value("image_token_index") == json!(id))
            {
                own.insert("image_token".into(), json!(token));
            }
        }
        Tower::Idefics3 => {
            let edge = metadata.unsigned("clip.vision.preproc_image_size");
            let usual = image.as_u64().unwrap_or(0).saturating_mul(4);
            still["size"] = json!({ "longest_edge": edge.unwrap_or(usual) });
            still["max_image_size"] = json!({ "longest_edge": image });
            let (side, factor) = (image.as_u64().zip(patch.as_u64()), value("scale_factor").as_u64());
            if let Some(((image, patch), factor)) = side.zip(factor.filter(|f| *f > 0)) {
                own.insert("image_seq_len".into(), json!((image / patch / factor).pow(2)));
            }
        }
        Tower::Llava => {
            still["size"] = json!({ "shortest_edge": image });
            still["crop_size"] = json!({ "height": image, "width": image });
        }
        Tower::Qwen2 | Tower::Qwen2_5 | Tower::Qwen3 => {
            let usual =
                if projector.tower == Tower::Qwen3 { [65_536, 16_777_216] } else { [3136, 12_845_056] };
            let bound =
                |key: &str, usual: u64| metadata.unsigned(&format!("clip.vision.{key}")).unwrap_or(usual);
            still["size"] = json!({
                "shortest_edge": bound("image_min_pixels", usual[0]),
                "longest_edge": bound("image_max_pixels", usual[1]),
            });
            still["patch_size"] = patch.clone();
            still["merge_size"] = vision["spatial_merge_size"].clone();
            still["temporal_patch_size"] = json!(2);
        }
    }
    let mut files = BTreeMap::from([("preprocessor_config.json", still)]);
    if !own.is_empty() {
        files.insert("processor_config.json", Json::Object(own));
    }
    Ok(files)
}
