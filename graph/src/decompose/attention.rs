//! Attention, rotary embedding and the KV cache.

use crate::composite::AttentionSpec;
use crate::dtype::DType;
use crate::op::ScatterKind;
use crate::trace::Tensor;

pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor, interleaved: bool) -> Tensor {
    let [b, h, t, d] = [x.dim(0), x.dim(1), x.dim(2), x.dim(3)];
    let half = cos.dim(2);
    let x32 = x.cast(DType::F32);
    // Pair members stand along axis 4 when interleaved, along axis 3 when in halves.
    let pairs = x32.narrow(3, 0, 2 * half);
    let axis = if interleaved { 4 } else { 3 };
    let split = if interleaved { [b, h, t, half, 2] } else { [b, h, t, 2, half] };
    let pairs = pairs.reshape(split);
    let first = pairs.narrow(axis, 0, 1).reshape([b, h, t, half]);
    let second = pairs.narrow(axis, 1, 2).reshape([b, h, t, half]);
    let angle = |a: &Tensor| a.broadcast([b, h, t, half], [0, 2, 3]);
    let (cos, sin) = (angle(cos), angle(sin));
    let rotated = [&first * &cos - &second * &sin, &second * &cos + &first * &sin];
    let rotated = rotated.map(|r| r.unsqueeze(axis));
    let both = Tensor::concat(&[&rotated[0], &rotated[1]], axis).unwrap_or_else(|| x.trace().poison());
    let both = both.reshape([b, h, t, 2 * half]);
    let all = if 2 * half < d {
        let rest = x32.narrow(3, 2 * half, d);
        Tensor::concat(&[&both, &rest], 3).unwrap_or_else(|| x.trace().poison())
    } else {
        both
    };
    all.cast(x.dtype())
}

/// The operands of an attention, optional ones by name.
struct Operands {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Option<Tensor>,
    groups: usize,
}

/// Widen, resolve pages, repeat key heads over their groups and build the mask [b,1,t,s].
fn operands(spec: &AttentionSpec, x: &[Tensor]) -> Operands {
    let q = x[0].cast(DType::F32);
    let mut rest = x[3..].iter();
    let mut take = |there: bool| if there { rest.next() } else { None };
    let (q_seg, k_seg) = (take(spec.segments), take(spec.segments));
    let (q_block, k_block) = (take(spec.blocks), take(spec.blocks));
    let (offset, kv_len, table) = (take(spec.offset), take(spec.kv_len), take(spec.paged));
    let unpaged = |pool: &Tensor| match table {
        Some(table) => {
            let [_, hk, page, d] = [pool.dim(0), pool.dim(1), pool.dim(2), pool.dim(3)];
            let (b, pages) = (table.dim(0), table.dim(1));
            pool.gather(table, 0).transpose([0, 2, 1, 3, 4]).reshape([b, hk, pages * page, d])
        }
        None => pool.clone(),
    };
    let groups = q.dim(1) / unpaged_heads(&x[1]);
    let repeated = |kv: &Tensor| {
        let kv = unpaged(kv).cast(DType::F32);
        let [b, hk, s, d] = [kv.dim(0), kv.dim(1), kv.dim(2), kv.dim(3)];
        kv.broadcast([b, hk, groups, s, d], [0, 1, 3, 4]).reshape([b, hk * groups, s, d])
    };
    let (mut k, mut v) = (repeated(&x[1]), repeated(&x[2]));
    let [b, t, s] = [q.dim(0), q.dim(2), k.dim(2)];
    let trace = q.trace();
    let dims = [b, t, s];
    let rows = |r: &Tensor| r.broadcast(dims, [0, 1]);
    let columns = |c: &Tensor| c.broadcast(dims, [0, 2]);
    let key = trace.iota(DType::I32, dims, 2);
    let query = trace.iota(DType::I32, dims, 1);
    let query = offset.map_or(query.clone(), |o| query + o.broadcast(dims, [0]));
    let mut rules = Vec::new();
    let same = match (q_block, k_block) {
        (Some(q), Some(k)) if spec.causal => Some(rows(q).eq(&columns(k)).and(&rows(q).ge(&q.like(0.0)))),
        _ => None,
    };
    let within = |rule: Tensor, lifted: bool| match &same {
        Some(same) if lifted => rule.or(same),
        _ => rule,
    };
    if spec.causal {
        rules.push(within(key.le(&query), true));
    }
    if let Some(w) = spec.window {
        let width = key.like(w as f64);
        rules.push(within((&query - &key).lt(&width), spec.wide_blocks));
        if !spec.causal {
            rules.push((&key - &query).lt(&width));
        }
    }
    if let (Some(q), Some(k)) = (q_seg, k_seg) {
        rules.push(rows(q).eq(&columns(k)));
    }
    if let (Some(n), true) = (kv_len, t > 0) {
        let live = key.lt(&n.broadcast(dims, [0]));
        // What lies beyond the live keys is unspecified: a NaN there must not reach a sum as 0 * NaN.
        let rows = live.narrow(1, 0, 1).reshape([b, 1, s, 1]);
        k = rows.select(&k, &k.like(0.0));
        v = rows.select(&v, &v.like(0.0));
        rules.push(live);
    }
    let mask = rules.into_iter().reduce(|a, r| a.and(&r)).map(|m| m.unsqueeze(1));
    Operands { q, k, v, mask, groups }
}

fn unpaged_heads(k: &Tensor) -> usize {
    k.dim(1).max(1)
}

/// Scaled, capped scores [b,h,t,s] with masked ones at -inf; and the capped scores' tanh when there is a cap.
fn scores(spec: &AttentionSpec, o: &Operands) -> (Tensor, Option<Tensor>) {
    let raw = o.q.dot(&o.k, (&[0, 1], &[0, 1]), (&[3], &[3])) * spec.scale as f64;
    let (s, tanh) = match spec.soft_cap {
        Some(cap) => {
            let t = (raw * (1.0 / cap as f64)).tanh();
            (&t * cap as f64, Some(t))
        }
        None => (raw, None),
    };
    let masked = match &o.mask {
        Some(m) => m.select(&s, &s.like(f64::NEG_INFINITY)),
        None => s,
    };
    (masked, tanh)
}

fn over_keys(stat: &Tensor, s: &Tensor) -> Tensor {
    stat.broadcast(s.dims(), [0, 1, 2])
}

pub fn attention(spec: &AttentionSpec, x: &[Tensor]) -> Vec<Tensor> {
    let o = operands(spec, x);
    let (s, _) = scores(spec, &o);
    let max = s.max([3]);
    // A row without keys has no finite maximum; shifting it by 0 leaves exp(-inf) = 0.
    let nothing = max.eq(&max.like(f64::NEG_INFINITY));
    let shift = nothing.select(&max.like(0.0), &max);
    let p = (&s - over_keys(&shift, &s)).exp();
    let total = p.sum([3]);
    let safe = nothing.select(&total.like(1.0), &total);
    let out = (&p / over_keys(&safe, &p)).dot(&o.v, (&[0, 1], &[0, 1]), (&[3], &[2]));
    vec![out.cast(x[0].dtype()), nothing.select(&max, &(safe.log() + shift))]
}

pub fn attention_grad(spec: &AttentionSpec, x: &[Tensor]) -> Vec<Tensor> {
    let n = 3 + spec.optional_operands();
    let o = operands(spec, &x[..n]);
    let (out, lse, dout) = (x[n].cast(DType::F32), &x[n + 1], x[n + 2].cast(DType::F32));
    let (s, tanh) = scores(spec, &o);
    let nothing = lse.eq(&lse.like(f64::NEG_INFINITY));
    let p = (&s - over_keys(&nothing.select(&lse.like(0.0), lse), &s)).exp();
    let heads: (&[usize], &[usize]) = (&[0, 1], &[0, 1]);
    let dv = p.dot(&dout, heads, (&[2], &[2]));
    let dp = dout.dot(&o.v, heads, (&[3], &[3]));
    let ds = &p * (dp - over_keys(&(&out * &dout).sum([3]), &p));
    let ds = match tanh {
        Some(t) => ds * (&t * &t * -1.0 + 1.0),
        None => ds,
    };
    let ds = ds * spec.scale as f64;
    let dq = ds.dot(&o.k, heads, (&[3], &[2]));
    let dk = ds.dot(&o.q, heads, (&[2], &[2]));
    let grouped = |g: Tensor| {
        let [b, h, s, d] = [g.dim(0), g.dim(1), g.dim(2), g.dim(3)];
        g.reshape([b, h / o.groups, o.groups, s, d]).sum([2])
    };
    let dtype = x[0].dtype();
    vec![dq.cast(dtype), grouped(dk).cast(dtype), grouped(dv).cast(dtype)]
}

pub fn kv_append(cache: &Tensor, new: &Tensor, pos: &Tensor, table: Option<&Tensor>) -> Tensor {
    let [slots, hk, page, d] = [cache.dim(0), cache.dim(1), cache.dim(2), cache.dim(3)];
    let [b, t] = [new.dim(0), new.dim(2)];
    if cache.ty().numel() == 0 || table.is_some_and(|t| t.dim(1) == 0) {
        return cache.clone();
    }
    let trace = cache.trace();
    let dims = [b, hk, t];
    let at = trace.iota(DType::I32, dims, 2) + pos.broadcast(dims, [0]);
    let head = trace.iota(DType::I32, dims, 1);
    let page_size = at.like(page as f64);
    let zero = at.like(0.0);
    let (slot, row, room) = match table {
        Some(table) => {
            let pages = table.dim(1);
            let flat = table.reshape([b * pages]);
            // Negative positions would round towards page 0; they are masked out below.
            let logical = &at / &page_size + trace.iota(DType::I32, dims, 0) * pages as f64;
            (flat.gather(&logical, 0), at.rem(&page_size), pages * page)
        }
        None => (trace.iota(DType::I32, dims, 0), at.clone(), page),
    };
    let inside = at.ge(&zero).and(&at.lt(&at.like(room as f64)));
    let index = (slot * hk as f64 + head) * page as f64 + row;
    let index = inside.select(&index, &at.like(-1.0));
    let rows = cache.reshape([slots * hk * page, d]);
    let updates = new.reshape([b * hk * t, d]);
    rows.scatter(ScatterKind::Set, &index.reshape([b * hk * t]), &updates, 0).reshape(cache.dims())
}
