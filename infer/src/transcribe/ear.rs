//! Whisper on a device: its weights once, the encoder, and the decoder's steps over caches that every window reuses.

use std::collections::HashMap;
use std::sync::Arc;

use percept_graph::{Graph, TensorType};
use percept_hal::{Buffer, CompileOptions, CompileReport, Device};
use percept_model::family::Whisper;

use crate::error::{Error, Result};
use crate::program::Program;

/// Extents of the decoder's runs: prompts are filled up to one of them.
const WIDTHS: [usize; 4] = [1, 4, 16, 256];

/// Whisper on a device: hears a window and says tokens about it, one choice after the other.
pub struct Ear {
    device: Arc<dyn Device>,
    options: CompileOptions,
    model: Box<Whisper>,
    weights: HashMap<(String, TensorType), Buffer>,
    encode: Program,
    hear: Program,
    say: HashMap<(usize, usize), Program>,
    attend: HashMap<usize, Program>,
    /// Buffers by the names of the decoder's inputs: what was heard, and the keys and values of what was said.
    held: HashMap<String, Buffer>,
}

impl Ear {
    /// Bring a model to a device.
    ///
    /// # Errors
    /// When the checkpoint does not fit its configuration, or the device cannot take or run it.
    pub fn new(model: Box<Whisper>, device: Arc<dyn Device>, options: CompileOptions) -> Result<Self> {
        let mut weights = HashMap::new();
        let encode = compile(&*device, &options, &model, &mut weights, model.encode()?)?;
        let hear = compile(&*device, &options, &model, &mut weights, model.hear()?)?;
        let (say, attend, held) = (HashMap::new(), HashMap::new(), HashMap::new());
        Ok(Self { device, options, model, weights, encode, hear, say, attend, held })
    }

    /// The model.
    pub fn model(&self) -> &Whisper {
        &self.model
    }

    /// What was compiled so far.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        [&self.encode, &self.hear]
            .into_iter()
            .chain(self.say.values())
            .chain(self.attend.values())
            .map(Program::report)
    }

    /// Run the encoder on one window: features f32[1,bands,frames]; gives its rows f32[1,rows,d_model].
    ///
    /// # Errors
    /// When the features have another size, or the device fails.
    pub fn encode(&self, features: &[f32]) -> Result<Buffer> {
        let bytes: Vec<u8> = features.iter().flat_map(|v| v.to_le_bytes()).collect();
        let outputs = self.encode.run(|_, ty| Ok(self.device.upload(ty, &bytes)?))?;
        // The graph has this one output.
        Ok(outputs[0].clone())
    }

    /// Hear one window: features f32[1,bands,frames]. Everything said is about it from then on.
    ///
    /// # Errors
    /// As [`Ear::encode`].
    pub fn hear(&mut self, features: &[f32]) -> Result<()> {
        let hidden = self.encode(features)?;
        let outputs = self.hear.run(|_, _| Ok(hidden.clone()))?;
        let names = self.hear.graph().outputs().iter().map(|o| o.name.clone());
        self.held.extend(names.zip(outputs));
        self.held.insert("hidden".into(), hidden);
        Ok(())
    }

    /// The encoder's rows f32[rows,d_model] of the window that was heard; none before there was one.
    ///
    /// # Errors
    /// When the device fails.
    pub fn heard(&self) -> Result<Vec<f32>> {
        self.held.get("hidden").map_or_else(|| Ok(Vec::new()), |rows| Ok(floats(&self.device.read(rows)?)))
    }

    /// The extent of the run that says this many tokens.
    pub fn width(&self, tokens: usize) -> usize {
        WIDTHS.into_iter().find(|&w| w >= tokens).unwrap_or(self.model.decoder().context)
    }

    /// Say `ids` at position `at`; gives the logits [rows.len(), vocab] of what follows those of them that `rows` names.
    ///
    /// # Errors
    /// When there are more tokens than the decoder has positions, nothing was heard yet, or the device fails.
    pub fn say(&mut self, ids: &[i32], at: usize, rows: &[usize]) -> Result<Vec<f32>> {
        let context = self.model.decoder().context;
        if at + ids.len() > context {
            return Err(Error::TooLong {
                what: "the transcript of one window",
                tokens: at + ids.len(),
                context,
            });
        }
        let width = self.width(ids.len());
        // Rows that only fill up must have places in the cache too.
        let width = if at + width > context { ids.len() } else { width };
        let key = (width, rows.len());
        if !self.say.contains_key(&key) {
            let graph = self.model.say(width, rows.len())?;
            let program = compile(&*self.device, &self.options, &self.model, &mut self.weights, graph)?;
            self.say.insert(key, program);
        }
        let program = &self.say[&key];
        let (device, held) = (&self.device, &mut self.held);
        let argument = |name: &str, ty: &TensorType| {
            let mut numbers: Vec<i32> = match name {
                "ids" => ids.to_vec(),
                "pos" => vec![at as i32],
                "kv_len" => vec![(at + ids.len()) as i32],
                "out" => rows.iter().map(|&r| r as i32).collect(),
                _ if name.starts_with("cross.") => {
                    let unheard = || Error::Setting("nothing was heard before something is said".into());
                    return held.get(name).cloned().ok_or_else(unheard);
                }
                _ => return Ok(held.remove(name).map_or_else(|| device.zeros(ty), Ok)?),
            };
            numbers.resize(ty.numel(), 0);
            let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
            Ok(device.upload(ty, &bytes)?)
        };
        let outputs = program.run(argument)?;
        let mut logits = Vec::new();
        for (output, buffer) in program.graph().outputs().iter().zip(outputs) {
            if output.name == "logits" {
                logits = floats(&self.device.read(&buffer)?);
            } else {
                self.held.insert(output.name.clone(), buffer);
            }
        }
        Ok(logits)
    }

    /// What the decoder attends to in the window while it says `ids` from the start, by these heads, each a layer and its
    /// head: f32[heads,ids.len(),rows of the encoder]. The same heads must be asked for every time.
    ///
    /// # Errors
    /// When there are more tokens than the decoder has positions, nothing was heard yet, or the device fails.
    pub fn attended(&mut self, ids: &[i32], heads: &[(usize, usize)]) -> Result<Vec<f32>> {
        let context = self.model.decoder().context;
        if ids.len() > context {
            return Err(Error::TooLong { what: "the transcript of one window", tokens: ids.len(), context });
        }
        let width = [64, 256].into_iter().find(|&w| w >= ids.len() && w <= context).unwrap_or(context);
        if !self.attend.contains_key(&width) {
            let graph = self.model.attend(width, heads)?;
            let program = compile(&*self.device, &self.options, &self.model, &mut self.weights, graph)?;
            self.attend.insert(width, program);
        }
        let mut numbers = ids.to_vec();
        numbers.resize(width, 0);
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        let (device, held) = (&self.device, &self.held);
        let outputs = self.attend[&width].run(|name, ty| match name {
            "ids" => Ok(device.upload(ty, &bytes)?),
            _ => held
                .get(name)
                .cloned()
                .ok_or_else(|| Error::Setting("nothing was heard before something is said".into())),
        })?;
        // The graph has this one output; what only fills up comes behind the tokens of each head.
        let weights = floats(&self.device.read(&outputs[0])?);
        let rows = self.model.encoder().rows;
        Ok(weights.chunks_exact(width * rows).flat_map(|head| &head[..ids.len() * rows]).copied().collect())
    }
}

fn compile(
    device: &dyn Device,
    options: &CompileOptions,
    model: &Whisper,
    weights: &mut HashMap<(String, TensorType), Buffer>,
    graph: Graph,
) -> Result<Program> {
    Program::compile(device, graph, options, |name, ty, uses| {
        let key = (name.to_string(), ty.clone());
        if let Some(loaded) = weights.get(&key) {
            return Ok(loaded.clone());
        }
        let buffer = model.weights().load(device, name, ty, uses)?;
        weights.insert(key, buffer.clone());
        Ok(buffer)
    })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
