//! Writing checkpoints: casting, quantizing, and changing the format.

mod gguf_file;
mod gguf_pair;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use percept_files::{AtomicFile, AtomicFolder, check_free};
use percept_graph::{DType, TensorType};
use percept_modalities::text::{TOOL_USE_FILE, Tokenizer};
use serde_json::{Value as Json, json};

use super::error::{Error, Result, unsupported, unwritable};
use super::gguf;
use super::tensor::Change;
use super::{Checkpoint, pretty};

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

/// Write `checkpoint` to `out`: a GGUF file where the name ends in `.gguf`, with `mmproj-NAME.gguf` beside it where the
/// model reads images; otherwise a Hugging Face folder with
/// `model.safetensors` and the files that belong to it. Matrices become `dtype` where they can; `None` leaves them as
/// they are, and decodes blocks, which safetensors cannot hold, to f32.
///
/// # Errors
/// When something is at `out` already, the format cannot hold the model or the dtype, or a value does not fit.
pub fn convert(checkpoint: &Checkpoint, out: &Path, dtype: Option<DType>) -> Result<Converted> {
    if out.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
        return gguf_pair::write(checkpoint, out, dtype);
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
    let folder = begin_folder(out)?;
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
    let pieces: Vec<(&str, TensorType)> = jobs.iter().flat_map(|job| checkpoint.unstacked(job)).collect();
    let head = safetensors_head(pieces.iter().map(|(name, ty)| (*name, ty)));
    let mut file = AtomicFile::create(&folder.path().join("model.safetensors")).map_err(unwritable(out))?;
    file.write_all(&head).map_err(unwritable(out))?;
    for job in &jobs {
        let mut written = Ok(());
        let encoded = checkpoint.encode(job.name, job.ty.dtype, &mut |bytes| {
            if written.is_ok() {
                written = file.write_all(bytes);
            }
        });
        written.map_err(unwritable(out))?;
        encoded?;
    }
    file.finish().map_err(unwritable(out))?;
    done.tensors = pieces.len();
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
        folder.write(name, &bytes).map_err(unwritable(out))?;
    }
    folder.finish().map_err(unwritable(out))?;
    Ok(done)
}

/// Begin a folder at `out`, where nothing may be yet but an empty folder.
pub(super) fn begin_folder(out: &Path) -> Result<AtomicFolder> {
    check_free(out).and_then(|()| AtomicFolder::create_shared(out)).map_err(unwritable(out))
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

impl Checkpoint {
    /// The tensors that a tensor is in files of Hugging Face's: a stack of experts is each expert's own again where the
    /// file had it so. Their bytes follow each other in the stack's.
    fn unstacked<'a>(&'a self, job: &Job<'a>) -> Vec<(&'a str, TensorType)> {
        let whole = || vec![(job.name, job.ty.clone())];
        let Some(names) = self.stacks.get(job.name) else { return whole() };
        let &[experts, rows, columns] = &job.ty.dims[..] else { return whole() };
        let ty = TensorType::new(job.ty.dtype, [experts * rows / names.len().max(1), columns]);
        names.iter().map(|name| (&name[..], ty.clone())).collect()
    }

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
            // What these are done to is read and not written.
            Change::Unpermute { .. } | Change::Turn | Change::Regroup(_) | Change::Rates(_) => Ok(bytes),
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
        carry(TOOL_USE_FILE)?;
        carry("tokenizer.json")?;
        gguf::CARRIED.into_iter().chain(gguf::PROCESSOR_FILES).try_for_each(carry)?;
        Ok(files)
    }
}
