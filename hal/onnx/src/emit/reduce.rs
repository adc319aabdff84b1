//! Reductions.

use percept_graph::{ArgKind, DType, Node, ReduceKind, TensorType, encode};

use super::Values;
use super::builder::{Builder, Elem, Place};
use super::movement::{concat, narrow};
use crate::proto::AttributeProto;

/// Combine elements over axes, which disappear.
pub fn reduce(
    b: &mut Builder,
    values: &mut Values<'_>,
    node: &Node,
    kind: ReduceKind,
    axes: &[usize],
) -> Place {
    let ty = values.graph.ty(node.inputs[0]).clone();
    let out = values.graph.ty(node.outputs[0]).clone();
    if ty.numel() == 0 {
        return identity(b, kind, &out);
    }
    let x = values.whole(b, node.inputs[0]);
    if axes.is_empty() {
        return Place::Whole(b.op("Identity", &[&x]));
    }
    let elem = Elem::of(ty.dtype);
    if ty.dtype.is_int() && kind == ReduceKind::Prod {
        return Place::Whole(integer_product(b, &x, &ty, axes, &out));
    }
    // Reductions know no u32, and runtimes sum i32 in floats; sums keep their low bits in 64.
    let wide = if ty.dtype.is_int() { Elem::I64 } else { elem.working() };
    let x = b.cast(&x, elem, wide);
    let op = match kind {
        ReduceKind::Sum => "ReduceSum",
        ReduceKind::Prod => "ReduceProd",
        ReduceKind::Max | ReduceKind::Or => "ReduceMax",
        ReduceKind::Min | ReduceKind::And => "ReduceMin",
    };
    // Hexagon's compiler takes no reduction to fewer than two dimensions: there the axes stay, and are dropped after.
    let kept = out.rank() < 2 && ty.rank() > 1;
    let mut y = b.fold(op, &x, axes, kept);
    if ty.dtype.is_float() && matches!(kind, ReduceKind::Max | ReduceKind::Min) {
        // The operator leaves open what becomes of NaN, which a sum keeps: zeros plus NaN.
        let is_number = b.op("Equal", &[&x, &x]);
        let zero = b.f32(0.0);
        let marks = b.op("Where", &[&is_number, &zero, &x]);
        let mark = b.fold("ReduceSum", &marks, axes, kept);
        y = b.op("Add", &[&y, &mark]);
    }
    if kept {
        y = b.reshape(&y, &out.dims);
    }
    Place::Whole(b.cast(&y, wide, elem))
}

/// Products of integers wrap, which reductions of runtimes do not: the halves of a row are multiplied until one
/// number is left.
fn integer_product(b: &mut Builder, x: &str, ty: &TensorType, axes: &[usize], out: &TensorType) -> String {
    let kept: Vec<usize> = (0..ty.rank()).filter(|d| !axes.contains(d)).collect();
    let rows: usize = kept.iter().map(|&d| ty.dims[d]).product();
    let mut n = ty.numel() / rows;
    let y = b.transpose(x, &[&kept[..], axes].concat());
    let mut y = b.reshape(&y, &[rows, n]);
    while n > 1 {
        let half = n / 2;
        let (low, high) = (narrow(b, &y, 1, 0, half), narrow(b, &y, 1, half, 2 * half));
        let product = b.op("Mul", &[&low, &high]);
        y = if n % 2 == 1 {
            let last = narrow(b, &y, 1, n - 1, n);
            concat(b, &[&product, &last], 1)
        } else {
            product
        };
        n = n.div_ceil(2);
    }
    b.reshape(&y, &out.dims)
}

/// What a reduction of nothing gives.
fn identity(b: &mut Builder, kind: ReduceKind, out: &TensorType) -> Place {
    let value = match (kind, out.dtype) {
        (ReduceKind::Sum | ReduceKind::Or, _) => 0.0,
        (ReduceKind::Prod | ReduceKind::And, _) => 1.0,
        (ReduceKind::Max, DType::I32) => i32::MIN as f64,
        (ReduceKind::Max, DType::U32) => 0.0,
        (ReduceKind::Max, _) => f64::NEG_INFINITY,
        (ReduceKind::Min, DType::I32) => i32::MAX as f64,
        (ReduceKind::Min, DType::U32) => u32::MAX as f64,
        (ReduceKind::Min, _) => f64::INFINITY,
    };
    filled(b, out, value)
}

/// One value everywhere.
pub fn filled(b: &mut Builder, ty: &TensorType, value: f64) -> Place {
    let dims = vec![1; ty.rank()];
    let name = b.constant(Elem::of(ty.dtype), &dims, encode(ty.dtype, value));
    Place::Spread { name, dims }
}

/// Index of an extreme: of the first NaN where there is one, else of the first extreme.
pub fn arg_reduce(
    b: &mut Builder,
    values: &mut Values<'_>,
    node: &Node,
    kind: ArgKind,
    axis: usize,
) -> Place {
    let dtype = values.graph.ty(node.inputs[0]).dtype;
    let x = values.whole(b, node.inputs[0]);
    let elem = Elem::of(dtype);
    let wide = if elem == Elem::U32 { Elem::I64 } else { elem.working() };
    let x = b.cast(&x, elem, wide);
    let attributes = || vec![AttributeProto::int("axis", axis as i64), AttributeProto::int("keepdims", 0)];
    let op = if kind == ArgKind::Max { "ArgMax" } else { "ArgMin" };
    if !dtype.is_float() {
        let at = b.with(op, &[&x], attributes());
        return Place::Whole(b.cast(&at, Elem::I64, Elem::I32));
    }
    let is_number = b.op("Equal", &[&x, &x]);
    let is_nan = b.op("Not", &[&is_number]);
    let marks = b.cast(&is_nan, Elem::Bool, Elem::I32);
    let zero = b.f32(0.0);
    let numbers = b.op("Where", &[&is_number, &x, &zero]);
    let at_extreme = b.with(op, &[&numbers], attributes());
    let at_nan = b.with("ArgMax", &[&marks], attributes());
    let any = b.fold("ReduceMax", &marks, &[axis], false);
    let any = b.cast(&any, Elem::I32, Elem::Bool);
    let at = b.op("Where", &[&any, &at_nan, &at_extreme]);
    Place::Whole(b.cast(&at, Elem::I64, Elem::I32))
}
