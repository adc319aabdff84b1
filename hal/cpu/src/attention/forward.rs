use std::ops::Range;

use percept_graph::{AttentionSpec, OpDesc};

use super::{BLOCK, KeyBlock, Mask, Shape, load_queries, transpose_block};
use crate::fused::memory;
use crate::kernel::{Kernel, Operands};
use crate::lanes::{WIDTH, simd};
use crate::pool::Team;
use crate::scratch::with_scratch;
use crate::tile::{Left, Right, product};
use crate::vector_math as vm;

/// Keys whose weights are summed together, under one running maximum; the sums of the splits are merged in order.
/// Few rows share out their splits over the threads, many rows themselves, to the same bits.
const SPLIT: usize = 4 * BLOCK;
/// Query rows that share one pass over the keys.
const CHUNK_ROWS: usize = 256;
/// Query rows whose scores are held at a time: whole register tiles of every instruction set.
const TILE_ROWS: usize = 12;

simd! {
    /// Turns the scores of up to [`TILE_ROWS`] rows into weights `e^(score - max)` with the rows' running maxima, and
    /// rescales what a row (of `e` lanes) has summed so far when its maximum grows. `sum` is kept lane by lane.
    fn weigh(
        l, scores: &mut [[f32; BLOCK]], max: &mut [f32], sum: &mut [[f32; WIDTH]], out: &mut [f32], e: usize,
        cap: f32,
    ) {
        if cap > 0.0 {
            for x in scores.as_flattened_mut().as_chunks_mut::<WIDTH>().0 {
                let score = l.load(x);
                // A masked score stays masked.
                let capped = l.mul(vm::tanh(l, l.mul(score, l.splat(1.0 / cap))), l.splat(cap));
                l.store(l.select(l.equal(score, l.splat(f32::NEG_INFINITY)), score, capped), x);
            }
        }
        // Each step is done for all rows before the next, so that no row waits for what another one is computing.
        let mut shifts = [0.0; TILE_ROWS];
        for (r, scores) in scores.iter().enumerate() {
            let x = scores.as_chunks::<WIDTH>().0;
            // The accumulated maximum is the last operand, which a NaN score leaves alone; its weight is NaN anyway.
            let top = l.max(l.load(&x[1]), l.max(l.load(&x[0]), l.splat(max[r])));
            shifts[r] = l.greatest(l.max(l.load(&x[3]), l.max(l.load(&x[2]), top)));
        }
        for (r, shift) in shifts.iter_mut().enumerate().take(scores.len()) {
            let greatest = *shift;
            *shift = if greatest == f32::NEG_INFINITY { 0.0 } else { greatest };
            if greatest != max[r] {
                let factor = vm::exp_negative(l, l.splat(max[r] - *shift));
                for out in out[r * e..(r + 1) * e].as_chunks_mut::<WIDTH>().0 {
                    l.store(l.mul(l.load(out), factor), out);
                }
                l.store(l.mul(l.load(&sum[r]), factor), &mut sum[r]);
                max[r] = greatest;
            }
        }
        for (r, scores) in scores.iter_mut().enumerate() {
            let (shift, x) = (l.splat(shifts[r]), scores.as_chunks_mut::<WIDTH>().0);
            let mut pairs = [l.splat(0.0); 2];
            for i in 0..2 {
                let first = vm::exp_negative(l, l.sub(l.load(&x[2 * i]), shift));
                let second = vm::exp_negative(l, l.sub(l.load(&x[2 * i + 1]), shift));
                l.store(first, &mut x[2 * i]);
                l.store(second, &mut x[2 * i + 1]);
                pairs[i] = l.add(first, second);
            }
            l.store(l.add(l.load(&sum[r]), l.add(pairs[0], pairs[1])), &mut sum[r]);
        }
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

simd! {
    /// Adds what another split's keys gave a row to what it has: `max`, `sum` and `out` as [`weigh`] leaves them.
    fn merge_row(
        l, max: &mut f32, sum: &mut [f32; WIDTH], out: &mut [f32],
        other_max: f32, other_sum: &[f32; WIDTH], other: &[f32],
    ) {
        let nothing = |max: f32, sum: f32| max == f32::NEG_INFINITY && sum == 0.0;
        if nothing(other_max, l.sum(l.load(other_sum))) {
            return;
        }
        if nothing(*max, l.sum(l.load(sum))) {
            *max = other_max;
            sum.copy_from_slice(other_sum);
            out.copy_from_slice(other);
            return;
        }
        let greatest = max.max(other_max);
        let shift = if greatest == f32::NEG_INFINITY { 0.0 } else { greatest };
        let own = vm::exp_negative(l, l.splat(*max - shift));
        let others = vm::exp_negative(l, l.splat(other_max - shift));
        for (out, other) in out.as_chunks_mut::<WIDTH>().0.iter_mut().zip(other.as_chunks::<WIDTH>().0) {
            l.store(l.fma(l.load(other), others, l.mul(l.load(out), own)), out);
        }
        l.store(l.fma(l.load(other_sum), others, l.mul(l.load(sum), own)), sum);
        *max = greatest;
    }
}

/// What query rows have summed so far: weighted values (`e` lanes a row), weights lane by lane, the greatest score.
struct Sums<'a> {
    out: &'a mut [f32],
    sum: &'a mut [[f32; WIDTH]],
    max: &'a mut [f32],
    e: usize,
}

impl<'a> Sums<'a> {
    /// Floats for `n` rows of `e` lanes, on whole cache lines.
    fn size(n: usize, e: usize) -> usize {
        n * (e + WIDTH) + n.next_multiple_of(WIDTH)
    }

    /// In memory of that size, holding whatever the memory holds.
    fn new(memory: &'a mut [f32], n: usize, e: usize) -> Sums<'a> {
        let (out, rest) = memory.split_at_mut(n * e);
        let (sum, max) = rest.split_at_mut(n * WIDTH);
        Sums { out, sum: sum.as_chunks_mut().0, max: &mut max[..n], e }
    }

    fn clear(&mut self) {
        self.out.fill(0.0);
        self.sum.as_flattened_mut().fill(0.0);
        self.max.fill(f32::NEG_INFINITY);
    }

    fn merge(&mut self, other: &Sums<'_>) {
        let e = self.e;
        for (i, max) in self.max.iter_mut().enumerate() {
            let row = i * e..(i + 1) * e;
            let (out, others) = (&mut self.out[row.clone()], &other.out[row]);
            merge_row(max, &mut self.sum[i], out, other.max[i], &other.sum[i], others);
        }
    }

    /// Divides by the sums of weights and stores rows `rows` of the results.
    fn finish(
        self,
        shape: &Shape,
        operands: &Operands<'_>,
        (b, key_head): (usize, usize),
        rows: Range<usize>,
    ) {
        for (i, r) in rows.enumerate() {
            let row = &mut self.out[i * self.e..(i + 1) * self.e];
            let total = normalize(row, &self.sum[i]);
            let start = shape.query_start(b, key_head, r, shape.e);
            memory::narrow(shape.dtype, bytemuck::cast_slice(&row[..shape.e]), operands, 0, start, false);
            let at = shape.query_start(b, key_head, r, 1);
            // SAFETY: each query row belongs to one task.
            unsafe { operands.output::<f32>(1).part(at..at + 1)[0] = self.max[i] + total.ln() };
        }
    }
}

/// `softmax(q k^T scale) v` and the logarithm of the softmax's denominator.
pub(crate) fn attention(desc: &OpDesc<'_>, spec: &AttentionSpec, threads: usize) -> Option<Kernel> {
    let shape = Shape::of(desc, spec);
    let chunk = chunk_rows(&shape);
    let chunks = shape.rows().div_ceil(chunk);
    let pairs = shape.batch * shape.key_heads;
    let work = shape.batch * shape.heads * shape.queries * shape.keys * (shape.d + shape.e) / 50;
    let splits = shape.keys.div_ceil(SPLIT);
    let size = Sums::size(shape.rows(), shape.e_lanes());
    let by_splits = chunks == 1 && splits > 1 && pairs < 8 * threads;
    let workspace = if by_splits { pairs * splits * size * 4 } else { 0 };
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        let pair = |i: usize| (i / shape.key_heads, i % shape.key_heads);
        if !by_splits {
            team.tiles(pairs * chunks, |task| {
                let rows = task % chunks * chunk..shape.rows().min((task % chunks + 1) * chunk);
                Chunk::new(&shape, operands, pair(task / chunks), rows).forward();
            });
            return;
        }
        let work = operands.workspace::<f32>();
        // SAFETY: each split's sums are one thread's before the barrier, each pair's after it.
        let place = |task: usize| unsafe { work.part(task * size..(task + 1) * size) };
        team.tiles(pairs * splits, |task| {
            let chunk = Chunk::new(&shape, operands, pair(task / splits), 0..shape.rows());
            if chunk.splits().contains(&(task % splits)) {
                chunk.split_forward(task % splits, place(task));
            }
        });
        team.barrier();
        team.tiles(pairs, |i| {
            let chunk = Chunk::new(&shape, operands, pair(i), 0..shape.rows());
            chunk.merged(|split| place(i * splits + split));
        });
    };
    Some(Kernel::with_workspace(workspace, work, body))
}

/// Enough chunks to share out evenly, each long enough to pay for its pass over the keys.
fn chunk_rows(shape: &Shape) -> usize {
    let pairs = shape.batch * shape.key_heads;
    let wanted = if pairs >= 8 { CHUNK_ROWS } else { CHUNK_ROWS / 4 };
    wanted.min(shape.rows()).max(1)
}

/// Query rows of one key head that share a pass over its keys.
struct Chunk<'a> {
    shape: &'a Shape,
    operands: &'a Operands<'a>,
    pair: (usize, usize),
    rows: Range<usize>,
    mask: Mask<'a>,
    /// Keys that any of the rows may attend to.
    seen: Range<usize>,
}

impl<'a> Chunk<'a> {
    fn new(
        shape: &'a Shape,
        operands: &'a Operands<'a>,
        pair: (usize, usize),
        rows: Range<usize>,
    ) -> Chunk<'a> {
        let mask = Mask::new(shape, operands, pair.0);
        let ranges = rows.clone().map(|r| mask.range(r)).filter(|seen| !seen.is_empty());
        let seen = ranges.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        Chunk { shape, operands, pair, rows, mask, seen }
    }

    /// Splits that hold keys the rows may attend to.
    fn splits(&self) -> Range<usize> {
        self.seen.start / SPLIT..self.seen.end.div_ceil(SPLIT)
    }

    /// All splits in order, and the results.
    fn forward(self) {
        let (shape, n) = (self.shape, self.rows.len());
        let (d, e) = (shape.d.next_multiple_of(WIDTH), shape.e_lanes());
        let size = Sums::size(n, e);
        with_scratch(n * d + 2 * size + Chunk::buffers(shape), |scratch| {
            let (q, rest) = scratch.split_at_mut(n * d);
            let (total, rest) = rest.split_at_mut(size);
            let (sums, buffers) = rest.split_at_mut(size);
            load_queries(
                shape,
                self.operands.input(0),
                shape.d,
                self.pair,
                self.rows.clone(),
                shape.spec.scale,
                q,
            );
            let mut total = Sums::new(total, n, e);
            total.clear();
            for split in self.splits() {
                if split == self.splits().start {
                    self.add_split(split, q, &mut total, buffers);
                    continue;
                }
                let mut sums = Sums::new(sums, n, e);
                sums.clear();
                self.add_split(split, q, &mut sums, buffers);
                total.merge(&sums);
            }
            total.finish(shape, self.operands, self.pair, self.rows);
        });
    }

    /// The sums of one split alone.
    fn split_forward(&self, split: usize, sums: &mut [f32]) {
        let (shape, n) = (self.shape, self.rows.len());
        let d = shape.d.next_multiple_of(WIDTH);
        with_scratch(n * d + Chunk::buffers(shape), |scratch| {
            let (q, buffers) = scratch.split_at_mut(n * d);
            load_queries(
                shape,
                self.operands.input(0),
                shape.d,
                self.pair,
                self.rows.clone(),
                shape.spec.scale,
                q,
            );
            let mut sums = Sums::new(sums, n, shape.e_lanes());
            sums.clear();
            self.add_split(split, q, &mut sums, buffers);
        });
    }

    /// The splits' sums merged in order, and the results. `place` gives each its own memory.
    fn merged(self, place: impl Fn(usize) -> &'a mut [f32]) {
        let (n, e) = (self.rows.len(), self.shape.e_lanes());
        let splits = self.splits();
        let mut total = Sums::new(place(splits.start), n, e);
        if splits.is_empty() {
            total.clear();
        }
        for split in splits.skip(1) {
            total.merge(&Sums::new(place(split), n, e));
        }
        total.finish(self.shape, self.operands, self.pair, self.rows);
    }

    /// Floats that [`Chunk::add_split`] needs.
    fn buffers(shape: &Shape) -> usize {
        let (d, e) = (shape.d.next_multiple_of(WIDTH), shape.e_lanes());
        2 * BLOCK * d + BLOCK * e + TILE_ROWS * BLOCK
    }

    /// Adds the weighted values of a split's keys to the sums of the rows.
    fn add_split(&self, split: usize, q: &[f32], sums: &mut Sums<'_>, buffers: &mut [f32]) {
        let (shape, mask, rows) = (self.shape, &self.mask, &self.rows);
        let (d, e, n) = (shape.d.next_multiple_of(WIDTH), shape.e_lanes(), self.rows.len());
        let (k, rest) = buffers.split_at_mut(BLOCK * d);
        let (kt, rest) = rest.split_at_mut(BLOCK * d);
        let (v, scores) = rest.split_at_mut(BLOCK * e);
        let keys = KeyBlock::new(shape, self.operands);
        let (b, key_head) = self.pair;
        let first = self.seen.start.max(split * SPLIT) / BLOCK * BLOCK;
        let last = self.seen.end.min((split + 1) * SPLIT);
        for block in (first..last).step_by(BLOCK) {
            transpose_block(keys.keys_in_place(b, key_head, block, mask.live, k), d, kt);
            let values = keys.values_in_place(b, key_head, block, mask.live, v);
            for tile in (0..n).step_by(TILE_ROWS) {
                let count = TILE_ROWS.min(n - tile);
                if (tile..tile + count).all(|r| mask.sees_nothing(rows.start + r, block)) {
                    continue;
                }
                let left = Left { data: &q[tile * d..], row: d, depth: 1 };
                let right = Right { data: kt, row: BLOCK };
                product(left, right, scores, BLOCK, count, shape.d, BLOCK / WIDTH, false);
                let held = &mut scores.as_chunks_mut::<BLOCK>().0[..count];
                for (r, scores) in held.iter_mut().enumerate() {
                    mask.apply(rows.start + tile + r, block, scores);
                }
                let (max, sum) = (&mut sums.max[tile..], &mut sums.sum[tile..]);
                let cap = shape.spec.soft_cap.unwrap_or(0.0);
                weigh(held, max, sum, &mut sums.out[tile * e..], e, cap);
                let left = Left { data: scores, row: BLOCK, depth: 1 };
                let right = Right { data: values, row: e };
                product(left, right, &mut sums.out[tile * e..], e, count, BLOCK, e / WIDTH, true);
            }
        }
    }
}
