//! Multi-head latent attention: keys and values of all heads are made of one narrow row, and only that is kept (DeepSeek-AI
//! 2024).
//!
//! A head's scores are q_nope (W_k c) + q_rope k_rope for the latent c of a key. Without a cache, keys and values are
//! made of the latents. Over a cache it is the queries that go through W_k, and what attention makes of the latents that goes
//! through W_v, so that the cache holds c and k_rope: one key head of `rank + rope` features a row, whose first `rank` are
//! the values too. Every pass over a cache does so, however many rows it has: a row is the same in any chunking.

use percept_graph::{AttentionSpec, DType, Tensor};

use crate::block::{Attention, Context, Norm, join};
use crate::cache::swapped;
use crate::parameters::{Parameters, ragged, ragged_transposed};

/// The extents of an attention over latents. Its [`Attention`] has one key head, of `rank + rope` features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latent {
    /// Features of the row that queries are made of; `None` where they are made of x itself.
    pub query_rank: Option<usize>,
    /// Features of the row that keys and values are made of.
    pub rank: usize,
    /// Features of a head's queries and keys that do not turn.
    pub nope: usize,
    /// Features that do; all heads have the keys' in common.
    pub rope: usize,
    /// Features of a head's values.
    pub value: usize,
    /// Pairs that turn are neighbours.
    pub interleaved: bool,
    /// The norm of both latent rows.
    pub norm: Norm,
    /// The projections to and from latent rows of the residual width have biases.
    pub bias: bool,
}

impl Latent {
    /// Attention of normalized x [b,t,hidden] to itself, projected back to `hidden`.
    pub(crate) fn trace(
        &self,
        p: &Parameters,
        path: &str,
        (attention, layer): (&Attention, usize),
        x: &Tensor,
        cx: &Context,
    ) -> Tensor {
        let (b, t, heads) = (x.dim(0), x.dim(1), attention.heads);
        let at = |name: &str| join(path, &format!("self_attn.{name}"));
        let width = heads * (self.nope + self.rope);
        let q = match self.query_rank {
            None => p.linear(x, &at("q_proj"), width, false, None),
            Some(rank) => {
                let row = p.linear(x, &at("q_a_proj"), rank, self.bias, None);
                p.linear(&self.norm.trace(p, &at("q_a_layernorm"), &row), &at("q_b_proj"), width, false, None)
            }
        };
        let q = swapped(&q.reshape([b, t, heads, self.nope + self.rope]));
        let both = p.linear(x, &at("kv_a_proj_with_mqa"), self.rank + self.rope, self.bias, None);
        let latent = self.norm.trace(p, &at("kv_a_layernorm"), &both.narrow(2, 0, self.rank));
        let k_rope = both.narrow(2, self.rank, self.rank + self.rope).reshape([b, 1, t, self.rope]);
        let turned = |x: &Tensor| match attention.rope.and_then(|i| cx.angles.get(i)) {
            Some([cos, sin]) => x.rope(cos, sin, self.interleaved),
            None => x.clone(),
        };
        let q_nope = q.narrow(3, 0, self.nope);
        let q_rope = turned(&q.narrow(3, self.nope, self.nope + self.rope));
        let k_rope = turned(&k_rope);
        let mut spec = AttentionSpec { causal: attention.causal, ..AttentionSpec::full(attention.scale) };
        let out = match cx.cache {
            Some(cache) => {
                let matrices =
                    p.matrices(&at("kv_b_proj.weight"), [heads, self.nope + self.value, self.rank]);
                let q_latent =
                    self.by_head(&padded(&q_nope, self.value), |x, of| ragged_transposed(x, &matrices, of));
                let q = joined(&q_latent, &q_rope);
                let keys = joined(&latent.reshape([b, 1, t, self.rank]), &k_rope);
                let seen = cache.attend_shared(layer, &q, &keys, &spec).narrow(3, 0, self.rank);
                let all = self.by_head(&seen, |x, of| ragged(x, &matrices, of));
                all.narrow(3, self.nope, self.nope + self.value)
            }
            None => {
                let each = self.nope + self.value;
                let all = p.linear(&latent, &at("kv_b_proj"), heads * each, false, None);
                let all = swapped(&all.reshape([b, t, heads, each]));
                let k_rope = k_rope.broadcast([b, heads, t, self.rope], [0, 1, 2, 3]);
                let k = joined(&all.narrow(3, 0, self.nope), &k_rope);
                let mut optional: Vec<&Tensor> = Vec::new();
                if let Some(segments) = attention.segments.and_then(|i| cx.segments.get(i)) {
                    spec.segments = true;
                    optional.extend([segments, segments]);
                }
                joined(&q_nope, &q_rope).attention(&k, &all.narrow(3, self.nope, each), &optional, spec)
            }
        };
        let out = swapped(&out).reshape([b, t, heads * self.value]);
        p.linear(&out, &at("o_proj"), x.dim(2), self.bias, None)
    }

    /// Each head's rows x [b,h,t,d] through its own matrix.
    fn by_head(&self, x: &Tensor, f: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
        let [b, heads, t, d] = [x.dim(0), x.dim(1), x.dim(2), x.dim(3)];
        let own = x.trace().iota(DType::I32, [b, heads, t], 1).reshape([b * heads * t, 1]);
        let y = f(&x.reshape([b * heads * t, d]), &own);
        y.reshape([b, heads, t, y.dim(2)])
    }
}

/// x [b,h,t,d] with `more` zeros behind the features of each row: the matrix's rows of values take no part in a key.
fn padded(x: &Tensor, more: usize) -> Tensor {
    x.pad(0.0, [0; 4], [0, 0, 0, more], [0; 4])
}

/// The features of both, which are heads of as many rows.
fn joined(a: &Tensor, b: &Tensor) -> Tensor {
    Tensor::concat(&[a, b], 3).unwrap_or_else(|| a.clone())
}
