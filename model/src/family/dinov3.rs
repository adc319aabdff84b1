//! DINOv3: an encoder of images, whose patches turn with their place and whose class row stands for the image.

use percept_modalities::image::Filter;
use serde_json::json;

use crate::block::{Attention, Biases, BlockSpec, Mlp, Norm, Norms, Stack};
use crate::config::Config;
use crate::error::Result;
use crate::family::Model;
use crate::family::media::processor_files;
use crate::image_encoder::ImageEncoder;
use crate::names;
use crate::processor::{IMAGENET_NORMALIZE, Size, Still, StillDefaults};
use crate::rope::Rope;
use crate::weights::Weights;

/// What DINOv3's image processor does where its file is silent.
const STILL: StillDefaults = StillDefaults {
    size: Size::Exact { height: 224, width: 224 },
    bare: Size::square,
    filter: Filter::Bilinear,
    crop: false,
    normalize: IMAGENET_NORMALIZE,
};

/// A DINOv3 checkpoint.
///
/// # Errors
/// When the configuration, the processor's file and the tensors do not fit.
pub fn open(c: &Config, weights: Weights) -> Result<Model> {
    let c = c.over(json!({
        "patch_size": 16, "hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12,
        "num_attention_heads": 6, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "rope_theta": 100.0,
        "num_channels": 3, "query_bias": true, "key_bias": false, "value_bias": true, "proj_bias": true,
        "mlp_bias": true, "use_gated_mlp": false, "num_register_tokens": 0,
    }));
    let (hidden, heads) = (c.positive("hidden_size")?, c.positive("num_attention_heads")?);
    let head_dim = hidden / heads;
    if !hidden.is_multiple_of(heads) || !head_dim.is_multiple_of(4) {
        let why = format!("is {heads}; heads of {hidden} features must have a multiple of four each");
        return Err(c.error("num_attention_heads", &why));
    }
    let patch = c.positive("patch_size")?;
    for (key, most) in [("patch_size", 1 << 10), ("num_register_tokens", 1 << 10)] {
        if c.usize(key)? > most {
            return Err(c.error(key, &format!("is {}, more than {most}", c.usize(key)?)));
        }
    }
    if c.usize("num_channels")? != 3 {
        return Err(c.error("num_channels", "must be 3: images are red, green and blue"));
    }
    let bias = Biases {
        q: c.flag("query_bias")?,
        k: c.flag("key_bias")?,
        v: c.flag("value_bias")?,
        out: c.flag("proj_bias")?,
    };
    let norm = Norm::layer(c.f64("layer_norm_eps")? as f32);
    let block = BlockSpec {
        hidden,
        norm,
        norms: Norms::Before,
        attention: Attention { bias, rope: Some(0), ..Attention::plain(heads, head_dim, false) },
        recurrent: None,
        cross: None,
        mlp: Mlp {
            width: c.positive("intermediate_size")?,
            activation: c.activation("hidden_act")?,
            gated: c.flag("use_gated_mlp")?,
            bias: c.flag("mlp_bias")?,
        },
        mixture: None,
        layer_scale: true,
        residual_scale: None,
        names: names::DINOV3,
    };
    // Its processor knows torchvision alone, which resizes floats.
    let mut still = Still::read(&processor_files(&weights)?.image, STILL)?;
    if still.crop.is_some() || !matches!(still.size, Some(Size::Exact { .. })) {
        let why = "this model's images are resized to one height and width and not cropped";
        return Err(crate::error::Error::Content {
            file: "preprocessor_config.json".into(),
            why: why.into(),
        });
    }
    still.precise = true;
    Ok(Model::ImageEncoder(Box::new(ImageEncoder {
        weights,
        still,
        patch,
        hidden,
        registers: c.usize("num_register_tokens")?,
        rope: Rope::normalized(head_dim, c.f64("rope_theta")?),
        stack: Stack { prefix: "layer".into(), blocks: vec![block; c.layers("num_hidden_layers")?] },
        norm,
    })))
}
