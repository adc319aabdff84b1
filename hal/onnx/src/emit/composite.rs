//! Composites that are written whole.

use percept_graph::{Activation, Composite, Node, PoolKind, TensorType};

use super::Values;
use super::attention;
use super::builder::{Builder, Elem, Place};
use super::elementwise::denominator;
use super::indexing::clamped;
use super::product::{linear, quantized_dot};
use super::weight::{self, Part};
use crate::proto::AttributeProto;

/// A composite that [`supports`](super::supports) calls native.
pub fn emit(b: &mut Builder, values: &mut Values<'_>, node: &Node, c: &Composite) -> Vec<Place> {
    match c {
        Composite::QuantizedDot { transposed } => return vec![quantized_dot(b, values, node, *transposed)],
        Composite::Rope { interleaved } => return vec![attention::rope(b, values, node, *interleaved)],
        Composite::Attention(spec) => return attention::attention(b, values, node, spec),
        Composite::KvAppend { paged } => return vec![attention::kv_append(b, values, node, *paged)],
        Composite::Embedding { out } => return vec![embedding(b, values, node, Elem::of(*out))],
        Composite::CumSum { axis } => return vec![cumsum(b, values, node, *axis)],
        _ => {}
    }
    // The rest is made of floats of one dtype, in f32.
    let ty = values.graph.ty(node.inputs[0]).clone();
    let elem = Elem::of(ty.dtype);
    let x: Vec<String> = node
        .inputs
        .iter()
        .map(|&v| {
            let x = values.whole(b, v);
            b.cast(&x, elem, Elem::F32)
        })
        .collect();
    let y = in_f32(b, c, &x, &ty);
    vec![Place::Whole(b.cast(&y, Elem::F32, elem))]
}

fn in_f32(b: &mut Builder, c: &Composite, x: &[String], ty: &TensorType) -> String {
    let axis = || vec![AttributeProto::int("axis", -1)];
    match c {
        Composite::Linear { bias, act } => {
            let mut y = linear(b, &x[0], &x[1]);
            if *bias {
                y = b.op("Add", &[&y, &x[2]]);
            }
            act.map_or(y.clone(), |a| activate(b, &y, a))
        }
        Composite::Softmax => b.with("Softmax", &[&x[0]], axis()),
        Composite::LogSoftmax => b.with("LogSoftmax", &[&x[0]], axis()),
        Composite::RmsNorm { eps, unit_offset } => {
            let mut w = x[1].clone();
            if *unit_offset {
                let one = b.f32(1.0);
                w = b.op("Add", &[&w, &one]);
            }
            rms_norm(b, &x[0], &w, *eps, ty)
        }
        Composite::LayerNorm { eps } => {
            let mut attributes = axis();
            attributes.push(AttributeProto::float("epsilon", *eps));
            b.with("LayerNormalization", &[&x[0], &x[1], &x[2]], attributes)
        }
        Composite::Activate(a) => activate(b, &x[0], *a),
        Composite::GatedActivate(a) => {
            let y = activate(b, &x[0], *a);
            b.op("Mul", &[&y, &x[1]])
        }
        Composite::Conv1d { stride, padding, dilation, .. } => {
            let attributes = vec![
                AttributeProto::ints("strides", vec![*stride as i64]),
                AttributeProto::ints("pads", vec![*padding as i64; 2]),
                AttributeProto::ints("dilations", vec![*dilation as i64]),
            ];
            let operands: Vec<&str> = x.iter().map(String::as_str).collect();
            b.with("Conv", &operands, attributes)
        }
        Composite::Pool { kind, window, stride } => {
            let list =
                |name: &str, v: &[usize]| AttributeProto::ints(name, v.iter().map(|&v| v as i64).collect());
            let pool = |b: &mut Builder, op: &str, x: &str| {
                b.with(op, &[x], vec![list("kernel_shape", window), list("strides", stride)])
            };
            match kind {
                PoolKind::Avg => pool(b, "AveragePool", &x[0]),
                PoolKind::Max => {
                    // The operator leaves open what becomes of NaN.
                    let is_number = b.op("Equal", &[&x[0], &x[0]]);
                    let (zero, nan) = (b.f32(0.0), b.f32(f64::NAN));
                    let lowest = b.f32(f64::NEG_INFINITY);
                    let numbers = b.op("Where", &[&is_number, &x[0], &lowest]);
                    let is_nan = b.op("Not", &[&is_number]);
                    let marks = b.cast(&is_nan, Elem::Bool, Elem::F32);
                    let (greatest, marked) = (pool(b, "MaxPool", &numbers), pool(b, "MaxPool", &marks));
                    let marked = b.op("Greater", &[&marked, &zero]);
                    b.op("Where", &[&marked, &nan, &greatest])
                }
            }
        }
        _ => x[0].clone(),
    }
}

/// x / sqrt(mean(x^2) + eps) w.
fn rms_norm(b: &mut Builder, x: &str, w: &str, eps: f32, ty: &TensorType) -> String {
    if b.style.is_fused() {
        let attributes = vec![AttributeProto::int("axis", -1), AttributeProto::float("epsilon", eps)];
        return b.with("RMSNormalization", &[x, w], attributes);
    }
    let square = b.op("Mul", &[x, x]);
    let mean = b.fold("ReduceMean", &square, &[ty.rank() - 1], true);
    let eps = b.f32(eps as f64);
    let sum = b.op("Add", &[&mean, &eps]);
    let root = b.op("Sqrt", &[&sum]);
    let unit = b.op("Div", &[x, &root]);
    b.op("Mul", &[&unit, w])
}

/// An activation of an f32.
fn activate(b: &mut Builder, x: &str, a: Activation) -> String {
    let scaled = |b: &mut Builder, x: &str, by: f64| {
        let by = b.f32(by);
        b.op("Mul", &[x, &by])
    };
    let gated = |b: &mut Builder, gate: &str| {
        let one = b.f32(1.0);
        let gate = b.op("Add", &[gate, &one]);
        let half = scaled(b, x, 0.5);
        b.op("Mul", &[&half, &gate])
    };
    match a {
        Activation::GeluErf if b.style.is_fused() => b.op("Gelu", &[x]),
        Activation::GeluErf => {
            let inner = scaled(b, x, std::f64::consts::FRAC_1_SQRT_2);
            let erf = b.op("Erf", &[&inner]);
            gated(b, &erf)
        }
        Activation::GeluTanh if b.style.is_fused() => {
            b.with("Gelu", &[x], vec![AttributeProto::text("approximate", "tanh")])
        }
        Activation::GeluTanh => {
            let square = b.op("Mul", &[x, x]);
            let cubic = scaled(b, &square, 0.044715);
            let one = b.f32(1.0);
            let factor = b.op("Add", &[&cubic, &one]);
            let inner = b.op("Mul", &[x, &factor]);
            let inner = scaled(b, &inner, (2.0 / std::f64::consts::PI).sqrt());
            let tanh = b.op("Tanh", &[&inner]);
            gated(b, &tanh)
        }
        Activation::Silu => {
            let below = denominator(b, x);
            b.op("Div", &[x, &below])
        }
        Activation::QuickGelu => {
            let inner = scaled(b, x, 1.702);
            let below = denominator(b, &inner);
            b.op("Div", &[x, &below])
        }
        Activation::Relu => b.op("Relu", &[x]),
    }
}

/// Rows of a table; of a quantized one only those rows are decoded.
fn embedding(b: &mut Builder, values: &mut Values<'_>, node: &Node, out: Elem) -> Place {
    let ty = values.graph.ty(node.inputs[0]).clone();
    let ids = values.whole(b, node.inputs[1]);
    let ids = clamped(b, &ids, ty.dims[0]);
    let rows = |b: &mut Builder, x: &str| b.with("Gather", &[x, &ids], vec![AttributeProto::int("axis", 0)]);
    let Some((input, scheme)) = weight::quantized(values, node, 0) else {
        let table = values.whole(b, node.inputs[0]);
        return Place::Whole(rows(b, &table));
    };
    if !b.style.is_microsoft() {
        let table = b.weight(input, Part::Floats, &ty);
        let y = rows(b, &table);
        return Place::Whole(b.cast(&y, Elem::F32, out));
    }
    let [codes, scales] = [Part::Codes, Part::Scales].map(|part| b.weight(input, part, &ty));
    let (codes, scales) = (rows(b, &codes), rows(b, &scales));
    let mut column = values.graph.ty(node.inputs[1]).dims.clone();
    column.extend([ty.dims[1] / scheme.group, 1]);
    let scales = b.reshape(&scales, &column);
    let mut y = b.cast(&codes, Elem::U8, Elem::F32);
    if scheme.zero != 0 {
        let zero = b.f32(scheme.zero as f64);
        y = b.op("Sub", &[&y, &zero]);
    }
    y = b.op("Mul", &[&y, &scales]);
    if scheme.offsets {
        let offsets = b.weight(input, Part::Offsets, &ty);
        let offsets = rows(b, &offsets);
        let offsets = b.reshape(&offsets, &column);
        y = b.op("Add", &[&y, &offsets]);
    }
    let y = b.reshape(&y, &values.graph.ty(node.outputs[0]).dims.clone());
    Place::Whole(b.cast(&y, Elem::F32, out))
}

/// Inclusive sums; of u32 in 64 bits, whose low ones are kept.
fn cumsum(b: &mut Builder, values: &mut Values<'_>, node: &Node, axis: usize) -> Place {
    let elem = Elem::of(values.graph.ty(node.inputs[0]).dtype);
    let wide = if elem == Elem::U32 { Elem::I64 } else { elem.working() };
    let x = values.whole(b, node.inputs[0]);
    let x = b.cast(&x, elem, wide);
    let axis = b.scalar(Elem::I64, axis as f64);
    let y = b.op("CumSum", &[&x, &axis]);
    Place::Whole(b.cast(&y, wide, elem))
}
