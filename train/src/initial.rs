//! First values of what is trained from nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use percept_graph::{Graph, HostTensor, Role, TensorType};
use percept_modalities::image::Image;
use percept_modalities::kind::Medium;
use percept_modalities::text::TOOL_USE_FILE;
use percept_modalities::{Content, Media, Message};
use percept_model::checkpoint::{self, Checkpoint};
use percept_model::family::{Model, open_weights, percept};
use percept_model::random::{normal, parameter_stream};
use percept_model::{AllF32, CausalModel, Config, NormKind, PassShape, Weights, locate};
use rand_chacha::rand_core::RngCore;
use serde_json::Value;

use crate::error::{Error, Result, file};

/// Families that read images of which a new model can be made, as transformers lays it out. Of text decoders all can.
const WITH_IMAGES: [&str; 2] = ["idefics3", "smolvlm"];

/// Write the folder `out`: new weights for the model that `from/config.json` describes, with the files beside it.
///
/// Matrices and tables are normal with the deviation `initializer_range` (0.02), norms leave their rows as they are and
/// biases are 0, as in transformers. The same seed gives the same bytes.
///
/// # Errors
/// When the configuration is not one of a text decoder or of [`WITH_IMAGES`], or something is at `out`.
fn transformer(from: &Path, json: &Value, seed: u64, out: &Path) -> Result<()> {
    let path = from.join("config.json");
    let wrong = |why: String| Error::Config { file: path.clone(), why };
    let config = Config::new(&path.display().to_string(), json, Value::Null)?;
    let reads_media = ["vision_config", "audio_config"].iter().any(|key| json.get(key).is_some());
    let kind = config.text("model_type")?;
    if reads_media && !WITH_IMAGES.contains(&kind) {
        let known = WITH_IMAGES.join(" and ");
        return Err(wrong(format!(
            "model.init makes new models of text decoders, of the family percept, and of {known}; '{kind}' needs a checkpoint"
        )));
    }
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(from).map_err(file(from))? {
        let entry = entry.map_err(file(from))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let belongs = [".json", ".jinja", ".txt", ".model"].iter().any(|e| name.ends_with(e));
        if belongs && !name.ends_with(".index.json") {
            files.insert(name, std::fs::read(entry.path()).map_err(file(&entry.path()))?);
        }
    }
    let tool_use = from.join(TOOL_USE_FILE);
    if tool_use.is_file() {
        files.insert(TOOL_USE_FILE.into(), std::fs::read(&tool_use).map_err(file(&tool_use))?);
    }
    // The family's own graphs say what parameters there are, over a checkpoint that holds none yet.
    let parent = out.parent().unwrap_or(Path::new("."));
    let beside = tempfile::tempdir_in(parent).map_err(file(parent))?;
    let described = beside.path().join("described");
    checkpoint::write(&described, &BTreeMap::new(), &files)?;
    let weights = Weights::described(Arc::new(Checkpoint::open(&described)?), !tied(json));
    let Model::Causal(model) = open_weights(weights)? else {
        return Err(wrong(format!("'{kind}' is no model that continues text")));
    };
    let deviation = match config.maybe_f64("initializer_range")? {
        Some(own) => own,
        None => json.pointer("/text_config/initializer_range").and_then(Value::as_f64).unwrap_or(0.02),
    };
    // The norms of Gemma keep their weight less one.
    let unit = match model.decoder().norm.kind {
        NormKind::Rms { unit_offset: true } => 0.0,
        _ => 1.0,
    };
    let mut tensors = BTreeMap::new();
    for (name, mut ty) in parameters(&*model, reads_media)? {
        let values = match name.rsplit('.').next() {
            Some("bias") => vec![0.0; ty.numel()],
            Some("weight") if ty.rank() == 1 => vec![unit; ty.numel()],
            // Gemma 4 scales layers, what its routers read and what its experts say.
            Some("layer_scalar" | "scale" | "per_expert_scale") => vec![1.0; ty.numel()],
            _ => normal(&name, ty.numel(), deviation, seed),
        };
        if name.ends_with("patch_embedding.weight") {
            ty.dims =
                convolution(json, &ty).ok_or_else(|| wrong("its vision_config has no patches".into()))?;
        }
        tensors.insert(name, HostTensor::from_f32(ty.dims.clone(), &values)?);
    }
    drop(beside);
    Ok(checkpoint::write(out, &tensors, &files)?)
}

/// Whether the table is the head too: what the configuration says, or its text part, or transformers where both are silent.
fn tied(json: &Value) -> bool {
    let key = "tie_word_embeddings";
    let said = json.get(key).or_else(|| json.pointer("/text_config/tie_word_embeddings"));
    let gemma = || json["model_type"].as_str().is_some_and(|kind| kind.starts_with("gemma"));
    said.and_then(Value::as_bool).unwrap_or_else(gemma)
}

/// The shape of a convolution over patches, [n,channels,patch,patch], whose matrix has the type `ty`.
fn convolution(json: &Value, ty: &TensorType) -> Option<Vec<usize>> {
    let (rows, columns) = (*ty.dims.first()?, *ty.dims.last()?);
    let patch = json.pointer("/vision_config/patch_size").and_then(Value::as_u64).unwrap_or(32) as usize;
    let area = patch.checked_mul(patch).filter(|area| *area > 0 && columns.is_multiple_of(*area))?;
    Some(vec![rows, columns / area, patch, patch])
}

/// Every parameter of a model by name, in the shape in which its graphs declare it.
fn parameters(model: &dyn CausalModel, images: bool) -> Result<BTreeMap<String, TensorType>> {
    let shape = PassShape { rows: [1, 1], ..PassShape::default() };
    let mut graphs: Vec<Graph> = vec![model.decoder().step(&AllF32, &shape)?];
    if images {
        let media = Media { images: vec![Image::filled(64, 64, [128; 3])?], ..Media::default() };
        let content = Content::Nothing.after([Medium::Image]);
        let inputs = model.processor().chat(&[Message::new("user", content)], &media)?;
        graphs.extend(model.encoder_runs(&inputs)?.into_iter().map(|run| run.graph));
    }
    let mut all = BTreeMap::new();
    for graph in &graphs {
        let declared = graph.inputs().iter().filter(|i| i.role == Role::Parameter);
        all.extend(declared.map(|i| (i.name.clone(), graph.ty(i.value).clone())));
    }
    Ok(all)
}

/// The first values of an adapter's matrix: A is uniform within one over the root of its columns, B is 0, so that nothing
/// is added at first (Hu et al. 2021, in PEFT's bounds).
pub fn adapter(name: &str, ty: &TensorType, seed: u64) -> Vec<f32> {
    if name.ends_with(".lora_B.weight") {
        return vec![0.0; ty.numel()];
    }
    let bound = (ty.dims.last().copied().unwrap_or(1) as f64).powf(-0.5);
    let mut random = parameter_stream(name, seed);
    let mut uniform = || (random.next_u32() as f64 + 0.5) / 2f64.powi(31) - 1.0;
    (0..ty.numel()).map(|_| (uniform() * bound) as f32).collect()
}

/// A new model of the family that `from/config.json` names: the native one, or one of transformers'.
///
/// # Errors
/// As [`transformer`], or as [`percept::initial`].
fn new_model(from: &Path, seed: u64, out: &Path) -> Result<()> {
    let path = from.join("config.json");
    let text = std::fs::read(&path).map_err(file(&path))?;
    let wrong = |e: serde_json::Error| Error::Config { file: path.clone(), why: e.to_string() };
    let json: Value = serde_json::from_slice(&text).map_err(wrong)?;
    if json.get("model_type").and_then(Value::as_str) != Some("percept") {
        return transformer(from, &json, seed, out);
    }
    let tokenizer = from.join("tokenizer.json");
    let tokenizer = std::fs::read(&tokenizer).map_err(file(&tokenizer))?;
    Ok(percept::initial(&json, &tokenizer, seed, out)?)
}

/// The checkpoint that a run trains: the model's own, or one that is made in the run's folder once, from nothing or with
/// adapters merged into it. A path to an adapter's folder is its base with the adapter merged into it.
///
/// # Errors
/// As [`new_model`], or when the checkpoint or the adapter cannot be opened.
pub fn open(config: &crate::config::Config) -> Result<Checkpoint> {
    let options = checkpoint::LoadOptions { dtype: config.model.dtype, dequantize: false };
    let place = config.base_path();
    if place.is_dir() && place != config.model.path {
        return Ok(Checkpoint::open_with(&place, options)?);
    }
    if config.model.init {
        std::fs::create_dir_all(&config.out).map_err(file(&config.out))?;
        new_model(&config.model.path, config.seed, &place)?;
        return Ok(Checkpoint::open_with(&place, options)?);
    }
    let located = locate(&config.model.path)?;
    if located.adapters.is_empty() && config.model.adapter.is_none() {
        return Ok(Checkpoint::open_with(&located.base, options)?);
    }
    let mut weights = Weights::new(Arc::new(Checkpoint::open(&located.base)?));
    for adapter in &located.adapters {
        weights = weights.with_adapter(adapter)?;
    }
    if let Some(doubt) = weights.doubts().first() {
        return Err(Error::Setting(format!("model.path: {doubt}")));
    }
    // The run has said already what is to be said of the base of this one.
    if let Some(adapter) = &config.model.adapter {
        weights = weights.with_adapter(adapter)?;
    }
    std::fs::create_dir_all(&config.out).map_err(file(&config.out))?;
    checkpoint::convert(&weights.merged()?, &place, None)?;
    Ok(Checkpoint::open_with(&place, options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden checkpoints were saved by transformers, so they say which tensors a family has, and in which shapes.
    #[test]
    fn a_new_model_has_the_tensors_that_transformers_saves() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity");
        let folder = tempfile::tempdir().unwrap();
        for case in ["llama", "qwen2", "qwen3", "gemma3-text", "smolvlm-image"] {
            let (from, out) = (root.join(case).join("model"), folder.path().join(case));
            new_model(&from, 3, &out).unwrap();
            let of = |place: &Path| -> BTreeMap<String, Vec<usize>> {
                let checkpoint = Checkpoint::open(place).unwrap();
                let names: Vec<String> = checkpoint.names().map(str::to_string).collect();
                names.into_iter().map(|n| (n.clone(), checkpoint.ty(&n).unwrap().dims.clone())).collect()
            };
            assert_eq!(of(&out), of(&from), "{case}");
            let norm = Checkpoint::open(&out).unwrap();
            let name = norm.names().find(|n| n.ends_with("layers.0.input_layernorm.weight")).unwrap();
            let first = f32::from_le_bytes(norm.weight(name).unwrap().bytes()[..4].try_into().unwrap());
            assert_eq!(first, if case == "gemma3-text" { 0.0 } else { 1.0 }, "{case}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "nothing is left beside them");
        let why =
            new_model(&root.join("llava/model"), 0, &folder.path().join("llava")).unwrap_err().to_string();
        assert!(why.contains("'llava' needs a checkpoint") && why.contains("smolvlm"), "{why}");
    }
}
