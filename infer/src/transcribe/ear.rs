//! Whisper on a device: the encoder, and the decoder's steps over a cache that every window reuses.

use std::collections::HashMap;
use std::sync::Arc;

use percept_graph::HostTensor;
use percept_hal::{Buffer, CompileOptions, CompileReport, Device};
use percept_model::family::Whisper;
use percept_model::{PassRows, PassShape, SequenceRows};

use crate::error::{Error, Result};
use crate::runner::{Runner, read_floats, upload_named};

/// Extents of the decoder's runs: prompts are filled up to one of them.
const WIDTHS: [usize; 4] = [1, 4, 16, 256];

/// What a program is for.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Encode,
    Hear,
    Step(PassShape),
    Attend(usize),
}

/// Whisper on a device: hears a window and says tokens about it, one choice after the other.
pub struct Ear {
    model: Box<Whisper>,
    runner: Runner<Key>,
    /// Buffers by the names of the decoder's inputs: what was heard, and the cache of what was said.
    held: HashMap<String, Buffer>,
}

impl Ear {
    /// Bring a model to a device.
    ///
    /// # Errors
    /// When the checkpoint does not fit its configuration, or the device cannot take or run it.
    pub fn new(model: Box<Whisper>, device: Arc<dyn Device>, options: CompileOptions) -> Result<Self> {
        let mut runner = Runner::new(device, options, false);
        runner.prepare(&Key::Encode, model.weights(), || Ok(model.encode()?))?;
        runner.prepare(&Key::Hear, model.weights(), || Ok(model.hear()?))?;
        Ok(Self { runner, model, held: HashMap::new() })
    }

    /// The model.
    pub fn model(&self) -> &Whisper {
        &self.model
    }

    /// What was compiled so far.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.runner.reports()
    }

    /// Run the encoder on one window: features f32[1,bands,frames]; gives its rows f32[1,rows,d_model].
    ///
    /// # Errors
    /// When the features have another size, or the device fails.
    pub fn encode(&mut self, features: &[f32]) -> Result<Buffer> {
        let bytes: Vec<u8> = features.iter().flat_map(|v| v.to_le_bytes()).collect();
        let outputs = self.runner.run(&Key::Encode, |device, _, ty| Ok(device.upload(ty, &bytes)?))?;
        // The graph has this one output.
        Ok(outputs[0].1.clone())
    }

    /// Hear one window: features f32[1,bands,frames]. Everything said is about it from then on.
    ///
    /// # Errors
    /// As [`Ear::encode`].
    pub fn hear(&mut self, features: &[f32]) -> Result<()> {
        let hidden = self.encode(features)?;
        self.held.extend(self.runner.run(&Key::Hear, |_, _, _| Ok(hidden.clone()))?);
        self.held.insert("hidden".into(), hidden);
        Ok(())
    }

    /// The encoder's rows f32[rows,d_model] of the window that was heard; none before there was one.
    ///
    /// # Errors
    /// When the device fails.
    pub fn heard(&self) -> Result<Vec<f32>> {
        let device = &**self.runner.device();
        self.held.get("hidden").map_or_else(|| Ok(Vec::new()), |rows| read_floats(device, rows))
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
        let decoder = self.model.decoder();
        let (tokens, context) = (at + ids.len(), decoder.context);
        if tokens > context {
            return Err(Error::TooLong { what: "the transcript of one window", tokens, context });
        }
        let shape = self.model.step_shape(self.width(ids.len()), rows.len());
        let rows = PassRows {
            ids: ids.to_vec(),
            positions: (at as i32..tokens as i32).collect(),
            out: rows.iter().map(|&row| row as i32).collect(),
            sequences: vec![SequenceRows::single(decoder, at, ids.len(), context)],
            ..PassRows::default()
        };
        let given = shape.fill(decoder, &rows)?;
        let key = Key::Step(shape);
        let Key::Step(shape) = &key else { return Ok(Vec::new()) };
        self.runner.prepare(&key, self.model.weights(), || Ok(self.model.step(shape)?))?;
        let outputs = run_over(&mut self.runner, &key, &mut self.held, &given)?;
        let mut logits = Vec::new();
        for (name, buffer) in outputs {
            if name == "logits" {
                logits = read_floats(&**self.runner.device(), &buffer)?;
            } else {
                self.held.insert(name, buffer);
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
        let decoder = self.model.decoder();
        let (tokens, context) = (ids.len(), decoder.context);
        if tokens > context {
            return Err(Error::TooLong { what: "the transcript of one window", tokens, context });
        }
        let width = [64, 256].into_iter().find(|&w| w >= tokens && w <= context).unwrap_or(context);
        let positions = (0..tokens as i32).collect();
        let rows = PassRows { ids: ids.to_vec(), positions, ..PassRows::default() };
        let given = self.model.attend_shape(width).fill(decoder, &rows)?;
        let key = Key::Attend(width);
        self.runner.prepare(&key, self.model.weights(), || Ok(self.model.attend(width, heads)?))?;
        let outputs = run_over(&mut self.runner, &key, &mut self.held, &given)?;
        // The graph has this one output; what only fills up comes behind the tokens of each head.
        let weights = read_floats(&**self.runner.device(), &outputs[0].1)?;
        let rows = self.model.encoder().rows;
        Ok(weights.chunks_exact(width * rows).flat_map(|head| &head[..tokens * rows]).copied().collect())
    }
}

/// Run a program of the decoder over what was heard and said.
fn run_over(
    runner: &mut Runner<Key>,
    key: &Key,
    held: &mut HashMap<String, Buffer>,
    given: &[(String, HostTensor)],
) -> Result<Vec<(String, Buffer)>> {
    runner.run(key, |device, name, ty| {
        if name.starts_with("cross.") {
            let unheard = || Error::Setting("nothing was heard before something is said".into());
            return held.get(name).cloned().ok_or_else(unheard);
        }
        if name.starts_with("cache.") {
            // What was said about an earlier window is written over.
            return Ok(held.remove(name).map_or_else(|| device.zeros(ty), Ok)?);
        }
        upload_named(device, given, name)
    })
}
