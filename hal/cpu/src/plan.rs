//! From an operation and its shapes to the kernel that runs it.

use percept_graph::{Composite, Op, OpDesc};

use crate::kernel::Kernel;
use crate::{
    adamw, attention, contraction, convolution, fused, indexing, int8, movement, norm, ragged, random,
    recurrent, reduce, rope, softmax, sort, spatial,
};

/// The kernel for an operation; `None` where it has to be decomposed.
pub(crate) fn plan(desc: &OpDesc<'_>, threads: usize) -> Option<Kernel> {
    match desc.op {
        Op::Iota { axis, .. } => movement::iota(desc, *axis),
        Op::Reshape { .. } | Op::Bitcast { .. } => movement::copy(desc),
        Op::Transpose { perm } => movement::transpose(desc, perm),
        Op::Slice { start, stride, .. } => movement::slice(desc, start, stride),
        Op::Pad { low, interior, .. } => movement::pad(desc, low, interior),
        Op::Concat { axis } => movement::concat(desc, *axis),
        Op::DynamicSlice { .. } => movement::dynamic_slice(desc),
        Op::DynamicUpdateSlice => movement::dynamic_update_slice(desc),
        Op::Reduce { kind, axes, .. } => reduce::reduce(desc, *kind, axes),
        Op::ArgReduce { kind, axis } => reduce::arg_reduce(desc, *kind, *axis),
        Op::Gather { axis } => indexing::gather(desc, *axis),
        Op::Scatter { axis, kind } => indexing::scatter(desc, *axis, *kind),
        Op::Sort { axis, descending, limit } => sort::sort(desc, *axis, *descending, *limit),
        Op::Barrier => movement::identity(desc),
        Op::Dot(spec) => contraction::dot(desc, spec, threads),
        Op::Dequantize { .. } => contraction::dequantize(desc),
        Op::Composite(composite) => plan_composite(desc, composite, threads),
        _ => fused::program(desc).map(fused::FusedProgram::into_kernel),
    }
}

fn plan_composite(desc: &OpDesc<'_>, composite: &Composite, threads: usize) -> Option<Kernel> {
    match *composite {
        Composite::Attention(ref spec) => attention::attention(desc, spec, threads),
        Composite::AttentionGrad(ref spec) => attention::attention_grad(desc, spec),
        Composite::Patchify { ref patch } => movement::patchify(desc, patch),
        Composite::KvAppend { paged } => indexing::kv_append(desc, paged),
        Composite::Linear { bias, act } => contraction::linear(desc, bias, act, threads),
        Composite::QuantizedDot { transposed, .. } => contraction::quantized_dot(desc, transposed, threads),
        Composite::Embedding { .. } if desc.inputs[0].dtype.is_quantized() => {
            contraction::quantized_embedding(desc)
        }
        Composite::Embedding { .. } => indexing::embedding(desc),
        Composite::Conv1d { stride, padding, dilation, bias } => {
            convolution::conv1d(desc, [stride, padding, dilation], bias, threads)
        }
        Composite::Pool { kind, ref window, ref stride } => spatial::pool(desc, kind, window, stride),
        Composite::Upsample { size, kind } => spatial::upsample(desc, size, kind),
        Composite::GatedDelta { segments, state } => recurrent::gated_delta(desc, segments, state),
        Composite::ShortConv { segments, state } => recurrent::short_conv(desc, segments, state),
        Composite::CumSum { axis } => reduce::cumsum(desc, axis),
        Composite::Rope { interleaved } => rope::rope(desc, interleaved),
        Composite::RandomBits { stream, .. } => random::random_bits(desc, stream),
        Composite::AdamW { beta1, beta2, eps, weight_decay } => {
            adamw::adamw(desc, [beta1, beta2, eps, weight_decay])
        }
        Composite::Int8Dot => int8::int8_dot(desc, threads),
        Composite::RaggedDot { transposed } => ragged::dot(desc, transposed, threads),
        Composite::RaggedOuter { .. } => ragged::outer(desc, threads),
        Composite::Softmax => softmax::softmax(desc),
        Composite::LogSoftmax => softmax::log_softmax(desc),
        Composite::CrossEntropy { ignore, label_smoothing } => {
            softmax::cross_entropy(desc, ignore, label_smoothing)
        }
        Composite::CrossEntropyGrad { ignore, label_smoothing } => {
            softmax::cross_entropy_grad(desc, ignore, label_smoothing)
        }
        Composite::RmsNorm { eps, unit_offset } => norm::rms_norm(desc, eps, unit_offset),
        Composite::RmsNormGrad { eps, unit_offset } => norm::rms_norm_grad(desc, eps, unit_offset),
        Composite::LayerNorm { eps } => norm::layer_norm(desc, eps),
        Composite::LayerNormGrad { eps } => norm::layer_norm_grad(desc, eps),
        _ => fused::program(desc).map(fused::FusedProgram::into_kernel),
    }
}
