//! The definition of every composite: a function from operands to results in primitives.
//!
//! Half-precision operands are widened to f32 first and results rounded last, so that a decomposed composite
//! and a native one differ by rounding only.

mod attention;
mod nn;
mod ragged;
mod random;
mod recurrent;
mod spatial;

use crate::composite::Composite;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::Graph;
use crate::op::{Op, OpDesc};
use crate::trace::{Tensor, Trace};

/// The graph that defines an operation: for a composite its decomposition, for a fused region its body;
/// `None` for a primitive. Inputs and outputs are named by their positions. Some decompositions use
/// composites themselves; each application of this function gets closer to primitives.
pub fn decompose(desc: &OpDesc<'_>) -> Result<Option<Graph>> {
    let c = match desc.op {
        Op::Composite(c) => c,
        Op::Fused(body) => return Ok(Some(body.as_ref().clone())),
        _ => return Ok(None),
    };
    let t = Trace::new(desc.op.name());
    let inputs: Vec<Tensor> = desc
        .inputs
        .iter()
        .enumerate()
        .map(|(i, ty)| t.data(i.to_string(), ty.dtype, ty.dims.clone()))
        .collect();
    for (i, y) in on_tensors(c, &inputs).iter().enumerate() {
        t.output(i.to_string(), y);
    }
    t.finish().map(Some)
}

/// Record a composite's decomposition on operands whose types are already checked.
fn on_tensors(c: &Composite, x: &[Tensor]) -> Vec<Tensor> {
    match c {
        Composite::Linear { bias, act } => vec![nn::linear(&x[0], &x[1], bias.then(|| &x[2]), *act)],
        Composite::QuantizedDot { transposed } => vec![nn::quantized_dot(&x[0], &x[1], *transposed)],
        Composite::Int8Dot => vec![nn::int8_dot(&x[0], &x[1])],
        Composite::RaggedDot { transposed } => vec![ragged::dot(&x[0], &x[1], &x[2], *transposed)],
        Composite::RaggedOuter { groups } => vec![ragged::outer(&x[0], &x[1], &x[2], *groups)],
        Composite::Softmax => vec![nn::softmax(&x[0])],
        Composite::LogSoftmax => vec![nn::log_softmax(&x[0])],
        Composite::CrossEntropy { ignore, label_smoothing } => {
            nn::cross_entropy(&x[0], &x[1], *ignore, *label_smoothing)
        }
        Composite::CrossEntropyGrad { ignore, label_smoothing } => {
            vec![nn::cross_entropy_grad(&x[0], &x[1], &x[2], &x[3], *ignore, *label_smoothing)]
        }
        Composite::RmsNorm { eps, unit_offset } => vec![nn::rms_norm(&x[0], &x[1], *eps, *unit_offset)],
        Composite::RmsNormGrad { eps, unit_offset } => {
            nn::rms_norm_grad(&x[0], &x[1], &x[2], *eps, *unit_offset)
        }
        Composite::LayerNorm { eps } => vec![nn::layer_norm(&x[0], &x[1], &x[2], *eps)],
        Composite::LayerNormGrad { eps } => nn::layer_norm_grad(&x[0], &x[1], &x[2], *eps),
        Composite::Rope { interleaved } => vec![attention::rope(&x[0], &x[1], &x[2], *interleaved)],
        Composite::Attention(spec) => attention::attention(spec, x),
        Composite::AttentionGrad(spec) => attention::attention_grad(spec, x),
        Composite::KvAppend { paged } => {
            vec![attention::kv_append(&x[0], &x[1], &x[2], paged.then(|| &x[3]))]
        }
        Composite::Activate(a) => vec![nn::in_f32(&x[0], |x| nn::activate(x, *a))],
        Composite::GatedActivate(a) => {
            let act = nn::activate(&x[0].cast(DType::F32), *a);
            vec![(act * x[1].cast(DType::F32)).cast(x[0].dtype())]
        }
        Composite::Embedding { out } => vec![nn::embedding(&x[0], &x[1], *out)],
        Composite::Patchify { patch } => vec![spatial::patchify(&x[0], patch)],
        Composite::Conv1d { stride, padding, dilation, bias } => {
            vec![spatial::conv1d(&x[0], &x[1], bias.then(|| &x[2]), *stride, *padding, *dilation)]
        }
        Composite::GatedDelta { segments, .. } => recurrent::gated_delta(x, *segments),
        Composite::ShortConv { segments, .. } => recurrent::short_conv(x, *segments),
        Composite::CumSum { axis } => vec![spatial::cumsum(&x[0], *axis)],
        Composite::Pool { kind, window, stride } => vec![spatial::pool(&x[0], *kind, window, stride)],
        Composite::RandomBits { stream, dims } => vec![random::bits(&x[0], *stream, dims)],
        Composite::Upsample { size, kind } => vec![spatial::upsample(&x[0], *size, *kind)],
        Composite::AdamW { beta1, beta2, eps, weight_decay } => {
            nn::adamw(x, *beta1, *beta2, *eps, *weight_decay)
        }
    }
}
