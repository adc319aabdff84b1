//! The gated delta rule in chunks, and the short convolution: both with a state that other runs go on from.

use crate::composite::DELTA_CHUNK;
use crate::dtype::DType;
use crate::op::ScatterKind;
use crate::tensor_type::{Literal, TensorType};
use crate::trace::Tensor;

/// The operands of a recurrent composite behind its first ones.
struct Carried<'a> {
    segments: Option<&'a Tensor>,
    /// The pool, and i32[b] each: the slots that are read and written, and the rows that count.
    state: Option<[&'a Tensor; 4]>,
}

impl<'a> Carried<'a> {
    fn new(rest: &'a [Tensor], segments: bool) -> Self {
        let (segments, state) = rest.split_at(usize::from(segments));
        Self { segments: segments.first(), state: state.first_chunk().map(|s| s.each_ref()) }
    }

    /// What the elements of the batch go on from, f32[b,..]: zeros where nothing is read.
    fn start(&self) -> Option<Tensor> {
        let [pool, from, ..] = self.state?;
        let found = pool.gather(from, 0).cast(DType::F32);
        let is_there = from.ge(&from.like(0.0)).broadcast(found.dims(), [0]);
        Some(is_there.select(&found, &found.like(0.0)))
    }

    /// The pool with the states f32[b,..] in their slots.
    fn finish(&self, ended: &Tensor) -> Option<Tensor> {
        let [pool, _, to, _] = self.state?;
        Some(pool.scatter(ScatterKind::Set, to, &ended.cast(pool.dtype()), 0))
    }

    /// Whether rows count, bool of `dims`, of which the first is the batch and `axis` the rows.
    fn counts(&self, dims: &[usize], axis: usize) -> Option<Tensor> {
        let [_, _, _, rows] = self.state?;
        let at = rows.trace().iota(DType::I32, dims, axis);
        Some(at.lt(&rows.broadcast(dims, [0])))
    }
}

/// x with zeros where a mask of its shape is not.
fn only(mask: Option<&Tensor>, x: Tensor) -> Tensor {
    mask.map_or(x.clone(), |mask| mask.select(&x, &x.like(0.0)))
}

/// One after the other along an axis; of nothing, nothing.
fn joined(parts: &[Tensor], axis: usize, none: Tensor) -> Tensor {
    match parts {
        [one] => one.clone(),
        _ => Tensor::concat(&parts.iter().collect::<Vec<_>>(), axis).unwrap_or(none),
    }
}

pub fn gated_delta(x: &[Tensor], segments: bool) -> Vec<Tensor> {
    let [q, k, v, g, beta] = [0, 1, 2, 3, 4].map(|i| x[i].cast(DType::F32));
    let carried = Carried::new(&x[5..], segments);
    let [b, t, hk, dk] = [q.dim(0), q.dim(1), q.dim(2), q.dim(3)];
    let [h, dv] = [v.dim(2), v.dim(3)];
    let nothing = v.like(0.0).broadcast([b, t, h, dv], []);
    let start = carried.start();
    if nothing.ty().numel() == 0 {
        let pool = start.and_then(|start| carried.finish(&start));
        return [nothing.cast(x[2].dtype())].into_iter().chain(pool).collect();
    }
    let size = DELTA_CHUNK.min(t.next_power_of_two());
    let n = t.div_ceil(size);
    let counts = carried.counts(&[b, t, h], 1);
    // [b,t,h,..] as [p,n,size,..] with p = b h; rows behind the last are zeros, which change nothing.
    let chunks = |x: &Tensor| {
        let d: usize = x.dims()[3..].iter().product();
        let x = x.reshape([b, t, h, d]).transpose([0, 2, 1, 3]).reshape([b * h, t, d]);
        let x = x.pad(0.0, [0, 0, 0], [0, n * size - t, 0], [0, 0, 0]);
        x.reshape([b * h, n, size, d])
    };
    let by_value_head = |x: &Tensor| {
        let x = x.broadcast([b, t, hk, h / hk, dk], [0, 1, 2, 4]);
        chunks(&x.reshape([b, t, h, dk]))
    };
    let scalars = |x: Tensor| chunks(&x.reshape([b, t, h, 1])).reshape([b * h, n, size]);
    let (q, k, v) = (by_value_head(&q), by_value_head(&k), chunks(&v));
    let (g, beta) = (scalars(only(counts.as_ref(), g)), scalars(only(counts.as_ref(), beta)));
    let square = [b * h, n, size, size];
    // How much is left at row i of what came at row j, and of what came before the chunk.
    let sums = g.cumsum(2);
    let (of_row, of_column) = (sums.broadcast(square, [0, 1, 2]), sums.broadcast(square, [0, 1, 3]));
    let trace = q.trace();
    let (row, column) = (trace.iota(DType::I32, square, 2), trace.iota(DType::I32, square, 3));
    let mut seen = column.le(&row);
    let mut carry = sums.exp();
    if let Some(segments) = carried.segments {
        let own = segments.pad(-1.0, [0, 0], [0, n * size - t], [0, 0]);
        let own = own.broadcast([b, h, n * size], [0, 2]).reshape([b * h, n, size]);
        seen = seen.and(&own.broadcast(square, [0, 1, 2]).eq(&own.broadcast(square, [0, 1, 3])));
        // A chunk goes on with what the last row of the one before it is of.
        let last = own.narrow(2, size - 1, size).pad(-1.0, [0, 1, 0], [0, 0, 0], [0, 0, 0]).narrow(1, 0, n);
        carry = only(Some(&own.eq(&last.broadcast([b * h, n, size], [0, 1, 2]))), carry);
    }
    let apart = seen.select(&(&of_row - &of_column), &of_row.like(0.0));
    let decay = only(Some(&seen), apart.exp());
    let both: (&[usize], &[usize]) = (&[0, 1], &[0, 1]);
    let of_rows = |x: &Tensor, like: &Tensor| x.broadcast(like.dims(), [0, 1, 2]);
    let lower = only(Some(&column.lt(&row)), k.dot(&k, both, (&[3], &[3])) * &decay * of_rows(&beta, &decay));
    let inverse = inverse(&lower.reshape([b * h * n, size, size])).reshape(square);
    let within = |x: Tensor| inverse.dot(&x, both, (&[3], &[2]));
    let values = within(of_rows(&beta, &v) * &v);
    let reads = within(of_rows(&(&beta * &carry), &k) * &k);
    let scores = q.dot(&k, both, (&[3], &[3])) * &decay;
    let asked = of_rows(&carry, &q) * &q;
    // What is left of each row's key at the end of the chunk, and of the state before it.
    let left = decay.narrow(2, size - 1, size).reshape([b * h, n, size]);
    let kept = of_rows(&left, &k) * &k;
    let rest = carry.narrow(2, size - 1, size).reshape([b * h, n]);
    let mut state = start.map(|s| s.reshape([b * h, dk, dv]));
    let mut outs = Vec::new();
    for c in 0..n {
        let own = |x: &Tensor| {
            let dims: Vec<usize> = [b * h].into_iter().chain(x.dims().into_iter().skip(2)).collect();
            x.narrow(1, c, c + 1).reshape(dims)
        };
        let heads: (&[usize], &[usize]) = (&[0], &[0]);
        let mut added = own(&values);
        let mut out = None;
        if let Some(state) = &state {
            added = added - own(&reads).dot(state, heads, (&[2], &[1]));
            out = Some(own(&asked).dot(state, heads, (&[2], &[1])));
        }
        let of_chunk = own(&scores).dot(&added, heads, (&[2], &[1]));
        outs.push(out.map_or(of_chunk.clone(), |out| out + &of_chunk));
        let new = own(&kept).dot(&added, heads, (&[1], &[1]));
        state = Some(match state {
            Some(state) => &state * own(&rest).broadcast([b * h, dk, dv], [0]) + new,
            None => new,
        });
    }
    let out = joined(&outs, 1, nothing.clone()).narrow(1, 0, t);
    let out = out.reshape([b, h, t, dv]).transpose([0, 2, 1, 3]);
    let counts = carried.counts(&[b, t, h, dv], 1);
    let ended = state.map_or_else(|| trace.poison(), |s| s.reshape([b, h, dk, dv]));
    [only(counts.as_ref(), out).cast(x[2].dtype())].into_iter().chain(carried.finish(&ended)).collect()
}

/// The inverses of I + L for strictly lower triangular L [p,c,c], c a power of two: those of the diagonal blocks, whose
/// edges double, from [[A,0],[C,B]]^-1 = [[A^-1,0],[-B^-1 C A^-1,B^-1]].
fn inverse(lower: &Tensor) -> Tensor {
    let [p, c] = [lower.dim(0), lower.dim(1)];
    let mut blocks = lower.like(1.0).broadcast([p, c, 1, 1], []);
    let mut edge = 1;
    while edge < c {
        let m = c / (2 * edge);
        // The block below the diagonal of each pair: those of all pairs of pairs, of which the diagonal is kept.
        let below = lower.reshape([p, m, 2 * edge, m, 2 * edge]);
        let below = below.narrow(2, edge, 2 * edge).narrow(4, 0, edge).transpose([0, 1, 3, 2, 4]);
        let below = below.reshape([p, m * m, edge, edge]);
        let below = below.slice([0, 0, 0, 0], [p, m * m, edge, edge], [1, m + 1, 1, 1]);
        let pairs = blocks.reshape([p, m, 2, edge, edge]);
        let [first, second] = [0, 1].map(|i| pairs.narrow(2, i, i + 1).reshape([p, m, edge, edge]));
        let both: (&[usize], &[usize]) = (&[0, 1], &[0, 1]);
        let corner = second.dot(&below, both, (&[3], &[2])).dot(&first, both, (&[3], &[2])).neg();
        let zeros = lower.like(0.0).broadcast([p, m, edge, edge], []);
        let beside = |a: &Tensor, b: &Tensor| joined(&[a.clone(), b.clone()], 3, zeros.clone());
        blocks = joined(&[beside(&first, &zeros), beside(&corner, &second)], 2, zeros.clone());
        edge *= 2;
    }
    blocks.reshape([p, c, c])
}

pub fn short_conv(x: &[Tensor], segments: bool) -> Vec<Tensor> {
    let (rows, w) = (x[0].cast(DType::F32), x[1].cast(DType::F32));
    let carried = Carried::new(&x[2..], segments);
    let [b, t, c, taps] = [rows.dim(0), rows.dim(1), rows.dim(2), w.dim(1)];
    let before = taps - 1;
    let start = carried.start().unwrap_or_else(|| rows.like(0.0).broadcast([b, before, c], []));
    let all = joined(&[start, rows.clone()], 1, rows.clone());
    let mut out = None;
    for tap in 0..taps {
        let mut seen = all.narrow(1, tap, tap + t);
        let back = before - tap;
        if let (Some(segments), true) = (carried.segments, back > 0 && back < t) {
            let own = segments.narrow(1, back, t).eq(&segments.narrow(1, 0, t - back));
            let own = own.cast(DType::I32).pad(0.0, [0, back], [0, 0], [0, 0]);
            seen = only(Some(&own.ne(&own.like(0.0)).broadcast(seen.dims(), [0, 1])), seen);
        }
        let weighted = &seen * w.narrow(1, tap, tap + 1).reshape([c]).broadcast(seen.dims(), [2]);
        out = Some(out.map_or(weighted.clone(), |out: Tensor| out + &weighted));
    }
    let counts = carried.counts(&[b, t, c], 1);
    let out = only(counts.as_ref(), out.unwrap_or_else(|| rows.trace().poison())).cast(x[0].dtype());
    let Some([.., count]) = carried.state else { return vec![out] };
    // The last rows that count: row r of what is kept is row count + r of all.
    let trace = rows.trace();
    let dims = [b, before];
    let first: Vec<f64> = (0..b).map(|i| (i * (before + t)) as f64).collect();
    let Some(first) = Literal::dense(TensorType::new(DType::I32, [b]), &first) else {
        return vec![trace.poison(), trace.poison()];
    };
    let at = (trace.constant(first) + count).broadcast(dims, [0]) + trace.iota(DType::I32, dims, 1);
    let ended = all.reshape([b * (before + t), c]).gather(&at, 0);
    [out].into_iter().chain(carried.finish(&ended)).collect()
}
