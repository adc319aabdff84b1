//! Embeddings: images and texts as vectors of length one, close to one another where the inputs are similar.

mod image;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use percept_graph::{Graph, HostTensor};
use percept_hal::{CompileOptions, CompileReport, Device, OpTiming};
use percept_modalities::image::Image;
use percept_modalities::{Array, Values};
use percept_model::{Contrastive, Weights};

use crate::error::{Error, Result};
use crate::runner::{Runner, read_floats, upload_named};

pub use image::{ImageEmbedder, ImageStates};
pub use percept_model::Pooling;
pub use text::TextEmbedder;

/// CLIP or SigLIP on a device: it embeds images and texts in one space.
pub struct Embedder {
    model: Box<Contrastive>,
    runner: Runner<String>,
}

impl Embedder {
    /// Images or texts in one run.
    pub const BATCH: usize = 8;

    /// Bring a model to a device.
    pub fn new(model: Box<Contrastive>, device: Arc<dyn Device>, options: CompileOptions) -> Self {
        Self { model, runner: Runner::new(device, options, false) }
    }

    /// The model.
    pub fn model(&self) -> &Contrastive {
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

    /// The embeddings of images, each of length one.
    ///
    /// # Errors
    /// When an image cannot be prepared or the device fails.
    pub fn images(&mut self, images: &[Image]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(images.len());
        for images in images.chunks(Self::BATCH) {
            all.extend(self.prepared(&self.model.prepare(images)?)?);
        }
        Ok(all)
    }

    /// The embeddings of images prepared by [`Contrastive::prepare`].
    ///
    /// # Errors
    /// When they are not what the model reads, or the device fails.
    pub fn prepared(&mut self, arrays: &BTreeMap<String, Array>) -> Result<Vec<Vec<f32>>> {
        let arguments = self.model.image_arguments(arrays)?;
        let batch = arguments.first().and_then(|(_, pixels)| pixels.ty().dims.first().copied()).unwrap_or(0);
        let flat =
            first_output(&mut self.runner, &self.model.weights, self.model.image_graph(batch)?, &arguments)?;
        Ok(rows(&flat, self.model.width()))
    }

    /// The embeddings of texts, each of length one.
    ///
    /// # Errors
    /// When a text cannot be cut into tokens or the device fails.
    pub fn texts(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(texts.len());
        for texts in texts.chunks(Self::BATCH) {
            let Array { values: Values::I64(ids), dims } = self.model.tokens(texts)? else {
                return Err(Error::Setting("token ids must be whole numbers".into()));
            };
            let ends = self.model.ends(&ids);
            let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
            let graph = self.model.text_graph(texts.len())?;
            let arguments = [
                ("input_ids".into(), HostTensor::from_i32(dims, &ids)?),
                ("ends".into(), HostTensor::from_i32([ends.len()], &ends)?),
            ];
            let flat = first_output(&mut self.runner, &self.model.weights, graph, &arguments)?;
            all.extend(rows(&flat, self.model.width()));
        }
        Ok(all)
    }

    /// The similarity of images and texts by their embeddings, as the logits that the model was trained to give: a row
    /// for each image.
    ///
    /// # Errors
    /// When the device fails.
    pub fn compare(&mut self, images: &[Vec<f32>], texts: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let graph = self.model.compare(images.len(), texts.len())?;
        let array = |all: &[Vec<f32>]| HostTensor::from_f32([all.len(), self.model.width()], &all.concat());
        let arguments = [("images".into(), array(images)?), ("texts".into(), array(texts)?)];
        let flat = first_output(&mut self.runner, &self.model.weights, graph, &arguments)?;
        Ok(rows(&flat, texts.len()))
    }
}

impl Embedder {
    /// The probabilities of [`Embedder::compare`]'s logits. CLIP was trained to choose among the texts given: an
    /// image's probabilities add up to one. SigLIP was trained to judge every pair by itself.
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

/// Scales a vector to length one.
fn unit(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|x| *x /= length);
}

/// Run a graph, compiled when its name is new, on arrays by name; gives its outputs.
fn outputs(
    runner: &mut Runner<String>,
    weights: &Weights,
    graph: Graph,
    arguments: &[(String, HostTensor)],
) -> Result<Vec<Vec<f32>>> {
    let name = graph.name().to_string();
    runner.prepare(&name, weights, || Ok(graph))?;
    let outputs = runner.run(&name, |device, input, _| upload_named(device, arguments, input))?;
    let device = runner.device();
    outputs.iter().map(|(_, buffer)| read_floats(&**device, buffer)).collect()
}

/// The same; gives its first output.
fn first_output(
    runner: &mut Runner<String>,
    weights: &Weights,
    graph: Graph,
    arguments: &[(String, HostTensor)],
) -> Result<Vec<f32>> {
    let first = outputs(runner, weights, graph, arguments)?.into_iter().next();
    Ok(first.unwrap_or_default())
}
