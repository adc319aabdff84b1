use percept_graph::{AttentionSpec, OpDesc};

use super::{BLOCK, KeyBlock, Mask, Shape, load_queries, transpose_block};
use crate::fused::memory;
use crate::kernel::{Kernel, Operands};
use crate::lanes::{WIDTH, simd};
use crate::scratch::with_scratch;
use crate::tile::{Left, Right, product};
use crate::vector_math as vm;

/// Query rows whose weights are held at a time.
const TILE_ROWS: usize = 32;

simd! {
    /// From scores and the gradient of the weights to weights and the gradient of the raw scores, one row.
    fn differentiate(
        l, scores: &mut [f32; BLOCK], gradient: &mut [f32; BLOCK], lse: f32, dot: f32, scale: f32, cap: f32,
    ) {
        let (one, low) = (l.splat(1.0), l.splat(f32::NEG_INFINITY));
        let (lse, dot, scale) = (l.splat(if lse == f32::NEG_INFINITY { 0.0 } else { lse }), l.splat(dot), l.splat(scale));
        for (s, g) in scores.as_chunks_mut::<WIDTH>().0.iter_mut().zip(gradient.as_chunks_mut::<WIDTH>().0) {
            let raw = l.load(s);
            let masked = l.equal(raw, low);
            let (mut score, mut slope) = (raw, scale);
            if cap > 0.0 {
                let t = vm::tanh(l, l.mul(raw, l.splat(1.0 / cap)));
                score = l.mul(t, l.splat(cap));
                slope = l.mul(scale, l.sub(one, l.mul(t, t)));
            }
            let zero = l.splat(0.0);
            let p = l.select(masked, zero, vm::exp(l, l.sub(score, lse)));
            let ds = l.mul(l.mul(p, l.sub(l.load(g), dot)), slope);
            l.store(p, s);
            l.store(l.select(masked, zero, ds), g);
        }
    }
}

/// Gradients of attention to queries, keys and values. One key head is one task, which adds over its query rows in
/// order; so the sums do not depend on the threads.
pub(crate) fn attention_grad(desc: &OpDesc<'_>, spec: &AttentionSpec) -> Option<Kernel> {
    if spec.paged {
        return None;
    }
    let shape = Shape::of(desc, spec);
    let work = shape.batch * shape.heads * shape.queries * shape.keys * (shape.d + shape.e) / 20;
    Some(Kernel::new(work, move |team, operands| {
        team.tiles(shape.batch * shape.key_heads, |pair| {
            head_backward(&shape, operands, (pair / shape.key_heads, pair % shape.key_heads));
        });
    }))
}

fn head_backward(shape: &Shape, operands: &Operands<'_>, at: (usize, usize)) {
    let (b, key_head) = at;
    let mask = Mask::new(shape, operands, b);
    let keys = KeyBlock::new(shape, operands);
    let extra = 3 + shape.spec.optional_operands();
    let lse = operands.input::<f32>(extra + 1);
    let (d, e, n) = (shape.d.next_multiple_of(WIDTH), shape.e_lanes(), shape.rows());
    let cap = shape.spec.soft_cap.unwrap_or(0.0);
    let sizes = [
        n * d,
        n * e,
        n * d,
        n,
        BLOCK * d,
        BLOCK * d,
        BLOCK * e,
        BLOCK * e,
        TILE_ROWS * BLOCK,
        TILE_ROWS * BLOCK,
        BLOCK * d,
        BLOCK * e,
    ];
    let padded = sizes.map(|s| s.next_multiple_of(WIDTH));
    with_scratch(padded.iter().sum(), |mut scratch| {
        let [q, dout, dq, dots, k, kt, v, vt, scores, gradients, dk, dv] = padded.map(|size| {
            let (part, rest) = std::mem::take(&mut scratch).split_at_mut(size);
            scratch = rest;
            part
        });
        load_queries(shape, operands.input(extra + 2), shape.e, at, 0..n, 1.0, dout);
        row_dots(shape, operands.input(extra), at, dout, dots);
        load_queries(shape, operands.input(0), shape.d, at, 0..n, 1.0, q);
        dq.fill(0.0);
        for block in (0..shape.keys).step_by(BLOCK) {
            keys.keys(b, key_head, block, mask.live, k);
            transpose_block(k, d, kt);
            keys.values(b, key_head, block, mask.live, v);
            transpose_block(v, e, vt);
            dk.fill(0.0);
            dv.fill(0.0);
            for tile in (0..n).step_by(TILE_ROWS) {
                let count = TILE_ROWS.min(n - tile);
                if (tile..tile + count).all(|r| mask.sees_nothing(r, block)) {
                    continue;
                }
                let (queries, douts) = (&q[tile * d..], &dout[tile * e..]);
                let left = |data, row| Left { data, row, depth: 1 };
                let right = |data, row| Right { data, row };
                product(
                    left(queries, d),
                    right(kt, BLOCK),
                    scores,
                    BLOCK,
                    count,
                    shape.d,
                    BLOCK / WIDTH,
                    false,
                );
                product(
                    left(douts, e),
                    right(vt, BLOCK),
                    gradients,
                    BLOCK,
                    count,
                    shape.e,
                    BLOCK / WIDTH,
                    false,
                );
                let both =
                    scores.as_chunks_mut::<BLOCK>().0.iter_mut().zip(gradients.as_chunks_mut::<BLOCK>().0);
                for (r, (scores, gradients)) in (tile..tile + count).zip(both) {
                    scores.iter_mut().for_each(|s| *s *= shape.spec.scale);
                    mask.apply(r, block, scores);
                    let lse = lse[shape.query_start(b, key_head, r, 1)];
                    differentiate(scores, gradients, lse, dots[r], shape.spec.scale, cap);
                }
                product(
                    left(gradients, BLOCK),
                    right(k, d),
                    &mut dq[tile * d..],
                    d,
                    count,
                    BLOCK,
                    d / WIDTH,
                    true,
                );
                let across = |data| Left { data, row: 1, depth: BLOCK };
                product(across(gradients), right(queries, d), dk, d, BLOCK, count, d / WIDTH, true);
                product(across(scores), right(douts, e), dv, e, BLOCK, count, e / WIDTH, true);
            }
            for j in 0..BLOCK.min(shape.keys - block) {
                let key = block + j;
                let start = |width| shape.key_start(&[], shape.batch, b, key_head, key, width);
                store(shape, &dk[j * d..j * d + shape.d], operands, 1, start(shape.d));
                store(shape, &dv[j * e..j * e + shape.e], operands, 2, start(shape.e));
            }
        }
        for r in 0..n {
            let start = shape.query_start(b, key_head, r, shape.d);
            store(shape, &dq[r * d..r * d + shape.d], operands, 0, start);
        }
    });
}

fn store(shape: &Shape, values: &[f32], operands: &Operands<'_>, output: usize, start: usize) {
    memory::narrow(shape.dtype, bytemuck::cast_slice(values), operands, output, start, false);
}

/// The product of each output row with its gradient.
fn row_dots(shape: &Shape, out: &[u8], at: (usize, usize), dout: &[f32], dots: &mut [f32]) {
    let e = shape.e_lanes();
    let mut row = vec![0.0; e];
    for (r, dot) in dots.iter_mut().enumerate().take(shape.rows()) {
        load_queries(shape, out, shape.e, at, r..r + 1, 1.0, &mut row);
        *dot = row_dot(&row, &dout[r * e..(r + 1) * e]);
    }
}

simd! {
    fn row_dot(l, a: &[f32], b: &[f32]) -> f32 {
        crate::rows::sum_rows!(l, [a: a, b: b], acc => l.fma(a, b, acc))
    }
}
