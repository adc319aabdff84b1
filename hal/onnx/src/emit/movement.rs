//! Operations that move elements without looking at them.

use percept_graph::{DType, Node, Op, TensorType};

use super::Values;
use super::builder::{Builder, Elem, Place};
use super::elementwise::select;

/// A repeated value stays as it is until somebody needs all of it.
pub fn broadcast(
    b: &mut Builder,
    values: &mut Values<'_>,
    node: &Node,
    dims: &[usize],
    axes: &[usize],
) -> Place {
    let v = node.inputs[0];
    let (name, from) = match values.place(v) {
        Place::Spread { name, dims } => (name.clone(), dims.clone()),
        _ => (values.whole(b, v), values.graph.ty(v).dims.clone()),
    };
    let mut spread = vec![1; dims.len()];
    axes.iter().zip(&from).for_each(|(&a, &d)| spread[a] = d);
    let name = if from == spread { name } else { b.reshape(&name, &spread) };
    if spread == dims { Place::Whole(name) } else { Place::Spread { name, dims: spread } }
}

/// The other movements.
pub fn emit(b: &mut Builder, values: &mut Values<'_>, node: &Node) -> Vec<Place> {
    let x: Vec<String> = node.inputs.iter().map(|&v| values.whole(b, v)).collect();
    let types = values.graph.types(&node.inputs);
    let out = values.graph.ty(node.outputs[0]).clone();
    let name = match &node.op {
        Op::Reshape { dims } => b.reshape(&x[0], dims),
        Op::Transpose { perm } => b.transpose(&x[0], perm),
        Op::Slice { start, limit, stride } => slice(b, &x[0], start, limit, stride),
        Op::Pad { low, high, interior } => pad(b, &x[0], &types[0], &x[1], low, high, interior),
        Op::Concat { axis } => {
            let full: Vec<&str> =
                x.iter().zip(&types).filter(|(_, t)| t.numel() > 0).map(|(x, _)| x.as_str()).collect();
            concat(b, &full, *axis)
        }
        Op::DynamicSlice { sizes } => dynamic_slice(b, &x, &types[0], sizes),
        Op::DynamicUpdateSlice => dynamic_update_slice(b, &x, &types),
        // A barrier.
        _ => return x.iter().map(|x| Place::Whole(b.op("Identity", &[x]))).collect(),
    };
    debug_assert!(out.numel() > 0);
    vec![Place::Whole(name)]
}

/// Join tensors; one alone is itself.
pub fn concat(b: &mut Builder, parts: &[&str], axis: usize) -> String {
    match parts {
        [one] => one.to_string(),
        parts => b.with("Concat", parts, vec![crate::proto::AttributeProto::int("axis", axis as i64)]),
    }
}

/// A slice over every dimension.
fn slice(b: &mut Builder, x: &str, start: &[usize], limit: &[usize], stride: &[usize]) -> String {
    if start.is_empty() {
        return x.to_string();
    }
    let axes: Vec<usize> = (0..start.len()).collect();
    let [start, limit, axes, stride] = [start, limit, &axes, stride].map(|l| b.extents(l));
    b.op("Slice", &[x, &start, &limit, &axes, &stride])
}

/// Elements `from` to below `to` of one dimension.
pub fn narrow(b: &mut Builder, x: &str, axis: usize, from: usize, to: usize) -> String {
    let [from, to, axis] = [from, to, axis].map(|v| b.extents(&[v]));
    b.op("Slice", &[x, &from, &to, &axis])
}

fn pad(
    b: &mut Builder,
    x: &str,
    ty: &TensorType,
    value: &str,
    low: &[usize],
    high: &[usize],
    interior: &[usize],
) -> String {
    // The operator has no f16, and no bf16 before operator set 25.
    let elem = Elem::of(ty.dtype);
    let wide = if elem.is_half() { Elem::F32 } else { elem };
    let (mut x, value) = (b.cast(x, elem, wide), b.cast(value, elem, wide));
    let mut dims = ty.dims.clone();
    if ty.numel() == 0 {
        // Nothing but padding.
        let total: Vec<usize> =
            (0..dims.len()).map(|d| padded(dims[d], low[d], high[d], interior[d])).collect();
        let shape = b.extents(&total);
        let y = b.op("Expand", &[&value, &shape]);
        return b.cast(&y, wide, elem);
    }
    for d in 0..dims.len() {
        if interior[d] > 0 && dims[d] > 1 {
            x = spaced(b, &x, &mut dims, d, interior[d], &value);
        }
    }
    if low.iter().chain(high).any(|&p| p > 0) {
        let pads = b.extents(&[low, high].concat());
        x = b.op("Pad", &[&x, &pads, &value]);
    }
    b.cast(&x, wide, elem)
}

fn padded(extent: usize, low: usize, high: usize, interior: usize) -> usize {
    extent + extent.saturating_sub(1) * interior + low + high
}

/// Values between the neighbours of a dimension: each element gets a row of them, and the last row is cut.
fn spaced(b: &mut Builder, x: &str, dims: &mut [usize], d: usize, between: usize, value: &str) -> String {
    let mut apart = dims.to_vec();
    apart.insert(d + 1, 1);
    let column = b.reshape(x, &apart);
    apart[d + 1] = between;
    let shape = b.extents(&apart);
    let fill = b.op("Expand", &[value, &shape]);
    let joined = concat(b, &[&column, &fill], d + 1);
    let full = dims[d] * (between + 1);
    dims[d] = full;
    let flat = b.reshape(&joined, dims);
    dims[d] = full - between;
    narrow(b, &flat, d, 0, full - between)
}

/// An i32 start, clamped so that a block fits, as an i64 of one element.
fn clamped_start(b: &mut Builder, start: &str, room: usize) -> String {
    let wide = b.cast(start, Elem::I32, Elem::I64);
    let (zero, room) = (b.scalar(Elem::I64, 0.0), b.scalar(Elem::I64, room as f64));
    let low = b.op("Max", &[&wide, &zero]);
    b.op("Min", &[&low, &room])
}

/// One gather for each dimension that is cut: their results have static shapes.
fn dynamic_slice(b: &mut Builder, x: &[String], ty: &TensorType, sizes: &[usize]) -> String {
    let mut y = x[0].clone();
    for d in 0..sizes.len() {
        if sizes[d] == ty.dims[d] {
            continue;
        }
        let start = clamped_start(b, &x[d + 1], ty.dims[d] - sizes[d]);
        let steps: Vec<i64> = (0..sizes[d] as i64).collect();
        let steps = b.list(&steps);
        let index = b.op("Add", &[&start, &steps]);
        y = b.with("Gather", &[&y, &index], vec![crate::proto::AttributeProto::int("axis", d as i64)]);
    }
    if y == x[0] { b.op("Identity", &[&y]) } else { y }
}

/// Rows of the trailing dimensions that the update covers whole are written at positions of the others.
fn dynamic_update_slice(b: &mut Builder, x: &[String], types: &[TensorType]) -> String {
    let (whole, part) = (&types[0].dims, &types[1].dims);
    if types[1].numel() == 0 {
        return b.op("Identity", &[&x[0]]);
    }
    let cut = (0..whole.len()).rev().find(|&d| whole[d] != part[d]).map_or(0, |d| d + 1);
    if cut == 0 {
        return b.op("Identity", &[&x[1]]);
    }
    let starts: Vec<String> = (0..cut)
        .map(|d| {
            let start = clamped_start(b, &x[d + 2], whole[d] - part[d]);
            b.reshape(&start, &[1])
        })
        .collect();
    let starts = concat(b, &starts.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    let grid = b.grid(&[&part[..cut], &[cut]].concat(), &positions(&part[..cut]));
    let index = b.op("Add", &[&grid, &starts]);
    b.op("ScatterND", &[&x[0], &index, &x[1]])
}

/// Every index of a shape in row-major order, one after the other.
pub fn positions(dims: &[usize]) -> Vec<i64> {
    let count: usize = dims.iter().product();
    let mut all = Vec::with_capacity(count * dims.len());
    for i in 0..count {
        let mut rest = i;
        let at = all.len();
        all.resize(at + dims.len(), 0);
        for d in (0..dims.len()).rev() {
            all[at + d] = (rest % dims[d]) as i64;
            rest /= dims[d];
        }
    }
    all
}

/// Zeros in place of a tensor's elements where a condition does not hold.
pub fn or_zero(b: &mut Builder, condition: &str, x: &str) -> String {
    let zero = b.f32(0.0);
    select(b, condition, x, &zero, DType::F32)
}
