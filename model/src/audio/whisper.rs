//! Whisper's encoder, which begins with two convolutions: the encoder of Whisper, and the audio tower of
//! Qwen2-Audio.

use percept_graph::{Activation, Tensor};
use percept_modalities::audio::LogMel;
use serde_json::{Value, json};

use crate::block::{Attention, Biases, BlockSpec, Context, Mlp, Norm, Norms, Stack};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::names;
use crate::parameters::Parameters;

/// An encoder of log-mel features.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioTower {
    /// Prefix of its parameters, with its dot.
    pub prefix: String,
    /// Mel bands of a frame.
    pub bands: usize,
    /// Rows that it gives: half as many as it reads frames.
    pub rows: usize,
    /// Width of the rows.
    pub hidden: usize,
    /// The blocks behind the two convolutions.
    pub stack: Stack,
    /// The last norm, `{prefix}layer_norm`.
    pub norm: Norm,
}

/// The defaults of config.json for Whisper's encoder.
pub fn defaults() -> Value {
    json!({
        "num_mel_bins": 80, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536,
        "d_model": 384, "max_source_positions": 1500, "activation_function": "gelu",
    })
}

impl AudioTower {
    /// The tower that Whisper's keys describe.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn read(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(defaults());
        let block = block(&c, "encoder", false)?;
        Ok(Self {
            prefix: prefix.to_string(),
            bands: c.positive("num_mel_bins")?,
            rows: c.positive("max_source_positions")?,
            hidden: block.hidden,
            norm: block.norm,
            stack: Stack {
                prefix: format!("{prefix}layers"),
                blocks: vec![block; c.layers("encoder_layers")?],
            },
        })
    }

    /// Refuses features of another shape than it reads.
    ///
    /// # Errors
    /// When the features have other bands or frames.
    pub fn check(&self, features: &LogMel) -> Result<()> {
        let (given, read) = ((features.bands(), features.frames()), (self.bands, self.frames()));
        if given == read {
            return Ok(());
        }
        Err(Error::Inputs(format!(
            "the feature extractor gives {} bands of {} frames, the audio tower reads {} of {}",
            given.0, given.1, read.0, read.1
        )))
    }

    /// Frames that it reads.
    pub fn frames(&self) -> usize {
        2 * self.rows
    }

    /// Rows f32[b,rows,hidden] of features f32[b,bands,frames], before the last norm.
    pub fn trace(&self, p: &Parameters, features: &Tensor, cx: &Context) -> Tensor {
        let convolve = |x: &Tensor, name: &str, stride: usize| {
            let path = format!("{}{name}", self.prefix);
            let w = p.get(&format!("{path}.weight"), [self.hidden, x.dim(1), 3]);
            let b = p.get(&format!("{path}.bias"), [self.hidden]);
            x.conv1d(&w, Some(&b), stride, 1).activate(Activation::GeluErf)
        };
        let x = convolve(&convolve(features, "conv1", 1), "conv2", 2).transpose([0, 2, 1]);
        let positions = p.get(&format!("{}embed_positions.weight", self.prefix), [self.rows, self.hidden]);
        self.stack.trace(p, &(x + positions), cx)
    }

    /// The last norm of rows f32[b,n,hidden].
    pub fn normalize(&self, p: &Parameters, x: &Tensor) -> Tensor {
        self.norm.trace(p, &format!("{}layer_norm", self.prefix), x)
    }
}

/// A block of Whisper's `encoder` or `decoder`. Keys have no bias.
///
/// # Errors
/// When a value is missing or impossible.
pub(crate) fn block(c: &Config, side: &str, causal: bool) -> Result<BlockSpec> {
    let (hidden, key) = (c.positive("d_model")?, format!("{side}_attention_heads"));
    let heads = c.positive(&key)?;
    if !hidden.is_multiple_of(heads) {
        return Err(c.error(&key, &format!("is {heads}, which does not divide d_model, {hidden}")));
    }
    let bias = Biases { k: false, ..Biases::all(true) };
    let attention = |causal| Attention { bias, ..Attention::plain(heads, hidden / heads, causal) };
    Ok(BlockSpec {
        hidden,
        norm: Norm::layer(1e-5),
        norms: Norms::Before,
        attention: attention(causal),
        recurrent: None,
        cross: causal.then(|| attention(false)),
        mlp: Mlp {
            width: c.positive(&format!("{side}_ffn_dim"))?,
            activation: c.activation("activation_function")?,
            gated: false,
            bias: true,
        },
        mixture: None,
        layer_scale: false,
        residual_scale: None,
        names: names::WHISPER,
    })
}
