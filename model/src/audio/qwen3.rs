//! The audio tower of Qwen3-ASR and Qwen3-Omni: seconds of sound through three convolutions, then attention within
//! windows of some seconds.

use percept_graph::{Activation, HostTensor, Tensor};
use serde_json::{Value, json};

use super::{sinusoids, whisper_block};
use crate::block::{Biases, Context, Norm, Stack};
use crate::causal::EncoderRun;
use crate::config::Config;
use crate::convolution::Conv2d;
use crate::error::{Error, Result};
use crate::parameters::Parameters;
use crate::vision::encoder_run;
use crate::weights::Weights;

/// Each of the three.
const CONVOLUTION: Conv2d = Conv2d { kernel: 3, stride: 2, padding: 1 };

/// A tower. Parameters stand below `prefix`.
#[derive(Debug, Clone, PartialEq)]
pub struct Qwen3Tower {
    prefix: String,
    /// Mel bands of a frame.
    pub bands: usize,
    /// Frames that go through the convolutions together.
    pub chunk: usize,
    /// Chunks that see each other.
    window: usize,
    channels: usize,
    hidden: usize,
    activation: Activation,
    stack: Stack,
    /// Width of the features.
    pub out: usize,
}

/// The defaults of config.json for Qwen3-ASR's tower.
pub fn asr_defaults() -> Value {
    json!({
        "num_mel_bins": 128, "encoder_layers": 24, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096, "d_model": 1024,
        "activation_function": "gelu", "n_window": 50, "n_window_infer": 800, "output_dim": 3584,
        "downsample_hidden_size": 480,
    })
}

/// The defaults of config.json for Qwen3-Omni's tower.
pub fn omni_defaults() -> Value {
    json!({
        "num_mel_bins": 128, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "d_model": 1280,
        "activation_function": "gelu", "n_window": 50, "n_window_infer": 800, "output_dim": 3584,
        "downsample_hidden_size": 480,
    })
}

/// Rows that three convolutions make of so many frames.
fn convolved(frames: usize) -> usize {
    (0..3).fold(frames, |n, _| n.div_ceil(2))
}

impl Qwen3Tower {
    /// The tower of an `audio_config` laid over its family's defaults.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn read(c: &Config, prefix: &str) -> Result<Self> {
        let mut block = whisper_block(c, "encoder", false)?;
        block.attention.bias = Biases::all(true);
        // The rows of padding are seen by none.
        block.attention.segments = Some(0);
        let (chunk, channels) =
            (c.positive("n_window")?.saturating_mul(2), c.positive("downsample_hidden_size")?);
        let bands = c.positive("num_mel_bins")?;
        if chunk > 1 << 16 || channels > 1 << 16 || bands > 1 << 12 || !block.hidden.is_multiple_of(2) {
            return Err(c.error("n_window", "or another extent is not that of an audio tower"));
        }
        let window = match c.positive("n_window_infer")? / chunk {
            0 => {
                return Err(c.error("n_window_infer", &format!("is shorter than a chunk of {chunk} frames")));
            }
            n => n.min(1 << 10),
        };
        Ok(Self {
            prefix: prefix.to_string(),
            bands,
            chunk,
            window,
            channels,
            hidden: block.hidden,
            activation: c.activation("activation_function")?,
            stack: Stack {
                prefix: format!("{prefix}layers"),
                blocks: vec![block; c.layers("encoder_layers")?],
            },
            out: c.positive("output_dim")?,
        })
    }

    /// Rows of features of so many frames.
    pub fn rows(&self, frames: usize) -> usize {
        frames / self.chunk * convolved(self.chunk) + convolved(frames % self.chunk)
    }

    /// Rows that the runs of a clip of so many frames give: those of whole chunks, of which the first
    /// [`Qwen3Tower::rows`] are the clip's.
    pub fn given(&self, frames: usize) -> usize {
        frames.div_ceil(self.chunk) * convolved(self.chunk)
    }

    /// The runs of a clip of which `frames` frames are heard; `features` f32[bands,all] may go on behind them, as far as
    /// the last chunk. Windows of sound run one by one, since they see nothing of each other. `deepstack` sets of zeros
    /// stand beside the features, for decoders to which images give more than that.
    ///
    /// # Errors
    /// When the checkpoint's tensors do not fit the configuration.
    pub fn runs(
        &self,
        weights: &Weights,
        features: &[f32],
        frames: usize,
        projector: &[&str; 2],
        deepstack: usize,
    ) -> Result<Vec<EncoderRun>> {
        let all = features.len() / self.bands;
        if frames == 0 || frames > all {
            return Err(Error::Inputs(format!("of {all} frames of sound {frames} are marked as heard")));
        }
        let (chunks, long) = (frames.div_ceil(self.chunk), convolved(self.chunk));
        let positions = HostTensor::from_f32([long, self.hidden], &sinusoids(long, self.hidden))?;
        let run = |first: usize| {
            let count = self.window.min(chunks - first);
            let mut pieces = Vec::with_capacity(count * self.bands * self.chunk);
            for piece in first..first + count {
                for band in features.chunks_exact(all) {
                    let at = piece * self.chunk;
                    let heard = &band[at..all.min(at + self.chunk)];
                    pieces.extend_from_slice(heard);
                    pieces.resize(pieces.len() + self.chunk - heard.len(), 0.0);
                }
            }
            let own = self.rows(frames).saturating_sub(first * long);
            let segments: Vec<i32> = (0..count * long).map(|row| i32::from(row >= own)).collect();
            let arguments = vec![
                ("input_features", HostTensor::from_f32([count, 1, self.bands, self.chunk], &pieces)?),
                ("positions", positions.clone()),
                ("segments", HostTensor::from_i32([1, count * long], &segments)?),
            ];
            encoder_run(&format!("{}tower", self.prefix), weights, arguments, |p, x| {
                let features = self.trace(p, x, projector);
                let nothing = (0..deepstack).map(|k| (format!("deepstack.{k}"), &features * 0.0));
                nothing.chain([("features".to_string(), features.clone())]).collect()
            })
        };
        (0..chunks).step_by(self.window).map(run).collect()
    }

    /// Features f32[rows,out] of chunks f32[n,1,bands,frames], with positions f32[rows of a chunk,hidden] and segments.
    fn trace(&self, p: &Parameters, inputs: &[Tensor], [first, second]: &[&str; 2]) -> Tensor {
        let [x, positions, segments] = inputs else { return inputs[0].clone() };
        let mut x = x.clone();
        for i in 1..=3 {
            let path = format!("{}conv2d{i}", self.prefix);
            x = CONVOLUTION.trace(p, &path, &x, self.channels, true).activate(Activation::GeluErf);
        }
        let (n, bands, rows) = (x.dim(0), x.dim(2), x.dim(3));
        let x = x.transpose([0, 3, 1, 2]).reshape([n, rows, self.channels * bands]);
        let x = p.linear(&x, &format!("{}conv_out", self.prefix), self.hidden, false, None) + positions;
        let cx = Context { segments: vec![segments.clone()], ..Context::default() };
        let x = self.stack.trace(p, &x.reshape([1, n * rows, self.hidden]), &cx);
        let x = Norm::layer(1e-5).trace(p, &format!("{}ln_post", self.prefix), &x);
        let x = x.reshape([n * rows, self.hidden]);
        let x = p.linear(&x, first, self.hidden, true, Some(self.activation));
        p.linear(&x, second, self.out, true, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Values of `_get_feat_extract_output_lengths` of Qwen3-Omni, transformers 5.24.
    #[test]
    fn rows_are_those_of_whole_seconds_and_the_rest() {
        let defaults = asr_defaults();
        let c = Config::new("config.json", &json!({}), defaults).unwrap();
        let tower = Qwen3Tower::read(&c, "").unwrap();
        let rows = [1, 8, 9, 99, 100, 101, 279, 300].map(|frames| tower.rows(frames));
        assert_eq!(rows, [1, 1, 2, 13, 13, 14, 36, 39]);
        assert_eq!([1, 100, 101].map(|frames| tower.given(frames)), [13, 13, 26]);
    }
}
