//! Conformers (Gulati et al. 2020) as Parakeet has them: frames thinned out by convolutions over time and frequency, then
//! blocks of two half MLPs, attention by distance (Dai et al. 2019) and a convolution over time for each feature.

use percept_graph::{Activation, HostTensor, Tensor};
use serde_json::{Value, json};

use crate::block::Norm;
use crate::config::Config;
use crate::convolution::{Conv2d, depthwise};
use crate::error::Result;
use crate::parameters::Parameters;

/// Scores of keys that are not seen; exp of it is 0, beside whatever other score.
const UNSEEN: f64 = -1e30;

/// Added to the variance in batch normalization.
const EPS: f64 = 1e-5;

/// A conformer. Parameters stand below `prefix`.
#[derive(Debug, Clone, PartialEq)]
pub struct Conformer {
    prefix: String,
    /// Mel bands of a frame.
    pub bands: usize,
    /// Width of the rows.
    pub hidden: usize,
    /// How often frames are thinned out, by the stride of `thinning` each time.
    stages: usize,
    thinning: Conv2d,
    channels: usize,
    heads: usize,
    width: usize,
    activation: Activation,
    /// Of MLPs and attention.
    bias: bool,
    convolution_bias: bool,
    kernel: usize,
    layers: usize,
    scaled: bool,
}

fn defaults() -> Value {
    json!({
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 8, "intermediate_size": 4096,
        "hidden_act": "silu", "attention_bias": true, "convolution_bias": true, "conv_kernel_size": 9,
        "subsampling_factor": 8, "subsampling_conv_channels": 256, "num_mel_bins": 80,
        "subsampling_conv_kernel_size": 3, "subsampling_conv_stride": 2, "scale_input": true,
    })
}

impl Conformer {
    /// The conformer of an `encoder_config`.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn read(c: &Config, prefix: &str) -> Result<Self> {
        let c = c.over(defaults());
        let (hidden, heads) = (c.positive("hidden_size")?, c.positive("num_attention_heads")?);
        if !hidden.is_multiple_of(heads) || !hidden.is_multiple_of(2) {
            return Err(c.error(
                "num_attention_heads",
                &format!("is {heads}, which does not divide hidden_size {hidden}, or that is odd"),
            ));
        }
        let (kernel, edge) = (c.positive("conv_kernel_size")?, c.positive("subsampling_conv_kernel_size")?);
        for (key, kernel) in [("conv_kernel_size", kernel), ("subsampling_conv_kernel_size", edge)] {
            if kernel % 2 == 0 || kernel > 1 << 8 {
                return Err(c.error(key, &format!("is {kernel}; it must be odd and of a kernel's size")));
            }
        }
        let (factor, stride) = (c.positive("subsampling_factor")?, c.positive("subsampling_conv_stride")?);
        let (bands, channels) = (c.positive("num_mel_bins")?, c.positive("subsampling_conv_channels")?);
        // One convolution for each power of two, whatever the stride.
        let stages = factor.ilog2() as usize;
        if stages == 0 || stages > 8 || stride > 16 || bands > 1 << 12 || channels > 1 << 16 {
            return Err(c.error(
                "subsampling_factor",
                "or another extent of the subsampling is not that of a conformer",
            ));
        }
        Ok(Self {
            prefix: prefix.to_string(),
            bands,
            hidden,
            stages,
            thinning: Conv2d { kernel: edge, stride, padding: (edge - 1) / 2 },
            channels,
            heads,
            width: c.positive("intermediate_size")?,
            activation: c.activation("hidden_act")?,
            bias: c.flag("attention_bias")?,
            convolution_bias: c.flag("convolution_bias")?,
            kernel,
            layers: c.layers("num_hidden_layers")?,
            scaled: c.flag("scale_input")?,
        })
    }

    /// Rows of so many frames.
    pub fn rows(&self, frames: usize) -> usize {
        self.extents(frames).last().copied().unwrap_or(frames)
    }

    /// Frames from one row to the next.
    pub fn factor(&self) -> usize {
        self.thinning.stride.pow(self.stages as u32)
    }

    /// Frames behind each of the convolutions.
    fn extents(&self, frames: usize) -> Vec<usize> {
        let mut n = frames;
        (0..self.stages)
            .map(|_| {
                n = self.thinning.extent(n);
                n
            })
            .collect()
    }

    /// What [`Conformer::trace`] reads for features f32[1,frames,bands] of which the first `heard` frames are no padding.
    ///
    /// # Errors
    /// When memory for them cannot be had.
    pub fn arguments(&self, features: &[f32], heard: usize) -> Result<Vec<(String, HostTensor)>> {
        let frames = features.len() / self.bands;
        let mut all =
            vec![("input_features".to_string(), HostTensor::from_f32([1, frames, self.bands], features)?)];
        for (i, (n, own)) in self.extents(frames).into_iter().zip(self.extents(heard)).enumerate() {
            let flags: Vec<f32> = (0..n).map(|t| f32::from(u8::from(t < own))).collect();
            all.push((format!("heard.{i}"), HostTensor::from_f32([n], &flags)?));
        }
        let rows = self.rows(frames);
        all.push((
            "distances".to_string(),
            HostTensor::from_f32([(2 * rows).saturating_sub(1), self.hidden], &self.distances(rows))?,
        ));
        Ok(all)
    }

    /// Sines and cosines in turn for the distances from `rows` - 1 down to -(`rows` - 1).
    fn distances(&self, rows: usize) -> Vec<f32> {
        let frequency = |i: usize| 10_000f32.powf(-2.0 * i as f32 / self.hidden as f32);
        let row = |d: i64| {
            (0..self.hidden / 2).flat_map(move |i| {
                // The oracle multiplies in f32.
                let angle = f64::from(d as f32 * frequency(i));
                [angle.sin() as f32, angle.cos() as f32]
            })
        };
        let last = rows as i64 - 1;
        (-last..=last).rev().flat_map(row).collect()
    }

    /// Rows f32[1,rows,hidden] of what [`Conformer::arguments`] gives.
    pub fn trace(&self, p: &Parameters, inputs: &[Tensor]) -> Tensor {
        let [features, heard @ .., distances] = inputs else { return inputs[0].clone() };
        let x = self.thinned(p, features, heard);
        let Some(heard) = heard.last() else { return x };
        let rows = heard.dim(0);
        let seen = heard.reshape([rows, 1]) * heard.reshape([1, rows]);
        let seen = seen.gt(&seen.like(0.5)).reshape([1, 1, rows, rows]);
        let block = |x: Tensor, i: usize| {
            let path = format!("{}layers.{i}", self.prefix);
            let _scope = p.trace().scope(path.clone());
            let norm =
                |x: &Tensor, name: &str| Norm::layer(EPS as f32).trace(p, &format!("{path}.{name}"), x);
            let half = |x: Tensor, which: usize| {
                let name = format!("feed_forward{which}");
                let y = norm(&x, &format!("norm_{name}"));
                let y = p.linear(
                    &y,
                    &format!("{path}.{name}.linear1"),
                    self.width,
                    self.bias,
                    Some(self.activation),
                );
                x + p.linear(&y, &format!("{path}.{name}.linear2"), self.hidden, self.bias, None) * 0.5
            };
            let x = half(x, 1);
            let x = &x + self.attention(p, &path, &norm(&x, "norm_self_att"), distances, &seen);
            let x = &x + self.convolution(p, &path, &norm(&x, "norm_conv"), heard);
            norm(&half(x, 2), "norm_out")
        };
        (0..self.layers).fold(x, block)
    }

    /// Rows f32[1,rows,hidden] of features: padding is zero before each convolution.
    fn thinned(&self, p: &Parameters, features: &Tensor, heard: &[Tensor]) -> Tensor {
        let at = |name: &str| format!("{}subsampling.{name}", self.prefix);
        let mut x = features.unsqueeze(1);
        for (i, heard) in heard.iter().enumerate() {
            let only = |x: Tensor| x * heard.reshape([1, 1, heard.dim(0), 1]);
            if i == 0 {
                x = only(self.thinning.trace(p, &at("layers.0"), &x, self.channels, true));
            } else {
                x = only(self.thinning.depthwise(p, &at(&format!("layers.{}", 3 * i - 1)), &x, true));
                let mixed = x.transpose([0, 2, 3, 1]);
                let mixed = p.linear(&mixed, &at(&format!("layers.{}", 3 * i)), self.channels, true, None);
                x = only(mixed.transpose([0, 3, 1, 2]));
            }
            x = x.activate(Activation::Relu);
        }
        let (rows, bands) = (x.dim(2), x.dim(3));
        let x = x.transpose([0, 2, 1, 3]).reshape([1, rows, self.channels * bands]);
        let x = p.linear(&x, &at("linear"), self.hidden, true, None);
        if self.scaled { x * (self.hidden as f64).sqrt() } else { x }
    }

    /// Attention whose scores are those of contents and of distances.
    fn attention(&self, p: &Parameters, path: &str, x: &Tensor, distances: &Tensor, seen: &Tensor) -> Tensor {
        let (rows, head) = (x.dim(1), self.hidden / self.heads);
        let name = |part: &str| format!("{path}.self_attn.{part}");
        let split = |x: &Tensor| {
            x.reshape([1, x.dim(x.rank().saturating_sub(2)), self.heads, head]).transpose([0, 2, 1, 3])
        };
        let project = |part: &str| split(&p.linear(x, &name(part), self.hidden, self.bias, None));
        let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(project);
        let with = |part: &str| &q + p.get(&name(part), [self.heads, head]).reshape([1, self.heads, 1, head]);
        let by_content = with("bias_u").matmul(&k.transpose([0, 1, 3, 2]));
        let d = split(&p.linear(distances, &name("relative_k_proj"), self.hidden, false, None));
        let by_distance = with("bias_v").matmul(&d.transpose([0, 1, 3, 2]));
        let scores = (by_content + shifted(&by_distance, rows)) * (head as f64).powf(-0.5);
        let scores = seen.broadcast_to(scores.dims()).select(&scores, &scores.like(UNSEEN));
        let out = scores.softmax().matmul(&v).transpose([0, 2, 1, 3]).reshape([1, rows, self.hidden]);
        p.linear(&out, &name("o_proj"), self.hidden, self.bias, None)
    }

    /// The convolution over time, for each feature by itself, between two mixings of features.
    fn convolution(&self, p: &Parameters, path: &str, x: &Tensor, heard: &Tensor) -> Tensor {
        let (rows, h) = (x.dim(1), self.hidden);
        let name = |part: &str| format!("{path}.conv.{part}");
        let both = p.linear(x, &name("pointwise_conv1"), 2 * h, self.convolution_bias, None);
        let gated = both.narrow(2, 0, h) * both.narrow(2, h, 2 * h).logistic();
        let gated = gated * heard.reshape([1, rows, 1]);
        let around = [(self.kernel - 1) / 2; 2];
        let x = depthwise(p, &name("depthwise_conv"), &gated, self.kernel, around, self.convolution_bias);
        let [w, b, mean, variance] = ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]
            .map(|part| p.get(&name(part), [h]));
        let scale = w * (variance + EPS).rsqrt();
        let x = &x * &scale + (b - mean * &scale);
        p.linear(&x.activate(self.activation), &name("pointwise_conv2"), h, self.convolution_bias, None)
    }
}

/// Scores [1,h,rows,2 rows - 1] by distance, from far before to far behind, as [1,h,rows,rows] by key.
fn shifted(scores: &Tensor, rows: usize) -> Tensor {
    let h = scores.dim(1);
    // One column more in front, and each row of the result begins one further back.
    let wider = scores.pad(0.0, [0, 0, 0, 1], [0; 4], [0; 4]);
    let turned = wider.reshape([1, h, 2 * rows, rows]).narrow(2, 1, 2 * rows);
    turned.reshape([1, h, rows, 2 * rows - 1]).narrow(3, 0, rows)
}
