//! The image tower of GLM-4V: patches of any grid as in Qwen2-VL, with learned positions that are stretched over every
//! image, merged by a convolution.

use percept_graph::{Activation, HostTensor, Tensor};
use serde_json::{Value, json};

use crate::block::{Attention, Biases, BlockSpec, Context, Mlp, Norm, Norms, Stack};
use crate::config::Config;
use crate::error::Result;
use crate::names;
use crate::parameters::Parameters;
use crate::rope::Rope;
use crate::vision::{Arguments, Framed, Rows, places};

/// A tower. Parameters stand below `prefix`.
#[derive(Debug, Clone, PartialEq)]
pub struct GlmTower {
    prefix: String,
    hidden: usize,
    /// Width of the features.
    pub out: usize,
    /// Numbers of a patch.
    numbers: usize,
    /// Pixels on the edge of a patch, and its frames.
    pub patch: [usize; 2],
    /// Patches on the edge of the square that becomes one row of features.
    pub merge: usize,
    /// Side of the square of learned positions.
    side: usize,
    rope: Rope,
    stack: Stack,
    norm: Norm,
    /// Features between the last two layers of the merger.
    width: usize,
    activation: Activation,
}

/// The defaults of config.json.
pub fn glm_defaults() -> Value {
    json!({
        "depth": 24, "hidden_size": 1536, "hidden_act": "silu", "num_heads": 12, "in_channels": 3, "image_size": 336,
        "patch_size": 14, "rms_norm_eps": 1e-5, "spatial_merge_size": 2, "temporal_patch_size": 2,
        "out_hidden_size": 4096, "intermediate_size": 13696,
    })
}

impl GlmTower {
    /// The tower that the keys describe.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn read(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(glm_defaults());
        let (hidden, heads, out) =
            (c.positive("hidden_size")?, c.positive("num_heads")?, c.positive("out_hidden_size")?);
        if !hidden.is_multiple_of(heads) || !(hidden / heads).is_multiple_of(4) {
            let why = format!("is {heads}: heads of {hidden} features cannot turn in two directions");
            return Err(c.error("num_heads", &why));
        }
        let [patch, frames, channels, merge, image] =
            ["patch_size", "temporal_patch_size", "in_channels", "spatial_merge_size", "image_size"]
                .map(|key| c.positive(key));
        let (patch, frames, channels, merge, image) = (patch?, frames?, channels?, merge?, image?);
        if patch > 1 << 12
            || frames > 1 << 8
            || merge > 1 << 6
            || channels != 3
            || image < patch
            || image > 1 << 14
        {
            return Err(c.error("patch_size", "or another extent of patches is not that of a vision tower"));
        }
        let rotation = c.section("rope_parameters", json!({ "rope_type": "axial", "rope_theta": 1e4 }))?;
        if !["axial", "default"].contains(&rotation.text("rope_type")?) {
            return Err(rotation.error("rope_type", "must be axial: two directions without scaling"));
        }
        let (norm, activation) = (Norm::rms(c.f64("rms_norm_eps")? as f32), c.activation("hidden_act")?);
        let bias = c.flag("attention_bias")?;
        let block = BlockSpec {
            hidden,
            norm,
            norms: Norms::Before,
            attention: Attention {
                fused: true,
                bias: Biases { out: false, ..Biases::all(bias) },
                rope: Some(0),
                ..Attention::plain(heads, hidden / heads, false)
            },
            cross: None,
            mlp: Mlp { width: out, activation, gated: true, bias: false },
            mixture: None,
            recurrent: None,
            layer_scale: false,
            residual_scale: None,
            names: names::QWEN2_5_VISION,
        };
        Ok(Self {
            prefix: prefix.to_string(),
            hidden,
            out,
            numbers: channels * frames * patch * patch,
            patch: [patch, frames],
            merge,
            side: image / patch,
            rope: Rope::axial(hidden / heads, rotation.f64("rope_theta")?),
            stack: Stack { prefix: format!("{prefix}blocks"), blocks: vec![block; c.layers("depth")?] },
            norm,
            width: c.positive("intermediate_size")?,
            activation,
        })
    }

    /// Features f32[b,n,out] of squares of merged patches f32[b,n,out].
    fn project(&self, p: &Parameters, x: &Tensor) -> Tensor {
        let at = |part: &str| format!("{}merger.{part}", self.prefix);
        let x = p.linear(x, &at("proj"), self.out, false, None);
        let x = Norm::layer(1e-5).trace(p, &at("post_projection_norm"), &x).activate(Activation::GeluErf);
        let [gate, up] =
            ["gate_proj", "up_proj"].map(|name| p.linear(&x, &at(name), self.width, false, None));
        p.linear(&gate.gated(self.activation, &up), &at("down_proj"), self.out, false, None)
    }
}

impl Framed for GlmTower {
    fn label(&self) -> String {
        format!("{}tower", self.prefix)
    }

    fn numbers(&self) -> usize {
        self.numbers
    }

    fn merge(&self) -> usize {
        self.merge
    }

    fn prepare(&self, h: usize, w: usize) -> Result<(Vec<usize>, Arguments)> {
        let (n, pairs, places) = (h * w, self.rope.pairs(), places(h, w, self.merge));
        let direction = |axis: usize| -> Vec<i32> { places.iter().map(|place| place[axis] as i32).collect() };
        let [cos, sin] = self.rope.angles(&[&direction(0), &direction(1)], n);
        let mut shared = vec![
            ("cos", HostTensor::from_f32([1, n, pairs], &cos)?),
            ("sin", HostTensor::from_f32([1, n, pairs], &sin)?),
        ];
        let grid = Rows::bicubic((self.side, self.side), (h, w), |y, x| y * self.side + x);
        shared.extend(grid.reordered(places.iter().map(|[y, x]| y * w + x)).arguments()?);
        Ok(((0..n).collect(), shared))
    }

    fn trace(&self, p: &Parameters, inputs: &[Tensor]) -> Vec<(String, Tensor)> {
        let [patches, cos, sin, rows @ ..] = inputs else { return Vec::new() };
        let at = |name: &str| format!("{}{name}", self.prefix);
        let (b, n, unit) = (patches.dim(0), patches.dim(1), self.merge.pow(2));
        let x = p.linear(patches, &at("patch_embed.proj"), self.hidden, true, None);
        let table = p.get(&at("embeddings.position_embedding.weight"), [self.side.pow(2), self.hidden]);
        let x = self.norm.trace(p, &at("post_conv_layernorm"), &x) + Rows::of(&table, rows);
        let cx = Context {
            angles: vec![[cos, sin].map(|a| a.broadcast_to([b, n, self.rope.pairs()]))],
            ..Context::default()
        };
        let x = self.norm.trace(p, &at("post_layernorm"), &self.stack.trace(p, &x, &cx));
        // The convolution's weight has a square's patches behind their features.
        let squares = x.reshape([b, n / unit, unit, self.hidden]).transpose([0, 1, 3, 2]);
        let squares = squares.reshape([b, n / unit, unit * self.hidden]);
        let x = self.project(p, &p.linear(&squares, &at("downsample"), self.out, true, None));
        vec![("features".into(), x.reshape([b * n / unit, self.out]))]
    }
}
