//! GGUF files: llama.cpp's container (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), versions 2 and 3.

mod architecture;
mod config;
mod decoders;
mod keys;
mod metadata;
mod projector;
mod split;
mod tokenizer;
mod vocabulary;
mod whisper;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use percept_graph::DType;
use percept_modalities::text::GgufVocabulary;
use serde_json::Value as Json;

use super::blocks::Packing;
use super::error::{Result, damaged, unsupported};
use super::experts;
use super::source::{Fields, Source};
use super::tensor::{Change, Form, StoredTensor};
pub(crate) use architecture::{Architecture, heads};
pub(crate) use config::Facts;
pub(crate) use keys::{Described, check, of_config};
pub(crate) use metadata::Metadata;
pub(crate) use projector::{
    ARCHITECTURE as PROJECTOR_ARCHITECTURE, Media, Piece, Projector, beside, described as describe_media,
    is_projector,
};
pub(crate) use split::{open, piece, whole};
pub(crate) use tokenizer::{CARRIED, TOKENIZER_JSON, TOOL_USE_KEY, file_key, tokenizer_keys};
pub(crate) use write::{Given, Head, tensor as write_tensor};

/// Files of a processor, which go with a tower.
pub(crate) const PROCESSOR_FILES: [&str; 3] =
    ["preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"];

/// Where a file keeps the start of its tensors aligned unless it says otherwise.
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;

/// ggml's greatest number of dimensions.
const MAX_DIMS: u32 = 4;

/// A file's header, checked.
pub(crate) struct Gguf {
    source: Arc<Source>,
    metadata: Metadata,
    /// Under ggml's names, as they lie in the file.
    tensors: BTreeMap<String, StoredTensor>,
}

impl Gguf {
    /// Read and check a header.
    pub fn parse(source: &Arc<Source>) -> Result<Gguf> {
        let path = source.path();
        let mut fields = Fields::new(source);
        if fields.take(4, "the magic")? != b"GGUF" {
            return Err(damaged(path, "it does not begin with 'GGUF'"));
        }
        let version = fields.u32("the version")?;
        match version {
            2 | 3 => {}
            v if v.swap_bytes() <= 3 => {
                return Err(unsupported(
                    path,
                    "a big-endian GGUF file; convert it on the machine that made it",
                ));
            }
            v => return Err(unsupported(path, format!("GGUF version {v}; versions 2 and 3 are read"))),
        }
        // A tensor takes a name's length, a rank, one extent, a type and an offset at least.
        let tensor_count = fields.u64("the number of tensors")?;
        let key_count = fields.u64("the number of keys")?;
        let metadata = Metadata::parse(source, &mut fields, key_count)?;
        let alignment = match metadata.get("general.alignment") {
            None => DEFAULT_ALIGNMENT,
            Some(v) => v
                .unsigned()
                .filter(|a| a.is_power_of_two() && *a <= 1 << 20)
                .ok_or_else(|| damaged(path, "general.alignment is not a power of two up to 1048576"))?,
        };
        let mut infos = BTreeMap::new();
        for _ in 0..fields.bounded(tensor_count, 8 + 4 + 4 + 8, "tensors")? {
            let (name, info) = Info::parse(&mut fields)?;
            if infos.contains_key(&name) {
                return Err(damaged(path, format!("tensor '{name}' is there twice")));
            }
            infos.insert(name, info);
        }
        let data = (fields.position() as u64).next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        let mut places: Vec<(Range<usize>, &str)> = Vec::new();
        for (name, info) in &infos {
            if !info.offset.is_multiple_of(alignment) {
                let why = format!("tensor '{name}' is at {}, no multiple of {alignment}", info.offset);
                return Err(damaged(path, why));
            }
            let span = source.span(info.range(path, name, data)?, &format!("tensor '{name}'"))?;
            places.push((span.range(), name));
            tensors
                .insert(name.clone(), StoredTensor::new(name, info.form.clone(), info.dims.clone(), span)?);
        }
        places.retain(|(range, _)| !range.is_empty());
        places.sort_by_key(|(range, _)| range.start);
        if let Some(pair) = places.windows(2).find(|pair| pair[0].0.end > pair[1].0.start) {
            let why = format!("tensors '{}' and '{}' overlap", pair[0].1, pair[1].1);
            return Err(damaged(path, why));
        }
        Ok(Gguf { source: source.clone(), metadata, tensors })
    }

    /// `general.architecture`.
    ///
    /// # Errors
    /// When it is no text.
    pub fn architecture(&self) -> Result<String> {
        Ok(self.metadata.text("general.architecture")?.unwrap_or_default())
    }

    /// The tensors under their Hugging Face names, and the configuration in Hugging Face's shape, as the text part of a pair
    /// with this projector if there is one. Tensors and architectures that are not known keep the names they have.
    ///
    /// # Errors
    /// When a tensor has a scale of its own, which no rule here applies, or the keys are not those of a model.
    pub fn translate(
        self,
        projector: Option<&Projector>,
    ) -> Result<(BTreeMap<String, StoredTensor>, Json, Metadata)> {
        let path = self.source.path();
        let name = self.metadata.text("general.architecture")?.unwrap_or_default();
        let known = Architecture::named(&name);
        let facts = config::Facts::of(&self.tensors)?;
        let config =
            config::synthesize(&self.metadata, &name, known, &facts, projector.map(|p| p.text_type))?;
        let mut tensors = BTreeMap::new();
        for (ggml, mut stored) in self.tensors {
            // Of a block that guesses at tokens further ahead.
            if known.is_some_and(|a| a.own.is_some()) && is_behind(&ggml, &config) {
                continue;
            }
            let found = known.and_then(|a| a.to_hf(&ggml));
            let is_scale = ggml.ends_with(".scale") || ggml.ends_with(".input_scale");
            if known.is_some() && found.is_none() && is_scale {
                let why =
                    format!("tensor '{ggml}' scales the weights of another one, which is not done here");
                return Err(unsupported(path, why));
            }
            let Some((row, hf)) = found else {
                tensors.insert(ggml, stored);
                continue;
            };
            stored.change = known.map_or(Change::None, |a| a.change(row, heads(&config)));
            if let Some(own) = known.and_then(|a| a.own) {
                (own.adapt)(&hf, &mut stored, &config);
            }
            let hf = projector.map_or(hf.clone(), |p| p.text_name(hf));
            if let Change::Unpermute { heads } = stored.change {
                let rows = stored.ty.dims.first().copied().unwrap_or(0);
                let floats = stored.ty.dtype.is_float() || stored.ty.dtype.is_quantized();
                if heads == 0 || !rows.is_multiple_of(2 * heads) || !floats {
                    let why = format!("tensor '{ggml}' {} is not the rows of {heads} heads", stored.ty);
                    return Err(damaged(path, why));
                }
            }
            if stored.change == Change::MinusOne && !stored.ty.dtype.is_float() {
                return Err(damaged(path, format!("norm '{ggml}' is {}, not floats", stored.ty)));
            }
            if tensors.insert(hf.clone(), stored).is_some() {
                return Err(damaged(path, format!("two tensors are '{hf}'")));
            }
        }
        experts::pair_up(path, &mut tensors)?;
        decoders::deepseek::join(path, &mut tensors)?;
        Ok((tensors, config, self.metadata))
    }
}

/// Whether a tensor is of a block behind the last layer.
fn is_behind(ggml: &str, config: &Json) -> bool {
    let number = ggml.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse::<u64>().ok());
    number.zip(config.get("num_hidden_layers").and_then(Json::as_u64)).is_some_and(|(n, layers)| n >= layers)
}

/// A pair: the tensors and the configuration of a text model with those of the projector beside it.
///
/// # Errors
/// When one of them cannot be translated, or they do not belong together.
pub(crate) fn pair(
    text: Gguf,
    media: Gguf,
) -> Result<(BTreeMap<String, StoredTensor>, Json, Metadata, Media)> {
    let path = media.source.path().to_path_buf();
    let (media, rest, mut config) = projector::read(media, &text.metadata)?;
    let (mut tensors, text, metadata) = text.translate(Some(media.projector))?;
    for (name, stored) in rest {
        if tensors.insert(name.clone(), stored).is_some() {
            return Err(damaged(&path, format!("tensor '{name}' is in the text model too")));
        }
    }
    for key in ["tie_word_embeddings", "torch_dtype"] {
        config.insert(key.into(), text[key].clone());
    }
    config.insert("text_config".into(), text);
    Ok((tensors, Json::Object(config), metadata, media))
}

/// The vocabulary in a file's keys, if it has one.
pub(crate) fn vocabulary(metadata: &Metadata) -> Result<Option<GgufVocabulary>> {
    vocabulary::read(metadata)
}

/// What the header says of a tensor.
struct Info {
    dims: Vec<usize>,
    form: Form,
    /// From the start of the data.
    offset: u64,
}

impl Info {
    fn parse(fields: &mut Fields) -> Result<(String, Info)> {
        let length = fields.u64("the length of a tensor's name")?;
        let name = fields.text(length, "a tensor's name")?.to_string();
        let path = fields.path();
        let rank = fields.u32("a tensor's rank")?;
        if rank > MAX_DIMS {
            return Err(damaged(
                path,
                format!("tensor '{name}' has {rank} dimensions, ggml allows {MAX_DIMS}"),
            ));
        }
        // ggml counts dimensions from the fastest.
        let mut dims = Vec::new();
        for _ in 0..rank {
            let extent = fields.u64("a tensor's extent")?;
            let too_large = || damaged(path, format!("tensor '{name}' has an extent of {extent}"));
            dims.insert(0, usize::try_from(extent).map_err(|_| too_large())?);
        }
        let number = fields.u32("a tensor's type")?;
        let form = form(number).ok_or_else(|| {
            let known = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K";
            let held: Vec<String> = Packing::ALL.iter().map(|(packing, _)| format!("{packing:?}")).collect();
            let why = format!(
                "tensor '{name}' is {}: {known}, {} are read; llama-quantize --allow-requantize makes them",
                type_name(number),
                held.join(", ")
            );
            unsupported(path, why)
        })?;
        Ok((name, Info { dims, form, offset: fields.u64("a tensor's offset")? }))
    }

    fn range(&self, path: &std::path::Path, name: &str, data: u64) -> Result<Range<usize>> {
        let ty = percept_graph::TensorType::new(self.form.natural(), self.dims.clone());
        let bytes = (ty.numel() / self.form.block_len()).checked_mul(self.form.unit());
        let start = self.offset.checked_add(data).and_then(|at| usize::try_from(at).ok());
        let end = start.zip(bytes).and_then(|(start, bytes)| start.checked_add(bytes));
        let past = || damaged(path, format!("tensor '{name}' {ty} at {} is beyond any file", self.offset));
        start.zip(end).map(|(start, end)| start..end).ok_or_else(past)
    }
}

fn form(number: u32) -> Option<Form> {
    let integer = |bytes| Form::Integer { bytes, signed: true };
    Some(match number {
        24 => integer(1),
        25 => integer(2),
        27 => integer(8),
        28 => Form::F64,
        _ => match TYPES.into_iter().find(|(_, n)| *n == number) {
            Some((dtype, _)) => Form::Graph(dtype),
            None => Form::Packed(Packing::ALL.into_iter().find(|(_, n)| *n == number)?.0),
        },
    })
}

/// ggml's number of each dtype it shares with the graph.
const TYPES: [(DType, u32); 9] = [
    (DType::F32, 0),
    (DType::F16, 1),
    (DType::Q4_0, 2),
    (DType::Q4_1, 3),
    (DType::Q8_0, 8),
    (DType::Q4K, 12),
    (DType::Q6K, 14),
    (DType::I32, 26),
    (DType::BF16, 30),
];

/// ggml's names of the types that are not read, for the refusal.
fn type_name(number: u32) -> String {
    let known = [
        (9, "Q8_1"),
        (15, "Q8_K"),
        (16, "IQ2_XXS"),
        (17, "IQ2_XS"),
        (18, "IQ3_XXS"),
        (19, "IQ1_S"),
        (21, "IQ3_S"),
        (22, "IQ2_S"),
        (29, "IQ1_M"),
        (41, "Q1_0"),
    ];
    known
        .iter()
        .find(|(n, _)| *n == number)
        .map_or(format!("ggml type {number}"), |(_, name)| name.to_string())
}
