//! Gemma 3 with images: a SigLIP tower, pooled; the rows of an image see each other both ways.

use percept_graph::HostTensor;
use percept_modalities::Inputs;
use serde_json::json;

use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::connector::pooled;
use crate::error::Result;
use crate::family::media::{MediaModel, Reader, processor_files, prompt, text_config, token};
use crate::family::{DecoderNames, Model, decoder};
use crate::processor::Gemma3;
use crate::vision::{encoder_run, floats, media_layout};
use crate::vision_tower::VisionTower;
use crate::weights::Weights;

/// A Gemma 3 checkpoint with a tower.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let vision = c.section("vision_config", json!({}))?;
    let models = ["language_model.model.", "model.language_model."];
    let names = DecoderNames::find(&weights, &models, &["language_model.lm_head.weight", "lm_head.weight"]);
    let mut decoder = decoder(&text_config(c, "gemma3_text")?, &names)?;
    // Beside a tower transformers leaves the cap of the logits aside.
    decoder.logit_cap = None;
    let towers = [
        "vision_tower.vision_model.",
        "vision_tower.",
        "model.vision_tower.vision_model.",
        "model.vision_tower.",
    ];
    let tower = VisionTower::siglip(&vision, weights.prefix(&towers, "embeddings.patch_embedding.weight"))?;
    let rows = c.maybe_usize("mm_tokens_per_image")?.unwrap_or(256);
    let to = rows.isqrt();
    if to == 0 || to * to != rows || !tower.side().is_multiple_of(to) {
        let why = format!("is {rows}, whose root does not divide {} patches", tower.side());
        return Err(c.error("mm_tokens_per_image", &why));
    }
    let projectors = ["multi_modal_projector.", "model.multi_modal_projector."];
    let prefix = weights.prefix(&projectors, "mm_input_projection_weight").to_string();
    let eps = vision.maybe_f64("layer_norm_eps")?.unwrap_or(1e-6) as f32;
    let processor = Gemma3::new(&processor_files(&weights)?, rows, prompt(&weights)?)?;
    let image_token = token(c, "image", 262_144)?;
    let reader = Images { tower, to, out: decoder.hidden, prefix, eps, image_token };
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

struct Images {
    tower: VisionTower,
    /// Rows and columns of features after pooling.
    to: usize,
    out: usize,
    prefix: String,
    eps: f32,
    image_token: i32,
}

impl Reader for Images {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let Some(([n, c, h, w], values)) = floats(inputs, "pixel_values")? else { return Ok(Vec::new()) };
        self.tower.check([n, c, h, w])?;
        let run = |some: &[f32]| {
            let pixels = HostTensor::from_f32([some.len() / (c * h * w), c, h, w], some)?;
            encoder_run("gemma3", weights, vec![("pixels", pixels)], |p, x| {
                let x = self.tower.normalize(p, &self.tower.trace(p, &x[0]));
                let x = pooled(p, &self.prefix, &x, [self.tower.side(), self.to, self.out], self.eps);
                vec![("features".into(), x.reshape([x.dim(0) * self.to.pow(2), self.out]))]
            })
        };
        values.chunks(c * h * w * self.tower.batch()).map(run).collect()
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let images = floats::<4>(inputs, "pixel_values")?.map_or(0, |([n, ..], _)| n);
        let mut layout = media_layout(inputs, &[(self.image_token, images * self.to.pow(2))])?;
        layout.blocks = (images > 0).then(|| blocks(&layout.features));
        Ok(layout)
    }
}

/// The number of the image that each row belongs to, -1 for text. Rows of features that touch are one image.
pub(super) fn blocks(features: &[Option<usize>]) -> Vec<i32> {
    let mut number = -1;
    let mut inside = false;
    let next = |f: &Option<usize>| {
        number += i32::from(f.is_some() && !inside);
        inside = f.is_some();
        if inside { number } else { -1 }
    };
    features.iter().map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn pictures_are_numbered() {
        let f = [None, Some(0), Some(1), None, Some(2), None];
        assert_eq!(blocks(&f), [-1, 0, 0, -1, 1, -1]);
    }
}
