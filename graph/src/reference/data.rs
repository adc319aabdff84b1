//! Operations whose data movement depends on data.

use std::cmp::Ordering;

use super::Operand;
use super::elementwise::binary;
use crate::op::{Binary, ScatterKind};

/// Elements before, along and after an axis.
fn split(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product())
}

pub fn gather(x: &Operand<'_>, indices: &Operand<'_>, axis: usize) -> Vec<f64> {
    let (outer, n, inner) = split(&x.ty.dims, axis);
    let mut out = Vec::new();
    for o in 0..outer {
        for &i in indices.values {
            let row = o * n + i.clamp(0.0, n.saturating_sub(1) as f64) as usize;
            out.extend_from_slice(&x.values[row * inner..(row + 1) * inner]);
        }
    }
    out
}

pub fn scatter(
    x: &Operand<'_>,
    indices: &Operand<'_>,
    updates: &Operand<'_>,
    axis: usize,
    kind: ScatterKind,
) -> Vec<f64> {
    let (outer, n, inner) = split(&x.ty.dims, axis);
    let mut out = x.values.to_vec();
    for o in 0..outer {
        for (j, &i) in indices.values.iter().enumerate() {
            if i < 0.0 || i >= n as f64 {
                continue;
            }
            let to = (o * n + i as usize) * inner;
            let from = (o * indices.values.len() + j) * inner;
            for e in 0..inner {
                let (old, new) = (out[to + e], updates.values[from + e]);
                out[to + e] = match kind {
                    ScatterKind::Set => new,
                    ScatterKind::Add => binary(Binary::Add, x.ty.dtype, old, new),
                };
            }
        }
    }
    out
}

/// NaN is the greatest value and equal to itself.
fn order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

pub fn sort(x: &Operand<'_>, axis: usize, descending: bool, limit: usize) -> (Vec<f64>, Vec<f64>) {
    let (outer, n, inner) = split(&x.ty.dims, axis);
    let mut values = vec![0.0; outer * limit * inner];
    let mut indices = values.clone();
    for o in 0..outer {
        for i in 0..inner {
            let at = |j: usize| x.values[(o * n + j) * inner + i];
            let mut by_value: Vec<usize> = (0..n).collect();
            by_value.sort_by(|&a, &b| {
                let ascending = order(at(a), at(b));
                if descending { ascending.reverse() } else { ascending }
            });
            for (j, &from) in by_value[..limit].iter().enumerate() {
                values[(o * limit + j) * inner + i] = at(from);
                indices[(o * limit + j) * inner + i] = from as f64;
            }
        }
    }
    (values, indices)
}
