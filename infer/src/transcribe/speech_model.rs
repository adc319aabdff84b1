//! Whisper on a device: the encoder, and the decoder's steps over a cache that every window reuses.

use std::collections::HashMap;
use std::sync::Arc;

use percept_graph::HostTensor;
use percept_hal::{Buffer, CompileOptions, CompileReport, Device, OpTiming};
use percept_model::family::Whisper;
use percept_model::{PassRows, PassShape, SequenceRows};

use crate::error::{Error, Result};
use crate::runner::{Runner, read_floats, upload_named};

/// Extents of the decoder's runs: prompts are padded to one of them.
const WIDTHS: [usize; 4] = [1, 4, 16, 256];

/// What a program is for.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Encode,
    CrossKeys,
    Step(PassShape),
    CrossAttention(usize),
}

/// Whisper on a device: it encodes a window of audio, and decodes tokens from it step by step.
pub struct SpeechModel {
    model: Box<Whisper>,
    runner: Runner<Key>,
    /// Buffers by the names of the decoder's inputs: the keys and values of the window, and the cache of the tokens.
    held: HashMap<String, Buffer>,
}

impl SpeechModel {
    /// Bring a model to a device.
    ///
    /// # Errors
    /// When the checkpoint does not fit its configuration, or the device cannot take or run it.
    pub fn new(model: Box<Whisper>, device: Arc<dyn Device>, options: CompileOptions) -> Result<Self> {
        let mut runner = Runner::new(device, options, false);
        runner.prepare(&Key::Encode, model.weights(), || Ok(model.encode()?))?;
        runner.prepare(&Key::CrossKeys, model.weights(), || Ok(model.cross_keys()?))?;
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

    /// From now on time operations, which is slower; `take_timeline` gives what was timed.
    pub fn record_timeline(&mut self) {
        self.runner.record_timeline();
    }

    /// The operations timed since then.
    pub fn take_timeline(&mut self) -> Vec<OpTiming> {
        self.runner.take_timeline()
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

    /// Encode one window: features f32[1,bands,frames]. Every later call of [`SpeechModel::decode`] transcribes it.
    ///
    /// # Errors
    /// As [`SpeechModel::encode`].
    pub fn start_window(&mut self, features: &[f32]) -> Result<()> {
        let hidden = self.encode(features)?;
        self.held.extend(self.runner.run(&Key::CrossKeys, |_, _, _| Ok(hidden.clone()))?);
        self.held.insert("hidden".into(), hidden);
        Ok(())
    }

    /// The encoder's rows f32[rows,d_model] of the current window; empty before the first window.
    ///
    /// # Errors
    /// When the device fails.
    pub fn encoder_rows(&self) -> Result<Vec<f32>> {
        let device = &**self.runner.device();
        self.held.get("hidden").map_or_else(|| Ok(Vec::new()), |rows| read_floats(device, rows))
    }

    /// The extent of the run that decodes this many tokens.
    pub fn width(&self, tokens: usize) -> usize {
        WIDTHS.into_iter().find(|&w| w >= tokens).unwrap_or(self.model.decoder().context)
    }

    /// Run the decoder on `ids` from position `at` on. Returns the logits [rows.len(), vocab] of the token after each
    /// of the ids that `rows` lists.
    ///
    /// # Errors
    /// When there are more tokens than the decoder has positions, no window was started yet, or the device fails.
    pub fn decode(&mut self, ids: &[i32], at: usize, rows: &[usize]) -> Result<Vec<f32>> {
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
        let key = Key::Step(shape.clone());
        self.runner.prepare(&key, self.model.weights(), || Ok(self.model.step(&shape)?))?;
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

    /// The weights of cross-attention while the decoder reads `ids` from the first position on, for these heads, each a
    /// layer and its head: f32[heads,ids.len(),rows of the encoder]. Every call must name the same heads.
    ///
    /// # Errors
    /// When there are more tokens than the decoder has positions, no window was started yet, or the device fails.
    pub fn cross_attention(&mut self, ids: &[i32], heads: &[(usize, usize)]) -> Result<Vec<f32>> {
        let decoder = self.model.decoder();
        let (tokens, context) = (ids.len(), decoder.context);
        if tokens > context {
            return Err(Error::TooLong { what: "the transcript of one window", tokens, context });
        }
        let width = [64, 256].into_iter().find(|&w| w >= tokens && w <= context).unwrap_or(context);
        let positions = (0..tokens as i32).collect();
        let rows = PassRows { ids: ids.to_vec(), positions, ..PassRows::default() };
        let given = self.model.cross_attention_shape(width).fill(decoder, &rows)?;
        let key = Key::CrossAttention(width);
        self.runner
            .prepare(&key, self.model.weights(), || Ok(self.model.cross_attention(width, heads)?))?;
        let outputs = run_over(&mut self.runner, &key, &mut self.held, &given)?;
        // The graph has this one output; padding comes after the tokens of each head.
        let weights = read_floats(&**self.runner.device(), &outputs[0].1)?;
        let rows = self.model.encoder().rows;
        Ok(weights.chunks_exact(width * rows).flat_map(|head| &head[..tokens * rows]).copied().collect())
    }
}

/// Run a program of the decoder over the keys of the window and the cache.
fn run_over(
    runner: &mut Runner<Key>,
    key: &Key,
    held: &mut HashMap<String, Buffer>,
    given: &[(String, HostTensor)],
) -> Result<Vec<(String, Buffer)>> {
    runner.run(key, |device, name, ty| {
        if name.starts_with("cross.") {
            let no_window =
                || Error::Setting("no window was started; call start_window before decode".into());
            return held.get(name).cloned().ok_or_else(no_window);
        }
        if name.starts_with("cache.") {
            // The tokens of an earlier window are overwritten.
            return Ok(held.remove(name).map_or_else(|| device.zeros(ty), Ok)?);
        }
        upload_named(device, given, name)
    })
}
