//! Reductions and products.

use super::Operand;
use super::elementwise::{binary, max, min};
use super::movement::{each_index, offset, transpose};
use crate::dtype::DType;
use crate::op::{ArgKind, Binary, DotSpec, ReduceKind};
use crate::tensor_type::TensorType;

/// The value that a reduction leaves as it is.
fn identity(kind: ReduceKind, dtype: DType) -> f64 {
    match (kind, dtype) {
        (ReduceKind::Sum | ReduceKind::Or, _) => 0.0,
        (ReduceKind::Prod | ReduceKind::And, _) => 1.0,
        (ReduceKind::Max, DType::I32) => i32::MIN as f64,
        (ReduceKind::Max, DType::U32) => 0.0,
        (ReduceKind::Max, _) => f64::NEG_INFINITY,
        (ReduceKind::Min, DType::I32) => i32::MAX as f64,
        (ReduceKind::Min, DType::U32) => u32::MAX as f64,
        (ReduceKind::Min, _) => f64::INFINITY,
    }
}

pub fn reduce(kind: ReduceKind, x: &Operand<'_>, axes: &[usize], out: &TensorType) -> Vec<f64> {
    let dtype = x.ty.dtype;
    let mut result = vec![identity(kind, dtype); out.numel()];
    let strides = out.strides();
    let mut source = x.values.iter();
    each_index(&x.ty.dims, |i| {
        let kept = (0..i.len()).filter(|d| !axes.contains(d)).map(|d| i[d]);
        let at = offset(&kept.collect::<Vec<_>>(), &strides);
        let (a, b) = (result[at], source.next().copied().unwrap_or_default());
        result[at] = match kind {
            ReduceKind::Sum => binary(Binary::Add, dtype, a, b),
            ReduceKind::Prod => binary(Binary::Mul, dtype, a, b),
            ReduceKind::Max => max(a, b),
            ReduceKind::Min => min(a, b),
            ReduceKind::And => binary(Binary::And, dtype, a, b),
            ReduceKind::Or => binary(Binary::Or, dtype, a, b),
        };
    });
    result
}

pub fn arg_reduce(kind: ArgKind, x: &Operand<'_>, axis: usize) -> Vec<f64> {
    let n = x.ty.dims[axis];
    let inner: usize = x.ty.dims[axis + 1..].iter().product();
    let outer: usize = x.ty.dims[..axis].iter().product();
    let mut out = Vec::with_capacity(outer * inner);
    for o in 0..outer {
        for i in 0..inner {
            let at = |j: usize| x.values[(o * n + j) * inner + i];
            let mut best = 0;
            for j in 1..n {
                let (new, old) = (at(j), at(best));
                let beats = match kind {
                    _ if old.is_nan() => false,
                    ArgKind::Max => new > old,
                    ArgKind::Min => new < old,
                };
                if beats || new.is_nan() && !old.is_nan() {
                    best = j;
                }
            }
            out.push(best as f64);
        }
    }
    out
}

/// Both operands are brought to [batch, free, contracted] and multiplied row by row.
pub fn dot(spec: &DotSpec, l: &Operand<'_>, r: &Operand<'_>, numel: usize) -> Vec<f64> {
    let arranged = |x: &Operand<'_>, batch: &[usize], contract: &[usize]| {
        let free: Vec<usize> =
            (0..x.ty.rank()).filter(|d| !batch.contains(d) && !contract.contains(d)).collect();
        let extent = |axes: &[usize]| axes.iter().map(|&d| x.ty.dims[d]).product::<usize>();
        let values = transpose(x, &[batch, &free, contract].concat());
        (values, extent(batch), extent(&free), extent(contract))
    };
    let (left, batch, rows, k) = arranged(l, &spec.lhs_batch, &spec.lhs_contract);
    let (right, _, columns, _) = arranged(r, &spec.rhs_batch, &spec.rhs_contract);
    let integer = l.ty.dtype == DType::I32;
    let mut out = Vec::with_capacity(numel);
    for b in 0..batch {
        for m in 0..rows {
            let a = &left[(b * rows + m) * k..][..k];
            for n in 0..columns {
                let c = &right[(b * columns + n) * k..][..k];
                let products = a.iter().zip(c);
                out.push(if integer {
                    let term =
                        |s: i32, (&a, &c): (&f64, &f64)| s.wrapping_add((a as i32).wrapping_mul(c as i32));
                    products.fold(0i32, term) as f64
                } else {
                    products.fold(0.0, |s, (a, c)| s + a * c)
                });
            }
        }
    }
    out
}
