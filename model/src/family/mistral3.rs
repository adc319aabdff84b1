//! Mistral 3, and Pixtral as a LLaVA: a tower that reads images at their own size, and Mistral.

use percept_graph::Tensor;
use percept_modalities::Inputs;
use serde_json::json;

use crate::block::Norm;
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::connector::{Projector, merged_by_channel};
use crate::error::{Error, Result};
use crate::family::Model;
use crate::family::llava::{feature_layers, text};
use crate::family::media::{MediaModel, Reader, processor_files, prompt, token};
use crate::parameters::Parameters;
use crate::processor::Pixtral;
use crate::vision::{PixtralTower, encoder_run, floats, integers, media_layout};
use crate::weights::Weights;

/// A Mistral 3 checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let c = c.over(json!({ "multimodal_projector_bias": false, "spatial_merge_size": 2 }));
    // Without a value of its own, a part has that of Mistral Small 3.1.
    let words = c.section(
        "text_config",
        json!({
            "model_type": "mistral", "hidden_size": 5120, "intermediate_size": 32768, "num_hidden_layers": 40,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 131072,
        }),
    )?;
    let eps =
        words.maybe_f64("rms_norm_eps")?.unwrap_or(if c.get("text_config").is_some() { 1e-6 } else { 1e-5 });
    let merge = c.positive("spatial_merge_size")?;
    if merge > 64 {
        return Err(c.error("spatial_merge_size", &format!("is {merge}, more than any model merges")));
    }
    assemble(&c, weights, merge, Some(Norm::rms(eps as f32)), 10)
}

/// A LLaVA checkpoint with Pixtral's tower.
///
/// # Errors
/// As [`open`].
pub fn open_pixtral(c: &Config, weights: Weights) -> Result<Model> {
    let c = c.over(json!({ "multimodal_projector_bias": true, "vision_feature_select_strategy": "default" }));
    if c.text("vision_feature_select_strategy")? != "full" {
        let why = "must be full: this tower has no row of a class that could be dropped";
        return Err(c.error("vision_feature_select_strategy", why));
    }
    assemble(&c, weights, 1, None, 32_000)
}

/// The model whose features are squares of `merge` x `merge` patches, normalized before they are merged where there is
/// a norm.
fn assemble(c: &Config, weights: Weights, merge: usize, merger: Option<Norm>, image: i32) -> Result<Model> {
    let decoder = text(c, &weights, "mistral")?;
    let vision = c.section("vision_config", json!({}))?;
    let prefix = weights.prefix(&["vision_tower.", "model.vision_tower."], "patch_conv.weight");
    let tower = PixtralTower::read(&vision, prefix)?;
    let depths = feature_layers(c, &tower.stack, -1)?;
    if merger.is_some() && depths.len() != 1 {
        return Err(c.error("vision_feature_layer", "must be one layer: its rows are normalized and merged"));
    }
    let projectors = ["multi_modal_projector.", "model.multi_modal_projector."];
    let act = c.over(json!({ "projector_hidden_act": "gelu" }));
    let projector = Projector {
        prefix: weights.prefix(&projectors, "linear_1.weight").to_string(),
        out: decoder.hidden,
        activation: act.activation("projector_hidden_act")?,
        bias: act.flag("multimodal_projector_bias")?,
    };
    let processor = Pixtral::new(&processor_files(&weights)?, tower.patch * merge, prompt(&weights)?)?;
    let reader = Images { tower, depths, merge, merger, projector, image_token: token(c, "image", image)? };
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

struct Images {
    tower: PixtralTower,
    /// Blocks behind each state that is read.
    depths: Vec<usize>,
    /// Patches along the edge of a feature.
    merge: usize,
    /// Mistral 3: the norm before patches are merged.
    merger: Option<Norm>,
    projector: Projector,
    image_token: i32,
}

impl Images {
    /// Height and width of every image within its padding.
    fn sizes(&self, inputs: &Inputs) -> Result<Vec<[usize; 2]>> {
        let Some(([n, c, h, w], _)) = floats(inputs, "pixel_values")? else { return Ok(Vec::new()) };
        let Some(([_, _], sizes)) = integers::<2>(inputs, "image_sizes")? else {
            return Err(Error::Inputs("image_sizes are missing beside pixel_values".into()));
        };
        let unit = self.tower.patch * self.merge;
        let fits = |edge: i64, most: usize| {
            usize::try_from(edge).ok().filter(|e| *e > 0 && *e <= most && e.is_multiple_of(unit))
        };
        let all: Option<Vec<[usize; 2]>> =
            sizes.chunks(2).map(|s| Some([fits(s[0], h)?, fits(*s.get(1)?, w)?])).collect();
        match all {
            Some(all) if all.len() == n && c == 3 => Ok(all),
            _ => Err(Error::Inputs(format!(
                "image_sizes {sizes:?} must be multiples of {unit} within the {n} images of {w}x{h}"
            ))),
        }
    }

    fn features(&self, [h, w]: [usize; 2]) -> usize {
        let unit = self.tower.patch * self.merge;
        (h / unit) * (w / unit)
    }

    fn trace(&self, p: &Parameters, inputs: &[Tensor], grid: [usize; 2]) -> Vec<(String, Tensor)> {
        let states = self.tower.states(p, inputs, &self.depths);
        let Some(mut x) = Tensor::concat(&states.iter().collect::<Vec<_>>(), 2) else { return Vec::new() };
        if let Some(norm) = &self.merger {
            let at = |name: &str| format!("{}{name}", self.projector.prefix);
            let x_merged = merged_by_channel(&norm.trace(p, &at("norm"), &x), grid, self.merge);
            x = p.linear(&x_merged, &at("patch_merger.merging_layer"), self.tower.hidden, false, None);
        }
        let x = self.projector.trace(p, &x);
        vec![("features".into(), x.reshape([x.dim(1), x.dim(2)]))]
    }
}

impl Reader for Images {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let Some(([_, c, h, w], values)) = floats(inputs, "pixel_values")? else { return Ok(Vec::new()) };
        let run = |(size, values): ([usize; 2], &[f32])| {
            let grid = self.tower.grid(size)?;
            let arguments = self.tower.arguments(size, [h, w], values)?;
            encoder_run("pixtral", weights, arguments, |p, x| self.trace(p, x, grid))
        };
        self.sizes(inputs)?.into_iter().zip(values.chunks(c * h * w)).map(run).collect()
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let rows = self.sizes(inputs)?.into_iter().map(|size| self.features(size)).sum();
        media_layout(inputs, &[(self.image_token, rows)])
    }
}
