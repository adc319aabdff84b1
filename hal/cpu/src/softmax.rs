//! Softmax, its logarithm, and cross-entropy with its gradient, over the last dimension.

use percept_graph::OpDesc;

use crate::kernel::Kernel;
use crate::lanes::{Lanes, simd};
use crate::rows::{Rows, fold_rows, for_rows, map_rows, row_by_row, sum_rows};
use crate::vector_math as vm;

/// The greatest element of a row; NaN is passed over, and makes the sum of exponentials NaN instead.
#[inline(always)]
fn greatest<L: Lanes>(l: L, x: &[f32]) -> f32 {
    let low = f32::NEG_INFINITY;
    l.greatest(fold_rows!(l, [x: x, low], l.splat(low), acc => l.max(x, acc), a, b => l.max(a, b)))
}

/// The sum of `e^(x - shift)`.
#[inline(always)]
fn sum_of_exponentials<L: Lanes>(l: L, x: &[f32], shift: f32) -> f32 {
    let shift = l.splat(shift);
    let low = f32::NEG_INFINITY;
    let sum = fold_rows!(l, [x: x, low], l.splat(0.0),
        acc => l.add(acc, vm::exp(l, l.sub(x, shift))), a, b => l.add(a, b));
    l.sum(sum)
}

simd! {
    fn softmax_row(l, x: &[f32], y: &mut [f32], e: &mut [f32], stream: bool) {
        let shift = l.splat(greatest(l, x));
        let e = &mut e[..x.len()];
        map_rows!(l, [x: x], e, false, vm::exp(l, l.sub(x, shift)));
        let scale = l.splat(1.0 / sum_rows!(l, [x: e], acc => l.add(acc, x)));
        map_rows!(l, [x: e], y, stream, l.mul(x, scale));
    }
}

simd! {
    fn log_softmax_row(l, x: &[f32], y: &mut [f32], stream: bool) {
        let max = greatest(l, x);
        let log_sum = l.splat(sum_of_exponentials(l, x, max).ln());
        let max = l.splat(max);
        map_rows!(l, [x: x], y, stream, l.sub(l.sub(x, max), log_sum));
    }
}

simd! {
    /// The logarithm of the sum of exponentials, and the sum of the row.
    fn log_sum_exp(l, x: &[f32]) -> (f32, f32) {
        let max = greatest(l, x);
        let lse = sum_of_exponentials(l, x, max).ln() + max;
        (lse, sum_rows!(l, [x: x], acc => l.add(acc, x)))
    }
}

simd! {
    fn probabilities(l, x: &[f32], y: &mut [f32], lse: f32, even: f32, g: f32) {
        let (lse, even, g) = (l.splat(lse), l.splat(even), l.splat(g));
        map_rows!(l, [x: x], y, false, l.mul(l.sub(vm::exp(l, l.sub(x, lse)), even), g));
    }
}

/// Nanoseconds for the exponentials of a tensor.
fn work(rows: Rows) -> usize {
    rows.count * rows.len / 2
}

/// `e^(x - max) / sum`.
pub(crate) fn softmax(desc: &OpDesc<'_>) -> Option<Kernel> {
    let rows = Rows::of(&desc.inputs[0])?;
    Some(row_by_row(rows, work(rows), |_, x, y, temporary, stream| softmax_row(x, y, temporary, stream)))
}

/// `x - max - log(sum)`.
pub(crate) fn log_softmax(desc: &OpDesc<'_>) -> Option<Kernel> {
    let rows = Rows::of(&desc.inputs[0])?;
    Some(row_by_row(rows, work(rows), |_, x, y, _, stream| log_softmax_row(x, y, stream)))
}

/// Loss and log-sum-exp of each row; a label outside the classes has a score of zero, as in the decomposition.
pub(crate) fn cross_entropy(desc: &OpDesc<'_>, ignore: i32, smoothing: f32) -> Option<Kernel> {
    let rows = Rows::of(&desc.inputs[0])?;
    Some(Kernel::new(work(rows), move |team, operands| {
        let labels = operands.input::<i32>(1);
        let (losses, lses) = (operands.output::<f32>(0), operands.output::<f32>(1));
        for_rows(team, rows, |i, [x, ..]| {
            let x = rows.read(operands, 0, i, x);
            let (lse, sum) = log_sum_exp(x);
            let target = usize::try_from(labels[i]).ok().and_then(|at| x.get(at)).copied().unwrap_or(0.0);
            let mut loss = lse - target * (1.0 - smoothing);
            if smoothing != 0.0 {
                loss -= sum / rows.len as f32 * smoothing;
            }
            // SAFETY: each row is one thread's.
            unsafe {
                losses.part(i..i + 1)[0] = if labels[i] == ignore { 0.0 } else { loss };
                lses.part(i..i + 1)[0] = lse;
            }
        });
    }))
}

/// `(softmax - target) g` for each row.
pub(crate) fn cross_entropy_grad(desc: &OpDesc<'_>, ignore: i32, smoothing: f32) -> Option<Kernel> {
    let rows = Rows::of(&desc.inputs[0])?;
    Some(Kernel::new(work(rows), move |team, operands| {
        let labels = operands.input::<i32>(1);
        let (lse, g) = (operands.input::<f32>(2), operands.input::<f32>(3));
        let even = smoothing / rows.len as f32;
        for_rows(team, rows, |i, [x, y, ..]| {
            let x = rows.read(operands, 0, i, x);
            let g = g[i];
            rows.write(operands, 0, i, y, |y| {
                if labels[i] == ignore {
                    // Its logits may be anything, NaN included.
                    y.fill(0.0);
                    return;
                }
                probabilities(x, y, lse[i], even, g);
                if let Some(at) = usize::try_from(labels[i]).ok().filter(|at| *at < x.len()) {
                    y[at] = ((x[at] - lse[i]).exp() - (even + 1.0 - smoothing)) * g;
                }
            });
        });
    }))
}

#[cfg(test)]
#[path = "softmax_test.rs"]
mod tests;
