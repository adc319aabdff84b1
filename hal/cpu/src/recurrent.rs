//! Operations that go through rows one after the other: the gated delta rule and short convolutions.
//!
//! Every row is added to the state by itself, in one order, so that a sequence gives the same bits whatever stands beside
//! it and however it is cut. A thread owns a range of columns (or channels) of all sequences, and so of all slots.

use percept_graph::{DType, OpDesc};

use crate::kernel::{Kernel, Operands};
use crate::lanes::{WIDTH, simd};
use crate::movement::copy_unless_in_place;
use crate::pool::Team;
use crate::scratch::with_scratch;
use crate::vector_math;

simd! {
    /// One row of the delta rule on sixteen columns of a state `[dk][16]`: gives the outputs of the first columns.
    fn delta_row(l, state: &mut [f32], q: &[f32], k: &[f32], v: &[f32], g: f32, beta: f32, out: &mut [f32]) {
        let decay = vector_math::exp(l, l.splat(g));
        let columns = state.as_chunks_mut::<WIDTH>().0;
        // Four sums in turn, so that no product waits for the one before it.
        let mut sums = [l.splat(0.0); 4];
        for (columns, k) in columns.chunks(4).zip(k.chunks(4)) {
            for ((sum, s), k) in sums.iter_mut().zip(columns).zip(k) {
                *sum = l.fma(l.load(s), l.splat(*k), *sum);
            }
        }
        let known = l.mul(decay, l.add(l.add(sums[0], sums[1]), l.add(sums[2], sums[3])));
        let new = l.mul(l.splat(beta), l.sub(l.load_first(v, 0.0), known));
        let mut sums = [l.splat(0.0); 4];
        for ((columns, k), q) in columns.chunks_mut(4).zip(k.chunks(4)).zip(q.chunks(4)) {
            for (((sum, s), k), q) in sums.iter_mut().zip(columns).zip(k).zip(q) {
                let next = l.fma(l.splat(*k), new, l.mul(decay, l.load(s)));
                l.store(next, s);
                *sum = l.fma(l.splat(*q), next, *sum);
            }
        }
        l.store_first(l.add(l.add(sums[0], sums[1]), l.add(sums[2], sums[3])), out);
    }
}

simd! {
    /// `out = w x`, or `out += w x`.
    fn tap(l, w: &[f32], x: &[f32], out: &mut [f32], is_first: bool) {
        let mut i = 0;
        while i < out.len() {
            let n = WIDTH.min(out.len() - i);
            let sum = if is_first { l.splat(0.0) } else { l.load_first(&out[i..i + n], 0.0) };
            let sum = l.fma(l.load_first(&w[i..i + n], 0.0), l.load_first(&x[i..i + n], 0.0), sum);
            l.store_first(sum, &mut out[i..i + n]);
            i += n;
        }
    }
}

/// The optional operands behind the first `first` ones.
#[derive(Clone, Copy)]
struct Carried {
    first: usize,
    segments: bool,
    /// Slots of the pool.
    slots: Option<usize>,
}

/// What an element of the batch does.
struct Sequence<'a> {
    /// Rows that count.
    rows: usize,
    /// Segments of its rows.
    segments: Option<&'a [i32]>,
    from: Option<usize>,
    to: Option<usize>,
}

impl Carried {
    fn new(desc: &OpDesc<'_>, first: usize, segments: bool, state: bool) -> Self {
        let slots = state.then(|| desc.inputs[first + usize::from(segments)].dims[0]);
        Self { first, segments, slots }
    }

    /// The operand that is the pool.
    fn pool(&self) -> usize {
        self.first + usize::from(self.segments)
    }

    fn sequence<'a>(&self, operands: &Operands<'a>, b: usize, t: usize) -> Sequence<'a> {
        let segments = self.segments.then(|| &operands.input::<i32>(self.first)[b * t..(b + 1) * t]);
        let Some(slots) = self.slots else { return Sequence { rows: t, segments, from: None, to: None } };
        let of = |operand: usize| operands.input::<i32>(self.pool() + operand)[b];
        // As a gather and a scatter take their indices.
        let from = usize::try_from(of(1)).ok().map(|slot| slot.min(slots - 1));
        let to = usize::try_from(of(2)).ok().filter(|slot| *slot < slots);
        Sequence { rows: usize::try_from(of(3)).unwrap_or(0).min(t), segments, from, to }
    }
}

/// Whether all operands that hold numbers are f32; other dtypes are decomposed.
fn is_plain(desc: &OpDesc<'_>) -> bool {
    desc.inputs[0].dtype == DType::F32
}

/// (q, k, v, g, beta, ..) -> out, pool?
pub(crate) fn gated_delta(desc: &OpDesc<'_>, segments: bool, state: bool) -> Option<Kernel> {
    if !is_plain(desc) {
        return None;
    }
    let carried = Carried::new(desc, 5, segments, state);
    let ([b, t, hk, dk], [_, _, h, dv]) = (extents(desc, 0), extents(desc, 2));
    let blocks = dv.div_ceil(WIDTH);
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        if state {
            copy_unless_in_place(team, operands, carried.pool(), 1);
        }
        let [q, k, v, g, beta] = [0, 1, 2, 3, 4].map(|i| operands.input::<f32>(i));
        let out = operands.output::<f32>(0);
        let pool = state.then(|| operands.output::<f32>(1));
        with_scratch(dk * WIDTH, |own| {
            for unit in team.share(h * blocks, 1) {
                let (head, column) = (unit / blocks, unit % blocks * WIDTH);
                let width = WIDTH.min(dv - column);
                let place = |slot: usize, i: usize| {
                    let at = ((slot * h + head) * dk + i) * dv + column;
                    at..at + width
                };
                for b in 0..b {
                    let sequence = carried.sequence(operands, b, t);
                    own.fill(0.0);
                    if let (Some(slot), Some(pool)) = (sequence.from, pool) {
                        for (i, own) in own.chunks_exact_mut(WIDTH).enumerate() {
                            // SAFETY: these columns of all slots are this thread's.
                            own[..width].copy_from_slice(unsafe { pool.part(place(slot, i)) });
                        }
                    }
                    for row in 0..t {
                        let at = ((b * t + row) * h + head) * dv + column;
                        // SAFETY: these columns of all rows are this thread's.
                        let out = unsafe { out.part(at..at + width) };
                        if row >= sequence.rows {
                            out.fill(0.0);
                            continue;
                        }
                        if sequence.segments.is_some_and(|s| row > 0 && s[row] != s[row - 1]) {
                            own.fill(0.0);
                        }
                        let key = ((b * t + row) * hk + head / (h / hk)) * dk;
                        let scalar = (b * t + row) * h + head;
                        let (q, k) = (&q[key..key + dk], &k[key..key + dk]);
                        delta_row(own, q, k, &v[at..at + width], g[scalar], beta[scalar], out);
                    }
                    if let (Some(slot), Some(pool)) = (sequence.to, pool) {
                        for (i, own) in own.chunks_exact(WIDTH).enumerate() {
                            // SAFETY: as above.
                            unsafe { pool.part(place(slot, i)) }.copy_from_slice(&own[..width]);
                        }
                    }
                }
            }
        });
    };
    let states = if state { 2 * b } else { 0 };
    let work = (b * t + states).saturating_mul(h * dk).saturating_mul(dv) / 4;
    Some(in_pool(Kernel::new(work, body), desc, state.then_some(carried.pool())))
}

/// (x, w, ..) -> y, pool?
pub(crate) fn short_conv(desc: &OpDesc<'_>, segments: bool, state: bool) -> Option<Kernel> {
    if !is_plain(desc) {
        return None;
    }
    let carried = Carried::new(desc, 2, segments, state);
    let x = &desc.inputs[0].dims;
    let (b, t, c, taps) = (x[0], x[1], x[2], desc.inputs[1].dims[1]);
    let before = taps - 1;
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        if state {
            copy_unless_in_place(team, operands, carried.pool(), 1);
        }
        let (x, w, out) = (operands.input::<f32>(0), operands.input::<f32>(1), operands.output::<f32>(0));
        let pool = state.then(|| operands.output::<f32>(1));
        let channels = team.share(c, WIDTH);
        let n = channels.len();
        if n == 0 {
            return;
        }
        with_scratch((taps + before) * n, |scratch| {
            // The weights by tap, and the rows before the first.
            let (weights, past) = scratch.split_at_mut(taps * n);
            for (tap, weights) in weights.chunks_exact_mut(n).enumerate() {
                weights.iter_mut().zip(channels.clone()).for_each(|(to, c)| *to = w[c * taps + tap]);
            }
            let kept = |slot: usize, i: usize| {
                let at = (slot * before + i) * c + channels.start;
                at..at + n
            };
            for b in 0..b {
                let sequence = carried.sequence(operands, b, t);
                past.fill(0.0);
                if let (Some(slot), Some(pool)) = (sequence.from, pool) {
                    for (i, past) in past.chunks_exact_mut(n).enumerate() {
                        // SAFETY: these channels of all slots are this thread's.
                        past.copy_from_slice(unsafe { pool.part(kept(slot, i)) });
                    }
                }
                // Row `i` of those before the first and the others behind them.
                let row_of = |i: usize| match i.checked_sub(before) {
                    Some(row) => {
                        let at = (b * t + row) * c + channels.start;
                        &x[at..at + n]
                    }
                    None => &past[i * n..(i + 1) * n],
                };
                for row in 0..t {
                    let at = (b * t + row) * c + channels.start;
                    // SAFETY: these channels of all rows are this thread's.
                    let out = unsafe { out.part(at..at + n) };
                    if row >= sequence.rows {
                        out.fill(0.0);
                        continue;
                    }
                    let hidden = |j: usize| {
                        let other = (row + j).checked_sub(before);
                        sequence.segments.zip(other).is_some_and(|(s, other)| s[other] != s[row])
                    };
                    let mut is_first = true;
                    for (j, weights) in weights.chunks_exact(n).enumerate() {
                        if !hidden(j) {
                            tap(weights, row_of(row + j), out, is_first);
                            is_first = false;
                        }
                    }
                }
                if let (Some(slot), Some(pool)) = (sequence.to, pool) {
                    for i in 0..before {
                        // SAFETY: these channels of all slots are this thread's.
                        unsafe { pool.part(kept(slot, i)) }.copy_from_slice(row_of(sequence.rows + i));
                    }
                }
            }
        });
    };
    let work = (b * t).saturating_mul(c * taps) / 4;
    Some(in_pool(Kernel::new(work, body), desc, state.then_some(carried.pool())))
}

/// With the time that a pool takes to be copied, where it does not lie in the result.
fn in_pool(kernel: Kernel, desc: &OpDesc<'_>, pool: Option<usize>) -> Kernel {
    let copied = pool.map_or(0, |i| desc.inputs[i].bytes() / 16);
    Kernel { work: kernel.work.saturating_add(copied), work_in_place: kernel.work, ..kernel }
}

fn extents(desc: &OpDesc<'_>, i: usize) -> [usize; 4] {
    std::array::from_fn(|axis| desc.inputs[i].dims[axis])
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, Op, TensorType};

    use super::*;
    use crate::lanes::on_every_isa;
    use crate::launch_test::{check_op, ints, operand, run_op};

    type Operand = (TensorType, Vec<f64>);

    /// q, k, v, g and beta, of keys that do not blow a state up.
    fn delta([b, t, hk, h, dk, dv]: [usize; 6], seed: u64) -> Vec<Operand> {
        let of = |dims: &[usize], seed: u64, f: &dyn Fn(f64) -> f64| {
            let (ty, mut x) = operand(DType::F32, dims, seed);
            x.iter_mut().for_each(|x| *x = f64::from(f(*x) as f32));
            (ty, x)
        };
        let scale = (dk as f64).powf(-0.5);
        vec![
            of(&[b, t, hk, dk], seed, &|x| x),
            of(&[b, t, hk, dk], seed + 1, &|x| x * scale),
            of(&[b, t, h, dv], seed + 2, &|x| x),
            of(&[b, t, h], seed + 3, &|x| -x.abs()),
            of(&[b, t, h], seed + 4, &|x| x.abs()),
        ]
    }

    fn with_pool(mut x: Vec<Operand>, pool: &[usize], slots: [&[i32]; 3]) -> Vec<Operand> {
        x.push(operand(DType::F32, pool, 9));
        x.extend(slots.map(|numbers| ints(&[numbers.len()], numbers)));
        x
    }

    #[test]
    fn the_delta_rule_agrees_with_its_decomposition_at_every_length() {
        on_every_isa(|_| {
            for extents in [
                [1, 1, 1, 1, 1, 1],
                [2, 5, 1, 2, 16, 16],
                [1, 70, 2, 6, 7, 19],
                [1, 130, 1, 1, 33, 40],
                [2, 0, 1, 1, 3, 4],
            ] {
                let op = |segments, state| Op::Composite(Composite::GatedDelta { segments, state });
                let [b, t, _, h, dk, dv] = extents;
                let x = delta(extents, 1);
                check_op(&op(false, false), &x, 2e-6);
                let numbers: Vec<i32> = (0..b * t).map(|i| (i % t.max(1)) as i32 / 3).collect();
                let segments = x.iter().cloned().chain([ints(&[b, t], &numbers)]).collect::<Vec<_>>();
                check_op(&op(true, false), &segments, 2e-6);
                let (from, to) = (&[2, -1][..b], &[0, 3][..b]);
                let pool = with_pool(x, &[4, h, dk, dv], [from, to, &[t as i32, (t as i32 - 2).max(0)][..b]]);
                check_op(&op(false, true), &pool, 2e-6);
            }
        });
    }

    #[test]
    fn short_convolutions_agree_with_their_definition() {
        on_every_isa(|_| {
            for (b, t, c, taps) in [(1, 1, 1, 1), (2, 7, 33, 4), (1, 2, 100, 3), (2, 0, 5, 4)] {
                let op = |segments, state| Op::Composite(Composite::ShortConv { segments, state });
                let x = vec![operand(DType::F32, &[b, t, c], 1), operand(DType::F32, &[c, taps], 2)];
                check_op(&op(false, false), &x, 1e-6);
                let numbers: Vec<i32> = (0..b * t).map(|i| (i % t.max(1)) as i32 / 2).collect();
                let segments = x.iter().cloned().chain([ints(&[b, t], &numbers)]).collect::<Vec<_>>();
                check_op(&op(true, false), &segments, 1e-6);
                let (from, to) = (&[1, -1][..b], &[1, 0][..b]);
                let pool =
                    with_pool(x, &[3, taps - 1, c], [from, to, &[t as i32, (t as i32 - 1).max(0)][..b]]);
                check_op(&op(false, true), &pool, 1e-6);
            }
        });
    }

    /// Rows of operands [b,t,..] of one element of the batch.
    fn rows(x: &[Operand], b: usize, at: std::ops::Range<usize>) -> Vec<Operand> {
        let of = |(ty, values): &Operand| {
            let (t, width) = (ty.dims[1], ty.dims[2..].iter().product::<usize>());
            let mut dims = ty.dims.clone();
            (dims[0], dims[1]) = (1, at.len());
            let from = (b * t + at.start) * width;
            (TensorType::new(ty.dtype, dims), values[from..from + at.len() * width].to_vec())
        };
        x.iter().map(of).collect()
    }

    /// A sequence gives the same bits in a batch, alone, and in runs cut in any way.
    #[test]
    fn a_sequence_is_the_same_alone_in_a_batch_and_in_any_chunking() {
        let op = Op::Composite(Composite::GatedDelta { segments: false, state: true });
        let (t, pool) = (150, [3, 4, 24, 40]);
        let x = delta([3, t, 2, 4, 24, 40], 5);
        let slots = with_pool(x.clone(), &pool, [&[-1, 1, -1], &[2, 1, 0], &[t as i32; 3]]);
        let batch = run_op(&op, &slots, 2);
        let width = batch[0].len() / 3;
        let state = batch[1].len() / 3;
        for cuts in [vec![0, 150], vec![0, 1, 2, 3, 150], vec![0, 64, 128, 150], vec![0, 37, 149, 150]] {
            let mut held = operand(DType::F32, &pool, 9);
            let mut got = Vec::new();
            for ends in cuts.windows(2) {
                let mut own = rows(&x, 1, ends[0]..ends[1]);
                own.push(held.clone());
                own.extend([ints(&[1], &[1]), ints(&[1], &[1]), ints(&[1], &[(ends[1] - ends[0]) as i32])]);
                let [out, after] = run_op(&op, &own, 2).try_into().unwrap();
                got.extend(out);
                held.1 = after;
            }
            assert_eq!(got, batch[0][width..2 * width], "{cuts:?}");
            assert_eq!(held.1[state..2 * state], batch[1][state..2 * state], "{cuts:?}");
        }
    }
}
