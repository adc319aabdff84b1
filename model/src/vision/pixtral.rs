//! Pixtral's tower: patches of an image of any size, turned by their row and column.

use percept_graph::{HostTensor, Tensor};
use serde_json::json;

use crate::block::{Attention, BlockSpec, Context, Mlp, Norm, Norms, Stack};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::names;
use crate::parameters::Parameters;
use crate::rope::Rope;

/// The tower of Pixtral and Mistral 3. Its images are run one by one, each at its own size.
#[derive(Debug, Clone, PartialEq)]
pub struct PixtralTower {
    /// Prefix of its parameters, with its dot.
    pub prefix: String,
    /// Pixels of a patch's edge.
    pub patch: usize,
    /// Width of the rows.
    pub hidden: usize,
    rope: Rope,
    /// The blocks that rows of patches go through.
    pub stack: Stack,
    norm: Norm,
}

impl PixtralTower {
    /// The tower that these keys describe; values that they leave out are those of Pixtral's own class.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn read(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(json!({
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "num_channels": 3, "patch_size": 16, "hidden_act": "gelu",
        }));
        let (hidden, heads) = (c.positive("hidden_size")?, c.positive("num_attention_heads")?);
        let head_dim = c.maybe_usize("head_dim")?.unwrap_or(hidden / heads);
        if head_dim == 0 || !head_dim.is_multiple_of(4) || head_dim > 1 << 16 || heads * head_dim != hidden {
            let why = format!("is {head_dim}; {heads} heads of a multiple of four fill {hidden} features");
            return Err(c.error("head_dim", &why));
        }
        let patch = c.positive("patch_size")?;
        if patch > 1 << 10 || c.usize("num_channels")? != 3 {
            return Err(c.error("patch_size", &format!("is {patch}, or 'num_channels' is not 3")));
        }
        let nested = c.section("rope_parameters", json!({ "rope_type": "axial" }))?;
        if !["axial", "default"].contains(&nested.text("rope_type")?) {
            return Err(nested.error("rope_type", "must be axial: two directions without scaling"));
        }
        let theta = nested.maybe_f64("rope_theta")?.or(c.maybe_f64("rope_theta")?).unwrap_or(1e4);
        let norm = Norm::rms(1e-5);
        let block = BlockSpec {
            hidden,
            norm,
            norms: Norms::Before,
            attention: Attention { rope: Some(0), ..Attention::plain(heads, head_dim, false) },
            recurrent: None,
            cross: None,
            mlp: Mlp {
                width: c.positive("intermediate_size")?,
                activation: c.activation("hidden_act")?,
                gated: true,
                bias: false,
            },
            mixture: None,
            layer_scale: false,
            residual_scale: None,
            names: names::PIXTRAL,
        };
        Ok(Self {
            prefix: prefix.to_string(),
            patch,
            hidden,
            rope: Rope::alternating(head_dim, theta),
            stack: Stack {
                prefix: format!("{prefix}transformer.layers"),
                blocks: vec![block; c.layers("num_hidden_layers")?],
            },
            norm,
        })
    }

    /// Rows and columns of patches of an image of h x w pixels.
    ///
    /// # Errors
    /// When there is no whole patch.
    pub fn grid(&self, [h, w]: [usize; 2]) -> Result<[usize; 2]> {
        match [h / self.patch, w / self.patch] {
            [0, _] | [_, 0] => {
                Err(Error::Inputs(format!("an image of {w}x{h} has no patch of {}", self.patch)))
            }
            grid => Ok(grid),
        }
    }

    /// What a run on one image reads: `pixels` f32[1,3,h,w], and cosines and sines f32[1,patches,pairs] of the places
    /// of its patches. `plane` is the image's width in `values` f32[3,..,plane], from which its own part is cut.
    ///
    /// # Errors
    /// When it has no patch, or memory cannot be had.
    pub fn arguments(
        &self,
        [h, w]: [usize; 2],
        [rows, plane]: [usize; 2],
        values: &[f32],
    ) -> Result<Vec<(&'static str, HostTensor)>> {
        let [down, along] = self.grid([h, w])?;
        let own: Vec<f32> = (0..3)
            .flat_map(|c| (0..h).map(move |y| (c * rows + y) * plane))
            .flat_map(|at| values[at..at + w].iter().copied())
            .collect();
        let place = |f: fn(usize, usize) -> usize| -> Vec<i32> {
            (0..down * along).map(|i| f(i, along) as i32).collect()
        };
        let [cos, sin] = self.rope.angles(&[&place(|i, n| i / n), &place(|i, n| i % n)], down * along);
        let table = |angles: &[f32]| HostTensor::from_f32([1, down * along, self.rope.pairs()], angles);
        Ok(vec![
            ("pixels", HostTensor::from_f32([1, 3, h, w], &own)?),
            ("cos", table(&cos)?),
            ("sin", table(&sin)?),
        ])
    }

    /// The states f32[1,patches,hidden] behind so many blocks each, of the inputs of [`PixtralTower::arguments`].
    pub fn states(&self, p: &Parameters, inputs: &[Tensor], depths: &[usize]) -> Vec<Tensor> {
        let [pixels, cos, sin] = inputs else { return Vec::new() };
        let whole = |n: usize| n / self.patch * self.patch;
        let pixels = pixels.narrow(2, 0, whole(pixels.dim(2))).narrow(3, 0, whole(pixels.dim(3)));
        let name = format!("{}patch_conv", self.prefix);
        let x = p.linear(&pixels.patchify([self.patch, self.patch]), &name, self.hidden, false, None);
        let x = self.norm.trace(p, &format!("{}ln_pre", self.prefix), &x);
        let cx = Context { angles: vec![[cos.clone(), sin.clone()]], ..Context::default() };
        self.stack.states(p, &x, &cx, depths)
    }
}
