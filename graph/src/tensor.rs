//! The tensor API: methods that read like the formula. Elementwise methods broadcast as NumPy does.

use std::ops;

use crate::composite::{Activation, AttentionSpec, Composite, Interpolation, PoolKind};
use crate::dtype::DType;
use crate::op::{ArgKind, Binary, Compare, DotSpec, Op, ReduceKind, ScatterKind};
use crate::tensor_type::{Literal, TensorType};
use crate::trace::Tensor;
use crate::unary::Unary;

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident $kind:ident;)*) => {
        impl Tensor {
            $($(#[$doc])* pub fn $name(&self, other: &Tensor) -> Tensor { self.binary(Binary::$kind, other) })*
        }
    };
}

binary! {
    /// Remainder with the sign of the dividend.
    rem Rem;
    /// x^y.
    pow Pow;
    /// The larger; NaN if either is.
    maximum Max;
    /// The smaller; NaN if either is.
    minimum Min;
    /// Logical or bitwise and.
    and And;
    /// Logical or bitwise or.
    or Or;
    /// Logical or bitwise exclusive or.
    xor Xor;
    /// Shift left.
    shl Shl;
    /// Logical shift right.
    shr Shr;
}

macro_rules! compare {
    ($($name:ident $kind:ident;)*) => {
        impl Tensor {
            $(#[doc = concat!("Elementwise `", stringify!($name), "`, as bool.")]
            pub fn $name(&self, other: &Tensor) -> Tensor {
                let [a, b] = Tensor::broadcast_together([self, other]);
                self.trace().op(Op::Compare(Compare::$kind), &[&a, &b])
            })*
        }
    };
}

compare! { eq Eq; ne Ne; lt Lt; le Le; gt Gt; ge Ge; }

macro_rules! operator {
    ($($trait:ident $method:ident $kind:ident;)*) => {$(
        impl ops::$trait<&Tensor> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: &Tensor) -> Tensor { self.binary(Binary::$kind, other) }
        }
        impl ops::$trait<Tensor> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor { self.binary(Binary::$kind, &other) }
        }
        impl ops::$trait<&Tensor> for Tensor {
            type Output = Tensor;
            fn $method(self, other: &Tensor) -> Tensor { self.binary(Binary::$kind, other) }
        }
        impl ops::$trait<Tensor> for Tensor {
            type Output = Tensor;
            fn $method(self, other: Tensor) -> Tensor { self.binary(Binary::$kind, &other) }
        }
        impl ops::$trait<f64> for &Tensor {
            type Output = Tensor;
            fn $method(self, other: f64) -> Tensor { self.binary(Binary::$kind, &self.like(other)) }
        }
        impl ops::$trait<f64> for Tensor {
            type Output = Tensor;
            fn $method(self, other: f64) -> Tensor { self.binary(Binary::$kind, &self.like(other)) }
        }
    )*};
}

operator! { Add add Add; Sub sub Sub; Mul mul Mul; Div div Div; }

/// Elementwise and shape operations.
impl Tensor {
    /// Apply an elementwise function.
    pub fn unary(&self, kind: Unary) -> Tensor {
        self.trace().op(Op::Unary(kind), &[self])
    }

    /// Apply an elementwise function of two operands, broadcasting them.
    pub fn binary(&self, kind: Binary, other: &Tensor) -> Tensor {
        let [a, b] = Tensor::broadcast_together([self, other]);
        self.trace().op(Op::Binary(kind), &[&a, &b])
    }

    /// A scalar constant of this tensor's dtype.
    pub fn like(&self, value: f64) -> Tensor {
        self.trace().full(self.dtype(), [], value)
    }

    /// Where `self` (bool) holds `yes`, elsewhere `no`; all three broadcast.
    pub fn select(&self, yes: &Tensor, no: &Tensor) -> Tensor {
        let [p, a, b] = Tensor::broadcast_together([self, yes, no]);
        self.trace().op(Op::Select, &[&p, &a, &b])
    }

    /// min(max(x, low), high).
    pub fn clamp(&self, low: f64, high: f64) -> Tensor {
        self.clamp_between(&self.like(low), &self.like(high))
    }

    /// The same with bounds that are broadcast to x.
    pub fn clamp_between(&self, low: &Tensor, high: &Tensor) -> Tensor {
        let [x, low, high] = Tensor::broadcast_together([self, low, high]);
        self.trace().op(Op::Clamp, &[&low, &x, &high])
    }

    /// Convert to another dtype; nothing is recorded when it has it already.
    pub fn cast(&self, to: DType) -> Tensor {
        if self.dtype() == to { self.clone() } else { self.trace().op(Op::Cast { to }, &[self]) }
    }

    /// Reinterpret 32-bit elements.
    pub fn bitcast(&self, to: DType) -> Tensor {
        self.trace().op(Op::Bitcast { to }, &[self])
    }

    /// The same elements under another shape.
    pub fn reshape(&self, dims: impl Into<Vec<usize>>) -> Tensor {
        let dims = dims.into();
        if self.dims() == dims { self.clone() } else { self.trace().op(Op::Reshape { dims }, &[self]) }
    }

    /// Result dimension i is dimension `perm[i]`.
    pub fn transpose(&self, perm: impl Into<Vec<usize>>) -> Tensor {
        self.trace().op(Op::Transpose { perm: perm.into() }, &[self])
    }

    /// Put dimension i at `axes[i]` of `dims`, repeating extents of 1.
    pub fn broadcast(&self, dims: impl Into<Vec<usize>>, axes: impl Into<Vec<usize>>) -> Tensor {
        let (dims, axes) = (dims.into(), axes.into());
        if self.dims() == dims {
            self.clone()
        } else {
            self.trace().op(Op::Broadcast { dims, axes }, &[self])
        }
    }

    /// Broadcast to a shape as NumPy does: trailing dimensions align.
    pub fn broadcast_to(&self, dims: impl Into<Vec<usize>>) -> Tensor {
        let dims = dims.into();
        let lead = dims.len().saturating_sub(self.rank());
        self.broadcast(dims, (lead..lead + self.rank()).collect::<Vec<_>>())
    }

    /// Add a dimension of extent 1 at `axis`.
    pub fn unsqueeze(&self, axis: usize) -> Tensor {
        let mut dims = self.dims();
        dims.insert(axis.min(dims.len()), 1);
        self.reshape(dims)
    }

    /// Elements `start..limit` of one dimension.
    pub fn narrow(&self, axis: usize, start: usize, limit: usize) -> Tensor {
        let mut stop = self.dims();
        let mut from = vec![0; stop.len()];
        if axis < stop.len() {
            from[axis] = start;
            stop[axis] = limit;
        }
        let step = vec![1; stop.len()];
        self.slice(from, stop, step)
    }

    /// Strided slice of every dimension.
    pub fn slice(
        &self,
        start: impl Into<Vec<usize>>,
        limit: impl Into<Vec<usize>>,
        stride: impl Into<Vec<usize>>,
    ) -> Tensor {
        let op = Op::Slice { start: start.into(), limit: limit.into(), stride: stride.into() };
        self.trace().op(op, &[self])
    }

    /// Pad with `value` before, after and between elements.
    pub fn pad(
        &self,
        value: f64,
        low: impl Into<Vec<usize>>,
        high: impl Into<Vec<usize>>,
        interior: impl Into<Vec<usize>>,
    ) -> Tensor {
        let op = Op::Pad { low: low.into(), high: high.into(), interior: interior.into() };
        self.trace().op(op, &[self, &self.like(value)])
    }

    /// Join tensors along a dimension; the first names the trace.
    pub fn concat(parts: &[&Tensor], axis: usize) -> Option<Tensor> {
        parts.first().map(|t| t.trace().op(Op::Concat { axis }, parts))
    }

    /// A block of `sizes` at i32 scalar `starts`.
    pub fn dynamic_slice(&self, starts: &[&Tensor], sizes: impl Into<Vec<usize>>) -> Tensor {
        let inputs: Vec<&Tensor> = std::iter::once(self).chain(starts.iter().copied()).collect();
        self.trace().op(Op::DynamicSlice { sizes: sizes.into() }, &inputs)
    }

    /// With the block at i32 scalar `starts` replaced.
    pub fn dynamic_update_slice(&self, update: &Tensor, starts: &[&Tensor]) -> Tensor {
        let inputs: Vec<&Tensor> = [self, update].into_iter().chain(starts.iter().copied()).collect();
        self.trace().op(Op::DynamicUpdateSlice, &inputs)
    }

    /// Reduce over dimensions; f16 and bf16 accumulate in f32.
    pub fn reduce(&self, kind: ReduceKind, axes: impl Into<Vec<usize>>) -> Tensor {
        let accum = if self.dtype().is_float() { DType::F32 } else { self.dtype() };
        self.trace().op(Op::Reduce { kind, axes: axes.into(), accum }, &[self])
    }

    /// Sum over dimensions.
    pub fn sum(&self, axes: impl Into<Vec<usize>>) -> Tensor {
        self.reduce(ReduceKind::Sum, axes)
    }

    /// Mean over dimensions.
    pub fn mean(&self, axes: impl Into<Vec<usize>>) -> Tensor {
        let axes = axes.into();
        let n: usize = axes.iter().map(|&a| self.dim(a)).product();
        self.sum(axes) * (1.0 / n as f64)
    }

    /// Largest over dimensions.
    pub fn max(&self, axes: impl Into<Vec<usize>>) -> Tensor {
        self.reduce(ReduceKind::Max, axes)
    }

    /// Smallest over dimensions.
    pub fn min(&self, axes: impl Into<Vec<usize>>) -> Tensor {
        self.reduce(ReduceKind::Min, axes)
    }

    /// Index of the largest element along a dimension.
    pub fn argmax(&self, axis: usize) -> Tensor {
        self.trace().op(Op::ArgReduce { kind: ArgKind::Max, axis }, &[self])
    }

    /// Index of the smallest element along a dimension.
    pub fn argmin(&self, axis: usize) -> Tensor {
        self.trace().op(Op::ArgReduce { kind: ArgKind::Min, axis }, &[self])
    }

    /// General product; floats accumulate in f32 and keep the operands' dtype.
    pub fn dot(&self, other: &Tensor, batch: (&[usize], &[usize]), contract: (&[usize], &[usize])) -> Tensor {
        let d = self.dtype();
        let spec = DotSpec {
            lhs_batch: batch.0.to_vec(),
            rhs_batch: batch.1.to_vec(),
            lhs_contract: contract.0.to_vec(),
            rhs_contract: contract.1.to_vec(),
            accum: if d.is_float() { DType::F32 } else { d },
            out: d,
        };
        self.trace().op(Op::Dot(spec), &[self, other])
    }

    /// [..,m,k] x [..,k,n] -> [..,m,n]; leading dimensions broadcast, and a two-dimensional right side is
    /// shared.
    pub fn matmul(&self, other: &Tensor) -> Tensor {
        let (a, b) = (self.dims(), other.dims());
        if a.len() < 2 || b.len() < 2 {
            let why = "both operands need at least two dimensions".to_string();
            self.trace().fail("matmul".into(), vec![self.ty(), other.ty()], why);
            return self.trace().poison();
        }
        if b.len() == 2 {
            return self.dot(other, (&[], &[]), (&[a.len() - 1], &[0]));
        }
        let lead = a.len().max(b.len()) - 2;
        let extent = |d: &[usize], i: usize| {
            let missing = lead - (d.len() - 2);
            if i < missing { 1 } else { d[i - missing] }
        };
        let common: Vec<usize> = (0..lead).map(|i| extent(&a, i).max(extent(&b, i))).collect();
        let l = self.broadcast_to([&common[..], &a[a.len() - 2..]].concat());
        let r = other.broadcast_to([&common[..], &b[b.len() - 2..]].concat());
        let batch: Vec<usize> = (0..lead).collect();
        l.dot(&r, (&batch, &batch), (&[lead + 1], &[lead]))
    }

    /// Slices along `axis` at i32 `indices`.
    pub fn gather(&self, indices: &Tensor, axis: usize) -> Tensor {
        self.trace().op(Op::Gather { axis }, &[self, indices])
    }

    /// With slices along `axis` replaced or added to.
    pub fn scatter(&self, kind: ScatterKind, indices: &Tensor, updates: &Tensor, axis: usize) -> Tensor {
        self.trace().op(Op::Scatter { axis, kind }, &[self, indices, updates])
    }

    /// Stable sort; gives (values, source indices) cut to `limit`. Two failed handles after an error.
    pub fn sort(&self, axis: usize, descending: bool, limit: usize) -> [Tensor; 2] {
        self.results(Op::Sort { axis, descending, limit }, &[self])
    }

    /// The k largest along the last dimension, greatest first, with their indices.
    pub fn top_k(&self, k: usize) -> [Tensor; 2] {
        self.sort(self.rank().saturating_sub(1), true, k)
    }

    /// A quantized tensor as floats.
    pub fn dequantize(&self, to: DType) -> Tensor {
        self.trace().op(Op::Dequantize { to }, &[self])
    }

    /// Identity that rewriting does not look through.
    pub fn barrier(&self) -> Tensor {
        self.trace().op(Op::Barrier, &[self])
    }

    /// The tensors brought to their common shape.
    pub fn broadcast_together<const N: usize>(tensors: [&Tensor; N]) -> [Tensor; N] {
        let rank = tensors.iter().map(|t| t.rank()).max().unwrap_or(0);
        let mut dims = vec![1; rank];
        for t in &tensors {
            let d = t.dims();
            for (to, from) in dims[rank - d.len()..].iter_mut().zip(d) {
                if *to == 1 {
                    *to = from;
                }
            }
        }
        tensors.map(|t| t.broadcast_to(dims.clone()))
    }

    /// Record an operation with N results; failed handles after an error.
    pub fn results<const N: usize>(&self, op: Op, inputs: &[&Tensor]) -> [Tensor; N] {
        self.trace()
            .ops(op, inputs)
            .try_into()
            .unwrap_or_else(|_| std::array::from_fn(|_| self.trace().poison()))
    }
}

/// Composites; their definitions are with [`Composite`].
impl Tensor {
    fn composite(&self, c: Composite, inputs: &[&Tensor]) -> Tensor {
        self.trace().op(Op::Composite(c), inputs)
    }

    /// act(x w^T + bias) with w as checkpoints store it, [n,k]. A quantized w is dequantized exactly.
    pub fn linear(&self, w: &Tensor, bias: Option<&Tensor>, act: Option<Activation>) -> Tensor {
        if w.dtype().is_quantized() {
            let y = self.composite(Composite::QuantizedDot { transposed: false }, &[self, w]);
            let y = bias.map_or(y.clone(), |b| &y + b);
            return act.map_or(y.clone(), |a| y.activate(a));
        }
        let inputs: Vec<&Tensor> = [self, w].into_iter().chain(bias).collect();
        self.composite(Composite::Linear { bias: bias.is_some(), act }, &inputs)
    }

    /// These rows [m,k] times matrices [g,n,k], each row the ones whose numbers it has in `groups` i32[m,c]:
    /// [m,c,n].
    pub fn ragged_dot(&self, w: &Tensor, groups: &Tensor) -> Tensor {
        self.composite(Composite::RaggedDot { transposed: false }, &[self, w, groups])
    }

    /// These rows [m,n] times the transposes of matrices [g,n,k], likewise: [m,c,k].
    pub fn ragged_dot_transposed(&self, w: &Tensor, groups: &Tensor) -> Tensor {
        self.composite(Composite::RaggedDot { transposed: true }, &[self, w, groups])
    }

    /// Softmax over the last dimension.
    pub fn softmax(&self) -> Tensor {
        self.composite(Composite::Softmax, &[self])
    }

    /// Logarithm of the softmax over the last dimension.
    pub fn log_softmax(&self) -> Tensor {
        self.composite(Composite::LogSoftmax, &[self])
    }

    /// Per-row loss f32[n] of logits [n,v] against i32 labels.
    pub fn cross_entropy(&self, labels: &Tensor, ignore: i32, label_smoothing: f32) -> Tensor {
        let c = Composite::CrossEntropy { ignore, label_smoothing };
        let [loss, _lse] = self.results(Op::Composite(c), &[self, labels]);
        loss
    }

    /// Root-mean-square norm over the last dimension.
    pub fn rms_norm(&self, w: &Tensor, eps: f32) -> Tensor {
        self.composite(Composite::RmsNorm { eps, unit_offset: false }, &[self, w])
    }

    /// The same with a weight that is stored less one, as Gemma's are.
    pub fn rms_norm_unit_offset(&self, w: &Tensor, eps: f32) -> Tensor {
        self.composite(Composite::RmsNorm { eps, unit_offset: true }, &[self, w])
    }

    /// Layer norm over the last dimension.
    pub fn layer_norm(&self, w: &Tensor, b: &Tensor, eps: f32) -> Tensor {
        self.composite(Composite::LayerNorm { eps }, &[self, w, b])
    }

    /// Rotate [b,h,t,d] by angles given as cos, sin f32[b,t,r/2].
    pub fn rope(&self, cos: &Tensor, sin: &Tensor, interleaved: bool) -> Tensor {
        self.composite(Composite::Rope { interleaved }, &[self, cos, sin])
    }

    /// Attention of these queries; `optional` in the order of [`AttentionSpec`]'s flags. Gives the output
    /// alone.
    pub fn attention(&self, k: &Tensor, v: &Tensor, optional: &[&Tensor], spec: AttentionSpec) -> Tensor {
        let inputs: Vec<&Tensor> = [self, k, v].into_iter().chain(optional.iter().copied()).collect();
        let [out, _lse] = self.results(Op::Composite(Composite::Attention(spec)), &inputs);
        out
    }

    /// This KV cache with `new` written at `pos`.
    pub fn kv_append(&self, new: &Tensor, pos: &Tensor, page_table: Option<&Tensor>) -> Tensor {
        let inputs: Vec<&Tensor> = [self, new, pos].into_iter().chain(page_table).collect();
        self.composite(Composite::KvAppend { paged: page_table.is_some() }, &inputs)
    }

    /// An activation function.
    pub fn activate(&self, act: Activation) -> Tensor {
        self.composite(Composite::Activate(act), &[self])
    }

    /// act(self) * up.
    pub fn gated(&self, act: Activation, up: &Tensor) -> Tensor {
        self.composite(Composite::GatedActivate(act), &[self, up])
    }

    /// Rows of this table at i32 ids, as `out`.
    pub fn embedding(&self, ids: &Tensor, out: DType) -> Tensor {
        self.composite(Composite::Embedding { out }, &[self, ids])
    }

    /// Cut [b,c,s1..sn] into patches.
    pub fn patchify(&self, patch: impl Into<Vec<usize>>) -> Tensor {
        self.composite(Composite::Patchify { patch: patch.into() }, &[self])
    }

    /// One-dimensional convolution of [b,c,t] with w [o,c,k], dilation 1.
    pub fn conv1d(&self, w: &Tensor, bias: Option<&Tensor>, stride: usize, padding: usize) -> Tensor {
        let inputs: Vec<&Tensor> = [self, w].into_iter().chain(bias).collect();
        self.composite(Composite::Conv1d { stride, padding, dilation: 1, bias: bias.is_some() }, &inputs)
    }

    /// Inclusive sums along a dimension.
    pub fn cumsum(&self, axis: usize) -> Tensor {
        self.composite(Composite::CumSum { axis }, &[self])
    }

    /// Pool the trailing dimensions of [b,c,s1..sn].
    pub fn pool(
        &self,
        kind: PoolKind,
        window: impl Into<Vec<usize>>,
        stride: impl Into<Vec<usize>>,
    ) -> Tensor {
        self.composite(Composite::Pool { kind, window: window.into(), stride: stride.into() }, &[self])
    }

    /// Resize [b,c,h,w].
    pub fn upsample(&self, size: [usize; 2], kind: Interpolation) -> Tensor {
        self.composite(Composite::Upsample { size, kind }, &[self])
    }

    /// Random u32 words of a stream keyed by this seed u32[2].
    pub fn random_bits(&self, stream: u32, dims: impl Into<Vec<usize>>) -> Tensor {
        self.composite(Composite::RandomBits { stream, dims: dims.into() }, &[self])
    }

    /// Random f32 in [0, 1): the upper 24 bits of [`Tensor::random_bits`] times 2^-24.
    pub fn random_uniform(&self, stream: u32, dims: impl Into<Vec<usize>>) -> Tensor {
        let bits = self.random_bits(stream, dims);
        let high = bits.shr(&bits.like(8.0));
        high.cast(DType::F32) * (1.0 / 16_777_216.0)
    }

    /// cos and sin f32[b,t,r/2] of positions i32[b,t] times inverse frequencies.
    pub fn rope_angles(&self, inverse_frequencies: &[f64]) -> [Tensor; 2] {
        let n = inverse_frequencies.len();
        let Some(literal) = Literal::dense(TensorType::new(DType::F32, [n]), inverse_frequencies) else {
            return [self.trace().poison(), self.trace().poison()];
        };
        let angles = self.cast(DType::F32).unsqueeze(self.rank()) * self.trace().constant(literal);
        [angles.cos(), angles.sin()]
    }
}
