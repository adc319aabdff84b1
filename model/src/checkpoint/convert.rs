//! Writing checkpoints: casting, quantizing, and changing the format.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use percept_graph::{DType, TensorType};
use percept_modalities::text::Tokenizer;
use serde_json::{Value as Json, json};

use super::draft::Draft;
use super::error::{Error, Result, unsupported};
use super::gguf::{self, Architecture, Described, Facts, Given, Head, write_tensor};
use super::tensor::Change;
use super::{Checkpoint, More, pretty};

/// What a conversion did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Converted {
    /// Tensors written.
    pub tensors: usize,
    /// Bytes of their values.
    pub bytes: u64,
    /// Tensors that are not in the dtype asked for: name, dtype, and why.
    pub kept: Vec<(String, DType, &'static str)>,
    /// What else the user should know.
    pub notes: Vec<String>,
}

/// Write `checkpoint` to `out`: a GGUF file where the name ends in `.gguf`, otherwise a Hugging Face folder with
/// `model.safetensors` and the files that belong to it. Matrices become `dtype` where they can; `None` leaves them as
/// they are, and decodes blocks, which safetensors cannot hold, to f32.
///
/// # Errors
/// When something is at `out` already, the format cannot hold the model or the dtype, or a value does not fit.
pub fn convert(checkpoint: &Checkpoint, out: &Path, dtype: Option<DType>) -> Result<Converted> {
    if out.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
        return to_gguf(checkpoint, out, dtype);
    }
    if let Some(dtype) = dtype.filter(|d| !d.is_float()) {
        let why = format!("safetensors holds f32, f16 and bf16, not {dtype}; give a name that ends in .gguf");
        return Err(unsupported(out, why));
    }
    to_folder(checkpoint, out, dtype)
}

/// One tensor on its way into a file.
struct Job<'a> {
    name: &'a str,
    ty: TensorType,
}

fn to_folder(checkpoint: &Checkpoint, out: &Path, dtype: Option<DType>) -> Result<Converted> {
    let draft = Draft::folder(out)?;
    let mut done = Converted::default();
    let jobs: Vec<Job> = checkpoint
        .tensors
        .iter()
        .map(|(name, stored)| {
            let own = stored.ty.dtype;
            let target = if own.is_float() || own.is_quantized() { dtype } else { None };
            let target = target.unwrap_or(if own.is_quantized() { DType::F32 } else { own });
            if dtype.is_some_and(|d| d != target) {
                done.kept.push((name.clone(), target, "it holds no floats"));
            }
            Job { name, ty: stored.ty.with_dtype(target) }
        })
        .collect();
    draft.write(Some("model.safetensors"), |file| {
        file.write_all(&safetensors_head(jobs.iter().map(|j| (j.name, &j.ty))))?;
        for job in &jobs {
            let mut broken = None;
            let converted = checkpoint.encode(job.name, job.ty.dtype, &mut |bytes| {
                broken = broken.take().or(file.write_all(bytes).err());
            });
            if let Some(e) = broken {
                return Err(e);
            }
            if let Err(e) = converted {
                return Ok(Err(e));
            }
        }
        Ok(Ok(()))
    })?;
    done.tensors = jobs.len();
    done.bytes = jobs.iter().map(|j| j.ty.bytes() as u64).sum();
    let mut files = checkpoint.carried()?;
    if let Some(vocabulary) = checkpoint.vocabulary()?.filter(|_| !files.contains_key("tokenizer.json")) {
        match Tokenizer::from_gguf(&vocabulary).and_then(|t| t.to_files()) {
            Ok(made) => files.extend(made.map(|(name, bytes)| (name.to_string(), bytes))),
            Err(e) => done.notes.push(format!("there is no tokenizer.json: {e}")),
        }
    }
    if let Some(config) = config_in(checkpoint.config(), &jobs) {
        files.insert("config.json".into(), pretty(&config));
    }
    for (name, bytes) in files {
        draft.write(Some(&name), |file| file.write_all(&bytes).map(Ok))?;
    }
    draft.finish()?;
    Ok(done)
}

/// The length and the JSON at the start of a safetensors file, for tensors one after another.
pub(crate) fn safetensors_head<'a>(tensors: impl Iterator<Item = (&'a str, &'a TensorType)>) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({ "format": "pt" }));
    let mut at = 0;
    for (name, ty) in tensors {
        let dtype = match ty.dtype {
            DType::Bool => "BOOL".to_string(),
            other => other.name().to_uppercase(),
        };
        let end = at + ty.bytes();
        header
            .insert(name.to_string(), json!({ "dtype": dtype, "shape": ty.dims, "data_offsets": [at, end] }));
        at = end;
    }
    let mut text = Json::Object(header).to_string().into_bytes();
    // The values begin at a multiple of eight bytes.
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes(), &text[..]].concat()
}

/// config.json, saying the dtype that most elements have now; `None` where there is no configuration.
fn config_in(config: &Json, jobs: &[Job]) -> Option<Json> {
    let mut config = config.as_object()?.clone();
    let mut elements: BTreeMap<DType, usize> = BTreeMap::new();
    for job in jobs.iter().filter(|j| j.ty.dtype.is_float()) {
        *elements.entry(job.ty.dtype).or_default() += job.ty.numel();
    }
    let name = match elements.into_iter().max_by_key(|e| e.1)?.0 {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => "float32",
    };
    // transformers 5 says `dtype`, earlier ones `torch_dtype`; the later reads both.
    let key = if config.contains_key("dtype") { "dtype" } else { "torch_dtype" };
    config.insert(key.into(), json!(name));
    Some(Json::Object(config))
}

fn to_gguf(checkpoint: &Checkpoint, out: &Path, dtype: Option<DType>) -> Result<Converted> {
    let config = checkpoint.config();
    let model_type = config.get("model_type").and_then(Json::as_str).unwrap_or_default();
    let Some(architecture) = Architecture::of_model_type(model_type) else {
        let why = format!(
            "a model of type '{model_type}' cannot be written as GGUF; these can: {}",
            Architecture::model_types()
        );
        return Err(unsupported(checkpoint.path(), why));
    };
    let bad = |why: String| unsupported(checkpoint.path(), why);
    let mut done = Converted::default();
    let mut head = Head::default();
    let mut sources: Vec<(Option<&str>, Change)> = Vec::new();
    crate::family::check_extents(checkpoint).map_err(|e| bad(e.to_string()))?;
    // Another GGUF file's own keys say all that there is to say.
    let described = match checkpoint.more {
        More::Gguf(_) => None,
        _ => Some(gguf::of_config(config, architecture).map_err(bad)?),
    };
    let heads = described.as_ref().map_or_else(|| gguf::heads(config), |d| d.heads);
    for (name, stored) in &checkpoint.tensors {
        let Some((row, ggml)) = architecture.to_ggml(name) else {
            if name == ROPE_FACTORS {
                // Where they are another file's they stay; elsewhere they are made of the configuration.
                if described.is_none() {
                    head.tensors.push((name.clone(), stored.ty.with_dtype(DType::F32)));
                    sources.push((Some(name), Change::None));
                }
                continue;
            }
            let why = format!("tensor '{name}' has no name in GGUF files of {}", architecture.name);
            return Err(bad(why));
        };
        if ggml == "output.weight" && config.get("tie_word_embeddings") == Some(&json!(true)) {
            done.notes
                .push(format!("'{name}' is left out: config.json says that the embeddings are the head"));
            continue;
        }
        let tied = !checkpoint.tensors.contains_key("lm_head.weight");
        let is_head = row.ggml == "output" || row.ggml == "token_embd" && tied;
        let (target, why) = target(&stored.ty, dtype, is_head);
        if let Some(why) = why.filter(|_| dtype.is_some_and(|d| d != target)) {
            done.kept.push((name.clone(), target, why));
        }
        if target == DType::Q8X {
            let format = stored.form.name().unwrap_or_else(|| target.name().into());
            return Err(bad(format!(
                "tensor '{name}' is {format}, which is read and not written; give a --dtype"
            )));
        }
        let change = architecture.change(row, heads);
        if let Change::Unpermute { heads } = change {
            let rows = stored.ty.dims.first().copied().unwrap_or(0);
            if heads == 0 || !rows.is_multiple_of(2 * heads) {
                return Err(bad(format!("tensor '{name}' {} is not the rows of {heads} heads", stored.ty)));
            }
        }
        head.tensors.push((ggml, stored.ty.with_dtype(target)));
        sources.push((Some(name), change));
    }
    let factors = described.as_ref().and_then(|d| d.rope_factors.clone());
    if let Some(factors) = &factors {
        head.tensors.push((ROPE_FACTORS.into(), TensorType::new(DType::F32, [factors.len()])));
        sources.push((None, Change::None));
    }
    if let Some(described) = &described {
        let types = head.tensors.iter().map(|(name, ty)| (name.as_str(), ty));
        let facts = Facts::new(types, factors.clone());
        gguf::check(&described.keys, &facts, config, architecture).map_err(bad)?;
    }
    head.keys = keys(checkpoint, architecture, described, dtype, &mut done).map_err(bad)?;
    let draft = Draft::new(out)?;
    draft.write(None, |file| {
        head.write(file)?;
        for ((_, ty), (name, change)) in head.tensors.iter().zip(&sources) {
            let bytes = match name {
                Some(name) => checkpoint.encoded_for_ggml(name, ty.dtype, *change),
                None => Ok(factors.iter().flatten().flat_map(|v| v.to_le_bytes()).collect()),
            };
            match bytes {
                Ok(bytes) => write_tensor(file, &bytes)?,
                Err(e) => return Ok(Err(e)),
            }
        }
        Ok(Ok(()))
    })?;
    draft.finish()?;
    done.tensors = head.tensors.len();
    done.bytes = head.tensors.iter().map(|(_, ty)| ty.bytes() as u64).sum();
    Ok(done)
}

/// The factors of rotary frequencies in GGUF files.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The dtype of a tensor in a GGUF file, and why it is not the one asked for.
fn target(ty: &TensorType, dtype: Option<DType>, is_head: bool) -> (DType, Option<&'static str>) {
    let own = ty.dtype;
    if !own.is_float() && !own.is_quantized() {
        return (own, Some("it holds no floats"));
    }
    if ty.rank() < 2 {
        // llama.cpp adds and multiplies vectors in f32 only.
        return (DType::F32, Some("vectors are f32 in GGUF"));
    }
    let Some(dtype) = dtype else { return (own, None) };
    let row = ty.dims.last().copied().unwrap_or(0);
    let fits = |d: DType| row.is_multiple_of(d.block_len());
    if is_head && matches!(dtype, DType::Q4_0 | DType::Q4_1 | DType::Q4K) {
        // Every token is scored by this matrix, so llama.cpp keeps it finer too.
        let finer = [DType::Q6K, DType::Q8_0].into_iter().find(|d| fits(*d));
        return (finer.unwrap_or(DType::F16), Some("the head's matrix is kept finer"));
    }
    if fits(dtype) {
        return (dtype, None);
    }
    match dtype {
        DType::Q4K | DType::Q6K if fits(DType::Q8_0) => {
            (DType::Q8_0, Some("its rows are no whole blocks of 256"))
        }
        _ => (DType::F16, Some("its rows are no whole blocks")),
    }
}

fn keys(
    checkpoint: &Checkpoint,
    architecture: &Architecture,
    described: Option<Described>,
    dtype: Option<DType>,
    done: &mut Converted,
) -> Result<Vec<(String, Given)>, String> {
    let mut keys = vec![("general.architecture".to_string(), Given::Text(architecture.name.into()))];
    // ggml's number for a file that is mostly of one dtype.
    let file_type = match dtype {
        None => None,
        Some(DType::F32) => Some(0),
        Some(DType::F16) => Some(1),
        Some(DType::Q4_0) => Some(2),
        Some(DType::Q4_1) => Some(3),
        Some(DType::Q8_0) => Some(7),
        Some(DType::Q4K) => Some(14),
        Some(DType::Q6K) => Some(18),
        Some(DType::BF16) => Some(32),
        Some(other) => return Err(format!("GGUF has no files of {other}")),
    };
    if let Some(number) = file_type {
        keys.push(("general.file_type".into(), Given::U32(number)));
    }
    keys.push(("general.quantization_version".into(), Given::U32(2)));
    if let More::Gguf(metadata) = &checkpoint.more {
        // What another program wrote stays as it is, but for what has changed.
        for (key, raw) in metadata.raw() {
            let stale = key == "general.alignment"
                || key == "general.file_type" && file_type.is_some()
                || key.starts_with("split.");
            if !stale && keys.iter().all(|(k, _)| k != key) {
                keys.push((key.to_string(), Given::Raw(raw.to_vec())));
            }
        }
        return Ok(keys);
    }
    let name = checkpoint.path().file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    keys.push(("general.name".into(), Given::Text(name)));
    if let Some(described) = described {
        keys.extend(described.keys);
        done.notes.extend(described.notes);
    }
    gguf::tokenizer_keys(checkpoint, &mut keys, &mut done.notes)?;
    Ok(keys)
}

impl Checkpoint {
    /// A tensor's bytes in another dtype, in order and piece by piece.
    fn encode(&self, name: &str, dtype: DType, out: &mut dyn FnMut(&[u8])) -> Result<()> {
        let stored = self.stored(name)?;
        if dtype == stored.ty.dtype {
            out(stored.load(name)?.bytes());
            return Ok(());
        }
        stored.convert(name, dtype, out)
    }

    /// A tensor's bytes as llama.cpp wants them: rows permuted, or one added.
    fn encoded_for_ggml(&self, name: &str, dtype: DType, change: Change) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.encode(name, dtype, &mut |piece| bytes.extend(piece))?;
        let rows = self.stored(name)?.ty.dims.first().copied().unwrap_or(0);
        match change {
            Change::None => Ok(bytes),
            Change::MinusOne => {
                let add = |b: &[u8]| (f32::from_le_bytes([b[0], b[1], b[2], b[3]]) + 1.0).to_le_bytes();
                Ok(bytes.chunks_exact(4).flat_map(add).collect())
            }
            Change::Unpermute { heads } if rows > 0 => {
                let (width, head) = (bytes.len() / rows, rows / heads);
                let source = |r: usize| r / head * head + r % head % 2 * (head / 2) + r % head / 2;
                Ok((0..rows)
                    .flat_map(|r| &bytes[source(r) * width..(source(r) + 1) * width])
                    .copied()
                    .collect())
            }
            Change::Unpermute { .. } => Ok(bytes),
        }
    }

    /// The files that go with the weights into a Hugging Face folder, config.json aside.
    fn carried(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        let mut carry = |name: &str| {
            if let Some(bytes) = self.file(name)? {
                files.insert(name.to_string(), bytes);
            }
            Ok::<(), Error>(())
        };
        if let Some(folder) = &self.folder {
            let read = |e| super::error::unreadable(folder)(e);
            for entry in std::fs::read_dir(folder).map_err(read)? {
                let name = entry.map_err(super::error::unreadable(folder))?.file_name();
                let name = name.to_string_lossy();
                let belongs = [".json", ".jinja", ".txt", ".model"].iter().any(|e| name.ends_with(e));
                let replaced = name.ends_with(".index.json") || name == "config.json";
                if belongs && !replaced {
                    carry(&name)?;
                }
            }
        }
        carry("chat_template.jinja")?;
        carry("tokenizer.json")?;
        gguf::CARRIED.into_iter().try_for_each(carry)?;
        Ok(files)
    }
}
