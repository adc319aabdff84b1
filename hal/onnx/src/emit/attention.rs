//! Attention, rotary embedding and the KV cache.

use percept_graph::{AttentionSpec, Node, TensorType, ValueId};

use super::Values;
use super::builder::{Builder, Elem, Place};
use super::elementwise::select;
use super::indexing::clamped;
use super::movement::{concat, narrow};
use crate::proto::AttributeProto;

fn gather(b: &mut Builder, x: &str, index: &str, axis: usize) -> String {
    b.with("Gather", &[x, index], vec![AttributeProto::int("axis", axis as i64)])
}

/// The first features of each head rotated in pairs.
pub fn rope(b: &mut Builder, values: &mut Values<'_>, node: &Node, interleaved: bool) -> Place {
    let ty = values.graph.ty(node.inputs[0]).clone();
    let half = values.graph.ty(node.inputs[1]).dims[2];
    let elem = Elem::of(ty.dtype);
    let x = values.whole(b, node.inputs[0]);
    let x = b.cast(&x, elem, Elem::F32);
    let [cos, sin] = [1, 2].map(|i| values.whole(b, node.inputs[i]));
    let [batch, heads, t, d] = [0, 1, 2, 3].map(|i| ty.dims[i]);
    let y = if b.style.is_fused() {
        let int = |name: &str, v: usize| AttributeProto::int(name, v as i64);
        let mut attributes = vec![int("interleaved", interleaved as usize), int("num_heads", heads)];
        if 2 * half < d {
            attributes.push(int("rotary_embedding_dim", 2 * half));
        }
        b.with("RotaryEmbedding", &[&x, &cos, &sin], attributes)
    } else {
        let [cos, sin] = [cos, sin].map(|a| b.reshape(&a, &[batch, 1, t, half]));
        let rotating = if 2 * half < d { narrow(b, &x, 3, 0, 2 * half) } else { x.clone() };
        let (first, second) = if interleaved {
            let pairs = b.reshape(&rotating, &[batch, heads, t, half, 2]);
            let member = |b: &mut Builder, i: usize| {
                let one = narrow(b, &pairs, 4, i, i + 1);
                b.reshape(&one, &[batch, heads, t, half])
            };
            (member(b, 0), member(b, 1))
        } else {
            (narrow(b, &rotating, 3, 0, half), narrow(b, &rotating, 3, half, 2 * half))
        };
        let [fc, fs, sc, ss] = [(&first, &cos), (&first, &sin), (&second, &cos), (&second, &sin)]
            .map(|(x, y)| b.op("Mul", &[x, y]));
        let (one, two) = (b.op("Sub", &[&fc, &ss]), b.op("Add", &[&sc, &fs]));
        let both = if interleaved {
            let [one, two] = [one, two].map(|y| b.reshape(&y, &[batch, heads, t, half, 1]));
            let pairs = concat(b, &[&one, &two], 4);
            b.reshape(&pairs, &[batch, heads, t, 2 * half])
        } else {
            concat(b, &[&one, &two], 3)
        };
        if 2 * half < d {
            let rest = narrow(b, &x, 3, 2 * half, d);
            concat(b, &[&both, &rest], 3)
        } else {
            both
        }
    };
    Place::Whole(b.cast(&y, Elem::F32, elem))
}

/// The optional operands of an attention, by name.
struct Optional {
    segments: Option<[String; 2]>,
    blocks: Option<[String; 2]>,
    offset: Option<String>,
    kv_len: Option<String>,
    table: Option<(String, usize)>,
}

fn optional(b: &mut Builder, values: &mut Values<'_>, node: &Node, spec: &AttentionSpec) -> Optional {
    let mut rest = node.inputs[3..].iter().copied();
    let mut next = |values: &mut Values<'_>, b: &mut Builder, there: bool| -> Option<(String, ValueId)> {
        let v = if there { rest.next() } else { None }?;
        Some((values.whole(b, v), v))
    };
    let mut pair = |values: &mut Values<'_>, b: &mut Builder, there: bool| {
        let first = next(values, b, there)?.0;
        Some([first, next(values, b, there)?.0])
    };
    let segments = pair(values, b, spec.segments);
    let blocks = pair(values, b, spec.blocks);
    Optional {
        segments,
        blocks,
        offset: next(values, b, spec.offset).map(|(name, _)| name),
        kv_len: next(values, b, spec.kv_len).map(|(name, _)| name),
        table: next(values, b, spec.paged).map(|(name, v)| (name, values.graph.ty(v).dims[1])),
    }
}

/// Extents of an attention.
struct Extents {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    t: usize,
    s: usize,
    d: usize,
    e: usize,
}

/// Keys or values [b,hk,s,d] as f32, out of their pages.
fn unpaged(b: &mut Builder, x: &str, ty: &TensorType, batch: usize, o: &Optional) -> String {
    let elem = Elem::of(ty.dtype);
    let Some((table, pages)) = &o.table else { return b.cast(x, elem, Elem::F32) };
    let index = clamped(b, table, ty.dims[0]);
    let rows = gather(b, x, &index, 0);
    let rows = b.transpose(&rows, &[0, 2, 1, 3, 4]);
    let rows = b.reshape(&rows, &[batch, ty.dims[1], pages * ty.dims[2], ty.dims[3]]);
    b.cast(&rows, elem, Elem::F32)
}

/// Which keys a query attends to, [b,1,t,s] or with extents of 1; and which keys are there, [b,s].
fn mask(
    b: &mut Builder,
    spec: &AttentionSpec,
    x: &Extents,
    o: &Optional,
) -> (Option<String>, Option<String>) {
    let counting = |b: &mut Builder, dims: &[usize], n: usize| {
        let raw = (0..n as i32).flat_map(i32::to_le_bytes).collect();
        b.constant(Elem::I32, dims, raw)
    };
    let key = counting(b, &[1, 1, 1, x.s], x.s);
    let mut query = counting(b, &[1, 1, x.t, 1], x.t);
    if let Some(offset) = &o.offset {
        let offset = b.reshape(offset, &[x.batch, 1, 1, 1]);
        query = b.op("Add", &[&query, &offset]);
    }
    let rows = |b: &mut Builder, r: &str| b.reshape(r, &[x.batch, 1, x.t, 1]);
    let columns = |b: &mut Builder, c: &str| b.reshape(c, &[x.batch, 1, 1, x.s]);
    let mut rules = Vec::new();
    // Rows of one block, which see one another both ways.
    let block = o.blocks.as_ref().filter(|_| spec.causal).map(|[q, k]| {
        let (q, k) = (rows(b, q), columns(b, k));
        let same = b.op("Equal", &[&q, &k]);
        let zero = b.scalar(Elem::I32, 0.0);
        let numbered = b.op("GreaterOrEqual", &[&q, &zero]);
        b.op("And", &[&same, &numbered])
    });
    let lifted = |b: &mut Builder, rule: String| match &block {
        Some(block) => b.op("Or", &[&rule, block]),
        None => rule,
    };
    if spec.causal {
        let before = b.op("LessOrEqual", &[&key, &query]);
        rules.push(lifted(b, before));
    }
    if let Some(window) = spec.window {
        let width = b.scalar(Elem::I32, window as f64);
        let back = b.op("Sub", &[&query, &key]);
        let near = b.op("Less", &[&back, &width]);
        rules.push(if spec.wide_blocks { lifted(b, near) } else { near });
        if !spec.causal {
            let ahead = b.op("Sub", &[&key, &query]);
            rules.push(b.op("Less", &[&ahead, &width]));
        }
    }
    if let Some([q, k]) = &o.segments {
        let (q, k) = (rows(b, q), columns(b, k));
        rules.push(b.op("Equal", &[&q, &k]));
    }
    let mut live = None;
    if let Some(n) = &o.kv_len {
        let n = b.reshape(n, &[x.batch, 1, 1, 1]);
        let there = b.op("Less", &[&key, &n]);
        rules.push(there.clone());
        live = Some(there);
    }
    let mut rules = rules.into_iter();
    let first = rules.next();
    let all = first.map(|first| rules.fold(first, |a, r| b.op("And", &[&a, &r])));
    (all, live)
}

/// Attention; the log-sum-exp is written where somebody needs it.
pub fn attention(b: &mut Builder, values: &mut Values<'_>, node: &Node, spec: &AttentionSpec) -> Vec<Place> {
    let types = values.graph.types(&node.inputs[..3]);
    let [q, k, v] = [0, 1, 2].map(|i| values.whole(b, node.inputs[i]));
    let o = optional(b, values, node, spec);
    let x = Extents {
        batch: types[0].dims[0],
        heads: types[0].dims[1],
        kv_heads: types[1].dims[1],
        t: types[0].dims[2],
        s: types[1].dims[2] * o.table.as_ref().map_or(1, |(_, pages)| *pages),
        d: types[0].dims[3],
        e: types[2].dims[3],
    };
    let elem = Elem::of(types[0].dtype);
    let q = b.cast(&q, elem, Elem::F32);
    let k = unpaged(b, &k, &types[1], x.batch, &o);
    let mut v = unpaged(b, &v, &types[2], x.batch, &o);
    let (mask, live) = mask(b, spec, &x, &o);
    if let Some(live) = &live {
        // What lies beyond the live keys is unspecified: a NaN there must not reach a sum as 0 * NaN.
        let rows = b.reshape(live, &[x.batch, 1, x.s, 1]);
        v = super::movement::or_zero(b, &rows, &v);
    }
    // Query heads of one key head are rows of one product.
    let rows = x.heads / x.kv_heads * x.t;
    let q = if rows == x.t { q } else { b.reshape(&q, &[x.batch, x.kv_heads, rows, x.d]) };
    let scale = b.f32(spec.scale as f64);
    let q = b.op("Mul", &[&q, &scale]);
    let k = b.transpose(&k, &[0, 1, 3, 2]);
    let mut scores = b.op("MatMul", &[&q, &k]);
    if let Some(cap) = spec.soft_cap {
        let (inverse, cap) = (b.f32(1.0 / cap as f64), b.f32(cap as f64));
        scores = b.op("Mul", &[&scores, &inverse]);
        scores = b.op("Tanh", &[&scores]);
        scores = b.op("Mul", &[&scores, &cap]);
    }
    if rows != x.t {
        scores = b.reshape(&scores, &[x.batch, x.heads, x.t, x.s]);
    }
    if let Some(mask) = &mask {
        let nothing = b.f32(f64::NEG_INFINITY);
        scores = b.op("Where", &[mask, &scores, &nothing]);
    }
    let groups = |b: &mut Builder, p: String| match rows == x.t {
        true => p,
        false => b.reshape(&p, &[x.batch, x.kv_heads, rows, x.s]),
    };
    let heads = |b: &mut Builder, y: String| match rows == x.t {
        true => y,
        false => b.reshape(&y, &[x.batch, x.heads, x.t, x.e]),
    };
    if !values.is_used(node.outputs[1]) {
        let p = b.with("Softmax", &[&scores], vec![AttributeProto::int("axis", -1)]);
        let p = groups(b, p);
        let out = b.op("MatMul", &[&p, &v]);
        let mut out = heads(b, out);
        if let Some(mask) = &mask {
            // A query without keys gives zeros.
            let marks = b.cast(mask, Elem::Bool, Elem::I32);
            let any = b.fold("ReduceMax", &marks, &[3], true);
            let any = b.cast(&any, Elem::I32, Elem::Bool);
            out = super::movement::or_zero(b, &any, &out);
        }
        return vec![Place::Whole(b.cast(&out, Elem::F32, elem)), Place::Missing];
    }
    // A row without keys has no finite maximum; shifting it by 0 leaves e^-inf = 0.
    let max = b.fold("ReduceMax", &scores, &[3], true);
    let lowest = b.f32(f64::NEG_INFINITY);
    let (zero, one) = (b.f32(0.0), b.f32(1.0));
    let is_empty = b.op("Equal", &[&max, &lowest]);
    let shift = b.op("Where", &[&is_empty, &zero, &max]);
    let shifted = b.op("Sub", &[&scores, &shift]);
    let powers = b.op("Exp", &[&shifted]);
    let total = b.fold("ReduceSum", &powers, &[3], true);
    let safe = b.op("Where", &[&is_empty, &one, &total]);
    let p = groups(b, powers);
    let out = b.op("MatMul", &[&p, &v]);
    let out = heads(b, out);
    let out = b.op("Div", &[&out, &safe]);
    let out = b.cast(&out, Elem::F32, elem);
    let log = b.op("Log", &[&safe]);
    let lse = b.op("Add", &[&log, &shift]);
    let lse = b.op("Where", &[&is_empty, &lowest, &lse]);
    let lse = b.reshape(&lse, &[x.batch, x.heads, x.t]);
    vec![Place::Whole(out), Place::Whole(lse)]
}

/// Rows of a cache replaced. One scatter writes them, which runtimes do in place; rows outside the cache
/// repeat the write of a row inside, and where none is inside a row is written back as it was.
pub fn kv_append(b: &mut Builder, values: &mut Values<'_>, node: &Node, paged: bool) -> Place {
    let types = values.graph.types(&node.inputs);
    let dtype = types[0].dtype;
    let x: Vec<String> = node.inputs.iter().map(|&v| values.whole(b, v)).collect();
    let [slots, heads, page, d] = [0, 1, 2, 3].map(|i| types[0].dims[i]);
    let [batch, t] = [types[1].dims[0], types[1].dims[2]];
    let n = batch * t;
    let int = |b: &mut Builder, v: usize| b.scalar(Elem::I64, v as f64);
    let pos = b.cast(&x[2], Elem::I32, Elem::I64);
    let pos = b.reshape(&pos, &[batch, 1]);
    let steps: Vec<i64> = (0..t as i64).collect();
    let steps = b.grid(&[1, t], &steps);
    let at = b.op("Add", &[&pos, &steps]);
    let room = if paged { page * types[3].dims[1] } else { page };
    let inside = |b: &mut Builder, x: &str, end: usize| {
        let (zero, end) = (int(b, 0), int(b, end));
        let (low, high) = (b.op("GreaterOrEqual", &[x, &zero]), b.op("Less", &[x, &end]));
        b.op("And", &[&low, &high])
    };
    let held = |b: &mut Builder, x: &str, end: usize| {
        let (zero, last) = (int(b, 0), int(b, end - 1));
        let low = b.op("Max", &[x, &zero]);
        b.op("Min", &[&low, &last])
    };
    let mut valid = inside(b, &at, room);
    let at = held(b, &at, room);
    let (slot, row) = if paged {
        let size = int(b, page);
        let logical = b.op("Div", &[&at, &size]);
        let table = b.cast(&x[3], Elem::I32, Elem::I64);
        let slot = b.with("GatherElements", &[&table, &logical], vec![AttributeProto::int("axis", 1)]);
        let there = inside(b, &slot, slots);
        valid = b.op("And", &[&valid, &there]);
        let before = b.op("Mul", &[&logical, &size]);
        (held(b, &slot, slots), b.op("Sub", &[&at, &before]))
    } else {
        let all: Vec<i64> = (0..n as i64).map(|i| i / t as i64).collect();
        (b.grid(&[batch, t], &all), at)
    };
    // Row i takes what row `source[i]` writes; of one row that is itself, which a step of decoding has.
    let valid = b.reshape(&valid, &[n]);
    let (source, any) = if n == 1 { (None, valid) } else { first_of(b, &valid, n) };
    let taken = |b: &mut Builder, x: String| match &source {
        Some(source) => gather(b, &x, source, 0),
        None => x,
    };
    let coordinate = |b: &mut Builder, x: &str| {
        let flat = b.reshape(x, &[n]);
        let picked = taken(b, flat);
        let column = b.reshape(&picked, &[n, 1, 1, 1]);
        let shape = b.extents(&[n, heads, 1, 1]);
        b.op("Expand", &[&column, &shape])
    };
    let (slot, row) = (coordinate(b, &slot), coordinate(b, &row));
    let head: Vec<i64> = (0..(n * heads) as i64).map(|i| i % heads as i64).collect();
    let head = b.grid(&[n, heads, 1, 1], &head);
    // Sophgo's compiler wants the rows in as many dimensions as the cache has.
    let index = concat(b, &[&slot, &head, &row], 3);
    let new = b.transpose(&x[1], &[0, 2, 1, 3]);
    let new = b.reshape(&new, &[n, heads, 1, d]);
    let new = taken(b, new);
    let old = b.op("GatherND", &[&x[0], &index]);
    let rows = select(b, &any, &new, &old, dtype);
    Place::Whole(b.op("ScatterND", &[&x[0], &index, &rows]))
}

/// For each of `n` rows itself where it is valid and the first valid row elsewhere, and whether any is.
fn first_of(b: &mut Builder, valid: &str, n: usize) -> (Option<String>, String) {
    let marks = b.cast(valid, Elem::Bool, Elem::I32);
    let first =
        b.with("ArgMax", &[&marks], vec![AttributeProto::int("axis", 0), AttributeProto::int("keepdims", 1)]);
    let own: Vec<i64> = (0..n as i64).collect();
    let own = b.list(&own);
    let source = b.op("Where", &[valid, &own, &first]);
    let any = b.fold("ReduceMax", &marks, &[0], false);
    (Some(source), b.cast(&any, Elem::I32, Elem::Bool))
}
