//! Rotary position embedding (Su et al. 2021).

use percept_graph::{DType, OpDesc};

use crate::fused::memory;
use crate::kernel::Kernel;
use crate::lanes::{WIDTH, simd};
use crate::scratch::with_scratch;

simd! {
    /// Turns the halves of a row by the angles: `(a, b)` to `(a cos - b sin, b cos + a sin)`.
    fn rotate_halves(l, a: &mut [f32], b: &mut [f32], cos: &[f32], sin: &[f32]) {
        let mut i = 0;
        while i < a.len() {
            let n = WIDTH.min(a.len() - i);
            let (x, y) = (l.load_first(&a[i..i + n], 0.0), l.load_first(&b[i..i + n], 0.0));
            let (c, s) = (l.load_first(&cos[i..i + n], 0.0), l.load_first(&sin[i..i + n], 0.0));
            l.store_first(l.sub(l.mul(x, c), l.mul(y, s)), &mut a[i..i + n]);
            l.store_first(l.add(l.mul(y, c), l.mul(x, s)), &mut b[i..i + n]);
            i += n;
        }
    }
}

/// Pairs of neighbours instead of halves.
fn rotate_neighbours(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    for ((pair, c), s) in x.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
        let [a, b] = *pair;
        *pair = [a * c - b * s, b * c + a * s];
    }
}

/// The first features of `[b, h, t, d]` rotated by angles given as cosines and sines `[b, t, r/2]`.
pub(crate) fn rope(desc: &OpDesc<'_>, interleaved: bool) -> Option<Kernel> {
    let dims = &desc.inputs[0].dims;
    let (dtype, half): (DType, usize) = (desc.inputs[0].dtype, desc.inputs[1].dims[2]);
    let (h, t, d) = (dims[1], dims[2], dims[3]);
    let rows = dims[0] * h * t;
    Some(Kernel::new(rows * d, move |team, operands| {
        let (x, cos, sin) = (operands.input::<u8>(0), operands.input::<f32>(1), operands.input::<f32>(2));
        with_scratch(d, |row| {
            for i in team.share(rows, (4096 / d.max(1)).max(1)) {
                memory::widen(dtype, x, i * d, 1, bytemuck::cast_slice_mut(row));
                let at = (i / (h * t) * t + i % t) * half;
                let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
                if interleaved {
                    rotate_neighbours(&mut row[..2 * half], cos, sin);
                } else {
                    let (a, b) = row[..2 * half].split_at_mut(half);
                    rotate_halves(a, b, cos, sin);
                }
                memory::narrow(dtype, bytemuck::cast_slice(row), operands, 0, i * d, false);
            }
        });
    }))
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, Op};

    use super::*;
    use crate::launch_test::{check_op, operand};

    #[test]
    fn pairs_are_rotated_and_the_rest_passes() {
        for (dtype, near) in [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)] {
            for (d, half) in [(2, 1), (64, 32), (50, 20), (8, 0)] {
                for interleaved in [false, true] {
                    let x = operand(dtype, &[2, 3, 5, d], 1);
                    let angles =
                        [operand(DType::F32, &[2, 5, half], 2), operand(DType::F32, &[2, 5, half], 3)];
                    let op = Op::Composite(Composite::Rope { interleaved });
                    check_op(&op, &[x, angles[0].clone(), angles[1].clone()], near);
                }
            }
        }
    }
}
