//! What some blocks have in the place of attention: it goes through the rows one after the other, and what it keeps of
//! those before has a fixed size, however many they are.

use percept_graph::{Activation, DType, DeltaRows, Tensor};

use crate::block::{Context, Norm, join};
use crate::parameters::Parameters;

/// A mixer with a state. Its parameters stand below the block's prefix and its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Recurrent {
    /// The gated delta rule (Yang et al. 2025), behind a short convolution.
    Delta(Delta),
    /// A short convolution between two gates.
    Conv(Conv),
}

/// A layer of the gated delta rule, as Qwen3.5 has it, below `linear_attn`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delta {
    /// Heads of queries and keys; divides `value_heads`.
    pub key_heads: usize,
    /// Heads of values, each with a state [key_dim,value_dim].
    pub value_heads: usize,
    /// Features of a head of queries and keys.
    pub key_dim: usize,
    /// Features of a head of values.
    pub value_dim: usize,
    /// Taps of the convolution that queries, keys and values go through.
    pub taps: usize,
    /// The activation of that convolution.
    pub activation: Activation,
    /// The norm of each head's outputs.
    pub norm: Norm,
}

/// A gated short convolution over the hidden width, as LFM2 has it, below `conv`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv {
    /// Its taps.
    pub taps: usize,
    /// It and the projections around it have biases.
    pub bias: bool,
}

/// Added to the sum of squares of a query or key whose length is made 1.
const EPS: f32 = 1e-6;

impl Recurrent {
    /// Of normalized x [b,t,hidden], projected back to `hidden`.
    pub fn trace(&self, p: &Parameters, path: &str, layer: usize, x: &Tensor, cx: &Context) -> Tensor {
        match self {
            Recurrent::Delta(delta) => delta.trace(p, &join(path, "linear_attn"), layer, x, cx),
            Recurrent::Conv(conv) => conv.trace(p, &join(path, "conv"), layer, x, cx),
        }
    }
}

/// A causal depthwise convolution of x [b,t,c] by the parameters `{name}.weight` [c,1,taps].
fn convolved(p: &Parameters, name: &str, taps: usize, layer: usize, x: &Tensor, cx: &Context) -> Tensor {
    let c = x.dim(2);
    let w = p.get(&format!("{name}.weight"), [c, 1, taps]).reshape([c, taps]);
    match cx.cache {
        Some(cache) => {
            cache.carry(layer, "conv", &[taps - 1, c], &[x], |x, state| x[0].short_conv_step(&w, state))
        }
        None => x.short_conv(&w, cx.segments.first()),
    }
}

impl Delta {
    fn trace(&self, p: &Parameters, path: &str, layer: usize, x: &Tensor, cx: &Context) -> Tensor {
        let Self { key_heads, value_heads, key_dim, value_dim, .. } = *self;
        let (b, t) = (x.dim(0), x.dim(1));
        let (keys, values) = (key_heads * key_dim, value_heads * value_dim);
        let linear = |name: &str, width: usize| p.linear(x, &join(path, name), width, false, None);
        let all = linear("in_proj_qkv", 2 * keys + values);
        let all = convolved(p, &join(path, "conv1d"), self.taps, layer, &all, cx).activate(self.activation);
        let part = |from: usize, heads: usize, dim: usize| {
            all.narrow(2, from, from + heads * dim).reshape([b, t, heads, dim])
        };
        // Of length `length`: x length / sqrt(sum x^2 + eps), as a norm by the mean square.
        let unit = |x: Tensor, length: f64| {
            let weight = x.trace().full(DType::F32, [key_dim], length * (key_dim as f64).powf(-0.5));
            x.rms_norm(&weight, EPS / key_dim as f32)
        };
        let q = unit(part(0, key_heads, key_dim), (key_dim as f64).powf(-0.5));
        let k = unit(part(keys, key_heads, key_dim), 1.0);
        let v = part(2 * keys, value_heads, value_dim);
        let beta = linear("in_proj_b", value_heads).logistic();
        let rate = p.get(&join(path, "A_log"), [value_heads]).exp().neg();
        let g = softplus(&(linear("in_proj_a", value_heads) + p.get(&join(path, "dt_bias"), [value_heads])));
        let g = g * rate;
        let out = match cx.cache {
            Some(cache) => {
                let state = [value_heads, key_dim, value_dim];
                cache.carry(layer, "delta", &state, &[&q, &k, &v, &g, &beta], |x, state| {
                    DeltaRows { q: &x[0], k: &x[1], v: &x[2], g: &x[3], beta: &x[4] }.step(state)
                })
            }
            None => DeltaRows { q: &q, k: &k, v: &v, g: &g, beta: &beta }.whole(cx.segments.first()),
        };
        let gate = linear("in_proj_z", values).reshape([b, t, value_heads, value_dim]);
        let out = gate.gated(Activation::Silu, &self.norm.trace(p, &join(path, "norm"), &out));
        p.linear(&out.reshape([b, t, values]), &join(path, "out_proj"), x.dim(2), false, None)
    }
}

/// ln(1 + e^x).
fn softplus(x: &Tensor) -> Tensor {
    x.maximum(&x.like(0.0)) + x.abs().neg().exp().log1p()
}

impl Conv {
    fn trace(&self, p: &Parameters, path: &str, layer: usize, x: &Tensor, cx: &Context) -> Tensor {
        let hidden = x.dim(2);
        let all = p.linear(x, &join(path, "in_proj"), 3 * hidden, self.bias, None);
        let [before, after, x] = [0, 1, 2].map(|i| all.narrow(2, i * hidden, (i + 1) * hidden));
        let name = join(path, "conv");
        let mut y = convolved(p, &name, self.taps, layer, &(before * x), cx);
        if self.bias {
            y = y + p.get(&format!("{name}.bias"), [hidden]);
        }
        p.linear(&(after * y), &join(path, "out_proj"), hidden, self.bias, None)
    }
}
