//! Pooling and resizing of the trailing dimensions, row by row of the result.

use percept_graph::{DType, Interpolation, OpDesc, PoolKind, TensorType};

use crate::fused::memory;
use crate::kernel::{Kernel, Operands};
use crate::lanes::{WIDTH, simd};
use crate::scratch::with_scratch;
use crate::vector_math as vm;

/// Elements a thread should have before a second one is woken.
const GRAIN: usize = 4096;

simd! {
    /// `acc[i] = acc[i] + x[i stride]`, or the greater of them.
    fn gather_into(l, acc: &mut [f32], x: &[f32], stride: usize, greatest: bool) {
        for (i, acc) in acc.chunks_mut(WIDTH).enumerate() {
            let x = &x[i * WIDTH * stride..];
            let mut seen = [0.0; WIDTH];
            seen.iter_mut().zip(x.iter().step_by(stride)).for_each(|(to, from)| *to = *from);
            let (a, b) = (l.load_first(acc, 0.0), l.load(&seen));
            l.store_first(if greatest { vm::max(l, a, b) } else { l.add(a, b) }, acc);
        }
    }
}

/// Row `i` of operand 0, whose rows have `len` elements: where it lies if it is f32, else widened into `buffer`.
fn read_row<'a>(operands: &Operands<'a>, dtype: DType, i: usize, buffer: &'a mut [f32]) -> &'a [f32] {
    let (start, len) = (i * buffer.len(), buffer.len());
    if dtype == DType::F32 {
        return &operands.input::<f32>(0)[start..start + len];
    }
    memory::widen(dtype, operands.input(0), start, 1, bytemuck::cast_slice_mut(&mut *buffer));
    buffer
}

/// The mean or maximum of each window over the trailing dimensions of `[b, c, s1..sn]`.
pub(crate) fn pool(desc: &OpDesc<'_>, kind: PoolKind, window: &[usize], stride: &[usize]) -> Option<Kernel> {
    let (x, y) = (desc.inputs[0].clone(), desc.outputs[0].clone());
    let (&last_window, upper_window) = window.split_last()?;
    let (&last_stride, upper_stride) = stride.split_last()?;
    let (upper_window, upper_stride) = (upper_window.to_vec(), upper_stride.to_vec());
    let (len, width) = (*x.dims.last()?, *y.dims.last()?);
    let rows = y.numel().checked_div(width).unwrap_or(0);
    let upper: usize = upper_window.iter().product();
    let share = 1.0 / (upper * last_window) as f32;
    let work = y.numel().saturating_mul(upper * last_window) / 4;
    Some(Kernel::new(work, move |team, operands| {
        with_scratch(width.next_multiple_of(WIDTH) + len, |scratch| {
            let (acc, buffer) = scratch.split_at_mut(width.next_multiple_of(WIDTH));
            let acc = &mut acc[..width];
            for row in team.share(rows, (GRAIN / width.max(1)).max(1)) {
                let empty = if kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 };
                acc.fill(empty);
                for offset in 0..upper {
                    let source = source_row(&x, &y, row, offset, &upper_window, &upper_stride);
                    let seen = read_row(operands, x.dtype, source, buffer);
                    for at in 0..last_window {
                        gather_into(acc, &seen[at..], last_stride, kind == PoolKind::Max);
                    }
                }
                if kind == PoolKind::Avg {
                    acc.iter_mut().for_each(|sum| *sum *= share);
                }
                memory::narrow(y.dtype, bytemuck::cast_slice(acc), operands, 0, row * width, false);
            }
        });
    }))
}

/// The row of the operand that position `offset` of the window over the dimensions before the last sees for a row of
/// the result.
fn source_row(
    x: &TensorType,
    y: &TensorType,
    row: usize,
    offset: usize,
    window: &[usize],
    stride: &[usize],
) -> usize {
    let (mut row, mut offset, mut source, mut step) = (row, offset, 0, 1);
    for i in (0..window.len()).rev() {
        let (from, to) = (x.dims[i + 2], y.dims[i + 2]);
        source += (row % to * stride[i] + offset % window[i]) * step;
        (row, offset, step) = (row / to, offset / window[i], step * from);
    }
    source + row * step
}

/// Where an element of a resized dimension comes from: two neighbours and the second one's share.
#[derive(Clone, Copy)]
struct Blend {
    low: usize,
    high: usize,
    share: f32,
}

/// The sources of `to` elements among `from`.
fn blends(from: usize, to: usize, kind: Interpolation) -> Vec<Blend> {
    let last = from - 1;
    let blend = |i: usize| {
        let at = match kind {
            Interpolation::Nearest => return Blend { low: i * from / to, high: 0, share: 0.0 },
            Interpolation::Bilinear { align_corners: true } if to > 1 => (i * last) as f64 / (to - 1) as f64,
            Interpolation::Bilinear { align_corners: true } => 0.0,
            Interpolation::Bilinear { align_corners: false } => {
                (i as f64 + 0.5) * from as f64 / to as f64 - 0.5
            }
        };
        let at = at.clamp(0.0, last as f64);
        let low = at as usize;
        Blend { low, high: (low + 1).min(last), share: (at - low as f64) as f32 }
    };
    (0..to).map(blend).collect()
}

/// `[b, c, h, w]` resized: first along the height, then along the width.
pub(crate) fn upsample(
    desc: &OpDesc<'_>,
    [height, width]: [usize; 2],
    kind: Interpolation,
) -> Option<Kernel> {
    let dims = &desc.inputs[0].dims;
    let (h, w, dtype) = (dims[2], dims[3], desc.inputs[0].dtype);
    let rows = desc.outputs[0].numel().checked_div(width).unwrap_or(0);
    let (vertical, horizontal) = (blends(h, height, kind), blends(w, width, kind));
    Some(Kernel::new(rows * (w + width), move |team, operands| {
        with_scratch(3 * w + width, |scratch| {
            let (low, rest) = scratch.split_at_mut(w);
            let (high, rest) = rest.split_at_mut(w);
            let (mixed, out) = rest.split_at_mut(w);
            for row in team.share(rows, (GRAIN / width.max(1)).max(1)) {
                let from = vertical[row % height];
                let low = read_row(operands, dtype, row / height * h + from.low, low);
                if kind == Interpolation::Nearest {
                    out.iter_mut().zip(&horizontal).for_each(|(out, at)| *out = low[at.low]);
                } else {
                    let high = read_row(operands, dtype, row / height * h + from.high, high);
                    for ((mixed, low), high) in mixed.iter_mut().zip(low).zip(high) {
                        *mixed = low * (1.0 - from.share) + high * from.share;
                    }
                    for (out, at) in out.iter_mut().zip(&horizontal) {
                        *out = mixed[at.low] * (1.0 - at.share) + mixed[at.high] * at.share;
                    }
                }
                memory::narrow(dtype, bytemuck::cast_slice(out), operands, 0, row * width, false);
            }
        });
    }))
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, Op};

    use super::*;
    use crate::launch_test::{check_op, operand};

    const DTYPES: [(DType, f64); 3] = [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)];

    #[test]
    fn windows_are_pooled_in_any_number_of_dimensions() {
        for (dtype, near) in DTYPES {
            for kind in [PoolKind::Avg, PoolKind::Max] {
                let cases: [(&[usize], &[usize], &[usize]); 5] = [
                    (&[2, 3, 41], &[3], &[2]),
                    (&[2, 3, 8, 40], &[2, 2], &[2, 2]),
                    (&[1, 2, 5, 7], &[3, 2], &[1, 3]),
                    (&[1, 2, 4, 5, 6], &[2, 1, 3], &[2, 2, 1]),
                    (&[0, 2, 4], &[2], &[1]),
                ];
                for (dims, window, stride) in cases {
                    let op = Composite::Pool { kind, window: window.into(), stride: stride.into() };
                    check_op(&Op::Composite(op), &[operand(dtype, dims, 1)], near);
                }
            }
        }
    }

    #[test]
    fn images_are_resized_in_every_way() {
        let kinds = [true, false].map(|align_corners| Interpolation::Bilinear { align_corners });
        for (dtype, near) in DTYPES {
            for kind in kinds.into_iter().chain([Interpolation::Nearest]) {
                for (dims, size) in [
                    ([2, 3, 4, 5], [9, 13]),
                    ([1, 1, 7, 6], [3, 1]),
                    ([1, 2, 1, 1], [4, 3]),
                    ([1, 1, 3, 3], [0, 2]),
                ] {
                    let op = Op::Composite(Composite::Upsample { size, kind });
                    check_op(&op, &[operand(dtype, &dims, 1)], near);
                }
            }
        }
    }
}
