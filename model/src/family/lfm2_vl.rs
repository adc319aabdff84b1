//! LFM2-VL: SigLIP 2's tower for images of any aspect, squares of whose patches become one row, and LFM2.

use percept_graph::{Activation, DType, HostTensor, Tensor};
use percept_modalities::Inputs;
use serde_json::json;

use crate::block::Norm;
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::connector::pixel_shuffle;
use crate::error::{Error, Result};
use crate::family::Model;
use crate::family::llava::text;
use crate::family::media::{MediaModel, Reader, processor_files, prompt, token};
use crate::parameters::Parameters;
use crate::processor::Lfm2Vl;
use crate::vision::{PATCHES, encoder_run, floats, integers, media_layout};
use crate::vision_tower::VisionTower;
use crate::weights::Weights;

/// An LFM2-VL checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let c = c.over(json!({
        "projector_hidden_act": "gelu", "projector_hidden_size": 2560, "projector_bias": true,
        "projector_use_layernorm": true, "downsample_factor": 2,
    }));
    let decoder = text(&c, &weights, "lfm2")?;
    let reader = Tiles::read(&c, &weights, decoder.hidden)?;
    let processor = Lfm2Vl::new(&processor_files(&weights)?, prompt(&weights)?)?;
    if (processor.patch, processor.factor) != (reader.tower.patch, reader.factor) {
        let why = format!(
            "is {} with patches of {}, and the processor's files have {} and {}",
            reader.factor, reader.tower.patch, processor.factor, processor.patch
        );
        return Err(c.error("downsample_factor", &why));
    }
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

/// Tower and connector.
struct Tiles {
    tower: VisionTower,
    /// Patches along the edge of a feature.
    factor: usize,
    /// Prefix of the connector's parameters, with its dot.
    projector: String,
    normalized: bool,
    width: usize,
    out: usize,
    activation: Activation,
    bias: bool,
    image_token: i32,
}

impl Tiles {
    fn read(c: &Config, weights: &Weights, out: usize) -> Result<Self> {
        let vision = c.section("vision_config", json!({}))?;
        let towers = [
            "model.vision_tower.vision_model.",
            "model.vision_tower.",
            "vision_tower.vision_model.",
            "vision_tower.",
        ];
        let prefix = weights.prefix(&towers, "embeddings.patch_embedding.weight");
        let tower = VisionTower::siglip2(&vision, prefix)?;
        let factor = c.positive("downsample_factor")?;
        if factor > 64 || tower.channels != 3 {
            let why = format!("is {factor}, or the tower reads {} channels, and not 3", tower.channels);
            return Err(c.error("downsample_factor", &why));
        }
        let projectors = ["model.multi_modal_projector.", "multi_modal_projector."];
        Ok(Self {
            tower,
            factor,
            projector: weights.prefix(&projectors, "linear_1.weight").to_string(),
            normalized: c.flag("projector_use_layernorm")?,
            width: c.positive("projector_hidden_size")?,
            out,
            activation: c.activation("projector_hidden_act")?,
            bias: c.flag("projector_bias")?,
            image_token: token(c, "image", 396)?,
        })
    }

    /// Rows and columns of patches of each tile.
    fn grids(&self, inputs: &Inputs) -> Result<Vec<[usize; 2]>> {
        let Some(([_, two], shapes)) = integers::<2>(inputs, "spatial_shapes")? else {
            return Ok(Vec::new());
        };
        let edge = |n: i64| {
            usize::try_from(n).ok().filter(|n| *n > 0 && *n < 1 << 20 && n.is_multiple_of(self.factor))
        };
        let grids = shapes.chunks_exact(2).map(|shape| Some([edge(shape[0])?, edge(shape[1])?]));
        let all: Option<Vec<[usize; 2]>> = if two == 2 { grids.collect() } else { None };
        all.ok_or_else(|| {
            let f = self.factor;
            Error::Inputs(format!(
                "spatial_shapes must be [n, 2] of rows and columns that are multiples of {f}"
            ))
        })
    }

    fn features(&self, [rows, columns]: [usize; 2]) -> usize {
        rows * columns / self.factor.pow(2)
    }

    /// Features f32[n features,out] of patches f32[n,rows columns,numbers] of tiles of one grid, whose learned positions
    /// are made of the tower's by `shares` f32[rows columns,positions].
    fn trace(&self, p: &Parameters, patches: &Tensor, shares: &Tensor, grid: [usize; 2]) -> Tensor {
        let (n, count) = (patches.dim(0), patches.dim(1));
        let one = p.trace().full(DType::I32, [n, count], 0.0);
        let shares = shares.broadcast([n, count, shares.dim(1)], [1, 2]);
        let x = self.tower.normalize(p, &self.tower.mixed(p, patches, &one, &shares));
        let mut x = pixel_shuffle(&x, grid, self.factor);
        let name = |part: &str| format!("{}{part}", self.projector);
        if self.normalized {
            x = Norm::layer(1e-5).trace(p, &name("layer_norm"), &x);
        }
        let x = p.linear(&x, &name("linear_1"), self.width, self.bias, Some(self.activation));
        p.linear(&x, &name("linear_2"), self.out, self.bias, None)
            .reshape([n * self.features(grid), self.out])
    }
}

impl Reader for Tiles {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let Some(([n, most, numbers], values)) = floats(inputs, "pixel_values")? else {
            return Ok(Vec::new());
        };
        let grids = self.grids(inputs)?;
        let fits = |[rows, columns]: &[usize; 2]| rows * columns <= most;
        if numbers != 3 * self.tower.patch.pow(2) || grids.len() != n || !grids.iter().all(fits) {
            return Err(Error::Inputs(format!(
                "pixel_values [{n}, {most}, {numbers}] do not hold the patches of grids {grids:?} for a tower whose patches \
                 have {} numbers",
                3 * self.tower.patch.pow(2)
            )));
        }
        let mut runs = Vec::new();
        let mut at = 0;
        while at < n {
            // Tiles of one grid run together, a few at a time.
            let grid = grids[at];
            let count = grid[0] * grid[1];
            let alike = grids[at..].iter().take_while(|other| **other == grid).count();
            let together = alike.min((PATCHES / count).max(1));
            let tiles = values[at * most * numbers..].chunks(most * numbers).take(together);
            let patches: Vec<f32> = tiles.flat_map(|tile| &tile[..count * numbers]).copied().collect();
            let patches = HostTensor::from_f32([together, count, numbers], &patches)?;
            let shares = self.tower.shares(grid, count);
            let shares = HostTensor::from_f32([count, self.tower.rows()], &shares)?;
            let label = format!("lfm2_vl {}x{}", grid[0], grid[1]);
            let arguments = vec![("patches", patches), ("shares", shares)];
            runs.push(encoder_run(&label, weights, arguments, |p, x| {
                vec![("features".into(), self.trace(p, &x[0], &x[1], grid))]
            })?);
            at += together;
        }
        Ok(runs)
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let rows = self.grids(inputs)?.into_iter().map(|grid| self.features(grid)).sum();
        media_layout(inputs, &[(self.image_token, rows)])
    }
}
