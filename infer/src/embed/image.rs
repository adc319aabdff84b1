//! Embeddings of images from an encoder of images alone.

use std::sync::Arc;

use percept_hal::{CompileOptions, CompileReport, Device};
use percept_modalities::Array;
use percept_modalities::image::Image;
use percept_model::ImageEncoder;

use super::{Embedder, outputs, rows, unit};
use crate::error::Result;
use crate::runner::Runner;

/// DINOv3 on a device: it embeds images.
pub struct ImageEmbedder {
    model: Box<ImageEncoder>,
    runner: Runner<String>,
}

/// What an encoder gives for images, whose features have no length in particular.
pub struct ImageStates {
    /// The row that stands for each image, f32[n,hidden].
    pub pooled: Vec<f32>,
    /// All rows f32[n,rows,hidden]: class, registers, patches.
    pub hidden: Vec<f32>,
}

impl ImageEmbedder {
    /// Bring a model to a device.
    pub fn new(model: Box<ImageEncoder>, device: Arc<dyn Device>, options: CompileOptions) -> Self {
        Self { model, runner: Runner::new(device, options, false) }
    }

    /// The model.
    pub fn model(&self) -> &ImageEncoder {
        &self.model
    }

    /// What was compiled so far.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.runner.reports()
    }

    /// The embeddings of images, each of length one.
    ///
    /// # Errors
    /// When an image cannot be prepared or the device fails.
    pub fn images(&mut self, images: &[Image]) -> Result<Vec<Vec<f32>>> {
        let mut all = Vec::with_capacity(images.len());
        for images in images.chunks(Embedder::BATCH) {
            let pixels = self.model.prepare(images)?;
            all.extend(rows(&self.states(&pixels)?.pooled, self.model.hidden));
        }
        all.iter_mut().for_each(|vector| unit(vector));
        Ok(all)
    }

    /// The rows of images prepared by [`ImageEncoder::prepare`].
    ///
    /// # Errors
    /// When they are not what the model reads, or the device fails.
    pub fn states(&mut self, pixels: &Array) -> Result<ImageStates> {
        let arguments = self.model.arguments(pixels)?;
        let graph = self.model.graph(&pixels.dims)?;
        let mut outputs = outputs(&mut self.runner, &self.model.weights, graph, &arguments)?.into_iter();
        let mut next = || outputs.next().unwrap_or_default();
        Ok(ImageStates { pooled: next(), hidden: next() })
    }
}
