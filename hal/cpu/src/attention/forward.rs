use std::ops::Range;

use percept_graph::{AttentionSpec, OpDesc};

use super::{BLOCK, KeyBlock, Mask, Shape, load_queries, transpose_block};
use crate::fused::memory;
use crate::kernel::{Kernel, Operands};
use crate::lanes::{WIDTH, simd};
use crate::scratch::with_scratch;
use crate::tile::{Left, Right, product};
use crate::vector_math as vm;

/// Query rows that share one pass over the keys.
const CHUNK_ROWS: usize = 256;
/// Query rows whose scores are held at a time.
const TILE_ROWS: usize = 4;

simd! {
    /// Turns a row's scores into weights `e^(score - max)` with the running maximum, and rescales what the row has
    /// summed so far when the maximum grows. `sum` is kept lane by lane.
    fn weigh(l, scores: &mut [f32; BLOCK], max: &mut f32, sum: &mut [f32; WIDTH], out: &mut [f32], cap: f32) {
        let (vectors, _) = scores.as_chunks_mut::<WIDTH>();
        let mut x: [L::F; BLOCK / WIDTH] = std::array::from_fn(|i| l.load(&vectors[i]));
        if cap > 0.0 {
            for x in &mut x {
                // A masked score stays masked.
                let capped = l.mul(vm::tanh(l, l.mul(*x, l.splat(1.0 / cap))), l.splat(cap));
                *x = l.select(l.equal(*x, l.splat(f32::NEG_INFINITY)), *x, capped);
            }
        }
        // The accumulated maximum is the second operand, which a NaN score leaves alone; its weight is NaN anyway.
        let top = l.max(x[3], l.max(x[2], l.max(x[1], l.max(x[0], l.splat(*max)))));
        let greatest = l.greatest(top);
        let shift = if greatest == f32::NEG_INFINITY { 0.0 } else { greatest };
        if greatest != *max {
            let factor = l.splat((*max - shift).exp());
            for out in out.as_chunks_mut::<WIDTH>().0 {
                l.store(l.mul(l.load(out), factor), out);
            }
            l.store(l.mul(l.load(sum), factor), sum);
            *max = greatest;
        }
        let shift = l.splat(shift);
        for (x, to) in x.iter_mut().zip(vectors.iter_mut()) {
            *x = vm::exp(l, l.sub(*x, shift));
            l.store(*x, to);
        }
        let added = l.add(l.add(x[0], x[1]), l.add(x[2], x[3]));
        l.store(l.add(l.load(sum), added), sum);
    }
}

simd! {
    /// Divides a row by its sum, in place; returns the sum.
    fn normalize(l, out: &mut [f32], sum: &[f32; WIDTH]) -> f32 {
        let total = l.sum(l.load(sum));
        let (factor, zero) = (l.splat(if total == 0.0 { 0.0 } else { 1.0 / total }), l.splat(0.0));
        for out in out.as_chunks_mut::<WIDTH>().0 {
            // Adding zero makes -0 into +0: masked keys may or may not have turned its sign.
            l.store(l.fma(l.load(out), factor, zero), out);
        }
        total
    }
}

/// `softmax(q k^T scale) v` and the logarithm of the softmax's denominator.
pub(crate) fn attention(desc: &OpDesc<'_>, spec: &AttentionSpec) -> Option<Kernel> {
    let shape = Shape::of(desc, spec);
    let chunk = chunk_rows(&shape);
    let chunks = shape.rows().div_ceil(chunk);
    let tasks = shape.batch * shape.key_heads * chunks;
    let work = shape.batch * shape.heads * shape.queries * shape.keys * (shape.d + shape.e) / 50;
    Some(Kernel::new(work, move |team, operands| {
        team.tiles(tasks, |task| {
            let (pair, part) = (task / chunks, task % chunks);
            let rows = part * chunk..shape.rows().min((part + 1) * chunk);
            chunk_forward(&shape, operands, (pair / shape.key_heads, pair % shape.key_heads), rows);
        });
    }))
}

/// Enough chunks to share out evenly, each long enough to pay for its pass over the keys.
fn chunk_rows(shape: &Shape) -> usize {
    let pairs = shape.batch * shape.key_heads;
    let wanted = if pairs >= 8 { CHUNK_ROWS } else { CHUNK_ROWS / 4 };
    wanted.min(shape.rows()).max(1)
}

fn chunk_forward(shape: &Shape, operands: &Operands<'_>, (b, key_head): (usize, usize), rows: Range<usize>) {
    let mask = Mask::new(shape, operands, b);
    let keys = KeyBlock::new(shape, operands);
    let (d, e) = (shape.d.next_multiple_of(WIDTH), shape.e_lanes());
    let n = rows.len();
    let sizes = [n * d, n * e, n * WIDTH, n, BLOCK * d, BLOCK * d, BLOCK * e, TILE_ROWS * BLOCK];
    let padded = sizes.map(|s| s.next_multiple_of(WIDTH));
    with_scratch(padded.iter().sum(), |mut scratch| {
        let [q, out, sums, max, k, kt, v, scores] = padded.map(|size| {
            let (part, rest) = std::mem::take(&mut scratch).split_at_mut(size);
            scratch = rest;
            part
        });
        load_queries(shape, operands.input(0), shape.d, (b, key_head), rows.clone(), shape.spec.scale, q);
        out.fill(0.0);
        sums.fill(0.0);
        max.fill(f32::NEG_INFINITY);
        let sums = sums.as_chunks_mut::<WIDTH>().0;
        let seen = rows.clone().map(|r| mask.range(r));
        let first = seen.clone().filter(|s| !s.is_empty()).map(|s| s.start).min().unwrap_or(0);
        let last = seen.map(|s| s.end).max().unwrap_or(0);
        for block in (first / BLOCK * BLOCK..last).step_by(BLOCK) {
            keys.keys(b, key_head, block, mask.live, k);
            transpose_block(k, d, kt);
            let values = keys.values_in_place(b, key_head, block, mask.live, v);
            for tile in (0..n).step_by(TILE_ROWS) {
                let count = TILE_ROWS.min(n - tile);
                let outside = |r: usize| {
                    let seen = mask.range(r);
                    seen.is_empty() || seen.end <= block || seen.start >= block + BLOCK
                };
                if (tile..tile + count).all(|r| outside(rows.start + r)) {
                    continue;
                }
                let left = Left { data: &q[tile * d..], row: d, depth: 1 };
                let right = Right { data: kt, row: BLOCK };
                product(left, right, scores, BLOCK, count, shape.d, BLOCK / WIDTH, false);
                let own = tile..tile + count;
                for (r, scores) in own.clone().zip(scores.as_chunks_mut::<BLOCK>().0) {
                    mask.apply(rows.start + r, block, scores);
                    let row = &mut out[r * e..(r + 1) * e];
                    weigh(scores, &mut max[r], &mut sums[r], row, shape.spec.soft_cap.unwrap_or(0.0));
                }
                let left = Left { data: scores, row: BLOCK, depth: 1 };
                let right = Right { data: values, row: e };
                product(left, right, &mut out[tile * e..], e, count, BLOCK, e / WIDTH, true);
            }
        }
        for (i, r) in rows.enumerate() {
            let row = &mut out[i * e..(i + 1) * e];
            let total = normalize(row, &sums[i]);
            let start = shape.query_start(b, key_head, r, shape.e);
            memory::narrow(shape.dtype, bytemuck::cast_slice(&row[..shape.e]), operands, 0, start, false);
            let at = shape.query_start(b, key_head, r, 1);
            // SAFETY: each query row belongs to one task.
            unsafe { operands.output::<f32>(1).part(at..at + 1)[0] = max[i] + total.ln() };
        }
    });
}
