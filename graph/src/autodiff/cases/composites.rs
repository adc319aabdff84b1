//! Composites: every option, and the backward composites differentiated again.

use super::{Case, Table};
use crate::composite::{Activation, AttentionSpec, Composite, Interpolation, PoolKind};
use crate::dtype::DType;
use crate::op::Op;
use crate::trace::Tensor;

pub fn all(t: &mut Table) {
    projection(t);
    softmax(t);
    loss(t);
    norm(t);
    rope(t);
    attention(t);
    cache(t);
    activation(t);
    spatial(t);
    recurrent(t);
    optimizer(t);
}

fn apply(c: &Case, composite: Composite, inputs: &[&Tensor]) -> Vec<Tensor> {
    c.trace.ops(Op::Composite(composite), inputs)
}

fn projection(t: &mut Table) {
    t.one("linear", |c| c.x([2, 3]).linear(&c.x([4, 3]), None, None));
    t.one("linear/vector", |c| c.x([3]).linear(&c.x([4, 3]), Some(&c.x([4])), None));
    for act in Activation::ALL {
        t.one(format!("linear/bias {act:?}"), |c| {
            let (x, w, b) = (c.x([2, 2, 3]), c.x([4, 3]), c.x([4]));
            x.linear(&w, Some(&b), Some(act))
        });
    }
    for dtype in DType::ALL.into_iter().filter(|d| d.is_quantized()) {
        let k = dtype.block_len();
        for transposed in [false, true] {
            let way = if transposed { " transposed" } else { "" };
            t.add(format!("quantized_dot/{dtype}{way}"), |c| {
                let x = c.x([2, if transposed { 3 } else { k }]);
                let w = c.quantized(dtype, [3, k]);
                apply(c, Composite::QuantizedDot { transposed }, &[&x, &w])
            });
        }
    }
    for transposed in [false, true] {
        let way = if transposed { " transposed" } else { "" };
        // The third group has no rows, one row has a group that is not there, and one the same group twice.
        t.add(format!("ragged_dot/many rows{way}"), |c| {
            let x = c.x([4, if transposed { 2 } else { 3 }]);
            let w = c.x([4, 2, 3]);
            let groups = c.ints([4, 2], &[1, 0, 3, 3, 0, -1, 1, 3]);
            apply(c, Composite::RaggedDot { transposed }, &[&x, &w, &groups])
        });
        t.add(format!("ragged_dot/few rows{way}"), |c| {
            let x = c.x([2, if transposed { 2 } else { 3 }]);
            let w = c.x([5, 2, 3]);
            let groups = c.ints([2, 2], &[4, 0, 5, 2]);
            apply(c, Composite::RaggedDot { transposed }, &[&x, &w, &groups])
        });
        t.add(format!("ragged_dot/quantized{way}"), |c| {
            let x = c.x([3, if transposed { 2 } else { 32 }]);
            let w = c.quantized(DType::Q8_0, [3, 2, 32]);
            let groups = c.ints([3, 1], &[2, 0, 2]);
            apply(c, Composite::RaggedDot { transposed }, &[&x, &w, &groups])
        });
    }
    t.add("ragged_outer", |c| {
        let (x, y) = (c.x([3, 4]), c.x([3, 2, 5]));
        let groups = c.ints([3, 2], &[1, 0, 3, 1, -1, 1]);
        apply(c, Composite::RaggedOuter { groups: 4 }, &[&x, &y, &groups])
    });
    t.one("embedding", |c| {
        let out = c.dtype;
        c.x([5, 3]).embedding(&c.ints([2, 2], &[4, 0, 4, 9]), out)
    });
}

fn softmax(t: &mut Table) {
    t.one("softmax", |c| c.x([2, 3, 4]).softmax());
    t.one("log_softmax", |c| c.x([3, 4]).log_softmax());
    t.one("softmax/masked", |c| {
        let x = c.x([2, 4]);
        let hidden = x.gt(&x.like(0.9));
        hidden.select(&x.like(f64::NEG_INFINITY), &x).softmax()
    });
}

fn loss(t: &mut Table) {
    for label_smoothing in [0.0, 0.1] {
        let forward = Composite::CrossEntropy { ignore: -100, label_smoothing };
        t.add(format!("cross_entropy/smoothing {label_smoothing}"), |c| {
            let x = c.x([4, 5]);
            let labels = c.ints([4], &[0, 4, -100, 2]);
            apply(c, forward.clone(), &[&x, &labels]).into_iter().take(1).collect()
        });
        t.add(format!("cross_entropy/with lse, smoothing {label_smoothing}"), |c| {
            let x = c.x([3, 4]);
            let labels = c.ints([3], &[1, -100, 2]);
            apply(c, forward.clone(), &[&x, &labels])
        });
        t.add(format!("cross_entropy_grad/smoothing {label_smoothing}"), |c| {
            let x = c.x([3, 4]);
            let labels = c.ints([3], &[1, -100, 2]);
            let (lse, g) = (c.single([3], 1.0, 2.0), c.single([3], -1.0, 1.0));
            let back = Composite::CrossEntropyGrad { ignore: -100, label_smoothing };
            apply(c, back, &[&x, &labels, &lse, &g])
        });
    }
    t.add("cross_entropy/lse alone", |c| {
        let x = c.x([2, 4]);
        let labels = c.ints([2], &[1, 3]);
        let forward = Composite::CrossEntropy { ignore: -100, label_smoothing: 0.0 };
        apply(c, forward, &[&x, &labels]).into_iter().skip(1).collect()
    });
}

fn norm(t: &mut Table) {
    for unit_offset in [false, true] {
        let kind = if unit_offset { "unit offset" } else { "plain" };
        t.add(format!("rms_norm/{kind}"), |c| {
            let (x, w) = (c.x([2, 2, 5]), c.x([5]));
            apply(c, Composite::RmsNorm { eps: 1e-5, unit_offset }, &[&x, &w])
        });
        t.add(format!("rms_norm_grad/{kind}"), |c| {
            let (x, w, dy) = (c.x([3, 4]), c.x([4]), c.x([3, 4]));
            apply(c, Composite::RmsNormGrad { eps: 1e-5, unit_offset }, &[&x, &w, &dy])
        });
    }
    t.add("layer_norm", |c| {
        let (x, w, b) = (c.x([2, 2, 5]), c.x([5]), c.x([5]));
        apply(c, Composite::LayerNorm { eps: 1e-5 }, &[&x, &w, &b])
    });
    t.add("layer_norm_grad", |c| {
        let (x, w, dy) = (c.x([3, 4]), c.x([4]), c.x([3, 4]));
        apply(c, Composite::LayerNormGrad { eps: 1e-5 }, &[&x, &w, &dy])
    });
}

fn rope(t: &mut Table) {
    for interleaved in [false, true] {
        let kind = if interleaved { "interleaved" } else { "halves" };
        t.one(format!("rope/{kind}"), |c| {
            let x = c.x([2, 2, 3, 4]);
            let positions = c.ints([2, 3], &[0, 1, 2, 5, 6, 7]);
            let [cos, sin] = positions.rope_angles(&[1.0, 0.3]);
            x.rope(&cos, &sin, interleaved)
        });
        t.one(format!("rope/{kind}, partial, learned angles"), |c| {
            let x = c.x([1, 2, 2, 6]);
            let (cos, sin) = (c.single([1, 2, 2], -1.0, 1.0), c.single([1, 2, 2], -1.0, 1.0));
            x.rope(&cos, &sin, interleaved)
        });
    }
}

/// q [2,4,3,4], k [2,2,5,4], v [2,2,5,2] and the optional operands that a spec needs.
fn attention_operands(c: &mut Case, spec: &AttentionSpec) -> Vec<Tensor> {
    let mut x = vec![c.x([2, 4, 3, 4])];
    let keys = if spec.paged { [4, 2, 3] } else { [2, 2, 5] };
    let s = if spec.paged { 6 } else { 5 };
    x.push(c.x([&keys[..], &[4]].concat()));
    x.push(c.x([&keys[..], &[2]].concat()));
    if spec.segments {
        x.push(c.ints([2, 3], &[0, 0, 1, 3, 3, 3]));
        // The second sequence has no key of segment 3: its queries attend to nothing.
        let keys: Vec<i32> = (0..2 * s).map(|i| if i < s { (i > 2) as i32 } else { 1 }).collect();
        x.push(c.ints([2, s as usize], &keys));
    }
    if spec.blocks {
        x.push(c.ints([2, 3], &[-1, 0, 0, 1, 1, -1]));
        let keys: Vec<i32> = (0..2 * s).map(|i| if i % 3 == 0 { -1 } else { i % 2 }).collect();
        x.push(c.ints([2, s as usize], &keys));
    }
    if spec.offset {
        x.push(c.ints([2], &[2, 1]));
    }
    if spec.kv_len {
        x.push(c.ints([2], &[4, 2]));
    }
    if spec.paged {
        x.push(c.ints([2, 2], &[2, 0, 1, 3]));
    }
    x
}

fn attention(t: &mut Table) {
    let full = AttentionSpec::full(0.5);
    let causal = AttentionSpec::causal(0.5);
    let specs = [
        ("full", full.clone()),
        ("causal", causal.clone()),
        ("window", AttentionSpec { window: Some(2), ..full.clone() }),
        ("causal window", AttentionSpec { window: Some(2), ..causal.clone() }),
        ("soft cap", AttentionSpec { soft_cap: Some(1.5), ..causal.clone() }),
        ("segments", AttentionSpec { segments: true, ..full.clone() }),
        ("blocks", AttentionSpec { blocks: true, ..causal.clone() }),
        ("offset and extent", AttentionSpec { offset: true, kv_len: true, ..causal.clone() }),
        (
            "everything",
            AttentionSpec {
                window: Some(3),
                soft_cap: Some(2.0),
                segments: true,
                blocks: true,
                offset: true,
                kv_len: true,
                ..causal.clone()
            },
        ),
    ];
    for (what, spec) in &specs {
        t.add(format!("attention/{what}"), |c| {
            let x = attention_operands(c, spec);
            let mut results = apply(c, Composite::Attention(spec.clone()), &x.iter().collect::<Vec<_>>());
            results.truncate(1);
            results
        });
    }
    t.add("attention/with lse", |c| {
        let x = attention_operands(c, &causal);
        apply(c, Composite::Attention(causal.clone()), &x.iter().collect::<Vec<_>>())
    });
    t.add("attention/with lse of rows without keys", |c| {
        let spec = AttentionSpec { segments: true, ..full.clone() };
        let x = attention_operands(c, &spec);
        let mut results = apply(c, Composite::Attention(spec), &x.iter().collect::<Vec<_>>());
        if let Some(lse) = results.get_mut(1) {
            *lse = lse.is_finite().select(lse, &lse.like(0.0));
        }
        results
    });
    t.one("attention/paged", |c| {
        let spec = AttentionSpec { paged: true, kv_len: true, offset: true, ..causal.clone() };
        let x = attention_operands(c, &spec);
        x[0].attention(&x[1], &x[2], &x[3..].iter().collect::<Vec<_>>(), spec)
    });
    t.one("attention/of one value", |c| {
        let x = c.x([1, 2, 3, 4]);
        x.attention(&x, &x, &[], causal.clone())
    });
    for (what, spec) in [&specs[1], &specs[8]] {
        t.add(format!("attention_grad/{what}"), |c| {
            let mut x = attention_operands(c, spec);
            x.push(c.x([2, 4, 3, 2]));
            x.push(c.single([2, 4, 3], 1.0, 2.0));
            x.push(c.x([2, 4, 3, 2]));
            apply(c, Composite::AttentionGrad(spec.clone()), &x.iter().collect::<Vec<_>>())
        });
    }
}

fn cache(t: &mut Table) {
    t.one("kv_append", |c| {
        let (cache, new) = (c.x([2, 2, 4, 2]), c.x([2, 2, 2, 2]));
        cache.kv_append(&new, &c.ints([2], &[1, 3]), None)
    });
    t.one("kv_append/paged", |c| {
        let (pool, new) = (c.x([4, 1, 2, 2]), c.x([2, 1, 3, 2]));
        let (pos, table) = (c.ints([2], &[0, 2]), c.ints([2, 2], &[3, 0, 1, 2]));
        pool.kv_append(&new, &pos, Some(&table))
    });
}

fn activation(t: &mut Table) {
    for act in Activation::ALL {
        t.one(format!("activate/{act:?}"), |c| c.x([2, 4]).activate(act));
        t.one(format!("gated_activate/{act:?}"), |c| c.x([2, 4]).gated(act, &c.x([2, 4])));
    }
    t.one("gated_activate/itself", |c| {
        let x = c.x([2, 4]);
        x.gated(Activation::Silu, &x)
    });
}

fn spatial(t: &mut Table) {
    t.one("patchify", |c| c.x([1, 2, 4, 6]).patchify([2, 3]));
    t.one("conv1d", |c| c.x([2, 2, 5]).conv1d(&c.x([3, 2, 3]), None, 1, 1));
    t.add("conv1d/strided and dilated with bias", |c| {
        let (x, w, b) = (c.x([1, 2, 8]), c.x([2, 2, 3]), c.x([2]));
        apply(c, Composite::Conv1d { stride: 2, padding: 1, dilation: 2, bias: true }, &[&x, &w, &b])
    });
    t.one("cum_sum", |c| c.x([3, 5]).cumsum(1));
    t.one("cum_sum/outer axis", |c| c.x([4, 3]).cumsum(0));
    for kind in [PoolKind::Avg, PoolKind::Max] {
        t.one(format!("pool/{kind:?}"), |c| c.x([1, 2, 4, 4]).pool(kind, [2, 2], [2, 2]));
        t.one(format!("pool/{kind:?} overlapping"), |c| c.x([2, 1, 7]).pool(kind, [3], [2]));
    }
    for kind in [
        Interpolation::Nearest,
        Interpolation::Bilinear { align_corners: false },
        Interpolation::Bilinear { align_corners: true },
    ] {
        t.one(format!("upsample/{kind:?}"), |c| c.x([1, 2, 2, 3]).upsample([5, 4], kind));
        t.one(format!("upsample/{kind:?} smaller"), |c| c.x([1, 1, 5, 4]).upsample([2, 3], kind));
    }
}

/// q, k [b,t,hk,2], v [b,t,h,2], logarithms of the decay and shares.
fn delta_operands(c: &mut Case, [b, t, hk, h]: [usize; 4]) -> Vec<Tensor> {
    vec![
        c.x([b, t, hk, 2]),
        c.within([b, t, hk, 2], -0.6, 0.7),
        c.x([b, t, h, 2]),
        c.single([b, t, h], -0.9, -0.1),
        c.single([b, t, h], 0.1, 0.9),
    ]
}

fn recurrent(t: &mut Table) {
    let delta = |segments, state| Composite::GatedDelta { segments, state };
    let conv = |segments, state| Composite::ShortConv { segments, state };
    for (what, extents) in [("rows", [2, 5, 1, 2]), ("one row", [1, 1, 1, 1]), ("chunks", [1, 65, 1, 1])] {
        t.add(format!("gated_delta/{what}"), |c| {
            let x = delta_operands(c, extents);
            apply(c, delta(false, false), &x.iter().collect::<Vec<_>>())
        });
    }
    t.add("gated_delta/segments", |c| {
        let mut x = delta_operands(c, [1, 6, 1, 2]);
        x.push(c.ints([1, 6], &[0, 0, 3, 1, 1, 1]));
        apply(c, delta(true, false), &x.iter().collect::<Vec<_>>())
    });
    t.add("gated_delta/state", |c| {
        let mut x = delta_operands(c, [2, 3, 1, 2]);
        x.push(c.single([3, 2, 2, 2], -1.0, 1.0));
        x.extend([[2, -1], [2, 1], [3, 2]].map(|slots| c.ints([2], &slots)));
        apply(c, delta(false, true), &x.iter().collect::<Vec<_>>())
    });
    t.one("short_conv", |c| c.x([2, 5, 3]).short_conv(&c.x([3, 4]), None));
    t.add("short_conv/segments", |c| {
        let (x, w) = (c.x([1, 6, 2]), c.x([2, 3]));
        let segments = c.ints([1, 6], &[0, 0, 3, 1, 1, 1]);
        apply(c, conv(true, false), &[&x, &w, &segments])
    });
    t.add("short_conv/state", |c| {
        let mut x = vec![c.x([2, 4, 2]), c.x([2, 3]), c.x([3, 2, 2])];
        x.extend([[-1, 2], [0, 2], [4, 1]].map(|slots| c.ints([2], &slots)));
        apply(c, conv(false, true), &x.iter().collect::<Vec<_>>())
    });
}

fn optimizer(t: &mut Table) {
    t.add("adam_w", |c| {
        let [p, g, m] = [0, 1, 2].map(|_| c.single([3], -1.4, 1.6));
        let v = c.single([3], 0.4, 2.0);
        let (rate, step) = (c.single([], 0.1, 0.3), c.single([], 2.0, 4.0));
        let adamw = Composite::AdamW { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };
        apply(c, adamw, &[&p, &g, &m, &v, &rate, &step])
    });
}
