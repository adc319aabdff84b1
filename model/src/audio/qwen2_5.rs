//! The audio tower of Qwen2.5-Omni: Whisper's, chunk by chunk of sound, and pairs of its rows averaged over the whole clip.

use percept_graph::{Activation, HostTensor, PoolKind, Tensor};
use serde_json::{Value, json};

use super::{sinusoids, whisper_block};
use crate::block::{Context, Norm, Stack};
use crate::causal::EncoderRun;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::vision::encoder_run;
use crate::weights::Weights;

/// A tower. Parameters stand below `prefix`.
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen2_5Tower {
    prefix: String,
    /// Mel bands of a frame.
    pub bands: usize,
    /// Frames that see each other.
    chunk: usize,
    hidden: usize,
    stack: Stack,
    /// Width of the features.
    pub out: usize,
}

/// The defaults of config.json.
fn defaults() -> Value {
    json!({
        "num_mel_bins": 128, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "d_model": 1280,
        "activation_function": "gelu", "n_window": 100, "output_dim": 3584, "max_source_positions": 1500,
    })
}

impl Qwen2_5Tower {
    /// The tower of an `audio_config`.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn read(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(defaults());
        let mut block = whisper_block(&c, "encoder", false)?;
        block.attention.segments = Some(0);
        let (half, bands) = (c.positive("n_window")?, c.positive("num_mel_bins")?);
        if half > c.positive("max_source_positions")?.min(1 << 15) || bands > 1 << 12 || block.hidden % 2 == 1
        {
            return Err(c.error("n_window", "or another extent is not that of an audio tower"));
        }
        Ok(Self {
            prefix: prefix.to_string(),
            bands,
            chunk: 2 * half,
            hidden: block.hidden,
            stack: Stack {
                prefix: format!("{prefix}layers"),
                blocks: vec![block; c.layers("encoder_layers")?],
            },
            out: c.positive("output_dim")?,
        })
    }

    /// Rows of features of so many frames.
    pub fn rows(frames: usize) -> usize {
        frames.div_ceil(2) / 2
    }

    /// Rows that the run of a clip of so many frames gives, of which the first [`Qwen2_5Tower::rows`] are the clip's.
    pub fn given(&self, frames: usize) -> usize {
        frames.div_ceil(self.chunk) * (self.chunk / 2) / 2
    }

    /// The run of a clip's frames, `features` f32[bands,frames].
    ///
    /// # Errors
    /// When there are none, or the checkpoint's tensors do not fit the configuration.
    pub fn run(&self, weights: &Weights, features: &[f32]) -> Result<EncoderRun> {
        let frames = features.len() / self.bands;
        if frames == 0 {
            return Err(Error::Inputs("no frame of a clip of sound is marked as heard".into()));
        }
        let (n, rows) = (frames.div_ceil(self.chunk), self.chunk / 2);
        let mut pieces = Vec::with_capacity(n * self.bands * self.chunk);
        for piece in 0..n {
            for band in features.chunks_exact(frames) {
                let heard = &band[piece * self.chunk..frames.min((piece + 1) * self.chunk)];
                pieces.extend_from_slice(heard);
                pieces.resize(pieces.len() + self.chunk - heard.len(), 0.0);
            }
        }
        let heard: Vec<f32> = (0..n * self.chunk).map(|t| f32::from(u8::from(t < frames))).collect();
        let segments: Vec<i32> = (0..n * rows).map(|row| i32::from(row >= frames.div_ceil(2))).collect();
        let arguments = vec![
            ("input_features", HostTensor::from_f32([n, self.bands, self.chunk], &pieces)?),
            ("heard", HostTensor::from_f32([n, 1, self.chunk], &heard)?),
            ("positions", HostTensor::from_f32([rows, self.hidden], &sinusoids(rows, self.hidden))?),
            ("segments", HostTensor::from_i32([n, rows], &segments)?),
        ];
        encoder_run(&format!("{}tower", self.prefix), weights, arguments, |p, x| {
            vec![("features".into(), self.trace(p, x))]
        })
    }

    /// Features f32[rows,out] of chunks f32[n,bands,frames].
    fn trace(&self, p: &Parameters, inputs: &[Tensor]) -> Tensor {
        let [features, heard, positions, segments] = inputs else { return inputs[0].clone() };
        let convolve = |x: &Tensor, name: &str, stride: usize| {
            let path = format!("{}{name}", self.prefix);
            let w = p.get(&format!("{path}.weight"), [self.hidden, x.dim(1), 3]);
            let b = p.get(&format!("{path}.bias"), [self.hidden]);
            x.conv1d(&w, Some(&b), stride, 1).activate(Activation::GeluErf)
        };
        let x = convolve(features, "conv1", 1) * heard;
        let x = convolve(&x, "conv2", 2).transpose([0, 2, 1]) + positions;
        let cx = Context { segments: vec![segments.clone()], ..Context::default() };
        let x = self.stack.trace(p, &x, &cx);
        let x = x.reshape([1, x.dim(0) * x.dim(1), self.hidden]).transpose([0, 2, 1]);
        let pairs = x.pool(PoolKind::Avg, [2], [2]).transpose([0, 2, 1]);
        let pairs = Norm::layer(1e-5).trace(p, &format!("{}ln_post", self.prefix), &pairs);
        let pairs = pairs.reshape([pairs.dim(1), self.hidden]);
        p.linear(&pairs, &format!("{}proj", self.prefix), self.out, true, None)
    }
}
