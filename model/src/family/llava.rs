//! LLaVA: a CLIP or SigLIP tower of which an inner layer is read, two linear layers, any decoder. With Pixtral's tower it
//! is Mistral 3's relative.

use percept_graph::{HostTensor, Tensor};
use percept_modalities::Inputs;
use serde_json::{Value, json};

use crate::block::Stack;
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::connector::Projector;
use crate::decoder::Decoder;
use crate::error::{Error, Result};
use crate::family::media::{MediaModel, Reader, processor_files, prompt, text_config, token, written_by};
use crate::family::{DecoderNames, Model, decoder, mistral3};
use crate::parameters::Parameters;
use crate::processor::{Llava, Tower};
use crate::vision::{encoder_run, floats, media_layout};
use crate::vision_tower::VisionTower;
use crate::weights::Weights;

/// A LLaVA checkpoint.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let tower = c.get("vision_config").and_then(|v| v.get("model_type"));
    if tower.is_some_and(|v| v == "pixtral") {
        return mistral3::open_pixtral(c, weights);
    }
    let decoder = text(c, &weights, "llama")?;
    let view = View::read(c, &weights, decoder.hidden, "default", -2)?;
    let processor = Llava::new(&processor_files(&weights)?, view.described(), prompt(&weights)?)?;
    let reader = Images { view, image_token: token(c, "image", 32_000)? };
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

/// The decoder of a LLaVA checkpoint in any of the layouts in which they are saved.
///
/// # Errors
/// When a value is missing or impossible.
pub fn text(c: &Config, weights: &Weights, model_type: &str) -> Result<Decoder> {
    let models = ["language_model.model.", "model.language_model.", "model.language_model.model."];
    let names = DecoderNames::find(weights, &models, &["language_model.lm_head.weight", "lm_head.weight"]);
    decoder(&text_config(c, model_type)?, &names)
}

/// The number of blocks behind each of the layers that `vision_feature_layer` names, of which `layer` is one where it is
/// silent.
///
/// # Errors
/// When the tower has no such layer.
pub fn feature_layers(c: &Config, tower: &Stack, layer: i64) -> Result<Vec<usize>> {
    let layers: Vec<i64> = match c.get("vision_feature_layer") {
        None => vec![layer],
        Some(Value::Array(all)) => all.iter().map(|v| v.as_i64().unwrap_or(i64::MIN)).collect(),
        Some(one) => vec![one.as_i64().unwrap_or(i64::MIN)],
    };
    layers.iter().map(|&i| tower.depth(i)).collect()
}

/// A tower and the projection of some of its layers.
pub struct View {
    /// The tower whose states are read.
    pub tower: VisionTower,
    /// Blocks behind each state that is read.
    depths: Vec<usize>,
    /// `default` drops the first row of every image, `full` keeps it.
    strategy: String,
    /// The state behind all blocks is normalized.
    normalized: bool,
    projector: Projector,
}

impl View {
    /// What the configuration says; `strategy` and `layer` stand where it is silent.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn read(c: &Config, weights: &Weights, out: usize, strategy: &str, layer: i64) -> Result<Self> {
        // Without a tower's configuration it is the one that LLaVA was first made with.
        let absent = match c.get("vision_config") {
            Some(_) => json!({ "model_type": "clip_vision_model" }),
            None => json!({
                "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
                "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
            }),
        };
        let vision = c.section("vision_config", absent)?;
        let towers = [
            "vision_tower.vision_model.",
            "vision_tower.",
            "model.vision_tower.vision_model.",
            "model.vision_tower.",
        ];
        let prefix = weights.prefix(&towers, "embeddings.patch_embedding.weight");
        let tower = match vision.text("model_type")? {
            "clip_vision_model" => VisionTower::clip(&vision, prefix)?,
            "siglip_vision_model" => VisionTower::siglip(&vision, prefix)?,
            other => {
                let known = "clip_vision_model, siglip_vision_model";
                return Err(vision.error("model_type", &format!("is '{other}'; known towers: {known}")));
            }
        };
        let depths = feature_layers(c, &tower.stack, layer)?;
        let strategy = match c.get("vision_feature_select_strategy") {
            Some(_) => c.text("vision_feature_select_strategy")?.to_string(),
            None => strategy.to_string(),
        };
        if !["default", "full"].contains(&strategy.as_str()) || depths.is_empty() {
            let why = format!(
                "is '{strategy}' with {} layers; it must be default or full, with at least one layer",
                depths.len()
            );
            return Err(c.error("vision_feature_select_strategy", &why));
        }
        let projectors = ["multi_modal_projector.", "model.multi_modal_projector."];
        let act = c.over(json!({ "projector_hidden_act": "gelu", "multimodal_projector_bias": true }));
        let projector = Projector {
            prefix: weights.prefix(&projectors, "linear_1.weight").to_string(),
            out,
            activation: act.activation("projector_hidden_act")?,
            bias: act.flag("multimodal_projector_bias")?,
        };
        // In transformers 4.57 the last of SigLIP's states has gone through the last norm.
        let normalized = !tower.class_row && written_by(c, (4, 57)..(4, 58));
        Ok(Self { tower, depths, strategy, normalized, projector })
    }

    /// What a processor must know of it.
    pub fn described(&self) -> Tower {
        Tower {
            patch: self.tower.patch,
            image: self.tower.image,
            additional: usize::from(self.tower.class_row),
            strategy: self.strategy.clone(),
        }
    }

    /// Rows of features of an image.
    pub fn rows(&self) -> usize {
        self.tower.rows() - self.dropped()
    }

    fn dropped(&self) -> usize {
        usize::from(self.strategy == "default")
    }

    /// Features f32[n,rows,out] of images f32[n,c,h,w], a few images at a time.
    pub fn trace(&self, p: &Parameters, pixels: &Tensor) -> Tensor {
        self.tower.in_batches(pixels, |pixels| {
            let states = self.tower.states(p, pixels, &self.depths);
            let all = self.tower.stack.blocks.len();
            let kept = |(state, &depth): (&Tensor, &usize)| match self.normalized && depth == all {
                true => self.tower.normalize(p, state),
                false => state.clone(),
            };
            let kept: Vec<Tensor> = states
                .iter()
                .zip(&self.depths)
                .map(kept)
                .map(|s| s.narrow(1, self.dropped(), s.dim(1)))
                .collect();
            let joined =
                Tensor::concat(&kept.iter().collect::<Vec<_>>(), 2).unwrap_or_else(|| pixels.clone());
            self.projector.trace(p, &joined)
        })
    }

    /// Images of one run as an argument.
    ///
    /// # Errors
    /// When memory for them cannot be had.
    pub fn pixels(&self, n: usize, values: &[f32]) -> Result<HostTensor> {
        Ok(HostTensor::from_f32([n, 3, self.tower.image, self.tower.image], values)?)
    }
}

/// Every image as the features of its patches.
struct Images {
    view: View,
    image_token: i32,
}

impl Reader for Images {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let Some(([n, c, h, w], values)) = floats(inputs, "pixel_values")? else { return Ok(Vec::new()) };
        self.view.tower.check([n, c, h, w])?;
        let run = |some: &[f32]| {
            let pixels = self.view.pixels(some.len() / (c * h * w), some)?;
            encoder_run("llava", weights, vec![("pixels", pixels)], |p, x| {
                let features = self.view.trace(p, &x[0]);
                let rows = features.dim(0) * features.dim(1);
                vec![("features".into(), features.reshape([rows, features.dim(2)]))]
            })
        };
        values.chunks(c * h * w * self.view.tower.batch()).map(run).collect()
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let images = floats::<4>(inputs, "pixel_values")?.map_or(0, |([n, ..], _)| n);
        media_layout(inputs, &[(self.image_token, images * self.view.rows())])
    }
}

/// An error about a configuration that does not make a grid of features.
pub fn no_grid(rows: usize) -> Error {
    Error::Inputs(format!(
        "config.json: {rows} rows of features an image are no square; use vision_feature_select_strategy \
        'default' with a CLIP tower, 'full' with SigLIP"
    ))
}
