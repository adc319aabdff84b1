use percept_graph::{AttentionSpec, Composite, DType, Op, TensorType};

use crate::lanes::on_every_isa;
use crate::launch_test::{assert_near, noise, run_op};

type Operand = (TensorType, Vec<f64>);

struct Case {
    spec: AttentionSpec,
    /// batch, heads, key heads, queries, keys, d, e
    dims: [usize; 7],
    dtype: DType,
}

fn ints(dims: &[usize], values: impl IntoIterator<Item = i32>) -> Operand {
    (TensorType::new(DType::I32, dims), values.into_iter().map(f64::from).collect())
}

impl Case {
    fn operands(&self) -> Vec<Operand> {
        let [b, h, hk, t, s, d, e] = self.dims;
        let float = |dims: [usize; 4], seed| {
            let ty = TensorType::new(self.dtype, dims);
            let x = noise(&ty, seed);
            (ty, x)
        };
        let mut all = vec![float([b, h, t, d], 1), float([b, hk, s, d], 2), float([b, hk, s, e], 3)];
        let spec = &self.spec;
        if spec.segments {
            all.push(ints(&[b, t], (0..b * t).map(|i| (i % t / 23) as i32)));
            all.push(ints(&[b, s], (0..b * s).map(|i| (i % s / 23) as i32)));
        }
        if spec.blocks {
            let block = |i: usize| if i % 37 > 9 && i % 37 < 20 { (i / 37) as i32 } else { -1 };
            all.push(ints(&[b, t], (0..b * t).map(|i| block(i % t))));
            all.push(ints(&[b, s], (0..b * s).map(|i| block(i % s))));
        }
        if spec.offset {
            all.push(ints(&[b], (0..b).map(|i| (3 * i) as i32)));
        }
        if spec.kv_len {
            all.push(ints(&[b], (0..b).map(|i| (s - s / 3 * i) as i32)));
        }
        all
    }

    fn allowed(&self, operands: &[Operand], b: usize, i: usize, j: usize) -> bool {
        let [_, _, _, t, s, ..] = self.dims;
        let spec = &self.spec;
        let mut rest = operands[3..].iter();
        let mut take = |there: bool| if there { rest.next().map(|x| &x.1) } else { None };
        let segments = take(spec.segments).zip(take(spec.segments));
        let blocks = take(spec.blocks).zip(take(spec.blocks));
        let offset = take(spec.offset).map_or(0.0, |o| o[b]);
        let live = take(spec.kv_len).map_or(s as f64, |n| n[b]);
        let (p, k) = (i as f64 + offset, j as f64);
        let together = blocks.is_some_and(|(q, k)| q[b * t + i] >= 0.0 && q[b * t + i] == k[b * s + j]);
        let near = spec.window.is_none_or(|w| p - k < w as f64 && (spec.causal || k - p < w as f64));
        k < live
            && segments.is_none_or(|(q, k)| q[b * t + i] == k[b * s + j])
            && (!spec.causal || k <= p || together)
            && (near || spec.wide_blocks && together)
    }

    /// out, lse, dq, dk, dv by the formulas in f64.
    fn truth(&self, x: &[Operand], dout: &[f64]) -> [Vec<f64>; 5] {
        let [b, h, hk, t, s, d, e] = self.dims;
        let (q, k, v) = (&x[0].1, &x[1].1, &x[2].1);
        let scale = f64::from(self.spec.scale);
        let cap = self.spec.soft_cap.map(f64::from);
        let (mut out, mut lses) = (vec![0.0; b * h * t * e], vec![f64::NEG_INFINITY; b * h * t]);
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        for row in 0..b * h * t {
            let (bi, hi, i) = (row / (h * t), row / t % h, row % t);
            let kv = (bi * hk + hi / (h / hk)) * s;
            let score = |j: usize| {
                let raw = (0..d).map(|c| q[row * d + c] * k[(kv + j) * d + c]).sum::<f64>() * scale;
                cap.map_or(raw, |cap| (raw / cap).tanh() * cap)
            };
            let seen: Vec<usize> = (0..s).filter(|j| self.allowed(x, bi, i, *j)).collect();
            if seen.is_empty() {
                continue;
            }
            let scores: Vec<f64> = seen.iter().map(|j| score(*j)).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = scores.iter().map(|x| (x - max).exp()).sum::<f64>().ln() + max;
            lses[row] = lse;
            for (j, x) in seen.iter().zip(&scores) {
                for c in 0..e {
                    out[row * e + c] += (x - lse).exp() * v[(kv + j) * e + c];
                }
            }
            let dot: f64 = (0..e).map(|c| out[row * e + c] * dout[row * e + c]).sum();
            for (j, x) in seen.iter().zip(&scores) {
                let p = (x - lse).exp();
                let dp: f64 = (0..e).map(|c| dout[row * e + c] * v[(kv + j) * e + c]).sum();
                let slope = cap.map_or(1.0, |cap| 1.0 - (x / cap).powi(2));
                let ds = p * (dp - dot) * slope * scale;
                for c in 0..e {
                    dv[(kv + j) * e + c] += p * dout[row * e + c];
                }
                for c in 0..d {
                    dq[row * d + c] += ds * k[(kv + j) * d + c];
                    dk[(kv + j) * d + c] += ds * q[row * d + c];
                }
            }
        }
        [out, lses, dq, dk, dv]
    }
}

fn cases() -> Vec<Case> {
    let full = AttentionSpec::full(0.3);
    let causal = AttentionSpec::causal(0.3);
    let case = |spec: &AttentionSpec, dims| Case { spec: spec.clone(), dims, dtype: DType::F32 };
    let live = AttentionSpec { offset: true, kv_len: true, ..causal.clone() };
    vec![
        case(&full, [1, 1, 1, 1, 1, 1, 1]),
        case(&full, [2, 3, 3, 5, 7, 16, 16]),
        case(&full, [1, 2, 1, 70, 131, 20, 33]),
        case(&causal, [1, 4, 2, 97, 97, 64, 64]),
        case(&live, [2, 4, 1, 66, 90, 32, 48]),
        case(&AttentionSpec { window: Some(19), ..causal.clone() }, [1, 2, 2, 150, 150, 16, 16]),
        case(&AttentionSpec { window: Some(19), ..full.clone() }, [1, 2, 2, 150, 160, 16, 16]),
        case(&AttentionSpec { segments: true, ..causal.clone() }, [2, 2, 2, 80, 80, 16, 16]),
        case(
            &AttentionSpec { blocks: true, segments: true, window: Some(30), ..causal.clone() },
            [1, 2, 1, 90, 90, 16, 16],
        ),
        case(
            &AttentionSpec { blocks: true, wide_blocks: true, window: Some(4), ..causal.clone() },
            [1, 2, 1, 90, 90, 16, 16],
        ),
        case(&AttentionSpec { soft_cap: Some(0.4), ..live.clone() }, [2, 2, 2, 40, 130, 16, 16]),
        Case { dtype: DType::F16, ..case(&causal, [1, 2, 1, 70, 70, 24, 24]) },
        Case { dtype: DType::BF16, ..case(&live, [2, 2, 2, 9, 70, 32, 32]) },
    ]
}

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 3e-6,
        DType::F16 => 2e-3,
        _ => 1.6e-2,
    }
}

#[test]
fn forward_and_backward_agree_with_f64() {
    on_every_isa(|isa| {
        for case in cases() {
            let x = case.operands();
            let [b, h, _, t, _, _, e] = case.dims;
            let ty = TensorType::new(case.dtype, [b, h, t, e]);
            let dout = noise(&ty, 77);
            let truth = case.truth(&x, &dout);
            let what = format!("{:?} {:?} {isa:?}", case.spec, case.dims);
            let near = tolerance(case.dtype);
            let forward = Op::Composite(Composite::Attention(case.spec.clone()));
            let got = run_op(&forward, &x, 2);
            assert_near(&got[0], &truth[0], near, &format!("out {what}"));
            assert_near(&got[1], &truth[1], near, &format!("lse {what}"));
            let mut operands = x;
            operands.push((ty.clone(), got[0].clone()));
            operands.push((TensorType::new(DType::F32, [b, h, t]), got[1].clone()));
            operands.push((ty, dout));
            let backward = Op::Composite(Composite::AttentionGrad(case.spec.clone()));
            let grads = run_op(&backward, &operands, 2);
            assert_eq!(grads, run_op(&backward, &operands, 1), "threads");
            for (i, name) in ["dq", "dk", "dv"].iter().enumerate() {
                assert_near(&grads[i], &truth[2 + i], 4.0 * near, &format!("{name} {what}"));
            }
        }
    });
}

/// Takes positions `range` of dimension 2 of a [b,h,t,d] operand.
fn narrow(x: &Operand, range: std::ops::Range<usize>) -> Operand {
    let dims = &x.0.dims;
    let (outer, t, d) = (dims[0] * dims[1], dims[2], dims[3]);
    let values =
        (0..outer).flat_map(|o| x.1[(o * t + range.start) * d..(o * t + range.end) * d].to_vec()).collect();
    (TensorType::new(x.0.dtype, [dims[0], dims[1], range.len(), d]), values)
}

#[test]
fn a_row_is_the_same_alone_in_chunks_in_decoding_and_in_pages() {
    let (h, hk, t, d) = (4, 2, 300, 32);
    let spec = AttentionSpec { offset: true, kv_len: true, ..AttentionSpec::causal(0.2) };
    let float = |dims: [usize; 4], seed| {
        let ty = TensorType::new(DType::F32, dims);
        let x = noise(&ty, seed);
        (ty, x)
    };
    let (q, k, v) = (float([1, h, t, d], 1), float([1, hk, t, d], 2), float([1, hk, t, d], 3));
    let op = Op::Composite(Composite::Attention(spec.clone()));
    let one = |x: i32| ints(&[1], [x]);
    on_every_isa(|isa| {
        let all = run_op(&op, &[q.clone(), k.clone(), v.clone(), one(0), one(t as i32)], 2);
        let rows = |result: &[f64], count: usize, head: usize, i: usize| {
            result[(head * count + i) * d..(head * count + i + 1) * d].to_vec()
        };
        for range in [0..1, 5..6, 63..65, 100..231, 299..300] {
            // A cache longer than what is live: what lies beyond must not matter, even NaN.
            let mut cache = [k.clone(), v.clone()];
            for x in &mut cache {
                let dims = [1, hk, t + 77, d];
                let mut wide = vec![f64::NAN; hk * (t + 77) * d];
                for head in 0..hk {
                    let live = range.end * d;
                    wide[head * (t + 77) * d..][..live].copy_from_slice(&x.1[head * t * d..][..live]);
                }
                *x = (TensorType::new(DType::F32, dims), wide);
            }
            let [ck, cv] = cache;
            let x = [narrow(&q, range.clone()), ck, cv, one(range.start as i32), one(range.end as i32)];
            let part = run_op(&op, &x, 1);
            for head in 0..h {
                for i in range.clone() {
                    let alone = rows(&part[0], range.len(), head, i - range.start);
                    assert_eq!(alone, rows(&all[0], t, head, i), "{isa:?} {range:?} head {head} row {i}");
                }
            }
        }
        // The same keys in pages of 20 rows, in a shuffled order.
        let (page, pages) = (20, t / 20);
        let place = |p: usize| (p * 7) % pages;
        let paged = |x: &Operand| {
            let mut pool = vec![0.0; hk * t * d];
            for (head, p, r) in
                (0..hk).flat_map(|h| (0..pages).flat_map(move |p| (0..page).map(move |r| (h, p, r))))
            {
                let to = ((place(p) * hk + head) * page + r) * d;
                let from = (head * t + p * page + r) * d;
                pool[to..to + d].copy_from_slice(&x.1[from..from + d]);
            }
            (TensorType::new(DType::F32, [pages, hk, page, d]), pool)
        };
        let table = ints(&[1, pages], (0..pages).map(|p| place(p) as i32));
        let op = Op::Composite(Composite::Attention(AttentionSpec { paged: true, ..spec.clone() }));
        let x = [q.clone(), paged(&k), paged(&v), one(0), one(t as i32), table];
        assert_eq!(run_op(&op, &x, 2), all, "{isa:?} pages");
    });
}
