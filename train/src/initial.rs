//! First values of what is trained from nothing.

use std::collections::BTreeMap;
use std::path::Path;

use percept_graph::{DType, HostTensor, Role, TensorType};
use percept_model::checkpoint::{self, Checkpoint};
use percept_model::family::{Place, decoder, percept};
use percept_model::random::{normal, parameter_stream};
use percept_model::{Config, Masters, StepShape};
use rand_chacha::rand_core::RngCore;
use serde_json::Value;

use crate::error::{Error, Result, file};

/// Write the folder `out`: new weights for the text decoder that `from/config.json` describes, with the files beside it.
///
/// Matrices and tables are normal with the deviation `initializer_range` (0.02), norms are 1 and biases 0, as in
/// transformers. The same seed gives the same bytes.
///
/// # Errors
/// When the configuration is not a text decoder's, or something is at `out`.
pub fn text_model(from: &Path, seed: u64, out: &Path) -> Result<()> {
    let path = from.join("config.json");
    let wrong = |why: String| Error::Config { file: path.clone(), why };
    let text = std::fs::read(&path).map_err(file(&path))?;
    let json: Value = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    let config = Config::new(&path.display().to_string(), &json, Value::Null)?;
    let head =
        if config.flag("tie_word_embeddings")? { "model.embed_tokens.weight" } else { "lm_head.weight" };
    let decoder = decoder(&config, &Place { model: "model.".into(), head: head.into() })?;
    let deviation = config.maybe_f64("initializer_range")?.unwrap_or(0.02);
    let shape = StepShape { rows: 1, capacity: 1, logits: 1, cache: DType::F32, media: false, blocks: false };
    let graph = decoder.step(&Masters, &shape)?;
    let mut tensors = BTreeMap::new();
    for input in graph.inputs().iter().filter(|i| i.role == Role::Parameter) {
        let ty = graph.ty(input.value);
        let values = match input.name.rsplit('.').next() {
            Some("bias") => vec![0.0; ty.numel()],
            _ if ty.rank() == 1 => vec![1.0; ty.numel()],
            _ => normal(&input.name, ty.numel(), deviation, seed),
        };
        tensors.insert(input.name.clone(), HostTensor::from_f32(ty.dims.clone(), &values)?);
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
    Ok(checkpoint::write(out, &tensors, &files)?)
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

/// A new model of the family that `from/config.json` names: the native one, or a text decoder.
///
/// # Errors
/// As [`text_model`], or as [`percept::initial`].
fn new_model(from: &Path, seed: u64, out: &Path) -> Result<()> {
    let path = from.join("config.json");
    let text = std::fs::read(&path).map_err(file(&path))?;
    let wrong = |e: serde_json::Error| Error::Config { file: path.clone(), why: e.to_string() };
    let json: Value = serde_json::from_slice(&text).map_err(wrong)?;
    if json.get("model_type").and_then(Value::as_str) != Some("percept") {
        return text_model(from, seed, out);
    }
    let tokenizer = from.join("tokenizer.json");
    let tokenizer = std::fs::read(&tokenizer).map_err(file(&tokenizer))?;
    Ok(percept::initial(&json, &tokenizer, seed, out)?)
}

/// A model's checkpoint, new when the run asks for it.
///
/// # Errors
/// As [`new_model`], or when the checkpoint cannot be opened.
pub fn open(config: &crate::config::Config) -> Result<Checkpoint> {
    let options = checkpoint::LoadOptions { dtype: config.model.dtype, dequantize: false };
    if !config.model.init {
        return Ok(Checkpoint::open_with(&config.model.path, options)?);
    }
    let place = config.out.join("initial");
    if !place.join("model.safetensors").is_file() {
        std::fs::create_dir_all(&config.out).map_err(file(&config.out))?;
        new_model(&config.model.path, config.seed, &place)?;
    }
    Ok(Checkpoint::open_with(&place, options)?)
}
