//! The keys of a projector's file, from a config.json and the files of a processor.

use std::collections::BTreeMap;

use percept_modalities::image::Normalize;
use serde_json::{Map, Value as Json, json};

use super::super::PROCESSOR_FILES;
use super::super::metadata::Metadata;
use super::super::tokenizer::file_key;
use super::super::write::Given;
use super::config::of_keys;
use super::{CLASS, Projector, Tower};
use crate::config::Config;
use crate::processor::{CLIP_NORMALIZE, HALF_NORMALIZE, ProcessorFiles, Size};
use crate::vision::{qwen2_5_defaults, qwen2_defaults, qwen3_defaults};
use crate::vision_tower::{clip_defaults, siglip_defaults};

/// What a model's tower and projector become in a file of their own.
pub(crate) struct Described {
    /// The keys.
    pub keys: Vec<(String, Given)>,
    /// The blocks behind which features of their own are made.
    pub deepstack: Vec<usize>,
    /// Blocks of the tower that the file holds: none is behind the last that is read.
    pub blocks: usize,
}

/// Describe the media of a model: its config.json, the width of its text's rows, the extents of its tensors
/// by their plain names, and the files of its processor.
///
/// # Errors
/// The key of config.json that a projector's file cannot hold.
pub(crate) fn described(
    projector: &Projector,
    config: &Json,
    width: usize,
    dims: &BTreeMap<String, Vec<usize>>,
    file: impl Fn(&str) -> Result<Option<Vec<u8>>, String>,
) -> Result<Described, String> {
    let Json::Object(original) = config else { return Err("config.json is no object".into()) };
    let mut original = without_text(original);
    let mut vision = section(&original, "vision_config");
    let defaults = defaults(projector.tower, dims.contains_key(CLASS.1));
    let number = |vision: &Map<String, Json>, key: &str| {
        let value = vision.get(key).filter(|v| !v.is_null()).unwrap_or(&defaults[key]);
        let whole = value.as_u64().filter(|n| *n > 0).and_then(|n| u32::try_from(n).ok());
        whole.ok_or(format!("config.json: vision_config: '{key}' is {value}, no extent of a tower"))
    };
    let qwen = projector.tower.is_qwen();
    let mut blocks = number(&vision, if qwen { "depth" } else { "num_hidden_layers" })?;
    let mut keys: Vec<(String, Given)> = Vec::new();
    let mut set = |key: &str, value: Given| keys.push((format!("clip.{key}"), value));
    if projector.tower == Tower::Llava {
        let layers = feature_layers(&original, i64::from(blocks))?;
        let ordered = layers.windows(2).all(|pair| pair[0] < pair[1]);
        let Some(deepest) = layers.last().copied().filter(|deepest| ordered && *deepest > 0) else {
            let why =
                "config.json: 'vision_feature_layer' lists layers that llama.cpp would read in another order";
            return Err(why.into());
        };
        // What is behind the last layer that is read says nothing.
        blocks = deepest as u32;
        vision.insert("num_hidden_layers".into(), json!(blocks));
        let layer = if layers.len() == 1 { json!(deepest) } else { json!(layers) };
        original.insert("vision_feature_layer".into(), layer);
        set("has_llava_projector", Given::Bool(true));
        set("vision.feature_layer", Given::I32s(layers.iter().map(|l| *l as i32).collect()));
    }
    set("has_vision_encoder", Given::Bool(true));
    set("projector_type", Given::Text(projector.name.into()));
    let projection = u32::try_from(width).map_err(|_| format!("its rows of {width} are too wide"))?;
    set("vision.projection_dim", Given::U32(projection));
    let heads = number(&vision, if qwen { "num_heads" } else { "num_attention_heads" })?;
    let patch = number(&vision, "patch_size")?;
    set("vision.patch_size", Given::U32(patch));
    set("vision.attention.head_count", Given::U32(heads));
    set("vision.block_count", Given::U32(blocks));
    let mut deepstack = Vec::new();
    let image = match projector.tower {
        Tower::Qwen3 => {
            let side = f64::from(number(&vision, "num_position_embeddings")?).sqrt();
            (side * f64::from(patch)) as u32
        }
        // llama.cpp wants one, though images of any size are read.
        Tower::Qwen2 | Tower::Qwen2_5 => 560,
        _ => number(&vision, "image_size")?,
    };
    set("vision.image_size", Given::U32(image));
    let hidden = number(&vision, if projector.tower == Tower::Qwen2 { "embed_dim" } else { "hidden_size" })?;
    set("vision.embedding_length", Given::U32(hidden));
    let wide = match projector.tower {
        Tower::Qwen2 => {
            let ratio = vision.get("mlp_ratio").unwrap_or(&defaults["mlp_ratio"]).as_f64();
            (f64::from(hidden) * ratio.ok_or("config.json: vision_config: 'mlp_ratio' is no number")?) as u32
        }
        _ => number(&vision, "intermediate_size")?,
    };
    set("vision.feed_forward_length", Given::U32(wide));
    let c = Config::new("config.json: vision_config", &Json::Object(vision.clone()), defaults.clone());
    let c = c.map_err(|e| e.to_string())?;
    match c.activation("hidden_act").map_err(|e| e.to_string())? {
        percept_graph::Activation::QuickGelu => {}
        percept_graph::Activation::Silu => set("use_silu", Given::Bool(true)),
        _ => set("use_gelu", Given::Bool(true)),
    }
    // Qwen's towers have this one, whatever the text's is.
    let eps = if qwen { 1e-6 } else { c.f64("layer_norm_eps").map_err(|e| e.to_string())? };
    set("vision.attention.layer_norm_epsilon", Given::F32(eps as f32));
    match projector.tower {
        Tower::Gemma3 => {
            let rows = original.get("mm_tokens_per_image").and_then(Json::as_u64).unwrap_or(256).isqrt();
            let scale = u64::from(image / patch).checked_div(rows).unwrap_or(0) as u32;
            if scale != 4 {
                set("vision.projector.scale_factor", Given::U32(scale));
            }
        }
        Tower::Idefics3 => {
            let factor = original.get("scale_factor").and_then(Json::as_u64).unwrap_or(2);
            let factor = u32::try_from(factor).map_err(|_| "config.json: 'scale_factor' is too large")?;
            set("vision.projector.scale_factor", Given::U32(factor));
        }
        Tower::Llava => {}
        Tower::Qwen2 | Tower::Qwen2_5 | Tower::Qwen3 => {
            set("vision.spatial_merge_size", Given::U32(number(&vision, "spatial_merge_size")?));
            if projector.tower == Tower::Qwen2_5 {
                let full = c.list("fullatt_block_indexes").map_err(|e| e.to_string())?;
                let period = full.first().map_or(blocks as usize, |first| *first) + 1;
                set("vision.n_wa_pattern", Given::U32(period as u32));
                set("vision.window_size", Given::U32(number(&vision, "window_size")?));
            }
            if projector.tower == Tower::Qwen3 {
                deepstack = c.list("deepstack_visual_indexes").map_err(|e| e.to_string())?;
                let flags = (0..blocks as usize).map(|i| deepstack.contains(&i)).collect();
                set("vision.is_deepstack_layers", Given::Bools(flags));
            }
        }
    }
    let files = ProcessorFiles::read::<FileError>(|name| file(name).map_err(FileError))?;
    processor(projector, &files, &mut set).map_err(|e| e.to_string())?;
    original.insert("vision_config".into(), Json::Object(vision));
    check(projector, &keys, &original, dims)?;
    keys.push((file_key("config.json"), Given::Text(Json::Object(original).to_string())));
    for name in PROCESSOR_FILES {
        if let Some(bytes) = file(name)? {
            let json: Json = serde_json::from_slice(&bytes).map_err(|e| format!("{name}: {e}"))?;
            keys.push((file_key(name), Given::Text(json.to_string())));
        }
    }
    Ok(Described { keys, deepstack, blocks: blocks as usize })
}

/// An error of reading a file, in words.
struct FileError(String);

impl From<percept_modalities::Error> for FileError {
    fn from(e: percept_modalities::Error) -> Self {
        Self(e.to_string())
    }
}

impl From<FileError> for String {
    fn from(e: FileError) -> Self {
        e.0
    }
}

/// The parts of config.json that are not the text's. Early checkpoints have the text's keys beside the
/// others'.
fn without_text(config: &Map<String, Json>) -> Map<String, Json> {
    const MEDIA: [&str; 14] = [
        "architectures",
        "model_type",
        "vision_config",
        "image_token_id",
        "video_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
        "vision_token_id",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "tie_word_embeddings",
        "torch_dtype",
        "transformers_version",
    ];
    let flat = !config.contains_key("text_config");
    let own = |key: &str| if flat { MEDIA.contains(&key) } else { key != "text_config" };
    config.iter().filter(|(key, _)| own(key)).map(|(key, v)| (key.clone(), v.clone())).collect()
}

fn section(config: &Map<String, Json>, key: &str) -> Map<String, Json> {
    config.get(key).and_then(Json::as_object).cloned().unwrap_or_default()
}

/// What a family takes for what `vision_config` does not say.
fn defaults(tower: Tower, class_row: bool) -> Json {
    let mut defaults = match tower {
        Tower::Qwen2 => qwen2_defaults(),
        Tower::Qwen2_5 => qwen2_5_defaults(),
        Tower::Qwen3 => qwen3_defaults(),
        Tower::Llava if class_row => clip_defaults(),
        Tower::Llava | Tower::Gemma3 | Tower::Idefics3 => siglip_defaults(),
    };
    if tower == Tower::Idefics3 {
        defaults["hidden_size"] = json!(1152);
        defaults["num_attention_heads"] = json!(16);
        defaults["patch_size"] = json!(32);
    }
    if tower.is_qwen() {
        defaults["in_channels"] = json!(3);
    }
    defaults
}

/// The blocks behind each state of a LLaVA tower that is read.
fn feature_layers(config: &Map<String, Json>, blocks: i64) -> Result<Vec<i64>, String> {
    let given = config.get("vision_feature_layer").filter(|v| !v.is_null()).cloned().unwrap_or(json!(-2));
    let all = given.as_array().cloned().unwrap_or_else(|| vec![given.clone()]);
    let depth = |index: &Json| {
        let index = index.as_i64()?;
        let depth = if index < 0 { (blocks + 1).checked_add(index)? } else { index };
        (0..=blocks).contains(&depth).then_some(depth)
    };
    let wrong = format!("config.json: 'vision_feature_layer' is {given}, of a tower of {blocks} layers");
    all.iter().map(depth).collect::<Option<Vec<i64>>>().ok_or(wrong)
}

/// How images are prepared, as far as llama.cpp has keys for it.
fn processor(
    projector: &Projector,
    files: &ProcessorFiles,
    set: &mut impl FnMut(&str, Given),
) -> percept_modalities::Result<()> {
    let halves = matches!(projector.tower, Tower::Gemma3 | Tower::Idefics3);
    let Normalize { mean, std, .. } =
        files.image.normalize(if halves { HALF_NORMALIZE } else { CLIP_NORMALIZE })?;
    let singles = |values: [f64; 3]| Given::F32s(values.iter().map(|v| *v as f32).collect());
    set("vision.image_mean", singles(mean));
    set("vision.image_std", singles(std));
    let size = files.image.size("size", Size::Longest)?;
    if let (Tower::Idefics3, Some(Size::Longest(edge))) = (projector.tower, size) {
        set("vision.preproc_image_size", Given::U32(edge as u32));
    }
    if projector.tower.is_qwen() {
        let of_size = match size {
            Some(Size::Edges { shortest, longest }) => [Some(shortest), Some(longest)],
            _ => [None, None],
        };
        for (key, of_size) in ["min_pixels", "max_pixels"].into_iter().zip(of_size) {
            if let Some(pixels) = files.image.find::<usize>(key)?.or(of_size) {
                set(&format!("vision.image_{key}"), Given::U32(u32::try_from(pixels).unwrap_or(u32::MAX)));
            }
        }
    }
    Ok(())
}

/// Refuses keys that say otherwise than config.json, by the key that makes the difference.
fn check(
    projector: &Projector,
    keys: &[(String, Given)],
    original: &Map<String, Json>,
    dims: &BTreeMap<String, Vec<usize>>,
) -> Result<(), String> {
    let metadata = Metadata::of(keys).map_err(|e| e.to_string())?;
    let read = of_keys(projector, &metadata, dims).map_err(|e| e.to_string())?;
    let found = differences(projector, original, &read);
    if found.is_empty() {
        return Ok(());
    }
    Err(format!(
        "a GGUF projector of kind '{}' cannot hold what config.json says about {}; keep the model in safetensors",
        projector.name,
        found.join(", ")
    ))
}

/// The keys of config.json that a file's keys contradict.
pub(super) fn differences(
    projector: &Projector,
    original: &Map<String, Json>,
    read: &Map<String, Json>,
) -> Vec<String> {
    let theirs = section(read, "vision_config");
    let own = section(original, "vision_config");
    let class_row = theirs.get("model_type") == Some(&json!("clip_vision_model"));
    let defaults = defaults(projector.tower, class_row);
    let mut found = Vec::new();
    for (key, value) in &theirs {
        let spelled = if key == "in_channels" && !own.contains_key(key) { "in_chans" } else { key.as_str() };
        let given = own.get(spelled).filter(|v| !v.is_null()).unwrap_or(&defaults[key]);
        // Which tower it is, is clear from its tensors.
        if key != "model_type" && !alike(given, value) {
            found.push(format!("'{spelled}' ({given}, a reader would take {value})"));
        }
    }
    let layers = own.get("num_hidden_layers").and_then(Json::as_i64).unwrap_or(0);
    for (key, usual) in [
        ("mm_tokens_per_image", json!(256)),
        ("scale_factor", json!(2)),
        ("vision_feature_layer", json!(-2)),
        ("vision_feature_select_strategy", json!("default")),
        ("projector_hidden_act", json!("gelu")),
        ("multimodal_projector_bias", json!(true)),
    ] {
        let Some(value) = read.get(key) else { continue };
        let given = original.get(key).filter(|v| !v.is_null()).unwrap_or(&usual);
        let same = match key {
            "vision_feature_layer" => {
                let of = |config: &Map<String, Json>| feature_layers(config, layers).ok();
                of(original).is_some_and(|own| of(read) == Some(own))
            }
            _ => alike(given, value),
        };
        if !same {
            found.push(format!("'{key}' ({given}, a reader would take {value})"));
        }
    }
    found
}

/// Whether two values are the same number, list or activation.
fn alike(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            (a - b).abs() <= 1e-6 * a.abs().max(b.abs())
        }
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Json::String(_), Json::String(_)) => {
            let activation = |v: &Json| {
                let c = Config::new("", &json!({ "a": v }), json!({})).ok()?;
                c.activation("a").ok()
            };
            a == b || activation(a).is_some_and(|a| activation(b) == Some(a))
        }
        _ => a == b,
    }
}
