//! SmolVLM and Idefics3: a SigLIP tower whose learned positions stretch over every image, pixel shuffle,
//! Llama.

use percept_graph::{HostTensor, Tensor};
use percept_modalities::Inputs;
use serde_json::json;

use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::connector::pixel_shuffle;
use crate::error::{Error, Result};
use crate::family::media::{MediaModel, Reader, processor_files, prompt, text_config, token, written_by};
use crate::family::{DecoderNames, Model, decoder};
use crate::parameters::Parameters;
use crate::processor::SmolVlm;
use crate::vision::{encoder_run, floats, integers, media_layout};
use crate::vision_tower::VisionTower;
use crate::weights::Weights;

/// A SmolVLM or Idefics3 checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let vision = c.section(
        "vision_config",
        json!({ "hidden_size": 1152, "num_attention_heads": 16, "patch_size": 32 }),
    )?;
    let decoder = decoder(
        &text_config(c, "llama")?,
        &DecoderNames::find(&weights, &["model.text_model."], &["lm_head.weight"]),
    )?;
    let tower = VisionTower::siglip(&vision, "model.vision_model.")?;
    let factor = c.maybe_usize("scale_factor")?.unwrap_or(2);
    if factor == 0 || !tower.side().is_multiple_of(factor) {
        return Err(
            c.error("scale_factor", &format!("is {factor}, which does not divide {} patches", tower.side()))
        );
    }
    let side = tower.side();
    // In transformers 4.55 to 4.57 all patches but the first stand one position early.
    let places = match written_by(c, (4, 55)..(4, 58)) {
        true => (0..side as i32).map(|i| (i - 1).max(0)).collect(),
        false => bucketized(side, side),
    };
    let reader =
        Tiles { places, tower, factor, out: decoder.hidden, image_token: token(c, "image", 128_257)? };
    let processor = Box::new(SmolVlm::new(&processor_files(&weights)?, prompt(&weights)?)?);
    processor.fits(reader.tower.image, reader.rows())?;
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor, reader })))
}

/// Tower and connector.
struct Tiles {
    tower: VisionTower,
    factor: usize,
    out: usize,
    image_token: i32,
    /// The learned position of each patch along an edge.
    places: Vec<i32>,
}

impl Tiles {
    /// Images f32[3,h,w] that are not empty: shorter clips and prompts of a batch end in empty ones.
    fn images<'a>(&self, inputs: &'a Inputs) -> Result<Vec<&'a [f32]>> {
        let Some(([_, _, c, h, w], values)) = floats(inputs, "pixel_values")? else { return Ok(Vec::new()) };
        self.tower.check([1, c, h, w])?;
        let filled = |p: &&[f32]| p.iter().any(|v| *v != 0.0);
        if let Some((_, mask)) = integers::<4>(inputs, "pixel_attention_mask")?
            && mask.contains(&0)
        {
            return Err(Error::Inputs(
                "pixel_attention_mask has zeros: this model's images fill their tiles".into(),
            ));
        }
        Ok(values.chunks_exact(c * h * w).filter(filled).collect())
    }

    fn rows(&self) -> usize {
        (self.tower.side() / self.factor).pow(2)
    }

    fn trace(&self, p: &Parameters, inputs: &[Tensor]) -> Vec<(String, Tensor)> {
        let [pixels, positions] = inputs else { return Vec::new() };
        let (n, t) = (pixels.dim(0), positions.dim(1));
        let x = self.tower.placed(p, pixels, &positions.broadcast_to([n, t]));
        let x = pixel_shuffle(&x, [self.tower.side(); 2], self.factor);
        let x = p.linear(&x, "model.connector.modality_projection.proj", self.out, false, None);
        vec![("features".into(), x.reshape([n * self.rows(), self.out]))]
    }
}

impl Reader for Tiles {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let images = self.images(inputs)?;
        let side = self.tower.side();
        let ids: Vec<i32> =
            self.places.iter().flat_map(|y| self.places.iter().map(move |x| y * side as i32 + x)).collect();
        let positions = HostTensor::from_i32([1, ids.len()], &ids)?;
        let run = |some: &[&[f32]]| {
            let pixels =
                HostTensor::from_f32([some.len(), 3, self.tower.image, self.tower.image], &some.concat())?;
            let arguments = vec![("pixels", pixels), ("positions", positions.clone())];
            encoder_run("smolvlm", weights, arguments, |p, x| self.trace(p, x))
        };
        images.chunks(self.tower.batch()).map(run).collect()
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        media_layout(inputs, &[(self.image_token, self.images(inputs)?.len() * self.rows())])
    }
}

/// The learned position of each of `patches` along an edge, of `positions` that share the edge evenly
/// (NaViT). In single precision, like the original: a patch on a boundary may come out one position early.
fn bucketized(patches: usize, positions: usize) -> Vec<i32> {
    let share = 1.0 / positions as f64;
    let boundaries = arange(share, share, ((1.0 - share) / share).ceil() as usize);
    let step = 1.0 / patches as f32;
    let place = |i: usize| (i as f32 * step).min(1.0 - 1e-6);
    (0..patches).map(|i| boundaries.iter().filter(|b| **b <= place(i)).count() as i32).collect()
}

/// `torch.arange` in single precision. Torch fills sixteen values at a time, eight each from a base that is
/// rounded, and the last few one by one.
fn arange(first: f64, step: f64, n: usize) -> Vec<f32> {
    let value = |i: usize| {
        if i < n / 16 * 16 {
            let base = (first + (i / 8 * 8) as f64 * step) as f32;
            (f64::from(base) + (i % 8) as f64 * step) as f32
        } else {
            (first + i as f64 * step) as f32
        }
    };
    (0..n).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values of Idefics3VisionEmbeddings, transformers 5.23.
    #[test]
    fn positions_are_those_of_the_original() {
        for side in [4, 16, 24, 26, 27, 32] {
            assert_eq!(bucketized(side, side), (0..side as i32).collect::<Vec<_>>());
        }
        assert_eq!(bucketized(3, 4), [0, 1, 2]);
        assert_eq!(bucketized(5, 4), [0, 0, 1, 2, 3]);
        let early = [0, 1, 2, 3, 4, 4, 6, 7, 8, 8, 9, 10, 11, 12, 14, 14, 16, 17, 17, 19, 19, 21, 22, 22, 24];
        assert_eq!(bucketized(25, 25), early);
    }
}
