//! Gemma 4's audio tower, a Universal Speech Model (Zhang et al. 2023): a conformer whose rows attend to the few before
//! them by content and distance, and whose convolutions do not look ahead.

use percept_graph::{Activation, DType, HostTensor, Tensor};
use serde_json::json;

use crate::block::Norm;
use crate::config::Config;
use crate::convolution::{Conv2d, depthwise};
use crate::error::{Error, Result};
use crate::parameters::{BOUNDS, Parameters};

/// Scores of keys that are not there; exp of it is 0, beside whatever other score.
const UNSEEN: f64 = -1e30;

/// Of the norms for which the configuration has no number.
const EPS: f32 = 1e-6;

/// How frames are thinned out, twice.
const THINNING: Conv2d = Conv2d { kernel: 3, stride: 2, padding: 1 };

/// Gemma 4's audio tower. A clip is run at its own length.
#[derive(Debug, Clone, PartialEq)]
pub struct Gemma4AudioTower {
    /// Prefix of its parameters, with its dot.
    pub prefix: String,
    /// Mel bands of a frame.
    pub bands: usize,
    /// Width of its features.
    pub out: usize,
    /// Of the norms at its edges.
    pub eps: f32,
    hidden: usize,
    layers: usize,
    heads: usize,
    /// Channels behind each of the two convolutions over frames and bands.
    channels: [usize; 2],
    activation: Activation,
    /// Rows that a convolution over time sees, its own the last.
    kernel: usize,
    /// What a half MLP adds is multiplied by this.
    half: f32,
    /// Rows that a query sees: itself and those before, and those behind it.
    seen: [usize; 2],
    /// The distance of each row that it sees, as the sinusoids have it, and whether there is one.
    distances: Vec<Option<i64>>,
    /// Scores become cap * tanh(score / cap).
    soft_cap: f32,
    /// States are clipped to this magnitude.
    limit: f64,
    clipped: bool,
}

impl Gemma4AudioTower {
    /// The tower that these keys describe, for frames of so many mel bands; values that they leave out are those of
    /// Gemma 4's own class.
    ///
    /// # Errors
    /// When a value is missing or impossible.
    pub fn read(c: &Config, bands: usize, prefix: &str) -> Result<Self> {
        let c = c.over(json!({
            "hidden_size": 1024, "num_hidden_layers": 12, "num_attention_heads": 8, "hidden_act": "silu",
            "subsampling_conv_channels": [128, 32], "conv_kernel_size": 5, "residual_weight": 0.5,
            "attention_chunk_size": 12, "attention_context_left": 13, "attention_context_right": 0,
            "attention_logit_cap": 50.0, "attention_invalid_logits_value": -1e9, "use_clipped_linears": true,
            "rms_norm_eps": 1e-6, "gradient_clipping": 1e10, "output_proj_dims": 1536,
        }));
        let (hidden, heads) = (c.positive("hidden_size")?, c.positive("num_attention_heads")?);
        if !hidden.is_multiple_of(heads) || !hidden.is_multiple_of(2) {
            let why = format!("is {heads}, which does not divide {hidden}, or that is odd");
            return Err(c.error("num_attention_heads", &why));
        }
        let channels = c.list("subsampling_conv_channels")?;
        let &[first, second] = &channels[..] else {
            let why = format!("is {channels:?}; there are two convolutions");
            return Err(c.error("subsampling_conv_channels", &why));
        };
        // The class takes the bands from the first channels.
        if Self::rows(bands) != first / 4 {
            let why = format!("is {channels:?}: a quarter of the first must be that of {bands} mel bands");
            return Err(c.error("subsampling_conv_channels", &why));
        }
        let kernel = c.positive("conv_kernel_size")?;
        let (chunk, left) = (c.positive("attention_chunk_size")?, c.positive("attention_context_left")?);
        let right = c.usize("attention_context_right")?;
        if left < 2
            || [chunk, left, right, kernel, first, second].iter().any(|n| *n > 1 << 10)
            || first * second == 0
        {
            let why =
                format!("is {left}: a row sees itself and some before it, and no extent is beyond 1024");
            return Err(c.error("attention_context_left", &why));
        }
        let cap = c.f64("attention_logit_cap")?;
        let limit = c.f64("gradient_clipping")?;
        if !(cap > 0.0 && limit > 0.0) {
            return Err(c.error("attention_logit_cap", "and 'gradient_clipping' must be positive"));
        }
        // A query of a chunk is compared with the rows of its chunk, those before and those behind it, and the sinusoids
        // of half as many distances lie over them, beginning with the farthest.
        let past = left - 1;
        let half = (chunk + past + right) / 2;
        let own = [past, right.max(1)];
        let distance = |d: i64| {
            let column = past as i64 - d;
            (column <= half as i64).then_some(half as i64 - column)
        };
        let distances = (1 - own[1] as i64..own[0] as i64).rev().map(distance).collect();
        Ok(Self {
            prefix: prefix.to_string(),
            bands,
            out: c.positive("output_proj_dims")?,
            eps: c.f64("rms_norm_eps")? as f32,
            hidden,
            layers: c.layers("num_hidden_layers")?,
            heads,
            channels: [first, second],
            activation: c.activation("hidden_act")?,
            kernel,
            half: c.f64("residual_weight")? as f32,
            seen: own,
            distances,
            soft_cap: cap as f32,
            limit: limit.min(f64::from(f32::MAX)),
            clipped: c.flag("use_clipped_linears")?,
        })
    }

    /// Whether a tensor is a constant of the tower, which training leaves as it is.
    pub fn is_constant(&self, name: &str) -> bool {
        name.starts_with(&self.prefix) && BOUNDS.iter().any(|suffix| name.ends_with(suffix))
    }

    /// Rows of so many frames.
    pub fn rows(frames: usize) -> usize {
        THINNING.extent(THINNING.extent(frames))
    }

    /// What a run on one clip reads: `frames` f32[1,frames,bands] and the sinusoids `distances` f32[seen,hidden].
    ///
    /// # Errors
    /// When there is no frame, or memory cannot be had.
    pub fn arguments(&self, frames: &[f32]) -> Result<Vec<(&'static str, HostTensor)>> {
        let count = frames.len() / self.bands;
        if count == 0 {
            return Err(Error::Inputs("an audio clip has no frame that is no padding".into()));
        }
        let half = self.hidden / 2;
        let pace = 10_000f64.ln() / (half.max(2) - 1) as f64;
        let sinusoid = |distance: &Option<i64>| -> Vec<f32> {
            let Some(distance) = distance else { return vec![0.0; self.hidden] };
            // The oracle multiplies in f32.
            let angle = |i: usize| f64::from(*distance as f32 * (-(i as f64) * pace).exp() as f32);
            let wave = |f: fn(f64) -> f64| (0..half).map(move |i| f(angle(i)) as f32);
            wave(f64::sin).chain(wave(f64::cos)).collect()
        };
        let rows: Vec<f32> = self.distances.iter().flat_map(sinusoid).collect();
        Ok(vec![
            ("frames", HostTensor::from_f32([1, count, self.bands], frames)?),
            ("distances", HostTensor::from_f32([self.distances.len(), self.hidden], &rows)?),
        ])
    }

    /// Features f32[rows,out] of the inputs of [`Gemma4AudioTower::arguments`].
    pub fn trace(&self, p: &Parameters, inputs: &[Tensor]) -> Option<Tensor> {
        let [frames, distances] = inputs else { return None };
        let mut x = self.thinned(p, frames);
        for i in 0..self.layers {
            let path = format!("{}layers.{i}", self.prefix);
            let _scope = p.trace().scope(path.clone());
            x = self.layer(p, &path, &x, distances);
        }
        let x = x.reshape([x.dim(1), self.hidden]);
        Some(p.linear(&x, &format!("{}output_proj", self.prefix), self.out, true, None))
    }

    /// Rows f32[1,rows,hidden] of frames.
    fn thinned(&self, p: &Parameters, frames: &Tensor) -> Tensor {
        let at = |name: &str| format!("{}subsample_conv_projection.{name}", self.prefix);
        let mut x = frames.unsqueeze(1);
        for (i, channels) in self.channels.into_iter().enumerate() {
            let y = THINNING
                .trace(p, &at(&format!("layer{i}.conv")), &x, channels, false)
                .transpose([0, 2, 3, 1]);
            let weight = p.get(&at(&format!("layer{i}.norm.weight")), [channels]);
            let none = p.trace().full(DType::F32, [channels], 0.0);
            let y = y.layer_norm(&weight, &none, self.eps).activate(Activation::Relu);
            x = y.transpose([0, 3, 1, 2]);
        }
        let (rows, width) = (x.dim(2), x.dim(1) * x.dim(3));
        let x = x.transpose([0, 2, 3, 1]).reshape([1, rows, width]);
        p.linear(&x, &at("input_proj_linear"), self.hidden, false, None)
    }

    fn layer(&self, p: &Parameters, path: &str, x: &Tensor, distances: &Tensor) -> Tensor {
        let norm = |x: &Tensor, name: &str, eps: f32| Norm::rms(eps).trace(p, &format!("{path}.{name}"), x);
        let within = |x: &Tensor| x.clamp(-self.limit, self.limit);
        let linear = |x: &Tensor, name: &str, n: usize, act: Option<Activation>| {
            self.linear(p, x, &format!("{path}.{name}.linear"), n, act)
        };
        let half = |x: &Tensor, part: &str| {
            let y = norm(&within(x), &format!("{part}.pre_layer_norm"), EPS);
            let y = linear(&y, &format!("{part}.ffw_layer_1"), 4 * self.hidden, Some(self.activation));
            let y = within(&linear(&y, &format!("{part}.ffw_layer_2"), self.hidden, None));
            x + norm(&y, &format!("{part}.post_layer_norm"), EPS) * f64::from(self.half)
        };
        let x = half(x, "feed_forward1");
        let y = self.attention(
            p,
            &format!("{path}.self_attn"),
            &norm(&within(&x), "norm_pre_attn", EPS),
            distances,
        );
        let x = &x + norm(&within(&y), "norm_post_attn", EPS);
        let y = linear(
            &norm(&x, "lconv1d.pre_layer_norm", self.eps),
            "lconv1d.linear_start",
            2 * self.hidden,
            None,
        );
        let y = y.narrow(2, 0, self.hidden) * y.narrow(2, self.hidden, 2 * self.hidden).logistic();
        let y = depthwise(
            p,
            &format!("{path}.lconv1d.depthwise_conv1d"),
            &y,
            self.kernel,
            [self.kernel - 1, 0],
            false,
        );
        let y = norm(&within(&y), "lconv1d.conv_norm", self.eps).activate(self.activation);
        let x = &x + linear(&y, "lconv1d.linear_end", self.hidden, None);
        norm(&within(&half(&x, "feed_forward2")), "norm_out", EPS)
    }

    fn linear(&self, p: &Parameters, x: &Tensor, name: &str, n: usize, act: Option<Activation>) -> Tensor {
        match self.clipped {
            true => p.clipped_linear(x, name, n, false, act),
            false => p.linear(x, name, n, false, act),
        }
    }

    /// Attention of each row to itself and the few around it, by content and by distance.
    fn attention(&self, p: &Parameters, path: &str, x: &Tensor, distances: &Tensor) -> Tensor {
        let (rows, head) = (x.dim(1), self.hidden / self.heads);
        let split = |x: &Tensor| x.reshape([x.dim(1), 1, self.heads, head]);
        let project =
            |part: &str| split(&self.linear(p, x, &format!("{path}.{part}.linear"), self.hidden, None));
        let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(project);
        let scale = p.get(&format!("{path}.per_dim_scale"), [head]);
        // ln(1 + e^s) = max(s, 0) + ln(1 + e^-|s|), which does not overflow.
        let softplus = scale.activate(Activation::Relu) + (scale.abs() * -1.0).exp().log1p();
        let two = std::f64::consts::LN_2;
        let q = q * (softplus * ((head as f64).powf(-0.5) / two)).reshape([1, 1, 1, head]);
        let k = k * (std::f64::consts::E.ln_1p() / two);
        let by_distance = p.linear(distances, &format!("{path}.relative_k_proj"), self.hidden, false, None);
        let keys = self.around(&k) + by_distance.reshape([1, self.distances.len(), self.heads, head]);
        let scores = (q * keys).sum([3]);
        let cap = f64::from(self.soft_cap);
        let scores = (scores * (1.0 / cap)).tanh() * cap;
        let scores = self.is_there(&scores, rows).select(&scores, &scores.like(UNSEEN));
        let shares = scores.transpose([0, 2, 1]).softmax().transpose([0, 2, 1]);
        let out = (shares.unsqueeze(3) * self.around(&v)).sum([1]).reshape([1, rows, self.hidden]);
        self.linear(p, &out, &format!("{path}.post.linear"), self.hidden, None)
    }

    /// What each row sees of x [rows,1,heads,head], the farthest before it first: [rows,seen,heads,head].
    fn around(&self, x: &Tensor) -> Tensor {
        let [before, behind] = [self.seen[0] - 1, self.seen[1] - 1];
        let padded = x.pad(0.0, [before, 0, 0, 0], [behind, 0, 0, 0], [0; 4]);
        let views: Vec<Tensor> =
            (0..self.distances.len()).map(|i| padded.narrow(0, i, i + x.dim(0))).collect();
        Tensor::concat(&views.iter().collect::<Vec<_>>(), 1).unwrap_or_else(|| x.clone())
    }

    /// Whether what a row sees is a row at all, bool[rows,seen,1].
    fn is_there(&self, scores: &Tensor, rows: usize) -> Tensor {
        let seen = self.distances.len();
        let t = scores.trace();
        let number = |axis: usize| t.iota(DType::I32, [rows, seen, 1], axis);
        let at = number(0) + number(1) - number(0).like((self.seen[0] - 1) as f64);
        at.ge(&at.like(0.0)).and(&at.lt(&at.like(rows as f64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Gemma4AudioConfig and Gemma4AudioRelPositionalEncoding of transformers 5.24.
    #[test]
    fn what_a_row_sees_and_how_far_it_is() {
        let of = |file: serde_json::Value| {
            Gemma4AudioTower::read(&Config::new("config.json", &file, json!({})).unwrap(), 128, "")
        };
        let tower = of(json!({})).unwrap();
        assert_eq!((tower.hidden, tower.layers, tower.out, tower.seen), (1024, 12, 1536, [12, 1]));
        let far: Vec<_> = (0..12).rev().map(Some).collect();
        assert_eq!(tower.distances, far);
        // Rows behind are seen too, and those for which the sinusoids do not reach have none.
        let tower = of(
            json!({ "attention_chunk_size": 2, "attention_context_left": 5, "attention_context_right": 2 }),
        );
        let tower = tower.unwrap();
        assert_eq!(
            (tower.seen, &tower.distances[..]),
            ([4, 2], &[Some(3), Some(2), Some(1), Some(0), None][..])
        );
        assert!(of(json!({ "attention_context_left": 1 })).is_err());
        let e = of(json!({ "subsampling_conv_channels": [64, 8] })).unwrap_err().to_string();
        assert!(e.contains("128 mel bands"), "{e}");
        assert_eq!([279, 1, 4, 5].map(Gemma4AudioTower::rows), [70, 1, 1, 2]);
    }
}
