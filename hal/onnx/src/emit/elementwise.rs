//! Functions of single elements.

use percept_graph::{Binary, Compare, DType, Node, Op, Unary, ValueId};

use super::Values;
use super::builder::{Builder, Elem, Place};
use super::convert::{convert, narrow, widen};
use crate::proto::AttributeProto;

/// The operands of a node, repeated only as far as broadcasting does not do it: at least their common shape
/// is the value's.
fn operands(b: &mut Builder, values: &mut Values<'_>, node: &Node) -> Vec<String> {
    let dims = values.graph.ty(node.outputs[0]).dims.clone();
    let covered = |values: &Values<'_>, d: usize| {
        node.inputs.iter().any(|&v| match values.place(v) {
            Place::Spread { dims: spread, .. } => spread[d] == dims[d],
            _ => true,
        })
    };
    if !(0..dims.len()).all(|d| covered(values, d)) {
        values.whole(b, node.inputs[0]);
    }
    node.inputs.iter().map(|&v| partial(b, values, v)).collect()
}

/// A value, repeated or not.
fn partial(b: &mut Builder, values: &mut Values<'_>, v: ValueId) -> String {
    match values.place(v) {
        Place::Spread { name, .. } => name.clone(),
        _ => values.whole(b, v),
    }
}

/// Whether all operands of a node repeat, so that its result may too.
fn spread_dims(values: &Values<'_>, node: &Node) -> Option<Vec<usize>> {
    let mut dims = vec![1; values.graph.ty(node.outputs[0]).rank()];
    for &v in &node.inputs {
        let Place::Spread { dims: spread, .. } = values.place(v) else { return None };
        dims.iter_mut().zip(spread).for_each(|(d, &s)| *d = (*d).max(s));
    }
    Some(dims)
}

/// An elementwise node. What repeats in all operands repeats in the result and is computed once.
pub fn emit(b: &mut Builder, values: &mut Values<'_>, node: &Node) -> Vec<Place> {
    let spread = spread_dims(values, node);
    let x: Vec<String> = match spread {
        Some(_) => node.inputs.iter().map(|&v| partial(b, values, v)).collect(),
        None => operands(b, values, node),
    };
    let dtype = values.graph.ty(node.inputs[0]).dtype;
    let name = match &node.op {
        Op::Cast { to } => convert(b, &x[0], dtype, *to),
        Op::Bitcast { to } => bitcast(b, &x[0], dtype, *to),
        Op::Unary(k) => unary(b, *k, &x[0], dtype),
        Op::Binary(k) => binary(b, *k, &x[0], &x[1], dtype),
        Op::Compare(k) => compare(b, *k, &x[0], &x[1], dtype),
        Op::Clamp => {
            let [low, v, high] = [&x[0], &x[1], &x[2]].map(|x| widen(b, x, dtype));
            let y = b.op("Max", &[&v, &low]);
            let y = b.op("Min", &[&y, &high]);
            narrow(b, &y, dtype)
        }
        _ => select(b, &x[0], &x[1], &x[2], values.graph.ty(node.inputs[1]).dtype),
    };
    vec![match spread {
        Some(dims) if dims != values.graph.ty(node.outputs[0]).dims => Place::Spread { name, dims },
        _ => Place::Whole(name),
    }]
}

fn bitcast(b: &mut Builder, x: &str, from: DType, to: DType) -> String {
    let (source, target) = (Elem::of(from), Elem::of(to));
    if from.is_int() && to.is_int() {
        return b.cast(x, source, target);
    }
    if source == target {
        return x.to_string();
    }
    b.with("BitCast", &[x], vec![AttributeProto::int("to", target as i64)])
}

/// Where(p, a, b), for types that the operator lacks too.
pub fn select(b: &mut Builder, p: &str, on_true: &str, on_false: &str, dtype: DType) -> String {
    let wide = match dtype {
        DType::Bool => Elem::U8,
        _ if dtype.is_float() => Elem::F32,
        _ => Elem::of(dtype),
    };
    let elem = Elem::of(dtype);
    let [t, f] = [on_true, on_false].map(|x| b.cast(x, elem, wide));
    let y = b.op("Where", &[p, &t, &f]);
    b.cast(&y, wide, elem)
}

fn compare(b: &mut Builder, kind: Compare, x: &str, y: &str, dtype: DType) -> String {
    let [x, y] = [x, y].map(|x| widen(b, x, dtype));
    let op = match kind {
        Compare::Eq | Compare::Ne => "Equal",
        Compare::Lt => "Less",
        Compare::Le => "LessOrEqual",
        Compare::Gt => "Greater",
        Compare::Ge => "GreaterOrEqual",
    };
    let y = b.op(op, &[&x, &y]);
    if kind == Compare::Ne { b.op("Not", &[&y]) } else { y }
}

/// A function of one operand in its own dtype.
fn unary(b: &mut Builder, kind: Unary, x: &str, dtype: DType) -> String {
    if kind == Unary::Not {
        return b.op(if dtype == DType::Bool { "Not" } else { "BitwiseNot" }, &[x]);
    }
    let x = widen(b, x, dtype);
    if kind == Unary::IsFinite {
        let magnitude = b.op("Abs", &[&x]);
        let infinity = b.f32(f64::INFINITY);
        return b.op("Less", &[&magnitude, &infinity]);
    }
    let y = function(b, kind, &x, dtype.is_float());
    narrow(b, &y, dtype)
}

/// A function of an f32, or where it is defined on them of an i32.
pub fn function(b: &mut Builder, kind: Unary, x: &str, float: bool) -> String {
    match kind {
        Unary::Neg => b.op("Neg", &[x]),
        Unary::Abs => b.op("Abs", &[x]),
        Unary::Sign if float => {
            // The operator leaves open what becomes of NaN.
            let sign = b.op("Sign", &[x]);
            let is_number = b.op("Equal", &[x, x]);
            b.op("Where", &[&is_number, &sign, x])
        }
        Unary::Sign => b.op("Sign", &[x]),
        Unary::Exp => b.op("Exp", &[x]),
        Unary::Expm1 => expm1(b, x),
        Unary::Log => b.op("Log", &[x]),
        Unary::Log1p => log1p(b, x),
        Unary::Sqrt => b.op("Sqrt", &[x]),
        Unary::Rsqrt => {
            let root = b.op("Sqrt", &[x]);
            b.op("Reciprocal", &[&root])
        }
        Unary::Sin => b.op("Sin", &[x]),
        Unary::Cos => b.op("Cos", &[x]),
        Unary::Tanh => {
            // Below 2^-12 the function is x to the bit; runtimes lose digits of subnormal results.
            let tanh = b.op("Tanh", &[x]);
            let magnitude = b.op("Abs", &[x]);
            let bound = b.f32(2f64.powi(-12));
            let near = b.op("Less", &[&magnitude, &bound]);
            b.op("Where", &[&near, x, &tanh])
        }
        Unary::Erf => b.op("Erf", &[x]),
        Unary::Logistic => logistic(b, x),
        Unary::Floor => b.op("Floor", &[x]),
        Unary::Ceil => b.op("Ceil", &[x]),
        Unary::Round => b.op("Round", &[x]),
        Unary::Not | Unary::IsFinite => x.to_string(),
    }
}

/// 1 / (1 + e^-x). Runtimes cut their sigmoid off where it is small.
pub fn logistic(b: &mut Builder, x: &str) -> String {
    let below = denominator(b, x);
    b.op("Reciprocal", &[&below])
}

/// 1 + e^-x.
pub fn denominator(b: &mut Builder, x: &str) -> String {
    let minus = b.op("Neg", &[x]);
    let power = b.op("Exp", &[&minus]);
    let one = b.f32(1.0);
    b.op("Add", &[&power, &one])
}

/// Kahan's: with u = e^x rounded, (u - 1) x / log u is accurate, since both factors err alike.
fn expm1(b: &mut Builder, x: &str) -> String {
    let one = b.f32(1.0);
    let u = b.op("Exp", &[x]);
    let less = b.op("Sub", &[&u, &one]);
    let log = b.op("Log", &[&u]);
    let ratio = b.op("Div", &[x, &log]);
    let y = b.op("Mul", &[&less, &ratio]);
    // Where log u is not the inverse: at u = 1 the result is x, beyond 1/2 in magnitude u - 1 itself.
    let is_one = b.op("Equal", &[&u, &one]);
    let magnitude = b.op("Abs", &[x]);
    let bound = b.f32(0.5);
    let near = b.op("Less", &[&magnitude, &bound]);
    let y = b.op("Where", &[&near, &y, &less]);
    b.op("Where", &[&is_one, x, &y])
}

/// Kahan's: with u = 1 + x rounded, log u x / (u - 1).
fn log1p(b: &mut Builder, x: &str) -> String {
    let one = b.f32(1.0);
    let u = b.op("Add", &[x, &one]);
    let log = b.op("Log", &[&u]);
    let less = b.op("Sub", &[&u, &one]);
    let ratio = b.op("Div", &[x, &less]);
    let y = b.op("Mul", &[&log, &ratio]);
    let is_one = b.op("Equal", &[&u, &one]);
    let bound = b.f32(1e6);
    let large = b.op("Greater", &[x, &bound]);
    let y = b.op("Where", &[&large, &log, &y]);
    b.op("Where", &[&is_one, x, &y])
}

fn binary(b: &mut Builder, kind: Binary, x: &str, y: &str, dtype: DType) -> String {
    if dtype == DType::Bool {
        let op = match kind {
            Binary::And => "And",
            Binary::Or => "Or",
            _ => "Xor",
        };
        return b.op(op, &[x, y]);
    }
    if matches!(kind, Binary::Shl | Binary::Shr) {
        return shift(b, kind, x, y, dtype);
    }
    if dtype.is_int() && matches!(kind, Binary::Div | Binary::Rem) {
        return quotient(b, kind, x, y, dtype);
    }
    let [x, y] = [x, y].map(|x| widen(b, x, dtype));
    let z = match kind {
        Binary::Rem => b.with("Mod", &[&x, &y], vec![AttributeProto::int("fmod", 1)]),
        _ => {
            let op = match kind {
                Binary::Add => "Add",
                Binary::Sub => "Sub",
                Binary::Mul => "Mul",
                Binary::Div => "Div",
                Binary::Pow => "Pow",
                // Both keep NaN.
                Binary::Max => "Max",
                Binary::Min => "Min",
                Binary::And => "BitwiseAnd",
                Binary::Or => "BitwiseOr",
                _ => "BitwiseXor",
            };
            b.op(op, &[&x, &y])
        }
    };
    narrow(b, &z, dtype)
}

/// Integers are divided in 64 bits, where the least number by -1 has room, and by 1 instead of by 0.
fn quotient(b: &mut Builder, kind: Binary, x: &str, y: &str, dtype: DType) -> String {
    let elem = Elem::of(dtype);
    let [x, y] = [x, y].map(|x| b.cast(x, elem, Elem::I64));
    let (zero, one) = (b.scalar(Elem::I64, 0.0), b.scalar(Elem::I64, 1.0));
    let is_zero = b.op("Equal", &[&y, &zero]);
    let y = b.op("Where", &[&is_zero, &one, &y]);
    let z = match kind {
        Binary::Div => b.op("Div", &[&x, &y]),
        // The sign of C's remainder.
        _ => b.with("Mod", &[&x, &y], vec![AttributeProto::int("fmod", 1)]),
    };
    b.cast(&z, Elem::I64, elem)
}

/// Shifts are made in 64 bits, by 32 at most, so that distances of 32 and more give 0.
fn shift(b: &mut Builder, kind: Binary, x: &str, y: &str, dtype: DType) -> String {
    let elem = Elem::of(dtype);
    let [x, y] = [x, y].map(|x| {
        let bits = b.cast(x, elem, Elem::U32);
        b.cast(&bits, Elem::U32, Elem::U64)
    });
    let most = b.scalar(Elem::U64, 32.0);
    let y = b.op("Min", &[&y, &most]);
    let direction = if kind == Binary::Shl { "LEFT" } else { "RIGHT" };
    let z = b.with("BitShift", &[&x, &y], vec![AttributeProto::text("direction", direction)]);
    let z = b.cast(&z, Elem::U64, Elem::U32);
    b.cast(&z, Elem::U32, elem)
}
