//! Embeddings: pictures and texts as vectors of length one, near one another where they are alike.

mod text;

use std::collections::HashMap;
use std::sync::Arc;

use percept_graph::{Graph, TensorType};
use percept_hal::{Buffer, CompileOptions, CompileReport, Device};
use percept_modalities::image::Image;
use percept_modalities::{Array, Values};
use percept_model::{Contrastive, Weights};

use crate::error::{Error, Result};
use crate::program::Program;

pub use text::{Pooling, TextPlacer};

/// Graphs of one model on a device, by their names, over one set of weights.
struct Programs {
    device: Arc<dyn Device>,
    options: CompileOptions,
    weights: HashMap<(String, TensorType), Buffer>,
    programs: HashMap<String, Program>,
}

impl Programs {
    fn new(device: Arc<dyn Device>, options: CompileOptions) -> Self {
        Self { device, options, weights: HashMap::new(), programs: HashMap::new() }
    }

    /// Run a graph, compiled when it is new, on arguments by name; gives its first output.
    fn run(&mut self, weights: &Weights, graph: Graph, arguments: &[(&str, Vec<u8>)]) -> Result<Vec<f32>> {
        let name = graph.name().to_string();
        if !self.programs.contains_key(&name) {
            let (device, loaded) = (&*self.device, &mut self.weights);
            let load = |name: &str, ty: &TensorType, uses| {
                let key = (name.to_string(), ty.clone());
                if let Some(buffer) = loaded.get(&key) {
                    return Ok(Buffer::clone(buffer));
                }
                let buffer = weights.load(device, name, ty, uses)?;
                loaded.insert(key, buffer.clone());
                Ok(buffer)
            };
            self.programs.insert(name.clone(), Program::compile(device, graph, &self.options, load)?);
        }
        let outputs = self.programs[&name].run(|input, ty| {
            let given = arguments.iter().find(|(name, _)| *name == input);
            let bytes = given.ok_or_else(|| Error::Setting(format!("the input '{input}' was not given")))?;
            Ok(self.device.upload(ty, &bytes.1)?)
        })?;
        let first = outputs.first().map_or_else(|| Ok(Vec::new()), |buffer| self.device.read(buffer))?;
        Ok(first.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.programs.values().map(Program::report)
    }
}

/// CLIP or SigLIP on a device.
pub struct Placer {
    model: Box<Contrastive>,
    programs: Programs,
}

impl Placer {
    /// Pictures or texts in one run.
    pub const BATCH: usize = 8;

    /// Bring a model to a device.
    pub fn new(model: Box<Contrastive>, device: Arc<dyn Device>, options: CompileOptions) -> Self {
        Self { model, programs: Programs::new(device, options) }
    }

    /// The model.
    pub fn model(&self) -> &Contrastive {
        &self.model
    }

    /// What was compiled so far.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.programs.reports()
    }

    /// Pictures in the common space, each of length one.
    ///
    /// # Errors
    /// When a picture cannot be prepared or the device fails.
    pub fn images(&mut self, pictures: &[Image]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(pictures.len());
        for pictures in pictures.chunks(Self::BATCH) {
            let pixels = self.model.pixels(pictures)?;
            all.extend(self.pixels(&pixels)?);
        }
        Ok(all)
    }

    /// Prepared pictures f32[n,channels,h,w] in the common space.
    ///
    /// # Errors
    /// When the device fails.
    pub fn pixels(&mut self, pixels: &Array) -> Result<Vec<Vec<f32>>> {
        let (batch, Values::F32(values)) = (pixels.dims.first().copied().unwrap_or(0), &pixels.values) else {
            return Err(Error::Setting("pixel values must be floats".into()));
        };
        let arguments = [("pixel_values", floats(values))];
        let flat = self.programs.run(&self.model.weights, self.model.see(batch)?, &arguments)?;
        Ok(rows(&flat, self.model.width()))
    }

    /// Texts in the common space, each of length one.
    ///
    /// # Errors
    /// When a text cannot be cut into tokens or the device fails.
    pub fn texts(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(Self::BATCH) {
            let Array { values: Values::I64(ids), .. } = self.model.tokens(texts)? else {
                return Err(Error::Setting("token ids must be whole numbers".into()));
            };
            let ends = self.model.ends(&ids);
            let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
            let arguments = [("input_ids", ints(&ids)), ("ends", ints(&ends))];
            let flat = self.programs.run(&self.model.weights, self.model.read(texts.len())?, &arguments)?;
            all.extend(rows(&flat, self.model.width()));
        }
        Ok(all)
    }

    /// How alike pictures and texts in the common space are, as the model was trained to say it: logits, a row for each
    /// picture.
    ///
    /// # Errors
    /// When the device fails.
    pub fn compare(&mut self, images: &[Vec<f32>], texts: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let graph = self.model.compare(images.len(), texts.len())?;
        let arguments = [("images", floats(&images.concat())), ("texts", floats(&texts.concat()))];
        let flat = self.programs.run(&self.model.weights, graph, &arguments)?;
        Ok(rows(&flat, texts.len()))
    }
}

impl Placer {
    /// What [`Placer::compare`]'s logits mean. CLIP was trained to choose among the texts given: an image's probabilities
    /// add up to one. SigLIP was trained to judge every pair by itself.
    pub fn probabilities(&self, logits: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let of_row = |row: &Vec<f32>| -> Vec<f32> {
            if self.model.logit_bias {
                return row.iter().map(|&x| 1.0 / (1.0 + (-x).exp())).collect();
            }
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let powers: Vec<f32> = row.iter().map(|&x| (x - most).exp()).collect();
            let sum: f32 = powers.iter().sum();
            powers.into_iter().map(|p| p / sum).collect()
        };
        logits.iter().map(of_row).collect()
    }
}

/// The cosine of the angle between two embeddings, both of length one.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn rows(flat: &[f32], width: usize) -> Vec<Vec<f32>> {
    flat.chunks_exact(width.max(1)).map(<[f32]>::to_vec).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn ints(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
