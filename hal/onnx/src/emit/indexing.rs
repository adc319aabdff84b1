//! Operations whose movement depends on data.

use percept_graph::{Node, ScatterKind};

use super::Values;
use super::builder::{Builder, Elem, Place};
use super::movement::{concat, narrow};
use crate::proto::AttributeProto;

/// Slices along an axis, indices clamped.
pub fn gather(b: &mut Builder, values: &mut Values<'_>, node: &Node, axis: usize) -> Place {
    let extent = values.graph.ty(node.inputs[0]).dims[axis];
    let x = values.whole(b, node.inputs[0]);
    let index = values.whole(b, node.inputs[1]);
    let index = clamped(b, &index, extent);
    Place::Whole(b.with("Gather", &[&x, &index], vec![AttributeProto::int("axis", axis as i64)]))
}

/// i32 indices brought between 0 and the last of an extent.
pub fn clamped(b: &mut Builder, index: &str, extent: usize) -> String {
    let (zero, last) = (b.scalar(Elem::I32, 0.0), b.scalar(Elem::I32, extent.saturating_sub(1) as f64));
    let low = b.op("Max", &[index, &zero]);
    b.op("Min", &[&low, &last])
}

/// Updates out of range go to a slice behind the last one, which is cut off again.
pub fn scatter(
    b: &mut Builder,
    values: &mut Values<'_>,
    node: &Node,
    axis: usize,
    kind: ScatterKind,
) -> Place {
    let ty = values.graph.ty(node.inputs[0]).clone();
    let count = values.graph.ty(node.inputs[1]).numel();
    let x = values.whole(b, node.inputs[0]);
    if count == 0 {
        return Place::Whole(b.op("Identity", &[&x]));
    }
    let index = values.whole(b, node.inputs[1]);
    let updates = values.whole(b, node.inputs[2]);
    let elem = Elem::of(ty.dtype);
    // Sums of halves are made in f32; the operator adds no u32.
    let wide = match kind {
        ScatterKind::Set => elem,
        ScatterKind::Add if elem == Elem::U32 => Elem::I64,
        ScatterKind::Add => elem.working(),
    };
    let (x, updates) = (b.cast(&x, elem, wide), b.cast(&updates, elem, wide));
    let extent = ty.dims[axis];
    let index = {
        let (zero, end) = (b.scalar(Elem::I32, 0.0), b.scalar(Elem::I32, extent as f64));
        let (negative, beyond) = (b.op("Less", &[&index, &zero]), b.op("GreaterOrEqual", &[&index, &end]));
        let outside = b.op("Or", &[&negative, &beyond]);
        b.op("Where", &[&outside, &end, &index])
    };
    let mut dims = ty.dims.clone();
    dims[axis] = 1;
    let spare = b.constant(wide, &dims, vec![0; wide.bytes() * dims.iter().product::<usize>()]);
    let room = concat(b, &[&x, &spare], axis);
    let mut column = vec![1; ty.rank()];
    column[axis] = count;
    dims[axis] = count;
    let column = b.reshape(&index, &column);
    let shape = b.extents(&dims);
    let index = b.op("Expand", &[&column, &shape]);
    let updates = b.reshape(&updates, &dims);
    let mut attributes = vec![AttributeProto::int("axis", axis as i64)];
    if kind == ScatterKind::Add {
        attributes.push(AttributeProto::text("reduction", "add"));
    }
    let y = b.with("ScatterElements", &[&room, &index, &updates], attributes);
    let y = narrow(b, &y, axis, 0, extent);
    Place::Whole(b.cast(&y, wide, elem))
}

/// Sorted values and where they were. TopK takes the earlier of two equals first, so it is a stable sort, of
/// numbers; a second one by whether they are NaN brings those to their end.
pub fn sort(
    b: &mut Builder,
    values: &mut Values<'_>,
    node: &Node,
    axis: usize,
    descending: bool,
    limit: usize,
) -> Vec<Place> {
    let ty = values.graph.ty(node.inputs[0]).clone();
    let x = values.whole(b, node.inputs[0]);
    let elem = Elem::of(ty.dtype);
    let wide = if elem == Elem::U32 { Elem::I64 } else { elem.working() };
    let keys = b.cast(&x, elem, wide);
    let top = |b: &mut Builder, x: &str, k: usize| {
        let k = b.extents(&[k]);
        let attributes = vec![
            AttributeProto::int("axis", axis as i64),
            AttributeProto::int("largest", descending as i64),
            AttributeProto::int("sorted", 1),
        ];
        b.ops("", "TopK", &[x, &k], attributes, 2).swap_remove(1)
    };
    let pick = |b: &mut Builder, x: &str, at: &str| {
        b.with("GatherElements", &[x, at], vec![AttributeProto::int("axis", axis as i64)])
    };
    let at = if ty.dtype.is_float() {
        let is_number = b.op("Equal", &[&keys, &keys]);
        let zero = b.f32(0.0);
        let numbers = b.op("Where", &[&is_number, &keys, &zero]);
        let by_value = top(b, &numbers, ty.dims[axis]);
        let is_nan = b.op("Not", &[&is_number]);
        let marks = b.cast(&is_nan, Elem::Bool, Elem::F32);
        let marks = pick(b, &marks, &by_value);
        let by_mark = top(b, &marks, limit);
        pick(b, &by_value, &by_mark)
    } else {
        top(b, &keys, limit)
    };
    let sorted = pick(b, &x, &at);
    vec![Place::Whole(sorted), Place::Whole(b.cast(&at, Elem::I64, Elem::I32))]
}
