//! One match from ops to kernels: a new kernel is one folder and one line here.

use percept_graph::{Composite, Op, OpDesc};

use crate::caps::Caps;
use crate::norm::Norm;
use crate::program::{KernelProgram, Unsupported};
use crate::{
    adamw, attention, conv1d, cross_entropy, cumsum, elementwise, embedding, gather, kv_append, matmul,
    movement, norm, pool, quant, ragged, random, recurrent, reduce, rope, scatter, softmax, sort, upsample,
};

/// The launches that compute `desc`, or why there are none.
///
/// The description is assumed to have passed the graph's type inference.
///
/// # Errors
/// [`Unsupported`] where no kernel covers the op with these types on this adapter; the device decomposes the
/// op or runs it elsewhere.
pub fn lower(desc: &OpDesc<'_>, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    match desc.op {
        Op::Constant(literal) => movement::constant(literal, caps),
        Op::Iota { ty, axis } => movement::iota(ty, *axis, caps),
        Op::Reshape { .. } => movement::reshape(desc, 0, caps),
        Op::Barrier => movement::barrier(desc, caps),
        Op::Transpose { perm } => movement::transpose(desc, perm, caps),
        Op::Broadcast { axes, .. } => movement::broadcast(desc, axes, caps),
        Op::Slice { start, stride, .. } => movement::slice(desc, start, stride, caps),
        Op::Pad { low, interior, .. } => movement::pad(desc, low, interior, caps),
        Op::Concat { axis } => movement::concat(desc, *axis, caps),
        Op::DynamicSlice { .. } => movement::dynamic_slice(desc, caps),
        Op::DynamicUpdateSlice => movement::dynamic_update_slice(desc, caps),
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select
        | Op::Clamp
        | Op::Cast { .. }
        | Op::Bitcast { .. }
        | Op::Composite(Composite::Activate(_) | Composite::GatedActivate(_)) => {
            elementwise::lower_op(desc, caps)
        }
        Op::Fused(body) => elementwise::lower_fused(body, desc, caps),
        Op::Reduce { kind, axes, .. } => reduce::lower(desc, *kind, axes, caps),
        Op::ArgReduce { kind, axis } => reduce::lower_arg(desc, *kind, *axis, caps),
        Op::Gather { axis } => gather::lower(desc, *axis, caps),
        Op::Scatter { axis, kind } => scatter::lower(desc, *axis, *kind, caps),
        Op::Sort { axis, descending, .. } => sort::lower(desc, *axis, *descending, caps),
        Op::Dot(spec) => matmul::dot(desc, spec, caps),
        Op::Dequantize { .. } => quant::dequantize(desc, caps),
        Op::Composite(composite) => lower_composite(composite, desc, caps),
    }
}

fn lower_composite(
    composite: &Composite,
    desc: &OpDesc<'_>,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    match composite {
        Composite::Activate(_) | Composite::GatedActivate(_) => elementwise::lower_op(desc, caps),
        Composite::Linear { bias, act } => matmul::linear(desc, *bias, *act, caps),
        Composite::QuantizedDot { transposed } => matmul::quantized(desc, *transposed, caps),
        Composite::Int8Dot => Err(Unsupported::new("integer products are left to their decomposition")),
        Composite::RaggedDot { transposed } => ragged::dot(desc, *transposed, caps),
        Composite::RaggedOuter { .. } => ragged::outer(desc, caps),
        Composite::Softmax => softmax::lower(desc, false, caps),
        Composite::LogSoftmax => softmax::lower(desc, true, caps),
        Composite::CrossEntropy { ignore, label_smoothing } => {
            cross_entropy::forward(desc, *ignore, *label_smoothing, caps)
        }
        Composite::CrossEntropyGrad { ignore, label_smoothing } => {
            cross_entropy::gradient(desc, *ignore, *label_smoothing, caps)
        }
        Composite::RmsNorm { eps, unit_offset } => {
            norm::forward(desc, Norm::Rms { unit_offset: *unit_offset }, *eps, caps)
        }
        Composite::RmsNormGrad { eps, unit_offset } => {
            norm::gradient(desc, Norm::Rms { unit_offset: *unit_offset }, *eps, caps)
        }
        Composite::LayerNorm { eps } => norm::forward(desc, Norm::Layer, *eps, caps),
        Composite::LayerNormGrad { eps } => norm::gradient(desc, Norm::Layer, *eps, caps),
        Composite::Rope { interleaved } => rope::lower(desc, *interleaved, caps),
        Composite::Attention(spec) => attention::forward(desc, spec, caps),
        Composite::AttentionGrad(spec) => attention::gradient(desc, spec, caps),
        Composite::KvAppend { paged } => kv_append::lower(desc, *paged, caps),
        Composite::Embedding { .. } => embedding::lower(desc, caps),
        Composite::RandomBits { stream, .. } => random::bits(desc, *stream, caps),
        Composite::AdamW { beta1, beta2, eps, weight_decay } => {
            adamw::lower(desc, [*beta1, *beta2, *eps, *weight_decay], caps)
        }
        Composite::GatedDelta { segments, state } => recurrent::delta(desc, *segments, *state, caps),
        Composite::ShortConv { segments, state } => recurrent::conv(desc, *segments, *state, caps),
        Composite::CumSum { axis } => cumsum::lower(desc, *axis, caps),
        Composite::Pool { kind, window, stride } => pool::lower(desc, *kind, window, stride, caps),
        Composite::Conv1d { stride, padding, dilation, bias } => {
            conv1d::lower(desc, [*stride, *padding, *dilation], *bias, caps)
        }
        Composite::Patchify { patch } => movement::patchify(desc, patch, caps),
        Composite::Upsample { kind, .. } => upsample::lower(desc, *kind, caps),
    }
}

/// How many variants of an op there are to time, chosen by [`Caps::variant`] from 0 on; 1 when there is no
/// choice.
///
/// All of them add in the same order and give the same bits, so that tuning never changes a result. Variants
/// may coincide for some shapes.
pub fn variants(op: &Op) -> u32 {
    match op {
        Op::Dot(_) | Op::Composite(Composite::Linear { .. } | Composite::QuantizedDot { .. }) => {
            matmul::VARIANTS
        }
        _ => 1,
    }
}
