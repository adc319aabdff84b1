//! The vision transformer of CLIP and SigLIP: images of one size as rows of patches.

use percept_graph::{DType, Tensor};
use serde_json::{Value, json};

use crate::block::{Attention, Biases, BlockSpec, Context, Mlp, Norm, Norms, Stack};
use crate::config::Config;
use crate::error::Result;
use crate::names;
use crate::parameters::Parameters;

/// A vision transformer of CLIP or SigLIP.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionTower {
    /// Prefix of its parameters, with its dot.
    pub prefix: String,
    /// Pixels of an image's edge.
    pub image: usize,
    /// Pixels of a patch's edge.
    pub patch: usize,
    /// Colours of a pixel.
    pub channels: usize,
    /// Width of the rows.
    pub hidden: usize,
    /// CLIP: a learned row before the patches, patches without bias, and a norm before the blocks.
    pub class_row: bool,
    /// The blocks that rows of patches go through.
    pub stack: Stack,
    /// The norm, of one kind everywhere in the tower.
    pub norm: Norm,
}

/// The defaults of config.json for CLIP's tower.
pub fn clip_defaults() -> Value {
    json!({
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_channels": 3, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
    })
}

/// The defaults of config.json for SigLIP's tower.
pub fn siglip_defaults() -> Value {
    json!({
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "num_channels": 3, "image_size": 224, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    })
}

impl VisionTower {
    /// The tower that CLIP's keys describe.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn clip(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(clip_defaults());
        Self::read(&c, prefix, true)
    }

    /// The tower that SigLIP's keys describe.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn siglip(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(siglip_defaults());
        Self::read(&c, prefix, false)
    }

    /// The tower of SigLIP 2 for images of any aspect: its learned positions are a square table, whose `image` is the
    /// one that would fill it.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn siglip2(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(siglip_defaults()).over(json!({ "num_patches": 256 }));
        let (positions, patch) = (c.positive("num_patches")?, c.positive("patch_size")?);
        let side = positions.isqrt();
        if side * side != positions || positions > 1 << 20 || patch > 1 << 10 {
            let why = format!("is {positions}; learned positions stand in a square of at most 1024 rows");
            return Err(c.error("num_patches", &why));
        }
        let c = c.without(&["image_size"]).over(json!({ "image_size": side * patch }));
        let mut tower = Self::read(&c, prefix, false)?;
        tower.stack.blocks.iter_mut().for_each(|block| block.attention.segments = Some(0));
        Ok(tower)
    }

    fn read(c: &Config, prefix: &str, class_row: bool) -> Result<Self> {
        let block = block(c, false)?;
        let (image, patch) = (c.positive("image_size")?, c.positive("patch_size")?);
        if image < patch || image > 1 << 14 {
            return Err(c.error("image_size", &format!("is {image} with patches of {patch}")));
        }
        Ok(Self {
            prefix: prefix.to_string(),
            image,
            patch,
            channels: c.positive("num_channels")?,
            hidden: block.hidden,
            class_row,
            norm: block.norm,
            stack: Stack {
                prefix: format!("{prefix}encoder.layers"),
                blocks: vec![block; c.layers("num_hidden_layers")?],
            },
        })
    }

    /// Patches along an image's edge.
    pub fn side(&self) -> usize {
        self.image / self.patch
    }

    /// Rows of an image of its own size.
    pub fn rows(&self) -> usize {
        self.side().pow(2) + usize::from(self.class_row)
    }

    /// Patches f32[b,n,hidden] of images f32[b,channels,h,w], without positions.
    pub fn patches(&self, p: &Parameters, pixels: &Tensor) -> Tensor {
        let name = format!("{}embeddings.patch_embedding", self.prefix);
        // Pixels beyond the last whole patch are not seen.
        let whole = |n: usize| n / self.patch * self.patch;
        let pixels = pixels.narrow(2, 0, whole(pixels.dim(2))).narrow(3, 0, whole(pixels.dim(3)));
        p.linear(&pixels.patchify([self.patch, self.patch]), &name, self.hidden, !self.class_row, None)
    }

    /// What the first block reads f32[b,rows,hidden] of images f32[b,channels,image,image].
    pub fn embed(&self, p: &Parameters, pixels: &Tensor) -> Tensor {
        let at = |name: &str| format!("{}embeddings.{name}", self.prefix);
        let mut x = self.patches(p, pixels);
        if self.class_row {
            let class = p.get(&at("class_embedding"), [self.hidden]);
            let class = class.broadcast_to([x.dim(0), 1, self.hidden]);
            x = Tensor::concat(&[&class, &x], 1).unwrap_or(x);
        }
        let x = x + p.get(&at("position_embedding.weight"), [self.rows(), self.hidden]);
        match self.class_row {
            true => self.norm.trace(p, &format!("{}pre_layrnorm", self.prefix), &x),
            false => x,
        }
    }

    /// What the last block gives f32[b,rows,hidden] for images f32[b,channels,image,image], before the last
    /// norm.
    pub fn trace(&self, p: &Parameters, pixels: &Tensor) -> Tensor {
        self.stack.trace(p, &self.embed(p, pixels), &Context::default())
    }

    /// The last norm of rows f32[..,hidden].
    pub fn normalize(&self, p: &Parameters, x: &Tensor) -> Tensor {
        self.norm.trace(p, &format!("{}post_layernorm", self.prefix), x)
    }

    /// The type of images it reads, `batch` of them.
    pub fn pixels(&self, batch: usize) -> percept_graph::TensorType {
        percept_graph::TensorType::new(DType::F32, [batch, self.channels, self.image, self.image])
    }
}

/// A block of CLIP's or SigLIP's towers.
///
/// # Errors
/// When a value is missing or impossible.
pub(crate) fn block(c: &Config, causal: bool) -> Result<BlockSpec> {
    let (hidden, heads) = (c.positive("hidden_size")?, c.positive("num_attention_heads")?);
    if !hidden.is_multiple_of(heads) {
        let why = format!("is {heads}, which does not divide hidden_size, {hidden}");
        return Err(c.error("num_attention_heads", &why));
    }
    Ok(BlockSpec {
        hidden,
        norm: Norm::layer(c.f64("layer_norm_eps")? as f32),
        norms: Norms::Before,
        attention: Attention { bias: Biases::all(true), ..Attention::plain(heads, hidden / heads, causal) },
        recurrent: None,
        cross: None,
        mlp: Mlp {
            width: c.positive("intermediate_size")?,
            activation: c.activation("hidden_act")?,
            gated: false,
            bias: true,
        },
        mixture: None,
        layer_scale: false,
        residual_scale: None,
        names: names::CLIP,
    })
}
