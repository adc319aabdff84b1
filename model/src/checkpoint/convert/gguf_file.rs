//! One GGUF file on its way to the disk: what its tensors are called there, and where their values come from.

use std::collections::BTreeMap;

use percept_files::AtomicFile;
use percept_graph::{DType, TensorType};
use serde_json::Value as Json;

use super::super::error::{Result, unwritable};
use super::super::gguf::{self, Architecture, Described, Facts, Given, Head, Metadata, Piece, write_tensor};
use super::super::tensor::Change;
use super::super::{Checkpoint, More};
use super::Converted;

/// A file's head, and for each of its tensors the values.
#[derive(Default)]
pub(super) struct File {
    pub head: Head,
    pub sources: Vec<Source>,
}

/// Where the values of a tensor come from.
pub(super) enum Source {
    /// A tensor of the checkpoint, or a piece of one.
    Tensor { name: String, change: Change, piece: Option<Piece> },
    /// Factors of rotary frequencies.
    Factors(Vec<f32>),
}

impl File {
    /// Add a tensor.
    pub fn push(&mut self, ggml: String, ty: TensorType, source: Source) {
        self.head.tensors.push((ggml, ty));
        self.sources.push(source);
    }

    /// Write everything.
    ///
    /// # Errors
    /// When a value does not fit its dtype, or the system would not write.
    pub fn write(&self, checkpoint: &Checkpoint, file: &mut AtomicFile) -> Result<()> {
        let place = file.place().to_path_buf();
        self.head.write(file).map_err(unwritable(&place))?;
        for ((_, ty), source) in self.head.tensors.iter().zip(&self.sources) {
            let bytes = match source {
                Source::Tensor { name, change, piece } => {
                    let whole = checkpoint.encoded_for_ggml(name, ty.dtype, *change)?;
                    match piece {
                        Some(piece) => piece.cut(&whole),
                        None => whole,
                    }
                }
                Source::Factors(factors) => factors.iter().flat_map(|v| v.to_le_bytes()).collect(),
            };
            write_tensor(file, &bytes).map_err(unwritable(&place))?;
        }
        Ok(())
    }

    /// Count it among what was done.
    pub fn count(&self, done: &mut Converted) {
        done.tensors += self.head.tensors.len();
        done.bytes += self.head.tensors.iter().map(|(_, ty)| ty.bytes() as u64).sum::<u64>();
    }
}

/// The text model of a checkpoint.
pub(super) struct Text<'a> {
    pub checkpoint: &'a Checkpoint,
    pub architecture: &'static Architecture,
    /// Its part of config.json.
    pub config: &'a Json,
    /// Its tensors' names in the checkpoint, by those that the architecture knows.
    pub names: BTreeMap<String, String>,
    /// Whether a head that config.json calls tied is left out.
    pub drops_tied: bool,
    /// Keys beside those of the architecture.
    pub more: Vec<(String, Given)>,
}

/// The file of a text model.
///
/// # Errors
/// What the architecture cannot hold.
pub(super) fn text(
    text: Text,
    described: Option<Described>,
    dtype: Option<DType>,
    done: &mut Converted,
) -> std::result::Result<File, String> {
    let Text { checkpoint, architecture, config, names, drops_tied, more } = text;
    let heads = described.as_ref().map_or_else(|| gguf::heads(config), |d| d.heads);
    let tied = !names.contains_key("lm_head.weight");
    let mut file = File::default();
    for (plain, name) in names {
        let stored = &checkpoint.tensors[&name];
        let Some((row, ggml)) = architecture.to_ggml(&plain) else {
            if plain == ROPE_FACTORS {
                // Where they are another file's they stay; elsewhere they are made of the configuration.
                if described.is_none() {
                    let source = Source::Tensor { name, change: Change::None, piece: None };
                    file.push(plain, stored.ty.with_dtype(DType::F32), source);
                }
                continue;
            }
            return Err(format!("tensor '{name}' has no name in GGUF files of {}", architecture.name));
        };
        if ggml == "output.weight" && drops_tied {
            done.notes
                .push(format!("'{name}' is left out: config.json says that the embeddings are the head"));
            continue;
        }
        let is_head = row.ggml == "output" || row.ggml == "token_embd" && tied;
        let (mut target, mut why) = target(&stored.ty, dtype, is_head);
        if target.is_quantized() && row.ggml.ends_with("position_embd") {
            (target, why) = (DType::F32, Some("positions are added, not multiplied by"));
        }
        if let Some(why) = why.filter(|_| dtype.is_some_and(|d| d != target)) {
            done.kept.push((name.clone(), target, why));
        }
        check_written(checkpoint, &name, target)?;
        let change = architecture.change(row, heads);
        if let Change::Unpermute { heads } = change {
            let rows = stored.ty.dims.first().copied().unwrap_or(0);
            if heads == 0 || !rows.is_multiple_of(2 * heads) {
                return Err(format!("tensor '{name}' {} is not the rows of {heads} heads", stored.ty));
            }
        }
        let ty = stored.ty.with_dtype(target);
        file.push(ggml, ty, Source::Tensor { name, change, piece: None });
    }
    let factors = described.as_ref().and_then(|d| d.rope_factors.clone());
    if let Some(factors) = &factors {
        let ty = TensorType::new(DType::F32, [factors.len()]);
        file.push(ROPE_FACTORS.into(), ty, Source::Factors(factors.clone()));
    }
    if let Some(described) = &described {
        let types = file.head.tensors.iter().map(|(name, ty)| (name.as_str(), ty));
        let facts = Facts::new(types, factors);
        gguf::check(&described.keys, &facts, config, architecture)?;
    }
    let mut keys = started(architecture.name, None, dtype)?;
    match (&checkpoint.more, described) {
        (More::Gguf { keys: own, .. }, _) => keep(own, dtype, &mut keys),
        (_, described) => {
            keys.push(("general.name".into(), Given::Text(name_of(checkpoint))));
            let rows = described.as_ref().map_or(0, |d| d.vocab);
            if let Some(described) = described {
                keys.extend(described.keys);
                done.notes.extend(described.notes);
            }
            keys.extend(more);
            gguf::tokenizer_keys(checkpoint, (rows as u64, config), &mut keys, &mut done.notes)?;
        }
    }
    file.head.keys = keys;
    Ok(file)
}

/// Refuses to write what is read and not written.
pub(super) fn check_written(
    checkpoint: &Checkpoint,
    name: &str,
    target: DType,
) -> std::result::Result<(), String> {
    if target != DType::Q8X {
        return Ok(());
    }
    let format = checkpoint.tensors.get(name).and_then(|t| t.form.name());
    let format = format.unwrap_or_else(|| target.name().into());
    Err(format!("tensor '{name}' is {format}, which is read and not written; give a --dtype"))
}

/// A name for the model.
pub(super) fn name_of(checkpoint: &Checkpoint) -> String {
    checkpoint.path().file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The first keys of a file.
pub(super) fn started(
    architecture: &str,
    kind: Option<&str>,
    dtype: Option<DType>,
) -> std::result::Result<Vec<(String, Given)>, String> {
    let mut keys = vec![("general.architecture".to_string(), Given::Text(architecture.into()))];
    keys.extend(kind.map(|kind| ("general.type".to_string(), Given::Text(kind.into()))));
    if let Some(number) = file_type(dtype)? {
        keys.push(("general.file_type".into(), Given::U32(number)));
    }
    keys.push(("general.quantization_version".into(), Given::U32(2)));
    Ok(keys)
}

/// Add what another program wrote as it is, but for what has changed.
pub(super) fn keep(own: &Metadata, dtype: Option<DType>, keys: &mut Vec<(String, Given)>) {
    for (key, raw) in own.raw() {
        let stale = key == "general.alignment"
            || key == "general.file_type" && dtype.is_some()
            || key.starts_with("split.");
        if !stale && keys.iter().all(|(k, _)| k != key) {
            keys.push((key.to_string(), Given::Raw(raw.to_vec())));
        }
    }
}

/// ggml's number for a file that is mostly of one dtype.
fn file_type(dtype: Option<DType>) -> std::result::Result<Option<u32>, String> {
    Ok(Some(match dtype {
        None => return Ok(None),
        Some(DType::F32) => 0,
        Some(DType::F16) => 1,
        Some(DType::Q4_0) => 2,
        Some(DType::Q4_1) => 3,
        Some(DType::Q8_0) => 7,
        Some(DType::Q4K) => 14,
        Some(DType::Q6K) => 18,
        Some(DType::BF16) => 32,
        Some(other) => return Err(format!("GGUF has no files of {other}")),
    }))
}

/// The factors of rotary frequencies in GGUF files.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The dtype of a tensor in a GGUF file, and why it is not the one asked for.
pub(super) fn target(ty: &TensorType, dtype: Option<DType>, is_head: bool) -> (DType, Option<&'static str>) {
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
