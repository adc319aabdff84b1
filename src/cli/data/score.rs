//! CLIP and SigLIP checkpoints that score how well images and texts match, for recipes that name one.

use std::path::Path;

use percept::data::stage::{Scorer, Scorers};
use percept::hal::CompileOptions;
use percept::infer::Embedder;
use percept::modalities::image::Image;
use percept::model::Model;
use percept::model::checkpoint::LoadOptions;

use crate::cli::model::loading::weights;

/// Opens checkpoints on the best device.
pub struct Checkpoints;

impl Scorers for Checkpoints {
    fn open(&self, model: &Path) -> Result<Box<dyn Scorer>, String> {
        let weights = weights(model, None, &[], LoadOptions::default(), false).map_err(|e| e.to_string())?;
        let opened = percept::model::open_weights(weights);
        let Model::Contrastive(opened) = opened.map_err(|e| e.to_string())? else {
            return Err("it does not embed images and texts in one space; give CLIP or SigLIP".into());
        };
        let registry = percept::registry();
        let device = registry.open("auto").map_err(|e| e.to_string())?;
        let host = match device.info().id.as_str() {
            "cpu" => None,
            _ => Some(registry.open("cpu").map_err(|e| e.to_string())?),
        };
        let options = CompileOptions { host, ..CompileOptions::default() };
        Ok(Box::new(Similarity(Embedder::new(opened, device, options))))
    }
}

struct Similarity(Embedder);

impl Scorer for Similarity {
    fn score(&mut self, pairs: &[(&Image, &str)]) -> Result<Vec<f32>, String> {
        let mut scores = Vec::with_capacity(pairs.len());
        for pairs in pairs.chunks(Embedder::BATCH) {
            let images: Vec<Image> = pairs.iter().map(|(image, _)| (*image).clone()).collect();
            let texts: Vec<String> = pairs.iter().map(|(_, text)| (*text).to_owned()).collect();
            let images = self.0.images(&images).map_err(|e| e.to_string())?;
            let texts = self.0.texts(&texts).map_err(|e| e.to_string())?;
            // Both have length one, so the product is the cosine.
            let cosine = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            scores.extend(images.iter().zip(&texts).map(cosine));
        }
        Ok(scores)
    }
}
