//! L2: attention forward and backward, rotary embedding, the KV cache.

use percept_graph::{AttentionSpec, Composite, DType, Op, Role, Tensor, TensorType};

use super::FLOATS;
use super::network::record;
use crate::conformance::case::Level::L2;
use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

/// Extents of an attention.
#[derive(Clone, Copy)]
struct Extents {
    b: usize,
    h: usize,
    hk: usize,
    t: usize,
    s: usize,
    d: usize,
    e: usize,
}

const SHAPES: [(&str, Extents); 6] = [
    ("prime", Extents { b: 2, h: 3, hk: 3, t: 5, s: 7, d: 8, e: 8 }),
    ("one", Extents { b: 1, h: 1, hk: 1, t: 1, s: 1, d: 4, e: 4 }),
    ("grouped", Extents { b: 2, h: 4, hk: 2, t: 7, s: 7, d: 16, e: 16 }),
    ("decode", Extents { b: 2, h: 4, hk: 1, t: 1, s: 67, d: 16, e: 16 }),
    ("past-tile", Extents { b: 1, h: 2, hk: 2, t: 33, s: 65, d: 64, e: 64 }),
    ("wide-value", Extents { b: 1, h: 2, hk: 1, t: 3, s: 5, d: 8, e: 12 }),
];

/// The masks, by name, with the optional operands they need.
fn specs(d: usize) -> Vec<(&'static str, AttentionSpec)> {
    let scale = 1.0 / (d as f32).sqrt();
    let (full, causal) = (AttentionSpec::full(scale), AttentionSpec::causal(scale));
    vec![
        ("full", full.clone()),
        ("causal", causal.clone()),
        ("window", AttentionSpec { window: Some(3), ..full.clone() }),
        ("causal-window", AttentionSpec { window: Some(3), ..causal.clone() }),
        ("soft-cap", AttentionSpec { soft_cap: Some(2.0), ..causal.clone() }),
        ("segments", AttentionSpec { segments: true, ..causal.clone() }),
        ("blocks", AttentionSpec { blocks: true, ..causal.clone() }),
        ("wide-blocks", AttentionSpec { blocks: true, wide_blocks: true, window: Some(2), ..causal.clone() }),
        ("offset", AttentionSpec { offset: true, kv_len: true, ..causal.clone() }),
        ("no-keys", AttentionSpec { kv_len: true, ..full.clone() }),
        (
            "everything",
            AttentionSpec {
                segments: true,
                blocks: true,
                offset: true,
                kv_len: true,
                window: Some(9),
                ..causal
            },
        ),
    ]
}

/// Operands q, k, v and the optional ones.
fn operands(b: &mut Build, d: DType, x: Extents, name: &str, spec: &AttentionSpec) -> Vec<Tensor> {
    let mut all = vec![
        b.data(d, &[x.b, x.h, x.t, x.d], Fill::Normal),
        b.data(d, &[x.b, x.hk, x.s, x.d], Fill::Normal),
        b.data(d, &[x.b, x.hk, x.s, x.e], Fill::Normal),
    ];
    let along = |n: usize, f: &dyn Fn(i64) -> i64| -> Vec<i64> {
        (0..x.b).flat_map(|_| (0..n as i64).map(f)).collect()
    };
    if spec.segments {
        all.push(b.integers(&[x.b, x.t], &along(x.t, &|i| i / 3)));
        all.push(b.integers(&[x.b, x.s], &along(x.s, &|i| i / 3)));
    }
    if spec.blocks {
        // Positions 2 to 4 form an image, the others none.
        let block = |i: i64| if (2..5).contains(&i) { 0 } else { -1 };
        all.push(b.integers(&[x.b, x.t], &along(x.t, &block)));
        all.push(b.integers(&[x.b, x.s], &along(x.s, &block)));
    }
    if spec.offset {
        let offset = x.s.saturating_sub(x.t) as i64;
        all.push(b.integers(&[x.b], &(0..x.b as i64).map(|i| (offset - i).max(0)).collect::<Vec<_>>()));
    }
    if spec.kv_len {
        // Of a batch the first row has keys short of the bound; "no-keys" leaves the last none at all.
        let len = |i: usize| {
            if name == "no-keys" && i + 1 == x.b { 0 } else { x.s.saturating_sub(i + 1).max(1) as i64 }
        };
        all.push(b.integers(&[x.b], &(0..x.b).map(len).collect::<Vec<_>>()));
    }
    all
}

fn attention(t: &mut Table) {
    for d in FLOATS {
        for (shape, x) in SHAPES {
            for (mask, spec) in specs(x.d) {
                let class = Class::Composite { terms: x.s + x.d };
                let forward = {
                    let spec = spec.clone();
                    move |b: &mut Build| {
                        let x = operands(b, d, x, mask, &spec);
                        record(b, Composite::Attention(spec.clone()), &x.iter().collect::<Vec<_>>(), class);
                    }
                };
                let backward_spec = spec.clone();
                let backward = move |b: &mut Build| {
                    let spec = &backward_spec;
                    let mut all = operands(b, d, x, mask, spec);
                    let refs: Vec<Tensor> = all.clone();
                    let forward = b.trace.ops(
                        Op::Composite(Composite::Attention(spec.clone())),
                        &refs.iter().collect::<Vec<_>>(),
                    );
                    all.extend(forward);
                    all.push(b.data(d, &[x.b, x.h, x.t, x.e], Fill::Normal));
                    let class = Class::Gradient { terms: x.s + x.d };
                    record(b, Composite::AttentionGrad(spec.clone()), &all.iter().collect::<Vec<_>>(), class);
                };
                let variant = format!("{d}/{shape}/{mask}");
                t.values(L2, "attention", &variant, forward);
                if d == DType::F32 && (shape == "prime" || shape == "grouped") {
                    let spec = spec.clone();
                    t.gradient("attention", &variant, x.s + x.d, move |b| {
                        let x = operands(b, d, x, mask, &spec);
                        let optional: Vec<&Tensor> = x[3..].iter().collect();
                        let y = x[0].attention(&x[1], &x[2], &optional, spec.clone());
                        b.output(&y, class);
                    });
                }
                t.values(L2, "attention_grad", &variant, backward);
            }
        }
        for (name, t_new) in [("decode", 1usize), ("prefill", 5)] {
            t.values(L2, "attention", format!("{d}/paged/{name}"), move |b| {
                let spec =
                    AttentionSpec { paged: true, offset: true, kv_len: true, ..AttentionSpec::causal(0.25) };
                let q = b.data(d, &[2, 4, t_new, 16], Fill::Normal);
                let (k, v) =
                    (b.data(d, &[9, 2, 4, 16], Fill::Normal), b.data(d, &[9, 2, 4, 16], Fill::Normal));
                let offset = b.integers(&[2], &[7 - t_new as i64, 11 - t_new as i64]);
                let kv_len = b.integers(&[2], &[7, 11]);
                let table = b.integers(&[2, 3], &[8, 2, 0, 5, 1, 7]);
                record(
                    b,
                    Composite::Attention(spec),
                    &[&q, &k, &v, &offset, &kv_len, &table],
                    Class::Composite { terms: 28 },
                );
            });
        }
    }
}

fn rope(t: &mut Table) {
    for d in FLOATS {
        for (name, dims, half) in [
            ("prime", [2usize, 3, 5, 8], 4usize),
            ("partial", [1, 2, 7, 12], 4),
            ("heads", [1, 5, 33, 64], 32),
            ("one", [1, 1, 1, 2], 1),
            ("none", [1, 2, 0, 4], 2),
        ] {
            for interleaved in [false, true] {
                let recipe = move |b: &mut Build| {
                    let x = b.data(d, &dims, Fill::Normal);
                    let angles = [dims[0], dims[2], half];
                    let (cos, sin) = (
                        b.data(DType::F32, &angles, Fill::Normal),
                        b.data(DType::F32, &angles, Fill::Normal),
                    );
                    b.output(&x.rope(&cos, &sin, interleaved), Class::Sum { terms: 2 });
                };
                let variant = format!("{d}/{name}/{}", if interleaved { "interleaved" } else { "halves" });
                if d != DType::F16 && dims[2] > 0 {
                    t.differentiable(L2, "rope", variant, 64, recipe);
                } else {
                    t.values(L2, "rope", variant, recipe);
                }
            }
        }
    }
}

fn kv_append(t: &mut Table) {
    for d in FLOATS {
        for (name, t_new, at) in [
            ("one", 1usize, [0i64, 6]),
            ("several", 3, [2, 4]),
            ("past-the-end", 3, [6, -1]),
            ("none", 0, [0, 0]),
        ] {
            for in_place in [true, false] {
                t.values(
                    L2,
                    "kv_append",
                    format!("{d}/{name}/{}", if in_place { "in-place" } else { "fresh" }),
                    move |b| {
                        let cache = b.input(Role::State, TensorType::new(d, [2, 3, 7, 5]), Fill::Normal);
                        let new = b.data(d, &[2, 3, t_new, 5], Fill::Normal);
                        let pos = b.integers(&[2], &at);
                        let y = cache.kv_append(&new, &pos, None);
                        match in_place {
                            true => b.output_in_place(&y, &cache, Class::Exact),
                            false => b.output(&y, Class::Exact),
                        }
                    },
                );
            }
            t.values(L2, "kv_append", format!("{d}/{name}/paged"), move |b| {
                let pool = b.input(Role::State, TensorType::new(d, [6, 3, 4, 5]), Fill::Normal);
                let new = b.data(d, &[2, 3, t_new, 5], Fill::Normal);
                let pos = b.integers(&[2], &at);
                let pages = b.integers(&[2, 2], &[5, 0, 2, 3]);
                let y = pool.kv_append(&new, &pos, Some(&pages));
                b.output_in_place(&y, &pool, Class::Exact);
            });
        }
    }
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    attention(t);
    rope(t);
    kv_append(t);
}
