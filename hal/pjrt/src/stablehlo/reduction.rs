//! Reductions and products.

use percept_graph::{ArgKind, DType, DotSpec, ReduceKind, TensorType};

use super::arithmetic::widened;
use super::writer::{Element, Type, Value, Writer};

/// Less than every other value of an element type, or greater.
fn extreme(element: Element, greatest: bool) -> f64 {
    match (element, greatest) {
        (Element::I32, true) => i32::MAX as f64,
        (Element::I32, false) => i32::MIN as f64,
        (Element::U32, true) => u32::MAX as f64,
        (Element::U32, false) => 0.0,
        (_, true) => f64::INFINITY,
        (_, false) => f64::NEG_INFINITY,
    }
}

fn kept(x: &Value, axes: &[usize]) -> Vec<usize> {
    (0..x.rank()).filter(|d| !axes.contains(d)).map(|d| x.dims()[d]).collect()
}

/// Sums and products of half types are accumulated in f32.
pub(super) fn reduce(w: &mut Writer, kind: ReduceKind, x: &Value, axes: &[usize]) -> Value {
    if axes.is_empty() {
        return x.clone();
    }
    let element = x.ty.element;
    let (op, start, wide) = match kind {
        ReduceKind::Sum => ("add", 0.0, widened(w, x)),
        ReduceKind::Prod => ("multiply", 1.0, widened(w, x)),
        ReduceKind::Max => ("maximum", extreme(element, false), x.clone()),
        ReduceKind::Min => ("minimum", extreme(element, true), x.clone()),
        ReduceKind::And => ("and", 1.0, x.clone()),
        ReduceKind::Or => ("or", 0.0, x.clone()),
    };
    let y = reduce_by(w, op, start, &wide, axes);
    if matches!(kind, ReduceKind::Max | ReduceKind::Min) && element.is_float() {
        // XLA's compiler for CPUs loses NaN in rows that it reduces by vectors.
        let is_nan = w.compare("NE", x, x);
        let any = reduce_by(w, "or", 0.0, &is_nan, axes);
        let nan = w.like(&y, f64::NAN);
        return w.select(&any, &nan, &y);
    }
    w.convert(&y, element)
}

fn reduce_by(w: &mut Writer, op: &str, start: f64, x: &Value, axes: &[usize]) -> Value {
    let scalar = Type::scalar(x.ty.element);
    let start = w.splat(scalar.clone(), start);
    let ty = Type::new(x.ty.element, kept(x, axes));
    let text = format!(
        "stablehlo.reduce({} init: {}) applies stablehlo.{op} across dimensions = {axes:?} : ({}, {scalar}) -> {ty}",
        x.name, start.name, x.ty
    );
    w.line(ty, text)
}

/// The position of the extreme element, the lowest of several; NaN counts as extreme.
///
/// Pairs of an element and its position are reduced in any order, so the choice must not depend on it.
pub(super) fn arg_reduce(w: &mut Writer, kind: ArgKind, x: &Value, axis: usize) -> Value {
    let positions = w.iota(x.dims(), axis);
    let (element, index) = (Type::scalar(x.ty.element), Type::scalar(Element::I32));
    let (worst, beats) = match kind {
        ArgKind::Max => (extreme(x.ty.element, false), "GT"),
        ArgKind::Min => (extreme(x.ty.element, true), "LT"),
    };
    let start = w.splat(element.clone(), worst);
    let last = w.splat(index.clone(), i32::MAX as f64);
    let dims = kept(x, &[axis]);
    let results = [Type::new(x.ty.element, dims.clone()), Type::new(Element::I32, dims)];
    let head = format!(
        "\"stablehlo.reduce\"({}, {}, {}, {}) <{{dimensions = array<i64: {axis}>}}>",
        x.name, positions.name, start.name, last.name
    );
    let tail =
        format!(": ({}, {}, {element}, {index}) -> ({}, {})", x.ty, positions.ty, results[0], results[1]);
    let parameters = [element.clone(), index.clone(), element, index];
    let body = |w: &mut Writer, p: &[Value]| {
        let [a, i, b, j] = p else { return Vec::new() };
        let mut better = w.compare(beats, a, b);
        let mut equal = w.compare("EQ", a, b);
        if a.ty.element.is_float() {
            let (a_nan, b_nan) = (w.compare("NE", a, a), w.compare("NE", b, b));
            let b_number = w.unary("stablehlo.not", &b_nan);
            let alone = w.binary("and", &a_nan, &b_number);
            better = w.binary("or", &better, &alone);
            let both = w.binary("and", &a_nan, &b_nan);
            equal = w.binary("or", &equal, &both);
        }
        let earlier = w.compare("LT", i, j);
        let first = w.binary("and", &equal, &earlier);
        let chosen = w.binary("or", &better, &first);
        vec![w.select(&chosen, a, b), w.select(&chosen, i, j)]
    };
    w.region(head, &parameters, body, tail, &results).swap_remove(1)
}

/// Products of floats are summed in f32.
pub(super) fn dot(w: &mut Writer, spec: &DotSpec, l: &Value, r: &Value, out: &TensorType) -> Value {
    let sum = Element::of(spec.accum);
    let ty = Type::new(sum, out.dims.clone());
    // Some hardware multiplies f32 in fewer bits unless told otherwise.
    let precision = if l.ty.element == Element::F32 { "HIGHEST" } else { "DEFAULT" };
    let batch = if spec.lhs_batch.is_empty() {
        String::new()
    } else {
        format!("batching_dims = {:?} x {:?}, ", spec.lhs_batch, spec.rhs_batch)
    };
    let text = format!(
        "stablehlo.dot_general {}, {}, {batch}contracting_dims = {:?} x {:?}, precision = [{precision}, {precision}] : ({}, \
         {}) -> {ty}",
        l.name, r.name, spec.lhs_contract, spec.rhs_contract, l.ty, r.ty
    );
    let y = w.line(ty, text);
    debug_assert!(spec.accum == DType::F32 || spec.accum == spec.out);
    w.convert(&y, Element::of(spec.out))
}
