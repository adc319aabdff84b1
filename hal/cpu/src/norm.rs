//! RMS and layer normalization over the last dimension, with gradients.

use percept_graph::OpDesc;

use crate::kernel::{Kernel, Operands};
use crate::lanes::{Lanes, WIDTH, simd};
use crate::pool::Team;
use crate::rows::{Rows, fold_rows, map_rows, row_by_row, store_floats, sum_rows, vector};
use crate::scratch::with_scratch;

/// Rows whose contributions to a weight's gradient are summed before they join the others'.
const GRAD_BLOCK: usize = 32;

#[inline(always)]
fn inverse_rms<L: Lanes>(l: L, x: &[f32], eps: f32) -> f32 {
    let squares = sum_rows!(l, [x: x], acc => l.fma(x, x, acc));
    1.0 / (squares / x.len() as f32 + eps).sqrt()
}

/// Mean and inverse standard deviation; the variance is taken around the mean, in a second pass.
#[inline(always)]
fn moments<L: Lanes>(l: L, x: &[f32], eps: f32) -> (f32, f32) {
    let n = x.len() as f32;
    let mean = sum_rows!(l, [x: x], acc => l.add(acc, x)) / n;
    let centre = l.splat(mean);
    // The lanes past the row's end are filled with the mean and add nothing.
    let squares = fold_rows!(l, [x: x, mean], l.splat(0.0), acc => {
        let c = l.sub(x, centre);
        l.fma(c, c, acc)
    }, a, b => l.add(a, b));
    (mean, 1.0 / (l.sum(squares) / n + eps).sqrt())
}

simd! {
    fn rms_row(l, x: &[f32], w: &[f32], y: &mut [f32], eps: f32, offset: f32, stream: bool) {
        let (r, offset) = (l.splat(inverse_rms(l, x, eps)), l.splat(offset));
        map_rows!(l, [x: x, w: w], y, stream, l.mul(l.mul(x, r), l.add(w, offset)));
    }
}

simd! {
    fn layer_row(l, x: &[f32], w: &[f32], b: &[f32], y: &mut [f32], eps: f32, stream: bool) {
        let (mean, r) = moments(l, x, eps);
        let (mean, r) = (l.splat(mean), l.splat(r));
        map_rows!(l, [x: x, w: w, b: b], y, stream, l.fma(l.mul(l.sub(x, mean), r), w, b));
    }
}

simd! {
    fn rms_grad_row(l, x: &[f32], w: &[f32], dy: &[f32], dx: &mut [f32], dw: &mut [f32], eps: f32, offset: f32) {
        let r = inverse_rms(l, x, eps);
        let (rv, offset) = (l.splat(r), l.splat(offset));
        let dot = sum_rows!(l, [x: x, w: w, dy: dy], acc => {
            l.fma(l.mul(dy, l.add(w, offset)), l.mul(x, rv), acc)
        });
        let mean = l.splat(dot / x.len() as f32);
        map_rows!(l, [x: x, w: w, dy: dy], dx, false, {
            l.mul(rv, l.sub(l.mul(dy, l.add(w, offset)), l.mul(l.mul(x, rv), mean)))
        });
        accumulate(l, x, dy, dw, 0.0, r);
    }
}

/// `dw += dy (x - mean) r`.
#[inline(always)]
fn accumulate<L: Lanes>(l: L, x: &[f32], dy: &[f32], dw: &mut [f32], mean: f32, r: f32) {
    let (mean, r) = (l.splat(mean), l.splat(r));
    let (xs, x_last) = x.as_chunks::<WIDTH>();
    let (dys, dy_last) = dy.as_chunks::<WIDTH>();
    let (sums, last) = dw.as_chunks_mut::<WIDTH>();
    for ((x, dy), dw) in xs.iter().zip(dys).zip(sums) {
        let unit = l.mul(l.sub(l.load(x), mean), r);
        l.store(l.fma(l.load(dy), unit, l.load(dw)), dw);
    }
    if !last.is_empty() {
        let unit = l.mul(l.sub(l.load_first(x_last, 0.0), mean), r);
        l.store_first(l.fma(l.load_first(dy_last, 0.0), unit, l.load_first(last, 0.0)), last);
    }
}

simd! {
    fn layer_grad_row(
        l, x: &[f32], w: &[f32], dy: &[f32], dx: &mut [f32], dw: &mut [f32], db: &mut [f32], eps: f32,
    ) {
        let (mean, r) = moments(l, x, eps);
        let (m, rv) = (l.splat(mean), l.splat(r));
        let n = x.len() as f32;
        let sum = sum_rows!(l, [w: w, dy: dy], acc => l.fma(dy, w, acc));
        let dot = sum_rows!(l, [x: x, w: w, dy: dy], acc => {
            l.fma(l.mul(dy, w), l.mul(l.sub(x, m), rv), acc)
        });
        let (sum, dot) = (l.splat(sum / n), l.splat(dot / n));
        map_rows!(l, [x: x, w: w, dy: dy], dx, false, {
            let unit = l.mul(l.sub(x, m), rv);
            l.mul(rv, l.sub(l.sub(l.mul(dy, w), sum), l.mul(unit, dot)))
        });
        accumulate(l, x, dy, dw, mean, r);
        for (db, dy) in db.iter_mut().zip(dy) {
            *db += dy;
        }
    }
}

/// `x / rms(x) * (w + offset)`.
pub(crate) fn rms_norm(desc: &OpDesc<'_>, eps: f32, unit_offset: bool) -> Option<Kernel> {
    let rows = Rows::of(&desc.inputs[0])?;
    let weight = desc.inputs[1].dtype;
    let offset = f32::from(u8::from(unit_offset));
    Some(row_by_row(rows, rows.count * rows.len / 8, move |operands, x, y, _, stream| {
        let mut buffer = Vec::new();
        rms_row(x, vector(operands, 1, weight, &mut buffer), y, eps, offset, stream);
    }))
}

/// `(x - mean) / deviation * w + b`.
pub(crate) fn layer_norm(desc: &OpDesc<'_>, eps: f32) -> Option<Kernel> {
    let rows = Rows::of(&desc.inputs[0])?;
    let (weight, bias) = (desc.inputs[1].dtype, desc.inputs[2].dtype);
    Some(row_by_row(rows, rows.count * rows.len / 8, move |operands, x, y, _, stream| {
        let (mut w, mut b) = (Vec::new(), Vec::new());
        layer_row(x, vector(operands, 1, weight, &mut w), vector(operands, 2, bias, &mut b), y, eps, stream);
    }))
}

/// Gradients of a normalization whose results after `dx` are `sums` vectors reduced over all rows: blocks of rows
/// are summed each by one thread, and the blocks' sums are then added in order.
fn grad(
    desc: &OpDesc<'_>,
    sums: usize,
    row: impl Fn(&[f32], &[f32], &[f32], &mut [f32], &mut [f32]) + Send + Sync + 'static,
) -> Option<Kernel> {
    let rows = Rows::of(&desc.inputs[0])?;
    let weight = desc.inputs[1].dtype;
    let blocks = rows.count.div_ceil(GRAD_BLOCK);
    let width = sums * rows.len;
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        let partial = operands.workspace::<f32>();
        let mut buffer = Vec::new();
        let w = vector(operands, 1, weight, &mut buffer);
        team.tiles(blocks, |block| {
            // SAFETY: each block's sums are written by the thread that claimed it.
            let sum = unsafe { partial.part(block * width..(block + 1) * width) };
            sum.fill(0.0);
            with_scratch(3 * rows.len, |scratch| {
                let (x_buffer, rest) = scratch.split_at_mut(rows.len);
                let (dy_buffer, dx_buffer) = rest.split_at_mut(rows.len);
                for i in block * GRAD_BLOCK..rows.count.min((block + 1) * GRAD_BLOCK) {
                    let x = rows.read(operands, 0, i, x_buffer);
                    let dy = rows.read(operands, 2, i, dy_buffer);
                    rows.write(operands, 0, i, dx_buffer, |dx| row(x, w, dy, dx, sum));
                }
            });
        });
        team.barrier();
        let columns = team.share(width, 1024);
        with_scratch(columns.len(), |total| {
            total.fill(0.0);
            for block in 0..blocks {
                let at = block * width;
                // SAFETY: the workspace is only read after the barrier.
                let sum = unsafe { partial.view(at + columns.start..at + columns.end) };
                total.iter_mut().zip(sum).for_each(|(t, s)| *t += s);
            }
            for output in 0..sums {
                let own = columns.start.max(output * rows.len)..columns.end.min((output + 1) * rows.len);
                if !own.is_empty() {
                    let values = &total[own.start - columns.start..own.end - columns.start];
                    store_floats(weight, values, operands, 1 + output, own.start - output * rows.len);
                }
            }
        });
    };
    Some(Kernel::with_workspace(blocks * width * 4, rows.count * rows.len / 3, body))
}

/// Gradients of RMS norm to its operand and weight.
pub(crate) fn rms_norm_grad(desc: &OpDesc<'_>, eps: f32, unit_offset: bool) -> Option<Kernel> {
    let offset = f32::from(u8::from(unit_offset));
    grad(desc, 1, move |x, w, dy, dx, sums| rms_grad_row(x, w, dy, dx, sums, eps, offset))
}

/// Gradients of layer norm to its operand, weight and bias.
pub(crate) fn layer_norm_grad(desc: &OpDesc<'_>, eps: f32) -> Option<Kernel> {
    grad(desc, 2, move |x, w, dy, dx, sums| {
        let (dw, db) = sums.split_at_mut(x.len());
        layer_grad_row(x, w, dy, dx, dw, db, eps);
    })
}

#[cfg(test)]
#[path = "norm_test.rs"]
mod tests;
