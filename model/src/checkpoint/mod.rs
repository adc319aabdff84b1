//! Checkpoints: weights and configuration from disk, whatever the format, under Hugging Face's names.
//!
//! Three formats are read: safetensors (one file or many with an index), GGUF (llama.cpp's, versions 2 and 3) and
//! CTranslate2's Whisper. Files are mapped into memory; a tensor that needs no conversion is handed out without a copy.
//! Files are not trusted: every size, offset and count is checked before memory is taken.

mod blocks;
mod convert;
mod ctranslate2;
mod error;
mod experts;
mod fingerprint;
mod folder;
mod gguf;
mod quantized;
mod regroup;
mod safetensors;
mod source;
mod tensor;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use percept_graph::{DType, TensorType};
use percept_hal::Weight;
use percept_modalities::text::{GgufVocabulary, TOOL_USE_FILE};
use serde_json::{Value as Json, json};

pub use convert::{Converted, convert};
pub use error::{Error, Result};
pub use fingerprint::{BASE_FILE, Base};
pub use write::{write, write_as};

use error::{damaged, unsupported};
pub(crate) use folder::read_capped;
use folder::{WeightFiles, is_plain_name};
use source::Source;
use tensor::StoredTensor;

/// Bytes of a file beside the weights, at most. The largest tokenizer.json known is 33 MB.
const SIDE_FILE_CAP: u64 = 256 << 20;

/// How the weights of a checkpoint are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadOptions {
    /// Cast floating-point tensors to f32, f16 or bf16; `None` leaves each as it is in the file.
    pub dtype: Option<DType>,
    /// Decode quantized tensors, to `dtype` or f32; otherwise they stay as they are in the file.
    pub dequantize: bool,
}

/// The file format of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Hugging Face's safetensors.
    Safetensors,
    /// llama.cpp's GGUF.
    Gguf,
    /// CTranslate2's model.bin.
    CTranslate2,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Safetensors => "safetensors",
            Format::Gguf => "GGUF",
            Format::CTranslate2 => "CTranslate2",
        })
    }
}

/// An open checkpoint.
pub struct Checkpoint {
    path: PathBuf,
    /// Where files beside the weights are.
    folder: Option<PathBuf>,
    tensors: BTreeMap<String, StoredTensor>,
    config: Json,
    /// The tensors of the file that each stack of experts is made of, in its order.
    stacks: BTreeMap<String, Vec<String>>,
    /// Whether the configuration is no more that of the file.
    is_config_new: bool,
    more: More,
}

/// What each format has beside tensors and a configuration.
enum More {
    Safetensors,
    Gguf {
        keys: gguf::Metadata,
        /// What reads images, in a file of its own.
        media: Option<gguf::Media>,
    },
    CTranslate2 {
        own: Json,
        tokens: Vec<String>,
    },
}

impl Checkpoint {
    /// Open a folder or a file, each tensor in the dtype it has there.
    ///
    /// # Errors
    /// When there is no checkpoint, or a file contradicts itself or holds a type that is not read.
    pub fn open(path: impl AsRef<Path>) -> Result<Checkpoint> {
        Checkpoint::open_with(path, LoadOptions::default())
    }

    /// Open a folder or a file, with tensors cast. Beside a GGUF file the projector of its model is looked for by its name,
    /// `mmproj-NAME.gguf` and the like.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and when the dtype is not f32, f16 or bf16.
    pub fn open_with(path: impl AsRef<Path>, options: LoadOptions) -> Result<Checkpoint> {
        let path = path.as_ref();
        let weights = folder::find(path)?;
        let (WeightFiles::Index(file)
        | WeightFiles::Safetensors(file)
        | WeightFiles::Gguf(file)
        | WeightFiles::CTranslate2(file)) = &weights;
        let folder = file.parent().map(Path::to_path_buf);
        match &weights {
            WeightFiles::Index(index) => Self::of_safetensors(path, folder, safetensors::sharded(index)?),
            WeightFiles::Safetensors(file) => {
                Self::of_safetensors(path, folder, safetensors::tensors(&Source::map(file)?)?)
            }
            WeightFiles::Gguf(file) => {
                let text = gguf::open(file)?;
                let architecture = text.architecture()?;
                let media = match gguf::Projector::goes_with(&architecture) {
                    true => gguf::beside(file, &architecture)?,
                    false => None,
                };
                Self::of_gguf(path, text, media.as_deref())
            }
            WeightFiles::CTranslate2(file) => {
                Self::of_ctranslate2(path, folder, &ctranslate2::ModelBin::parse(&Source::map(file)?)?)
            }
        }?
        .with(options)
    }

    /// Open a GGUF file with this projector, whatever lies beside it.
    ///
    /// # Errors
    /// As [`Checkpoint::open_with`], and when the two are no pair.
    pub fn open_pair(path: impl AsRef<Path>, projector: &Path, options: LoadOptions) -> Result<Checkpoint> {
        let path = path.as_ref();
        let WeightFiles::Gguf(file) = folder::find(path)? else {
            let why = "a projector is a part of GGUF models, and this is none".to_string();
            return Err(unsupported(path, why));
        };
        Self::of_gguf(path, gguf::open(&file)?, Some(projector))?.with(options)
    }

    /// Read one file that is in memory, under the name that errors give it. It has no files beside it.
    ///
    /// # Errors
    /// As [`Checkpoint::open_with`].
    pub fn from_bytes(
        format: Format,
        name: &str,
        bytes: Vec<u8>,
        options: LoadOptions,
    ) -> Result<Checkpoint> {
        let (source, path) = (Source::memory(name, bytes), Path::new(name));
        match format {
            Format::Safetensors => Self::of_safetensors(path, None, safetensors::tensors(&source)?),
            Format::Gguf => Self::of_gguf(path, gguf::whole(&source)?, None),
            Format::CTranslate2 => Self::of_ctranslate2(path, None, &ctranslate2::ModelBin::parse(&source)?),
        }?
        .with(options)
    }

    fn of_safetensors(
        path: &Path,
        folder: Option<PathBuf>,
        tensors: BTreeMap<String, StoredTensor>,
    ) -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint {
            path: path.into(),
            folder,
            tensors,
            config: Json::Null,
            stacks: BTreeMap::new(),
            is_config_new: false,
            more: More::Safetensors,
        };
        if let Some(config) = checkpoint.side_json("config.json")? {
            checkpoint.config = config;
        }
        quantized::unpack(path, &mut checkpoint.tensors, &mut checkpoint.config)?;
        checkpoint.stacks = experts::stack(path, &mut checkpoint.tensors)?;
        Ok(checkpoint)
    }

    fn of_gguf(path: &Path, text: gguf::Gguf, projector: Option<&Path>) -> Result<Checkpoint> {
        let (tensors, config, keys, media) = match projector {
            Some(projector) => {
                let (tensors, config, keys, media) =
                    gguf::pair(text, gguf::Gguf::parse(&Source::map(projector)?)?)?;
                (tensors, config, keys, Some(media))
            }
            None => {
                let (tensors, config, keys) = text.translate(None)?;
                (tensors, config, keys, None)
            }
        };
        Ok(Checkpoint {
            path: path.into(),
            folder: None,
            tensors,
            config,
            stacks: BTreeMap::new(),
            is_config_new: false,
            more: More::Gguf { keys, media },
        })
    }

    fn of_ctranslate2(
        path: &Path,
        folder: Option<PathBuf>,
        model: &ctranslate2::ModelBin,
    ) -> Result<Checkpoint> {
        let more = More::CTranslate2 { own: Json::Null, tokens: Vec::new() };
        let mut checkpoint = Checkpoint {
            path: path.into(),
            folder,
            tensors: BTreeMap::new(),
            config: Json::Null,
            stacks: BTreeMap::new(),
            is_config_new: false,
            more,
        };
        let own = checkpoint.side_json("config.json")?.unwrap_or(Json::Null);
        let tokens = checkpoint.token_list()?;
        (checkpoint.tensors, checkpoint.config) = ctranslate2::translate(model, &tokens)?;
        checkpoint.more = More::CTranslate2 { own, tokens };
        Ok(checkpoint)
    }

    fn with(mut self, options: LoadOptions) -> Result<Checkpoint> {
        if let Some(dtype) = options.dtype.filter(|d| !d.is_float()) {
            let why = format!(
                "weights cannot be loaded as {dtype}; f32, f16 and bf16 can be asked for, and `percept convert` quantizes"
            );
            return Err(unsupported(&self.path, why));
        }
        self.tensors.values_mut().for_each(|t| t.cast(options.dtype, options.dequantize));
        Ok(self)
    }

    /// What is not handed out as it is in the file because no dtype is like its format: a line for each format, with
    /// the memory that its weights take.
    pub fn held(&self) -> Vec<String> {
        let mut formats: BTreeMap<String, (usize, usize, usize, DType)> = BTreeMap::new();
        for stored in self.tensors.values().flat_map(StoredTensor::parts) {
            let Some(format) = stored.form.name() else { continue };
            let of = formats.entry(format).or_insert((0, 0, 0, stored.ty.dtype));
            *of = (of.0 + 1, of.1 + stored.span.as_ref().len(), of.2 + stored.ty.bytes(), of.3);
        }
        let line = |(format, (tensors, file, memory, dtype)): (String, (usize, usize, usize, DType))| {
            let megabytes = |bytes: usize| bytes as f64 / 1e6;
            format!(
                "{tensors} tensors of {format} are held in {dtype}, to the bit where that is not a cast: {:.1} MB \
                 instead of {:.1} MB",
                megabytes(memory),
                megabytes(file)
            )
        };
        formats.into_iter().map(line).collect()
    }

    /// The same checkpoint with some tensors replaced or added, f32 or any other dtype of the graph, under the name that
    /// errors give their source.
    ///
    /// # Errors
    /// When the bytes of one are not those of its type.
    pub fn with_tensors(
        mut self,
        source: &str,
        tensors: impl IntoIterator<Item = (String, TensorType, Vec<u8>)>,
    ) -> Result<Checkpoint> {
        for (name, ty, bytes) in tensors {
            let source = Source::memory(source, bytes);
            let span = source.span(0..source.bytes().len(), &name)?;
            let stored = StoredTensor::new(&name, tensor::Form::Graph(ty.dtype), ty.dims, span)?;
            self.tensors.insert(name, stored);
        }
        Ok(self)
    }

    /// Another handle to the same files, with tensors cast alike.
    ///
    /// # Errors
    /// When they cannot be opened any more.
    pub fn reopened(&self) -> Result<Checkpoint> {
        let mut again = match &self.more {
            More::Gguf { media: Some(media), .. } => {
                Checkpoint::open_pair(&self.path, &media.path, LoadOptions::default())?
            }
            _ => Checkpoint::open(&self.path)?,
        };
        for (name, tensor) in &mut again.tensors {
            if let Some(own) = self.tensors.get(name) {
                tensor.ty.dtype = own.ty.dtype;
            }
        }
        Ok(again)
    }

    /// The same checkpoint with another configuration.
    pub fn with_config(mut self, config: Json) -> Checkpoint {
        (self.config, self.is_config_new) = (config, true);
        self
    }

    /// The same tensors under other names.
    pub fn renamed(mut self, name: impl Fn(&str) -> String) -> Checkpoint {
        self.tensors = self.tensors.into_iter().map(|(n, t)| (name(&n), t)).collect();
        self
    }

    /// The same checkpoint without some of its tensors.
    pub fn without(mut self, is_left_out: impl Fn(&str) -> bool) -> Checkpoint {
        self.tensors.retain(|name, _| !is_left_out(name));
        self
    }

    /// What was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format of the file.
    pub fn format(&self) -> Format {
        match self.more {
            More::Safetensors => Format::Safetensors,
            More::Gguf { .. } => Format::Gguf,
            More::CTranslate2 { .. } => Format::CTranslate2,
        }
    }

    /// The file of the tower and the projector, where images are read by those of a GGUF file of their own.
    pub fn projector(&self) -> Option<&Path> {
        match &self.more {
            More::Gguf { media: Some(media), .. } => Some(&media.path),
            _ => None,
        }
    }

    /// Whether the file is itself one of a tower and a projector, of which a text model is missing.
    pub fn is_projector(&self) -> bool {
        matches!(&self.more, More::Gguf { keys, media: None } if keys.text("general.architecture").is_ok_and(|name| {
            name.as_deref() == Some(gguf::PROJECTOR_ARCHITECTURE)
        }))
    }

    /// The architecture of a GGUF file whose tensors keep ggml's names, because nothing says what Hugging Face calls them.
    pub fn untranslated(&self) -> Option<String> {
        let More::Gguf { keys, .. } = &self.more else { return None };
        let name = keys.text("general.architecture").ok().flatten()?;
        gguf::Architecture::named(&name).is_none().then_some(name)
    }

    /// The names of all tensors, in order of their bytes.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The type a tensor is handed out in; `None` where there is none of this name.
    pub fn ty(&self, name: &str) -> Option<&TensorType> {
        self.tensors.get(name).map(|t| &t.ty)
    }

    /// A tensor. Its bytes are the mapped file's where they need no conversion and are aligned for their dtype.
    ///
    /// # Errors
    /// When there is no tensor of this name (the error gives the nearest ones), or a value does not fit the dtype.
    pub fn weight(&self, name: &str) -> Result<Weight> {
        self.stored(name)?.load(name)
    }

    fn stored(&self, name: &str) -> Result<&StoredTensor> {
        self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            path: self.path.clone(),
            name: name.to_string(),
            nearest: self.nearest(name),
        })
    }

    /// The three most similar names.
    fn nearest(&self, name: &str) -> Vec<String> {
        let mut all: Vec<(f64, &String)> =
            self.tensors.keys().map(|n| (strsim::normalized_damerau_levenshtein(n, name), n)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        all.into_iter().take(3).map(|(_, n)| n.clone()).collect()
    }

    /// The configuration in the shape of Hugging Face's config.json: the file itself, or one made from what the format
    /// says. `Null` where a safetensors file has no config.json beside it.
    pub fn config(&self) -> &Json {
        &self.config
    }

    /// A file beside the weights such as `tokenizer.json`; `None` where there is none. For GGUF and CTranslate2,
    /// `config.json`, `generation_config.json` and `chat_template.jinja` are made from what the format says; a GGUF
    /// file may also hold a tokenizer's files as they are.
    ///
    /// # Errors
    /// When it cannot be read, or is larger than 256 MiB.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let made = match (&self.more, name) {
            (_, "config.json") if self.is_config_new => Some(pretty(&self.config)),
            (More::Safetensors, _) => None,
            (_, "config.json") => Some(pretty(&self.config)),
            (More::Gguf { media: Some(media), .. }, name) if gguf::PROCESSOR_FILES.contains(&name) => {
                media.file(name)?
            }
            (More::Gguf { keys, .. }, name) if gguf::PROCESSOR_FILES.contains(&name) => {
                keys.text(&gguf::file_key(name))?.map(String::into_bytes)
            }
            (More::Gguf { keys, .. }, "chat_template.jinja") => {
                keys.text("tokenizer.chat_template")?.map(String::into_bytes)
            }
            (More::Gguf { keys, .. }, TOOL_USE_FILE) => {
                keys.text(gguf::TOOL_USE_KEY)?.map(String::into_bytes)
            }
            (More::Gguf { keys, .. }, "tokenizer.json") => {
                keys.text(gguf::TOKENIZER_JSON)?.map(String::into_bytes)
            }
            (More::Gguf { keys, .. }, name) if gguf::CARRIED.contains(&name) => {
                match keys.text(&gguf::file_key(name))? {
                    None if name == "generation_config.json" => Some(pretty(&self.gguf_generation_config()?)),
                    held => held.map(String::into_bytes),
                }
            }
            (More::CTranslate2 { own, tokens }, "generation_config.json") => match self.side_file(name)? {
                Some(file) => Some(file),
                None => Some(pretty(&ctranslate2::generation_config(own, &self.config, tokens))),
            },
            _ => None,
        };
        match made {
            Some(bytes) => Ok(Some(bytes)),
            None => self.side_file(name),
        }
    }

    /// The vocabulary inside a GGUF file; `None` for other formats and for files without one.
    ///
    /// # Errors
    /// When its parts contradict one another.
    pub fn vocabulary(&self) -> Result<Option<GgufVocabulary>> {
        if let More::Gguf { keys, .. } = &self.more { gguf::vocabulary(keys) } else { Ok(None) }
    }

    /// The tokens of a GGUF file without a generation_config.json. It names one end, or two, so the usual ends of a
    /// turn count there too.
    fn gguf_generation_config(&self) -> Result<Json> {
        const TURNS: [&str; 5] = ["<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>"];
        let text = self.config.get("text_config").unwrap_or(&self.config);
        let id = |key: &str| text.get(key).cloned().unwrap_or(Json::Null);
        let mut ends: Vec<u64> = id("eos_token_id").as_u64().into_iter().collect();
        if let (More::Gguf { keys, .. }, Some(vocabulary)) = (&self.more, self.vocabulary()?) {
            let named = ["eot", "eom"].map(|end| keys.unsigned(&format!("tokenizer.ggml.{end}_token_id")));
            ends.extend(named.into_iter().flatten());
            let turns =
                vocabulary.tokens.iter().zip(0..).filter(|(token, _)| TURNS.contains(&token.as_str()));
            ends.extend(turns.map(|(_, id)| id));
        }
        let mut seen = std::collections::BTreeSet::new();
        ends.retain(|id| seen.insert(*id));
        Ok(json!({
            "bos_token_id": id("bos_token_id"),
            "eos_token_id": if ends.len() == 1 { json!(ends[0]) } else { json!(ends) },
            "pad_token_id": id("pad_token_id"),
        }))
    }

    fn side_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let path = folder.join(name);
        // The modules of sentence-transformers have a folder each.
        let module = name.strip_suffix("/config.json").is_some_and(is_plain_name);
        if !(is_plain_name(name) || module || name == TOOL_USE_FILE) || !path.is_file() {
            return Ok(None);
        }
        read_capped(&path, SIDE_FILE_CAP).map(Some)
    }

    fn side_json(&self, name: &str) -> Result<Option<Json>> {
        let Some(bytes) = self.side_file(name)? else { return Ok(None) };
        let path = self.folder.as_deref().unwrap_or(Path::new("")).join(name);
        serde_json::from_slice(&bytes).map(Some).map_err(|e| damaged(&path, e.to_string()))
    }

    /// CTranslate2's list of tokens by id: vocabulary.json, or vocabulary.txt with one on each line.
    fn token_list(&self) -> Result<Vec<String>> {
        if let Some(list) = self.side_json("vocabulary.json")? {
            let path = self.folder.as_deref().unwrap_or(Path::new("")).join("vocabulary.json");
            return serde_json::from_value(list).map_err(|e| damaged(&path, e.to_string()));
        }
        let text = self.side_file("vocabulary.txt")?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_string).collect())
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoint({}, {}, {} tensors)", self.path.display(), self.format(), self.tensors.len())
    }
}

fn pretty(json: &Json) -> Vec<u8> {
    format!("{json:#}\n").into_bytes()
}
