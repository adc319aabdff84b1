//! The attributes of operations: the fields that the text form writes, by name. The header's table lists them.

use percept_graph::{AttentionSpec, Composite, DType, DotSpec, Interpolation, LiteralData, Op};
use serde::Serialize;

use crate::abi::dtype_number;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Integers, of which booleans and dtypes are too.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f64>),
    /// A word.
    Text(String),
    /// Bytes of a tensor.
    Bytes(Vec<u8>),
}

/// Collects attributes.
#[derive(Default)]
struct List(Vec<(&'static str, Value)>);

impl List {
    fn int(&mut self, name: &'static str, value: impl TryInto<i64>) {
        // No extent of a tensor that exists is beyond i64.
        self.0.push((name, Value::Ints(vec![value.try_into().unwrap_or(i64::MAX)])));
    }

    fn ints(&mut self, name: &'static str, values: &[usize]) {
        self.0.push((name, Value::Ints(values.iter().map(|&v| v as i64).collect())));
    }

    fn float(&mut self, name: &'static str, value: f32) {
        self.0.push((name, Value::Floats(vec![f64::from(value)])));
    }

    fn bool(&mut self, name: &'static str, value: bool) {
        self.int(name, value);
    }

    fn dtype(&mut self, name: &'static str, value: DType) {
        self.int(name, dtype_number(value));
    }

    /// The word by which the text form names a kind.
    fn word(&mut self, name: &'static str, kind: &impl Serialize) {
        let text = ron::to_string(kind).unwrap_or_default();
        let word = text.split('(').next().unwrap_or_default().to_string();
        self.0.push((name, Value::Text(word)));
    }
}

/// The attributes of an operation, by name.
pub fn attributes(op: &Op) -> Vec<(&'static str, Value)> {
    let mut list = List::default();
    primitive(op, &mut list);
    list.0
}

fn primitive(op: &Op, list: &mut List) {
    match op {
        Op::Constant(literal) => match &literal.data {
            LiteralData::Splat(value) => list.0.push(("splat", Value::Floats(vec![*value]))),
            LiteralData::Dense(bytes) => list.0.push(("bytes", Value::Bytes(bytes.to_vec()))),
        },
        // The result has the type.
        Op::Iota { ty: _, axis } => list.int("axis", *axis),
        Op::Cast { to } | Op::Bitcast { to } | Op::Dequantize { to } => list.dtype("to", *to),
        Op::Reshape { dims } => list.ints("dims", dims),
        Op::Transpose { perm } => list.ints("perm", perm),
        Op::Broadcast { dims, axes } => {
            list.ints("dims", dims);
            list.ints("axes", axes);
        }
        Op::Slice { start, limit, stride } => {
            list.ints("start", start);
            list.ints("limit", limit);
            list.ints("stride", stride);
        }
        Op::Pad { low, high, interior } => {
            list.ints("low", low);
            list.ints("high", high);
            list.ints("interior", interior);
        }
        Op::Concat { axis } | Op::Gather { axis } => list.int("axis", *axis),
        Op::DynamicSlice { sizes } => list.ints("sizes", sizes),
        Op::Reduce { kind, axes, accum } => {
            list.word("kind", kind);
            list.ints("axes", axes);
            list.dtype("accum", *accum);
        }
        Op::ArgReduce { kind, axis } => {
            list.word("kind", kind);
            list.int("axis", *axis);
        }
        Op::Dot(DotSpec { lhs_batch, rhs_batch, lhs_contract, rhs_contract, accum, out }) => {
            list.ints("lhs_batch", lhs_batch);
            list.ints("rhs_batch", rhs_batch);
            list.ints("lhs_contract", lhs_contract);
            list.ints("rhs_contract", rhs_contract);
            list.dtype("accum", *accum);
            list.dtype("out", *out);
        }
        Op::Scatter { axis, kind } => {
            list.int("axis", *axis);
            list.word("kind", kind);
        }
        Op::Sort { axis, descending, limit } => {
            list.int("axis", *axis);
            list.bool("descending", *descending);
            list.int("limit", *limit);
        }
        Op::Composite(op) => composite(op, list),
        Op::DynamicUpdateSlice
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select
        | Op::Clamp
        | Op::Barrier
        | Op::Fused(_) => {}
    }
}

fn composite(op: &Composite, list: &mut List) {
    match op {
        Composite::Linear { bias, act } => {
            list.bool("bias", *bias);
            if let Some(act) = act {
                list.word("act", act);
            }
        }
        Composite::QuantizedDot { transposed } | Composite::RaggedDot { transposed } => {
            list.bool("transposed", *transposed)
        }
        Composite::RaggedOuter { groups } => list.int("groups", *groups),
        Composite::Int8Dot | Composite::Softmax | Composite::LogSoftmax => {}
        Composite::CrossEntropy { ignore, label_smoothing }
        | Composite::CrossEntropyGrad { ignore, label_smoothing } => {
            list.int("ignore", *ignore);
            list.float("label_smoothing", *label_smoothing);
        }
        Composite::RmsNorm { eps, unit_offset } | Composite::RmsNormGrad { eps, unit_offset } => {
            list.float("eps", *eps);
            list.bool("unit_offset", *unit_offset);
        }
        Composite::LayerNorm { eps } | Composite::LayerNormGrad { eps } => list.float("eps", *eps),
        Composite::Rope { interleaved } => list.bool("interleaved", *interleaved),
        Composite::Attention(spec) | Composite::AttentionGrad(spec) => attention(spec, list),
        Composite::KvAppend { paged } => list.bool("paged", *paged),
        Composite::Activate(act) | Composite::GatedActivate(act) => list.word("act", act),
        Composite::Embedding { out } => list.dtype("out", *out),
        Composite::Patchify { patch } => list.ints("patch", patch),
        Composite::Conv1d { stride, padding, dilation, bias } => {
            list.int("stride", *stride);
            list.int("padding", *padding);
            list.int("dilation", *dilation);
            list.bool("bias", *bias);
        }
        Composite::GatedDelta { segments, state } | Composite::ShortConv { segments, state } => {
            list.bool("segments", *segments);
            list.bool("state", *state);
        }
        Composite::CumSum { axis } => list.int("axis", *axis),
        Composite::Pool { kind, window, stride } => {
            list.word("kind", kind);
            list.ints("window", window);
            list.ints("stride", stride);
        }
        Composite::RandomBits { stream, dims } => {
            list.int("stream", *stream);
            list.ints("dims", dims);
        }
        Composite::Upsample { size, kind } => {
            list.ints("size", size);
            list.word("kind", kind);
            let corners = match kind {
                Interpolation::Nearest => false,
                Interpolation::Bilinear { align_corners } => *align_corners,
            };
            list.bool("align_corners", corners);
        }
        Composite::AdamW { beta1, beta2, eps, weight_decay } => {
            list.float("beta1", *beta1);
            list.float("beta2", *beta2);
            list.float("eps", *eps);
            list.float("weight_decay", *weight_decay);
        }
    }
}

fn attention(spec: &AttentionSpec, list: &mut List) {
    let AttentionSpec {
        scale,
        causal,
        window,
        soft_cap,
        segments,
        blocks,
        wide_blocks,
        offset,
        kv_len,
        paged,
    } = spec;
    list.float("scale", *scale);
    list.bool("causal", *causal);
    if let Some(window) = window {
        list.int("window", *window);
    }
    if let Some(cap) = soft_cap {
        list.float("soft_cap", *cap);
    }
    list.bool("segments", *segments);
    list.bool("blocks", *blocks);
    list.bool("wide_blocks", *wide_blocks);
    list.bool("offset", *offset);
    list.bool("kv_len", *kv_len);
    list.bool("paged", *paged);
}
