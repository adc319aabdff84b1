//! Small matrix products held in registers, the inner loops of attention.

use crate::lanes::{Lanes, WIDTH, simd};

/// The left factor: element `(i, j)` lies at `i * row + j * depth`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub data: &'a [f32],
    pub row: usize,
    pub depth: usize,
}

/// The right factor: rows of whole lane vectors, `row` elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Right<'a> {
    pub data: &'a [f32],
    pub row: usize,
}

/// One register tile of `R` rows and `V` vectors: `c = start + a b`, the products added in order of depth.
///
/// # Safety
/// The pointers reach every element of the tile's factors and result.
#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const V: usize>(
    l: L,
    (a, a_row, a_depth): (*const f32, usize, usize),
    (b, b_row): (*const f32, usize),
    (c, c_row): (*mut f32, usize),
    depth: usize,
    accumulate: bool,
) {
    let mut acc = [[l.splat(0.0); V]; R];
    if accumulate {
        for (i, acc) in acc.iter_mut().enumerate() {
            for (j, acc) in acc.iter_mut().enumerate() {
                // SAFETY: within the result by the caller's promise.
                *acc = l.load(unsafe { &*c.add(i * c_row + j * WIDTH).cast() });
            }
        }
    }
    for k in 0..depth {
        // SAFETY: within the right factor by the caller's promise.
        let b: [L::F; V] = std::array::from_fn(|j| l.load(unsafe { &*b.add(k * b_row + j * WIDTH).cast() }));
        for (i, acc) in acc.iter_mut().enumerate() {
            // SAFETY: within the left factor by the caller's promise.
            let x = l.splat(unsafe { *a.add(i * a_row + k * a_depth) });
            for (acc, b) in acc.iter_mut().zip(b) {
                *acc = l.fma(x, b, *acc);
            }
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        for (j, acc) in acc.iter().enumerate() {
            // SAFETY: within the result by the caller's promise.
            l.store(*acc, unsafe { &mut *c.add(i * c_row + j * WIDTH).cast() });
        }
    }
}

simd! {
    /// `c = a b`, or `c += a b`: `rows` rows of `vectors` lane vectors, `c_row` apart. Each element is summed in order
    /// of depth by fused multiply-adds, whatever tile it falls into.
    pub(crate) fn product(
        l, a: Left<'_>, b: Right<'_>, c: &mut [f32], c_row: usize,
        rows: usize, depth: usize, vectors: usize, accumulate: bool,
    ) {
        if rows == 0 || vectors == 0 {
            return;
        }
        assert!((rows - 1) * c_row + vectors * WIDTH <= c.len());
        if depth > 0 {
            assert!((rows - 1) * a.row + (depth - 1) * a.depth < a.data.len());
            assert!((depth - 1) * b.row + vectors * WIDTH <= b.data.len());
        }
        // Few rows leave registers for more vectors, without which each product would wait for the one before it.
        let (most, wide) = match (L::TILE, rows) {
            ((_, 1), 1) => (1, 4),
            ((_, 1), 2..=3) => (3, 2),
            (tile, _) => tile,
        };
        let mut j = 0;
        while j < vectors {
            let wide = if vectors - j >= wide { wide } else { 1 };
            let mut i = 0;
            while i < rows {
                let height = (rows - i).min(most);
                // SAFETY: the tile lies inside the block whose last elements were checked above.
                unsafe {
                    let a = (a.data.as_ptr().add(i * a.row), a.row, a.depth);
                    let b = (b.data.as_ptr().add(j * WIDTH), b.row);
                    let c = (c.as_mut_ptr().add(i * c_row + j * WIDTH), c_row);
                    match (height, wide) {
                        (4, 4) => tile::<L, 4, 4>(l, a, b, c, depth, accumulate),
                        (3, 4) => tile::<L, 3, 4>(l, a, b, c, depth, accumulate),
                        (2, 4) => tile::<L, 2, 4>(l, a, b, c, depth, accumulate),
                        (_, 4) => tile::<L, 1, 4>(l, a, b, c, depth, accumulate),
                        (3, 2) => tile::<L, 3, 2>(l, a, b, c, depth, accumulate),
                        (_, 2) => tile::<L, 2, 2>(l, a, b, c, depth, accumulate),
                        (6, _) => tile::<L, 6, 1>(l, a, b, c, depth, accumulate),
                        (5, _) => tile::<L, 5, 1>(l, a, b, c, depth, accumulate),
                        (4, _) => tile::<L, 4, 1>(l, a, b, c, depth, accumulate),
                        (3, _) => tile::<L, 3, 1>(l, a, b, c, depth, accumulate),
                        (2, _) => tile::<L, 2, 1>(l, a, b, c, depth, accumulate),
                        _ => tile::<L, 1, 1>(l, a, b, c, depth, accumulate),
                    }
                }
                i += height;
            }
            j += wide;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::on_every_isa;

    #[test]
    fn every_tile_shape_sums_in_order_of_depth() {
        on_every_isa(|isa| {
            for (rows, depth, vectors) in [
                (1, 3, 1),
                (1, 9, 5),
                (2, 5, 3),
                (3, 8, 6),
                (4, 7, 4),
                (7, 64, 5),
                (9, 1, 9),
                (5, 0, 2),
                (12, 3, 4),
            ] {
                let (b_row, c_row) = (vectors * WIDTH + 3, vectors * WIDTH + 1);
                let a: Vec<f32> = (0..rows * depth).map(|i| (i as f32 * 0.37).sin()).collect();
                let b: Vec<f32> = (0..depth * b_row).map(|i| (i as f32 * 0.11).cos()).collect();
                let start: Vec<f32> = (0..rows * c_row).map(|i| i as f32 * 1e-3).collect();
                for accumulate in [false, true] {
                    let mut c = start.clone();
                    let left = Left { data: &a, row: 1, depth: rows };
                    let right = Right { data: &b, row: b_row };
                    product(left, right, &mut c, c_row, rows, depth, vectors, accumulate);
                    for i in 0..rows {
                        for j in 0..vectors * WIDTH {
                            let zero = if accumulate { start[i * c_row + j] } else { 0.0 };
                            let sum = (0..depth)
                                .fold(zero, |sum, k| a[i + k * rows].mul_add(b[k * b_row + j], sum));
                            assert_eq!(c[i * c_row + j], sum, "{isa:?} {rows} {depth} {vectors} {i} {j}");
                        }
                    }
                }
            }
        });
    }
}
