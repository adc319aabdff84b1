//! InternVL: a vision transformer with scaled residuals, pixel shuffle, two linear layers, any decoder.

use percept_graph::{HostTensor, Tensor};
use percept_modalities::Inputs;
use serde_json::{Value, json};

use crate::block::{Attention, Biases, BlockSpec, Context, Mlp, Norm, Norms, QkNorm, Stack};
use crate::causal::{EncoderRun, Layout};
use crate::config::Config;
use crate::connector::{Projector, pixel_shuffle};
use crate::error::{Error, Result};
use crate::family::Model;
use crate::family::llava::{feature_layers, text};
use crate::family::media::{MediaModel, Reader, processor_files, prompt, token};
use crate::names;
use crate::parameters::Parameters;
use crate::processor::InternVl;
use crate::vision::{PATCHES, encoder_run, floats, media_layout};
use crate::weights::Weights;

/// An InternVL checkpoint in the layout of transformers.
///
/// # Errors
/// When the configuration, the processor's files and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let c = c.over(json!({
        "downsample_ratio": 0.5, "projector_hidden_act": "gelu", "vision_feature_select_strategy": "default",
    }));
    let decoder = text(&c, &weights, "qwen2")?;
    let reader = Tiles::read(&c, &weights, decoder.hidden)?;
    let processor =
        InternVl::new(&processor_files(&weights)?, reader.image, reader.rows(), prompt(&weights)?)?;
    Ok(Model::Causal(Box::new(MediaModel { decoder, weights, processor: Box::new(processor), reader })))
}

/// Tower and connector.
struct Tiles {
    /// Prefix of the tower's parameters, with its dot.
    prefix: String,
    /// Pixels of the edges of a tile and of a patch.
    image: usize,
    patch: usize,
    hidden: usize,
    learned_positions: bool,
    stack: Stack,
    /// Blocks behind the state that is read.
    depth: usize,
    /// The norm of the last state, where it has one.
    norm: Option<Norm>,
    /// Patches along the edge of a feature.
    factor: usize,
    projector: Projector,
    image_token: i32,
}

/// An edge given once, or twice for a square.
fn edge(c: &Config, key: &str) -> Result<usize> {
    match c.get(key) {
        Some(Value::Array(_)) => match c.list(key)?[..] {
            [height, width] if height == width && height > 0 => Ok(height),
            _ => Err(c.error(key, "must be a number, or two equal ones")),
        },
        _ => c.positive(key),
    }
}

impl Tiles {
    fn read(c: &Config, weights: &Weights, out: usize) -> Result<Self> {
        let v = c.section(
            "vision_config",
            json!({
                "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "attention_bias": false,
                "use_qk_norm": false, "intermediate_size": 4096, "hidden_act": "gelu", "norm_type": "layer_norm",
                "layer_norm_eps": 1e-6, "image_size": 448, "patch_size": 14, "num_channels": 3,
                "use_absolute_position_embeddings": true, "use_mean_pooling": true,
            }),
        )?;
        let (hidden, heads) = (v.positive("hidden_size")?, v.positive("num_attention_heads")?);
        let (image, patch) = (edge(&v, "image_size")?, edge(&v, "patch_size")?);
        let side = image / patch;
        let factor = (1.0 / c.f64("downsample_ratio")?) as usize;
        if factor == 0 || factor > 64 || side == 0 || image > 1 << 14 || !side.is_multiple_of(factor) {
            let why = format!("is {}, which does not divide {side} patches", c.f64("downsample_ratio")?);
            return Err(c.error("downsample_ratio", &why));
        }
        if !hidden.is_multiple_of(heads) || v.usize("num_channels")? != 3 {
            let why = format!("is {heads}, which does not divide {hidden}, or 'num_channels' is not 3");
            return Err(v.error("num_attention_heads", &why));
        }
        if c.text("vision_feature_select_strategy")? != "default" {
            return Err(
                c.error("vision_feature_select_strategy", "must be default: rows of patches fill a square")
            );
        }
        let eps = v.f64("layer_norm_eps")? as f32;
        let norm = match v.text("norm_type")? {
            "layer_norm" => Norm::layer(eps),
            "rms_norm" => Norm::rms(eps),
            other => return Err(v.error("norm_type", &format!("is '{other}'; known: layer_norm, rms_norm"))),
        };
        let bias = v.flag("attention_bias")?;
        let block = BlockSpec {
            hidden,
            norm,
            norms: Norms::Before,
            attention: Attention {
                bias: Biases { out: true, ..Biases::all(bias) },
                qk_norm: if v.flag("use_qk_norm")? { QkNorm::Full(Norm::rms(1e-6)) } else { QkNorm::None },
                ..Attention::plain(heads, hidden / heads, false)
            },
            recurrent: None,
            cross: None,
            mlp: Mlp {
                width: v.positive("intermediate_size")?,
                activation: v.activation("hidden_act")?,
                gated: false,
                bias: true,
            },
            mixture: None,
            layer_scale: true,
            residual_scale: None,
            names: names::INTERNVL,
        };
        let prefix = weights.prefix(&["vision_tower.", "model.vision_tower."], "embeddings.cls_token");
        let blocks = vec![block; v.layers("num_hidden_layers")?];
        let stack = Stack { prefix: format!("{prefix}encoder.layer"), blocks };
        let [depth] = feature_layers(c, &stack, -1)?[..] else {
            return Err(c.error("vision_feature_layer", "must be one layer"));
        };
        let last = c.get("vision_feature_layer").is_none_or(|v| v == -1);
        let projectors = ["multi_modal_projector.", "model.multi_modal_projector."];
        Ok(Self {
            prefix: prefix.to_string(),
            image,
            patch,
            hidden,
            learned_positions: v.flag("use_absolute_position_embeddings")?,
            norm: (last && !v.flag("use_mean_pooling")?).then_some(Norm::layer(eps)),
            stack,
            depth,
            factor,
            projector: Projector {
                prefix: weights.prefix(&projectors, "linear_1.weight").to_string(),
                out,
                activation: c.activation("projector_hidden_act")?,
                bias: true,
            },
            image_token: token(c, "image", 151_667)?,
        })
    }

    fn side(&self) -> usize {
        self.image / self.patch
    }

    fn rows(&self) -> usize {
        (self.side() / self.factor).pow(2)
    }

    fn trace(&self, p: &Parameters, pixels: &Tensor) -> Tensor {
        let at = |name: &str| format!("{}{name}", self.prefix);
        let (n, whole) = (pixels.dim(0), self.side() * self.patch);
        let pixels = pixels.narrow(2, 0, whole).narrow(3, 0, whole).patchify([self.patch, self.patch]);
        let x = p.linear(&pixels, &at("embeddings.patch_embeddings.projection"), self.hidden, true, None);
        let class = p.get(&at("embeddings.cls_token"), [1, 1, self.hidden]).broadcast_to([n, 1, self.hidden]);
        let mut x = Tensor::concat(&[&class, &x], 1).unwrap_or(x);
        if self.learned_positions {
            x = x.clone() + p.get(&at("embeddings.position_embeddings"), [1, x.dim(1), self.hidden]);
        }
        let mut states = self.stack.states(p, &x, &Context::default(), &[self.depth]);
        let x = states.pop().unwrap_or(x);
        let x = self.norm.as_ref().map_or(x.clone(), |norm| norm.trace(p, &at("layernorm"), &x));
        let x = pixel_shuffle(&x.narrow(1, 1, x.dim(1)), [self.side(); 2], self.factor);
        let x = Norm::layer(1e-5).trace(p, &format!("{}layer_norm", self.projector.prefix), &x);
        let x = self.projector.trace(p, &x);
        x.reshape([n * self.rows(), self.projector.out])
    }
}

impl Reader for Tiles {
    fn runs(&self, weights: &Weights, inputs: &Inputs) -> Result<Vec<EncoderRun>> {
        let Some(([_, c, h, w], values)) = floats(inputs, "pixel_values")? else { return Ok(Vec::new()) };
        if (c, h, w) != (3, self.image, self.image) {
            let edge = self.image;
            return Err(Error::Inputs(format!(
                "tiles of {c} channels and {w}x{h} pixels do not fit a tower for 3 channels and {edge}x{edge}"
            )));
        }
        let run = |some: &[f32]| {
            let pixels = HostTensor::from_f32([some.len() / (c * h * w), c, h, w], some)?;
            encoder_run("internvl", weights, vec![("pixels", pixels)], |p, x| {
                vec![("features".into(), self.trace(p, &x[0]))]
            })
        };
        let together = (PATCHES / self.side().pow(2)).max(1);
        values.chunks(c * h * w * together).map(run).collect()
    }

    fn layout(&self, inputs: &Inputs) -> Result<Layout> {
        let tiles = floats::<4>(inputs, "pixel_values")?.map_or(0, |([n, ..], _)| n);
        media_layout(inputs, &[(self.image_token, tiles * self.rows())])
    }
}
