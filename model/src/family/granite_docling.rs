//! Granite Docling: pages cut into tiles for SigLIP, whose patches are merged coarsely or finely, and Granite.
//!
//! A checkpoint's router, which tells pages that need the fine way, is for whoever prepares pages: here, as in
//! transformers, the processor's `fine_route` decides.

use percept_graph::{Activation, HostTensor, Tensor};
use percept_modalities::Inputs;
use serde_json::json;

use crate::block::{Context, Norm};
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::connector::pixel_shuffle;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::family::media::{MediaModel, Reader, processor_files, prompt, text_config, token};
use crate::family::{DecoderNames, Model, decoder, granite};
use crate::parameters::Parameters;
use crate::processor::GraniteDocling;
use crate::vision::{encoder_run, floats, integers, media_layout};
use crate::vision_tower::VisionTower;
use crate::weights::Weights;

/// The decoder of Granite Docling.
///
/// # Errors
/// When a value is missing or impossible.
pub fn text(c: &Config, names: &DecoderNames) -> Result<Decoder> {
    let c = c.over(json!({
        "vocab_size": 133800, "hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 4, "max_position_embeddings": 32768, "rms_norm_eps": 1e-5,
        "embedding_multiplier": 12.0, "logits_scaling": 4.0, "residual_multiplier": 0.263,
        "attention_multiplier": 0.015625,
    }));
    granite::decoder(&c, names)
}

/// A Granite Docling checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let names = DecoderNames::find(&weights, &["model.text_model."], &["lm_head.weight"]);
    let mut decoder = decoder(&text_config(c, "granite_docling_text")?, &names)?;
    let vision = c.section(
        "vision_config",
        json!({
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "image_size": 512, "patch_size": 16, "out_hidden_size": 1024, "scale_factor": 4,
            "deepstack_visual_indexes": [3, 7, 10], "use_fine_route": true,
        }),
    )?;
    let tower = VisionTower::siglip(&vision, "model.vision_model.")?;
    let (out, factor, fine) = (
        vision.positive("out_hidden_size")?,
        vision.positive("scale_factor")?,
        vision.flag("use_fine_route")?,
    );
    if out != decoder.hidden || !out.is_multiple_of(4) {
        let why = format!("is {out}; it must be the decoder's {}, and a multiple of 4", decoder.hidden);
        return Err(vision.error("out_hidden_size", &why));
    }
    if !tower.side().is_multiple_of(factor) || (fine && !factor.is_multiple_of(2)) {
        let why = format!("is {factor}, which does not divide {} patches, or has no half", tower.side());
        return Err(vision.error("scale_factor", &why));
    }
    let mut deepstack = vision.list("deepstack_visual_indexes")?;
    deepstack.sort_unstable();
    deepstack.dedup();
    if let Some(i) = deepstack.iter().find(|i| **i >= tower.stack.blocks.len()) {
        return Err(vision.error("deepstack_visual_indexes", &format!("has {i}, beyond the last block")));
    }
    decoder.deepstack = deepstack.len();
    let scale = decoder.embedding_scale.unwrap_or(1.0);
    let pages =
        Pages { tower, factor, fine, deepstack, out, scale, image_token: token(c, "image", 100_337)? };
    let edge = pages.tower.image;
    let processor =
        GraniteDocling::new(&processor_files(&weights)?, edge, pages.rows(false), prompt(&weights)?)?;
    Ok(Model::Causal(Box::new(MediaModel {
        decoder,
        weights,
        processor: Box::new(processor),
        reader: pages,
    })))
}

/// Tower and connector.
struct Pages {
    tower: VisionTower,
    /// Patches along the edge of a feature; half as many on the fine way.
    factor: usize,
    /// There is a fine way.
    fine: bool,
    /// Blocks behind which features of their own are taken, in their order.
    deepstack: Vec<usize>,
    out: usize,
    /// Multiplies features as it does embeddings.
    scale: f32,
    image_token: i32,
}

impl Pages {
    /// Features along a tile's edge.
    fn side(&self, fine: bool) -> usize {
        self.tower.side() / if fine { self.factor / 2 } else { self.factor }
    }

    /// Rows of features of a tile.
    fn rows(&self, fine: bool) -> usize {
        self.side(fine).pow(2)
    }

    /// Tiles f32[3,h,w], and whether their features are fine.
    fn tiles<'a>(&self, inputs: &'a Inputs) -> Result<(Vec<&'a [f32]>, bool)> {
        let Some(([_, _, c, h, w], values)) = floats(inputs, "pixel_values")? else {
            return Ok((Vec::new(), false));
        };
        self.tower.check([1, c, h, w])?;
        let there = integers::<2>(inputs, "pixel_attention_mask")?.map(|(_, mask)| mask);
        let tiles: Vec<&[f32]> = values.chunks_exact(c * h * w).collect();
        if there.is_some_and(|mask| mask.len() != tiles.len()) {
            return Err(Error::Inputs(
                "pixel_attention_mask does not say of each tile whether it is there".into(),
            ));
        }
        let there = |i: usize| there.is_none_or(|mask| mask[i] != 0);
        let tiles = tiles.into_iter().enumerate().filter(|(i, _)| there(*i)).map(|(_, tile)| tile).collect();
        let fine = integers::<1>(inputs, "tile_fine_mask")?.is_some();
        if fine && !self.fine {
            return Err(Error::Inputs(
                "tile_fine_mask is there, but config.json's 'use_fine_route' is false: this model has no fine way".into(),
            ));
        }
        Ok((tiles, fine))
    }

    /// The sines and cosines that features of a tile are told apart by, row by row: of the column, then of the row.
    fn positions(&self, side: usize) -> Vec<f32> {
        let quarter = self.out / 4;
        let angle = |at: usize, i: usize| at as f64 * 1e4f64.powf(-(i as f64) / quarter as f64);
        let waves = |at: usize| {
            let of = move |wave: fn(f64) -> f64| (0..quarter).map(move |i| wave(angle(at, i)) as f32);
            of(f64::sin).chain(of(f64::cos)).collect::<Vec<f32>>()
        };
        (0..side).flat_map(|y| (0..side).flat_map(move |x| [waves(x), waves(y)].concat())).collect()
    }

    fn trace(&self, p: &Parameters, inputs: &[Tensor], fine: bool) -> Vec<(String, Tensor)> {
        let [pixels, positions] = inputs else { return Vec::new() };
        let (grid, factor) = ([self.tower.side(); 2], self.tower.side() / self.side(fine));
        let at = |name: &str| format!("model.vision_model.connector.{name}");
        let way = |name: &str| at(&format!("{}.{name}", if fine { "fine" } else { "coarse" }));
        let flat = |x: Tensor| x.reshape([x.dim(0) * x.dim(1), self.out]);
        let norm = Norm::layer(1e-5);
        let mut outputs = Vec::new();
        let x = self.tower.embed(p, pixels);
        let x = self.tower.stack.trace_each(p, &x, &Context::default(), |i, x| {
            if self.deepstack.contains(&i) {
                let k = outputs.len();
                let at = |name: &str| way(&format!("deepstack_mergers.{k}.{name}"));
                let y = norm.trace(p, &at("layer_norm"), &pixel_shuffle(&x, grid, factor));
                let y = p.linear(&y, &at("linear_1"), self.out, true, Some(Activation::GeluErf));
                outputs.push((
                    format!("deepstack.{k}"),
                    flat(p.linear(&y, &at("linear_2"), self.out, true, None)),
                ));
            }
            x
        });
        let x = norm.trace(p, &at("ln_in"), &self.tower.normalize(p, &x));
        let x =
            p.linear(&pixel_shuffle(&x, grid, factor), &way("projection"), self.out, false, None) + positions;
        let x = norm.trace(p, &at("ln_mid"), &x).activate(Activation::GeluErf);
        let x = norm.trace(p, &at("ln_out"), &p.linear(&x, &at("mlp_fc2"), self.out, false, None));
        outputs.push(("features".into(), flat(x * f64::from(self.scale))));
        outputs
    }
}

impl Reader for Pages {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let ((tiles, fine), edge) = (self.tiles(inputs)?, self.tower.image);
        let side = self.side(fine);
        let positions = HostTensor::from_f32([1, side * side, self.out], &self.positions(side))?;
        let label = if fine { "granite_docling.fine" } else { "granite_docling" };
        let run = |some: &[&[f32]]| {
            let pixels = HostTensor::from_f32([some.len(), 3, edge, edge], &some.concat())?;
            let arguments = vec![("pixels", pixels), ("positions", positions.clone())];
            encoder_run(label, weights, arguments, |p, x| self.trace(p, x, fine))
        };
        tiles.chunks(self.tower.batch()).map(run).collect()
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let (tiles, fine) = self.tiles(inputs)?;
        media_layout(inputs, &[(self.image_token, tiles.len() * self.rows(fine))])
    }
}
