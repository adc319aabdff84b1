//! Operations whose data movement depends on data.

use percept_graph::ScatterKind;

use super::arithmetic::widened;
use super::writer::{Element, Type, Value, Writer, names, types};

pub(super) fn dynamic_slice(w: &mut Writer, x: &Value, starts: &[Value], sizes: &[usize]) -> Value {
    if starts.is_empty() {
        return x.clone();
    }
    let ty = Type::new(x.ty.element, sizes);
    let text = format!(
        "stablehlo.dynamic_slice {}, {}, sizes = {sizes:?} : ({}, {}) -> {ty}",
        x.name,
        names(starts),
        x.ty,
        types(starts)
    );
    w.line(ty, text)
}

pub(super) fn dynamic_update_slice(w: &mut Writer, x: &Value, update: &Value, starts: &[Value]) -> Value {
    if starts.is_empty() {
        return update.clone();
    }
    if update.ty.numel() == 0 {
        return x.clone();
    }
    let text = format!(
        "stablehlo.dynamic_update_slice {}, {}, {} : ({}, {}, {}) -> {}",
        x.name,
        update.name,
        names(starts),
        x.ty,
        update.ty,
        types(starts),
        x.ty
    );
    w.line(x.ty.clone(), text)
}

/// Whole slices of `x` along `axis`; StableHLO clamps the indices.
pub(super) fn gather(w: &mut Writer, x: &Value, indices: &Value, axis: usize) -> Value {
    let places = indices.rank();
    let dims = [&x.dims()[..axis], indices.dims(), &x.dims()[axis + 1..]].concat();
    let window: Vec<usize> = (0..axis).chain(axis + places..dims.len()).collect();
    let mut sizes: Vec<String> = x.dims().iter().map(usize::to_string).collect();
    sizes[axis] = "1".into();
    let ty = Type::new(x.ty.element, dims);
    let text = format!(
        "\"stablehlo.gather\"({}, {}) <{{dimension_numbers = #stablehlo.gather<offset_dims = {window:?}, \
         collapsed_slice_dims = [{axis}], start_index_map = [{axis}], index_vector_dim = {places}>, indices_are_sorted = false, \
         slice_sizes = array<i64: {}>}}> : ({}, {}) -> {ty}",
        x.name,
        indices.name,
        sizes.join(", "),
        x.ty,
        indices.ty
    );
    w.line(ty, text)
}

/// Whole slices of `x` along `axis` combined with updates; StableHLO drops indices out of range.
pub(super) fn scatter(
    w: &mut Writer,
    kind: ScatterKind,
    x: &Value,
    indices: &Value,
    updates: &Value,
    axis: usize,
) -> Value {
    if updates.ty.numel() == 0 {
        return x.clone();
    }
    match kind {
        ScatterKind::Set => {
            let last = last_of_each(w, indices, x.dims()[axis]);
            scatter_with(w, Combine::Replace, x, &last, updates, axis)
        }
        ScatterKind::Add => {
            let (wide, terms) = (widened(w, x), widened(w, updates));
            let y = scatter_with(w, Combine::With("add"), &wide, indices, &terms, axis);
            w.convert(&y, x.ty.element)
        }
    }
}

/// Indices below `extent` that are there again later become out of range: StableHLO does not say which update wins.
fn last_of_each(w: &mut Writer, indices: &Value, extent: usize) -> Value {
    let count = indices.ty.numel();
    if count == 1 {
        return indices.clone();
    }
    let flat = w.reshape(indices, &[count]);
    let positions = w.iota(&[count], 0);
    let none = w.splat(Type::new(Element::I32, [extent]), -1.0);
    let last = scatter_with(w, Combine::With("maximum"), &none, &flat, &positions, 0);
    let winner = gather(w, &last, &flat, 0);
    let wins = w.compare("EQ", &winner, &positions);
    let outside = w.like(&flat, extent as f64);
    let chosen = w.select(&wins, &flat, &outside);
    w.reshape(&chosen, indices.dims())
}

/// What becomes of an element and its update.
enum Combine {
    Replace,
    With(&'static str),
}

fn scatter_with(
    w: &mut Writer,
    combine: Combine,
    x: &Value,
    indices: &Value,
    updates: &Value,
    axis: usize,
) -> Value {
    let places = indices.rank();
    let window: Vec<usize> = (0..axis).chain(axis + places..updates.rank()).collect();
    let head = format!(
        "\"stablehlo.scatter\"({}, {}, {}) <{{indices_are_sorted = false, scatter_dimension_numbers = \
         #stablehlo.scatter<update_window_dims = {window:?}, inserted_window_dims = [{axis}], scatter_dims_to_operand_dims = \
         [{axis}], index_vector_dim = {places}>, unique_indices = false}}>",
        x.name, indices.name, updates.name
    );
    let tail = format!(": ({}, {}, {}) -> {}", x.ty, indices.ty, updates.ty, x.ty);
    let scalar = Type::scalar(x.ty.element);
    let body = |w: &mut Writer, p: &[Value]| match combine {
        Combine::Replace => vec![p[1].clone()],
        Combine::With(op) => vec![w.binary(op, &p[0], &p[1])],
    };
    w.region(head, &[scalar.clone(), scalar], body, tail, &[x.ty.clone()]).swap_remove(0)
}

/// Stable, NaN being the greatest value.
pub(super) fn sort(w: &mut Writer, x: &Value, axis: usize, descending: bool, limit: usize) -> Vec<Value> {
    let positions = w.iota(x.dims(), axis);
    let (element, index) = (Type::scalar(x.ty.element), Type::scalar(Element::I32));
    let head = format!(
        "\"stablehlo.sort\"({}, {}) <{{dimension = {axis} : i64, is_stable = true}}>",
        x.name, positions.name
    );
    let tail = format!(": ({0}, {1}) -> ({0}, {1})", x.ty, positions.ty);
    let parameters = [element.clone(), element, index.clone(), index];
    let body = |w: &mut Writer, p: &[Value]| {
        let (a, b) = if descending { (&p[1], &p[0]) } else { (&p[0], &p[1]) };
        let mut before = w.compare("LT", a, b);
        if a.ty.element.is_float() {
            let (a_number, b_nan) = (w.compare("EQ", a, a), w.compare("NE", b, b));
            let nan_last = w.binary("and", &a_number, &b_nan);
            before = w.binary("or", &before, &nan_last);
        }
        vec![before]
    };
    let results = [x.ty.clone(), positions.ty.clone()];
    let sorted = w.region(head, &parameters, body, tail, &results);
    if limit == x.dims()[axis] {
        return sorted;
    }
    let mut limits = x.dims().to_vec();
    limits[axis] = limit;
    let (starts, strides) = (vec![0; x.rank()], vec![1; x.rank()]);
    sorted.iter().map(|s| w.slice(s, &starts, &limits, &strides)).collect()
}
