//! Composites whose oracle is a plain loop: attention's masks and pages, the KV cache, quantized products.

use percept_graph::reference::{DEFAULT_MAX_ELEMENTS, ExactTensor, evaluate_exact};
use percept_graph::{AttentionSpec, Composite, DType, Graph, HostTensor, Op, Role, TensorType, Trace};

/// Numbers of a linear congruential generator (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 1
    }

    fn floats(&mut self, dims: &[usize]) -> ExactTensor {
        let n = dims.iter().product();
        let values = (0..n).map(|_| self.below(4001) as f64 / 1000.0 - 2.0).collect();
        ExactTensor { ty: TensorType::new(DType::F32, dims), values }
    }

    fn ints(&mut self, dims: &[usize], low: i64, high: i64) -> ExactTensor {
        let n = dims.iter().product();
        let values = (0..n).map(|_| (low + self.below((high - low + 1) as usize) as i64) as f64).collect();
        ExactTensor { ty: TensorType::new(DType::I32, dims), values }
    }
}

/// A graph of one composite.
fn graph_of(composite: Composite, inputs: &[ExactTensor]) -> Graph {
    let t = Trace::new("one");
    let x: Vec<_> =
        inputs.iter().enumerate().map(|(i, x)| t.input(i.to_string(), Role::Data, x.ty.clone())).collect();
    for (i, y) in t.ops(Op::Composite(composite), &x.iter().collect::<Vec<_>>()).iter().enumerate() {
        t.output(format!("y{i}"), y);
    }
    t.finish().unwrap()
}

fn run(composite: Composite, inputs: &[ExactTensor]) -> Vec<ExactTensor> {
    evaluate_exact(&graph_of(composite, inputs), inputs, DEFAULT_MAX_ELEMENTS).unwrap()
}

fn close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!(g == w || (g - w).abs() < 1e-6 * (1.0 + w.abs()), "{what}\n got {got:?}\nwant {want:?}");
    }
}

const B: usize = 2;
const H: usize = 4;
const HK: usize = 2;
const T: usize = 4;
const PAGE: usize = 3;
const PAGES: usize = 2;
const S: usize = PAGE * PAGES;
const D: usize = 3;
const E: usize = 2;

/// The optional operands of an attention by name.
struct Masks {
    q_segments: ExactTensor,
    k_segments: ExactTensor,
    q_blocks: ExactTensor,
    k_blocks: ExactTensor,
    offset: ExactTensor,
    kv_len: ExactTensor,
    table: ExactTensor,
}

impl Masks {
    fn random(r: &mut Random) -> Self {
        Self {
            q_segments: r.ints(&[B, T], 0, 2),
            k_segments: r.ints(&[B, S], 0, 1),
            q_blocks: r.ints(&[B, T], -2, 1),
            k_blocks: r.ints(&[B, S], -2, 1),
            offset: r.ints(&[B], 0, S as i64 - 1),
            kv_len: r.ints(&[B], 0, S as i64),
            table: ExactTensor {
                ty: TensorType::new(DType::I32, [B, PAGES]),
                values: vec![3.0, 0.0, 1.0, 4.0],
            },
        }
    }

    fn operands(&self, spec: &AttentionSpec) -> Vec<ExactTensor> {
        let all = [
            (spec.segments, &self.q_segments),
            (spec.segments, &self.k_segments),
            (spec.blocks, &self.q_blocks),
            (spec.blocks, &self.k_blocks),
            (spec.offset, &self.offset),
            (spec.kv_len, &self.kv_len),
            (spec.paged, &self.table),
        ];
        all.into_iter().filter(|(there, _)| *there).map(|(_, x)| x.clone()).collect()
    }

    /// The rules of [`AttentionSpec`], one by one.
    fn allowed(&self, spec: &AttentionSpec, b: usize, i: usize, j: usize) -> bool {
        let p = i as i64 + if spec.offset { self.offset.values[b] as i64 } else { 0 };
        let distance = p - j as i64;
        if spec.kv_len && j as f64 >= self.kv_len.values[b] {
            return false;
        }
        if spec.segments && self.q_segments.values[b * T + i] != self.k_segments.values[b * S + j] {
            return false;
        }
        let (q_block, k_block) = (self.q_blocks.values[b * T + i], self.k_blocks.values[b * S + j]);
        let one_block = spec.blocks && q_block >= 0.0 && q_block == k_block;
        if spec.causal && distance < 0 && !one_block {
            return false;
        }
        match spec.window {
            Some(w) if distance >= w as i64 && !(spec.causal && spec.wide_blocks && one_block) => false,
            Some(w) if !spec.causal && -distance >= w as i64 => false,
            _ => true,
        }
    }
}

/// Attention of one query row: its output and log-sum-exp.
fn row(spec: &AttentionSpec, q: &[f64], keys: &[(Vec<f64>, Vec<f64>)]) -> (Vec<f64>, f64) {
    let score = |k: &[f64]| {
        let s: f64 = q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() * spec.scale as f64;
        spec.soft_cap.map_or(s, |c| c as f64 * (s / c as f64).tanh())
    };
    let weights: Vec<f64> = keys.iter().map(|(k, _)| score(k).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut out = vec![0.0; E];
    for (w, (_, v)) in weights.iter().zip(keys) {
        out.iter_mut().zip(v).for_each(|(o, v)| *o += w / total * v);
    }
    (out, total.ln())
}

fn random_spec(r: &mut Random) -> AttentionSpec {
    AttentionSpec {
        scale: 0.5,
        causal: r.chance(),
        window: r.chance().then(|| 1 + r.below(4)),
        soft_cap: r.chance().then_some(1.5),
        segments: r.chance(),
        blocks: r.chance(),
        wide_blocks: r.chance(),
        offset: r.chance(),
        kv_len: r.chance(),
        paged: r.chance(),
    }
}

#[test]
fn attention_follows_its_rules_one_by_one() {
    let mut r = Random(7);
    let (mut empty_rows, mut masked, mut seen) = (0, 0, 0);
    for _ in 0..200 {
        let spec = random_spec(&mut r);
        let masks = Masks::random(&mut r);
        let pool = if spec.paged { [5, HK, PAGE] } else { [B, HK, S] };
        let q = r.floats(&[B, H, T, D]);
        let k = r.floats(&[&pool[..], &[D]].concat());
        let v = r.floats(&[&pool[..], &[E]].concat());
        let slot = |b: usize, head: usize, j: usize| match spec.paged {
            true => (masks.table.values[b * PAGES + j / PAGE] as usize * HK + head) * PAGE + j % PAGE,
            false => (b * HK + head) * S + j,
        };
        let (mut out, mut lse) = (Vec::new(), Vec::new());
        for (b, h, i) in (0..B * H * T).map(|n| (n / (H * T), n / T % H, n % T)) {
            let keys: Vec<_> = (0..S)
                .filter(|&j| masks.allowed(&spec, b, i, j))
                .map(|j| slot(b, h / (H / HK), j))
                .map(|at| (k.values[at * D..][..D].to_vec(), v.values[at * E..][..E].to_vec()))
                .collect();
            empty_rows += keys.is_empty() as usize;
            masked += S - keys.len();
            seen += keys.len();
            let at = (b * H + h) * T + i;
            let (o, l) = row(&spec, &q.values[at * D..][..D], &keys);
            out.extend(o);
            lse.push(l);
        }
        let inputs: Vec<_> = [q, k, v].into_iter().chain(masks.operands(&spec)).collect();
        let got = run(Composite::Attention(spec.clone()), &inputs);
        close(&got[0].values, &out, &format!("{spec:?}"));
        close(&got[1].values, &lse, &format!("{spec:?}"));
    }
    assert!(empty_rows > 100 && masked > 1000 && seen > 1000, "{empty_rows} {masked} {seen}");
}

/// Keys past the live length are unspecified: with NaN there, attention and its gradient are what they are with zeros.
#[test]
fn nothing_reads_past_the_live_keys() {
    let mut r = Random(11);
    for soft_cap in [None, Some(2.0)] {
        let spec = AttentionSpec { kv_len: true, soft_cap, ..AttentionSpec::full(0.5) };
        let kv_len = ExactTensor { ty: TensorType::new(DType::I32, [B]), values: vec![4.0, 0.0] };
        let with = |past: f64, t: &ExactTensor, d: usize| {
            let mut t = t.clone();
            for (n, row) in t.values.chunks_exact_mut(d).enumerate() {
                if (n % S) as f64 >= kv_len.values[n / (HK * S)] {
                    row.fill(past);
                }
            }
            t
        };
        let (q, k, v) = (r.floats(&[B, H, T, D]), r.floats(&[B, HK, S, D]), r.floats(&[B, HK, S, E]));
        let dout = r.floats(&[B, H, T, E]);
        let both = [0.0, f64::NAN].map(|past| {
            let inputs = [q.clone(), with(past, &k, D), with(past, &v, E), kv_len.clone()];
            let saved = run(Composite::Attention(spec.clone()), &inputs);
            let inputs: Vec<_> = inputs.into_iter().chain(saved.clone()).chain([dout.clone()]).collect();
            let gradients = run(Composite::AttentionGrad(spec.clone()), &inputs);
            [saved, gradients].concat()
        });
        for (clean, soiled) in both[0].iter().zip(&both[1]) {
            assert_eq!(clean, soiled);
        }
    }
}

#[test]
fn kv_append_writes_each_row_where_it_belongs() {
    let mut r = Random(3);
    let (mut written, mut dropped) = (0, 0);
    for round in 0..100 {
        let paged = round % 2 == 1;
        let cache = r.floats(&[if paged { 5 } else { B }, HK, if paged { PAGE } else { S }, D]);
        let new = r.floats(&[B, HK, T, D]);
        let pos = r.ints(&[B], -2, S as i64 + 1);
        let table =
            ExactTensor { ty: TensorType::new(DType::I32, [B, PAGES]), values: vec![3.0, 0.0, 1.0, 4.0] };
        let mut want = cache.values.clone();
        for (b, h, i) in (0..B * HK * T).map(|n| (n / (HK * T), n / T % HK, n % T)) {
            let at = pos.values[b] as i64 + i as i64;
            if !(0..S as i64).contains(&at) {
                dropped += 1;
                continue;
            }
            written += 1;
            let at = at as usize;
            let row = match paged {
                true => (table.values[b * PAGES + at / PAGE] as usize * HK + h) * PAGE + at % PAGE,
                false => (b * HK + h) * S + at,
            };
            want[row * D..][..D].copy_from_slice(&new.values[((b * HK + h) * T + i) * D..][..D]);
        }
        let mut inputs = vec![cache, new, pos];
        if paged {
            inputs.push(table);
        }
        assert_eq!(run(Composite::KvAppend { paged }, &inputs)[0].values, want);
    }
    assert!(written > 500 && dropped > 100, "{written} {dropped}");
}

#[test]
fn kv_append_into_no_pages_changes_nothing() {
    let mut r = Random(5);
    let inputs =
        [r.floats(&[2, 1, 2, 2]), r.floats(&[1, 1, 1, 2]), r.ints(&[1], 0, 0), r.ints(&[1, 0], 0, 0)];
    assert_eq!(run(Composite::KvAppend { paged: true }, &inputs)[0].values, inputs[0].values);
}

#[test]
fn quantized_products_are_those_of_the_decoded_weight() {
    let mut r = Random(9);
    for dtype in DType::ALL.into_iter().filter(|d| d.is_quantized()) {
        let (n, k) = (3, 2 * dtype.block_len());
        let ty = TensorType::new(dtype, [n, k]);
        // Bytes below 0x3c keep every f16 scale below 1.
        let bytes: Vec<u8> = (0..ty.bytes()).map(|_| r.below(0x3c) as u8).collect();
        let w = ExactTensor::from(&HostTensor::new(ty, bytes).unwrap());
        let (x, g) = (r.floats(&[2, k]), r.floats(&[2, n]));
        let sum = |f: &dyn Fn(usize) -> f64, over: usize| (0..over).map(f).sum::<f64>();
        let forward: Vec<f64> =
            (0..2 * n).map(|at| sum(&|c| x.values[at / n * k + c] * w.values[at % n * k + c], k)).collect();
        let backward: Vec<f64> =
            (0..2 * k).map(|at| sum(&|o| g.values[at / k * n + o] * w.values[o * k + at % k], n)).collect();
        let got = run(Composite::QuantizedDot { transposed: false }, &[x, w.clone()]);
        close(&got[0].values, &forward, dtype.name());
        let got = run(Composite::QuantizedDot { transposed: true }, &[g, w]);
        close(&got[0].values, &backward, dtype.name());
    }
}

#[test]
fn integer_products_round_groups_of_32_to_127ths_of_their_greatest() {
    let mut r = Random(4);
    for dtype in DType::ALL.into_iter().filter(|d| d.is_quantized()) {
        let (rows, n, k) = (3, 4, 2 * dtype.block_len());
        let ty = TensorType::new(dtype, [n, k]);
        let bytes: Vec<u8> = (0..ty.bytes()).map(|_| r.below(0x3c) as u8).collect();
        let w = ExactTensor::from(&HostTensor::new(ty, bytes).unwrap());
        let mut x = r.floats(&[rows, k]);
        // A group of zeros, and one too small to count.
        x.values[..32].fill(0.0);
        x.values[k..k + 32].fill(1e-31);
        let rounded: Vec<f64> = x
            .values
            .chunks(32)
            .flat_map(|group| {
                let a = group.iter().fold(0f64, |a, x| a.max(x.abs()));
                let a = if a > 1e-30 { a } else { 0.0 };
                group.iter().map(move |x| if a == 0.0 { 0.0 } else { (x / a * 127.0).round() * a / 127.0 })
            })
            .collect();
        let product = |x: &[f64]| -> Vec<f64> {
            (0..rows * n)
                .map(|at| (0..k).map(|c| x[at / n * k + c] * w.values[at % n * k + c]).sum())
                .collect()
        };
        let (expected, exact) = (product(&rounded), product(&x.values));
        let got = &run(Composite::Int8Dot, &[x.clone(), w.clone()])[0].values;
        close(got, &expected, dtype.name());
        for (at, (got, exact)) in got.iter().zip(exact).enumerate() {
            let bound: f64 = (0..k / 32)
                .map(|g| {
                    let x = &x.values[at / n * k + 32 * g..][..32];
                    let w = &w.values[at % n * k + 32 * g..][..32];
                    x.iter().fold(0f64, |a, x| a.max(x.abs())) / 254.0
                        * w.iter().map(|w| w.abs()).sum::<f64>()
                })
                .sum();
            assert!(
                (got - exact).abs() <= bound * (1.0 + 1e-9) + 1e-25,
                "{dtype}: {got} is too far from {exact}"
            );
        }
    }
}

#[test]
fn the_nearest_pixel_alone_decides() {
    let mut values = vec![1.0; 16];
    values[5] = f64::INFINITY;
    let x = ExactTensor { ty: TensorType::new(DType::F32, [1, 1, 4, 4]), values };
    let nearest = percept_graph::Interpolation::Nearest;
    let got = run(Composite::Upsample { size: [8, 8], kind: nearest }, &[x]);
    assert_eq!(got[0].values.iter().filter(|v| v.is_infinite()).count(), 4);
    assert!(got[0].values.iter().all(|v| !v.is_nan()));
}
