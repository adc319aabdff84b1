//! Composite operations: named, so that a device may run them whole, and defined by their decomposition into
//! primitives (`crate::decompose`).

use serde::{Deserialize, Serialize};

use crate::dtype::DType;

/// Activation functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x/2 (1 + erf(x/sqrt 2)).
    GeluErf,
    /// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
    GeluTanh,
    /// x logistic(x).
    Silu,
    /// x logistic(1.702 x).
    QuickGelu,
    /// max(x, 0).
    Relu,
}

impl Activation {
    /// All activation functions.
    pub const ALL: [Activation; 5] = [
        Activation::GeluErf,
        Activation::GeluTanh,
        Activation::Silu,
        Activation::QuickGelu,
        Activation::Relu,
    ];
}

/// Which scores an attention computes and which it masks.
///
/// With p = i + offset the absolute position of query i, key j is attended iff j < kv_len, both are in the
/// same segment, the causal rule allows it (j <= p, or the same non-negative block) and the window does (p -
/// j < window; without `causal` also j - p < window).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttentionSpec {
    /// The factor of the scores.
    pub scale: f32,
    /// A query attends to keys up to its own position.
    pub causal: bool,
    /// Distance from which on keys are masked.
    pub window: Option<usize>,
    /// Scores become cap * tanh(score / cap).
    pub soft_cap: Option<f32>,
    /// Operands q_segments i32[b,t] and k_segments i32[b,s] follow.
    pub segments: bool,
    /// Operands q_blocks i32[b,t] and k_blocks i32[b,s] follow: equal non-negative blocks attend to each
    /// other both ways.
    pub blocks: bool,
    /// Of causal attention with blocks and a window: within a block, keys are not masked for their distance.
    #[serde(default)]
    pub wide_blocks: bool,
    /// An operand offset i32[b] follows: the absolute position of the first query.
    pub offset: bool,
    /// An operand kv_len i32[b] follows: keys at and beyond it are not there.
    pub kv_len: bool,
    /// An operand page_table i32[b,pages] follows and k, v are pools of pages [pool,hk,page,d].
    pub paged: bool,
}

impl AttentionSpec {
    /// Full attention with a scale and nothing else.
    pub fn full(scale: f32) -> Self {
        Self {
            scale,
            causal: false,
            window: None,
            soft_cap: None,
            segments: false,
            blocks: false,
            wide_blocks: false,
            offset: false,
            kv_len: false,
            paged: false,
        }
    }

    /// Causal attention with a scale.
    pub fn causal(scale: f32) -> Self {
        Self { causal: true, ..Self::full(scale) }
    }

    /// How many optional operands follow q, k and v.
    pub fn optional_operands(&self) -> usize {
        2 * self.segments as usize
            + 2 * self.blocks as usize
            + self.offset as usize
            + self.kv_len as usize
            + self.paged as usize
    }
}

/// How a pooling window is summarized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum PoolKind {
    Avg,
    Max,
}

/// How an upsampled pixel is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The source pixel at floor(i * in / out).
    Nearest,
    /// Linear in each direction between pixel centres, without antialiasing.
    Bilinear {
        /// Corner pixels of source and result coincide.
        align_corners: bool,
    },
}

/// Neighbouring elements of the reduced axis that [`Composite::Int8Dot`] rounds with one scale.
pub const INT8_GROUP: usize = 32;
/// A group of [`Composite::Int8Dot`] whose greatest magnitude is not above this counts as zeros: the
/// reciprocal of what is far smaller is no f32.
pub const INT8_LEAST: f32 = 1e-30;

/// Rows of a chunk of [`Composite::GatedDelta`].
pub const DELTA_CHUNK: usize = 64;

/// A composite operation. Operands and results are listed as `(operands) -> results`; float operands share
/// one dtype unless said otherwise, and results have it too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Composite {
    /// (x[..,k], w[n,k], bias[n]?) -> [..,n]: act(x w^T + bias), accumulated in f32.
    Linear {
        /// A bias operand follows.
        bias: bool,
        /// The activation that is applied last.
        act: Option<Activation>,
    },
    /// (x[..,k], w quantized [n,k]) -> [..,n]; transposed: (g[..,n], w quantized [n,k]) -> [..,k].
    /// The weight is dequantized exactly and products are summed in f32.
    QuantizedDot {
        /// Contract over the weight's rows instead of its columns.
        transposed: bool,
    },
    /// (x[..,k], w quantized [n,k]) -> [..,n]: the product of [`Composite::QuantizedDot`] with x rounded to
    /// whole numbers.
    ///
    /// Each [`INT8_GROUP`] of x is replaced by q a / 127, where a is its greatest magnitude and q = round(127
    /// x / a) (to even), all zeros below [`INT8_LEAST`]; products are summed in f32. So a result differs from
    /// the exact one by at most the sum over groups of a / 254 times the magnitudes of the group's weights.
    /// The gradient is that of the exact product.
    Int8Dot,
    /// (x[m,k], w[g,n,k], groups i32[m,c]) -> [m,c,n]: row i times the matrices of its groups, x[i]
    /// w[groups[i,j]]^T; transposed: (x[m,n], w, groups) -> [m,c,k], over the matrices' rows. A group that there is
    /// none of gives zeros. w is of x's dtype, or quantized and dequantized exactly; products are summed in f32.
    ///
    /// Rows carry the numbers of their groups and keep their places, where `chlo.ragged_dot` has rows that are sorted
    /// and the groups' sizes: a router's choice is an operand as it is, and nothing has to be sorted and brought back
    /// for a few rows. Kernels that want sorted rows count and sort the numbers themselves.
    RaggedDot {
        /// Contract over the matrices' rows instead of their columns.
        transposed: bool,
    },
    /// (x[m,k], y[m,c,n], groups i32[m,c]) -> [g,n,k]: each group's sum of y[i,j]^T x[i] over the rows that are in it,
    /// the gradient of [`Composite::RaggedDot`] by its matrices.
    RaggedOuter {
        /// How many groups there are.
        groups: usize,
    },
    /// (x[..,d]) -> [..,d] over the last dimension.
    Softmax,
    /// (x[..,d]) -> [..,d] over the last dimension.
    LogSoftmax,
    /// (logits[n,v], labels i32[n]) -> loss f32[n], lse f32[n].
    CrossEntropy {
        /// Rows with this label have loss 0 and no gradient.
        ignore: i32,
        /// Share of the target spread evenly over all classes.
        label_smoothing: f32,
    },
    /// (logits[n,v], labels i32[n], lse f32[n], g f32[n]) -> dlogits[n,v].
    CrossEntropyGrad {
        /// As in the forward.
        ignore: i32,
        /// As in the forward.
        label_smoothing: f32,
    },
    /// (x[..,d], w[d]) -> x / sqrt(mean(x^2) + eps) * w, or * (1 + w).
    RmsNorm {
        /// Added to the mean square.
        eps: f32,
        /// The weight is stored less one.
        unit_offset: bool,
    },
    /// (x[..,d], w[d], dy[..,d]) -> dx[..,d], dw[d].
    RmsNormGrad {
        /// As in the forward.
        eps: f32,
        /// As in the forward.
        unit_offset: bool,
    },
    /// (x[..,d], w[d], b[d]) -> (x - mean) / sqrt(var + eps) * w + b.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// (x[..,d], w[d], dy[..,d]) -> dx[..,d], dw[d], db[d].
    LayerNormGrad {
        /// As in the forward.
        eps: f32,
    },
    /// (x[b,h,t,d], cos f32[b,t,r/2], sin f32[b,t,r/2]) -> [b,h,t,d]: the first r of d features are rotated
    /// in pairs.
    Rope {
        /// Pairs are neighbours (2i, 2i+1) rather than halves (i, i + r/2).
        interleaved: bool,
    },
    /// (q[b,h,t,d], k[b,hk,s,d], v[b,hk,s,e], optional operands) -> out[b,h,t,e], lse f32[b,h,t].
    /// hk divides h; a query without keys gives zeros and an lse of -inf.
    Attention(AttentionSpec),
    /// (q, k, v, optional operands, out, lse, dout) -> dq, dk, dv. Not for paged.
    AttentionGrad(AttentionSpec),
    /// (cache[b,hk,s,d], new[b,hk,t,d], pos i32[b]) -> cache with rows pos .. pos + t replaced; rows outside
    /// are dropped. Paged: (pool[pool,hk,page,d], new, pos, page_table i32[b,pages]) -> pool.
    KvAppend {
        /// The cache is a pool of pages.
        paged: bool,
    },
    /// (x) -> act(x).
    Activate(Activation),
    /// (gate, up) -> act(gate) * up.
    GatedActivate(Activation),
    /// (table[v,d] float or quantized, ids i32[..]) -> [..,d]; ids are clamped.
    Embedding {
        /// Dtype of the result; the table's own when it is a float.
        out: DType,
    },
    /// (x[b,c,s1..sn]) -> [b, prod(si/pi), c prod(pi)]: patches in row-major order, channel first within a
    /// patch.
    Patchify {
        /// Patch extents p1..pn.
        patch: Vec<usize>,
    },
    /// (x[b,c,t], w[o,c,k], bias[o]?) -> [b,o,t'] with t' = (t + 2 padding - dilation (k-1) - 1) / stride +
    /// 1.
    Conv1d {
        /// Step of the window.
        stride: usize,
        /// Zeros on both ends.
        padding: usize,
        /// Step inside the window.
        dilation: usize,
        /// A bias operand follows.
        bias: bool,
    },
    /// (q[b,t,hk,dk], k[b,t,hk,dk], v[b,t,h,dv], g f32[b,t,h], beta f32[b,t,h], optional operands) -> out[b,t,h,dv],
    /// and with `state` the pool: the gated delta rule (Yang et al. 2025). hk divides h, and head j of v goes with
    /// head j / (h / hk) of q and k.
    ///
    /// Row by row, for every head: S becomes e^g S, then S + k u^T with u = beta (v - S^T k), and the output is S^T q.
    /// S [dk,dv] starts as zeros. `g` must not be positive. The decomposition goes by chunks of [`DELTA_CHUNK`] rows
    /// (Yang et al. 2024), which is the same.
    GatedDelta {
        /// An operand segments i32[b,t] follows, whose equal numbers stand together: S is zeros before the first row
        /// of each.
        segments: bool,
        /// Operands pool f32[slots,h,dk,dv], from i32[b], to i32[b] and rows i32[b] follow: S starts as what the slot
        /// `from` holds (as zeros where it is negative), and is left in the slot `to` (nowhere where there is no such
        /// slot) after the first `rows` of them, 0 to t. The outputs of the rows behind these are zeros. No slot that one element
        /// of the batch writes is read by another one. Not with segments.
        state: bool,
    },
    /// (x[b,t,c], w[c,taps], optional operands) -> y[b,t,c], and with `state` the pool: a causal depthwise convolution,
    /// y of row i is the sum over taps j of w[.,j] x of row i - (taps - 1) + j. What is before the first row is zeros.
    ShortConv {
        /// As in [`Composite::GatedDelta`]: what is of another segment is zeros.
        segments: bool,
        /// As there, with a pool [slots,taps-1,c] of the dtype of x, which holds the last rows, the latest last.
        state: bool,
    },
    /// (x) -> inclusive sums along `axis`.
    CumSum {
        /// The summed dimension.
        axis: usize,
    },
    /// (x[b,c,s1..sn]) -> [b,c,(si - wi)/ti + 1 ..].
    Pool {
        /// Whether the mean or the maximum is taken.
        kind: PoolKind,
        /// Window extents.
        window: Vec<usize>,
        /// Steps of the window.
        stride: Vec<usize>,
    },
    /// (seed u32[2]) -> u32 of `dims`: element i is the first word of Threefry-2x32-20 (Salmon et al. 2011)
    /// with key `seed` and counter (i, stream).
    RandomBits {
        /// Second counter word.
        stream: u32,
        /// Shape of the result.
        dims: Vec<usize>,
    },
    /// (x[b,c,h,w]) -> [b,c,size].
    Upsample {
        /// Height and width of the result.
        size: [usize; 2],
        /// How pixels are found.
        kind: Interpolation,
    },
    /// (p, g, m, v, lr f32[], step f32[]) -> p, m, v: decoupled weight decay (Loshchilov and Hutter 2019),
    /// all f32; step counts from 1.
    AdamW {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        eps: f32,
        /// Multiplies lr and p.
        weight_decay: f32,
    },
}
