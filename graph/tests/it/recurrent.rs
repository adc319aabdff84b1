//! The recurrent composites, whose decompositions go by chunks, against plain loops over rows.

use percept_graph::reference::{DEFAULT_MAX_ELEMENTS, ExactTensor, evaluate_exact};
use percept_graph::{Composite, DType, Op, Role, TensorType, Trace};

const H: usize = 2;
const HK: usize = 1;
const DK: usize = 3;
const DV: usize = 2;
const TAPS: usize = 4;

/// Numbers of a linear congruential generator (Knuth's MMIX constants), as floats between bounds.
struct Random(u64);

impl Random {
    fn floats(&mut self, dims: &[usize], low: f64, high: f64) -> ExactTensor {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            low + (high - low) * (self.0 >> 33) as f64 / (1u64 << 31) as f64
        };
        let values = (0..dims.iter().product()).map(|_| next()).collect();
        ExactTensor { ty: TensorType::new(DType::F32, dims), values }
    }

    fn delta(&mut self, t: usize) -> Vec<ExactTensor> {
        let keys = [1, t, HK, DK];
        vec![
            self.floats(&keys, -1.0, 1.0),
            self.floats(&keys, -0.6, 0.6),
            self.floats(&[1, t, H, DV], -1.0, 1.0),
            self.floats(&[1, t, H], -0.5, 0.0),
            self.floats(&[1, t, H], 0.0, 1.0),
        ]
    }
}

fn ints(dims: &[usize], values: &[i32]) -> ExactTensor {
    let values = values.iter().map(|&v| f64::from(v)).collect();
    ExactTensor { ty: TensorType::new(DType::I32, dims), values }
}

/// Rows of a tensor [1,t,..].
fn rows(x: &ExactTensor, at: std::ops::Range<usize>) -> ExactTensor {
    let width = x.ty.numel() / x.ty.dims[1];
    let mut dims = x.ty.dims.clone();
    dims[1] = at.len();
    let values = x.values[at.start * width..at.end * width].to_vec();
    ExactTensor { ty: TensorType::new(x.ty.dtype, dims), values }
}

fn run(composite: Composite, inputs: &[ExactTensor]) -> Vec<ExactTensor> {
    let t = Trace::new("one");
    let x: Vec<_> =
        inputs.iter().enumerate().map(|(i, x)| t.input(i.to_string(), Role::Data, x.ty.clone())).collect();
    for (i, y) in t.ops(Op::Composite(composite), &x.iter().collect::<Vec<_>>()).iter().enumerate() {
        t.output(format!("y{i}"), y);
    }
    evaluate_exact(&t.finish().unwrap(), inputs, DEFAULT_MAX_ELEMENTS).unwrap()
}

fn close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-10, "{what}: {worst}");
}

/// The rule as it is defined, of one sequence: outputs, and what it leaves in `state` [h,dk,dv].
fn delta_loop(x: &[ExactTensor], state: &mut [f64]) -> Vec<f64> {
    let [q, k, v, g, beta] = [0, 1, 2, 3, 4].map(|i| &x[i].values);
    let mut out = Vec::new();
    for row in 0..x[0].ty.dims[1] {
        for head in 0..H {
            let key = (row * HK + head / (H / HK)) * DK;
            let at = row * H + head;
            let s = &mut state[head * DK * DV..(head + 1) * DK * DV];
            s.iter_mut().for_each(|s| *s *= g[at].exp());
            for j in 0..DV {
                let known: f64 = (0..DK).map(|i| s[i * DV + j] * k[key + i]).sum();
                let new = beta[at] * (v[at * DV + j] - known);
                (0..DK).for_each(|i| s[i * DV + j] += k[key + i] * new);
                out.push((0..DK).map(|i| s[i * DV + j] * q[key + i]).sum());
            }
        }
    }
    out
}

#[test]
fn the_delta_rule_by_chunks_is_the_one_by_rows_at_every_length() {
    let mut r = Random(1);
    for t in 1..=300 {
        let x = r.delta(t);
        let mut state = vec![0.0; H * DK * DV];
        let want = delta_loop(&x, &mut state);
        let whole = run(Composite::GatedDelta { segments: false, state: false }, &x);
        close(&whole[0].values, &want, &format!("{t} rows"));
        if t > 10 && !t.is_multiple_of(11) {
            continue;
        }
        // In two runs, of which the second goes on in another slot, over as many rows as there are and some that do not
        // count.
        let cut = (t * 7 / 11).clamp(1, t);
        let mut pool = r.floats(&[3, H, DK, DV], -1.0, 1.0);
        let mut got = Vec::new();
        for (at, from, to) in [(0..cut, -1, 2), (cut..t, 2, 0)] {
            let mut own: Vec<ExactTensor> = x.iter().map(|x| rows(x, at.clone())).collect();
            for (x, more) in own.iter_mut().zip(r.delta(3)) {
                x.ty.dims[1] += 3;
                x.values.extend(more.values);
            }
            let before = pool.values.clone();
            own.push(pool);
            own.extend([from, to, at.len() as i32].map(|n| ints(&[1], &[n])));
            let [out, after] =
                run(Composite::GatedDelta { segments: false, state: true }, &own).try_into().unwrap();
            let (read, rest) = out.values.split_at(at.len() * H * DV);
            got.extend(read.to_vec());
            assert!(rest.iter().all(|v| *v == 0.0));
            pool = after;
            let width = H * DK * DV;
            for slot in (0..3).filter(|slot| *slot != to) {
                let own = slot as usize * width..(slot as usize + 1) * width;
                assert_eq!(pool.values[own.clone()], before[own], "slot {slot}");
            }
        }
        close(&got, &want, &format!("{cut} of {t} rows, then the others"));
        close(&pool.values[..state.len()], &state, &format!("the state after {t} rows"));
    }
}

#[test]
fn segments_of_the_delta_rule_know_nothing_of_each_other() {
    let mut r = Random(2);
    for cuts in [vec![0, 1, 2, 150], vec![0, 64, 128, 129], vec![0, 70, 71, 200, 270], vec![0, 5, 9]] {
        let t = *cuts.last().unwrap();
        let x = r.delta(t);
        let (mut want, mut segments) = (Vec::new(), Vec::new());
        for (n, ends) in cuts.windows(2).enumerate() {
            let own: Vec<_> = x.iter().map(|x| rows(x, ends[0]..ends[1])).collect();
            want.extend(delta_loop(&own, &mut [0.0; H * DK * DV]));
            segments.extend(vec![(n * 5 % 3) as i32; ends[1] - ends[0]]);
        }
        let all: Vec<_> = x.into_iter().chain([ints(&[1, t], &segments)]).collect();
        let got = run(Composite::GatedDelta { segments: true, state: false }, &all);
        close(&got[0].values, &want, &format!("{cuts:?}"));
    }
}

/// The convolution as it is defined, of one sequence after the rows `before`.
fn conv_loop(x: &[f64], w: &[f64], before: &[f64], c: usize) -> Vec<f64> {
    let all = [before, x].concat();
    let value = |row: usize, channel: usize| -> f64 {
        (0..TAPS).map(|j| w[channel * TAPS + j] * all[(row + j) * c + channel]).sum()
    };
    (0..x.len() / c).flat_map(|row| (0..c).map(move |channel| value(row, channel))).collect()
}

#[test]
fn a_short_convolution_is_the_loop_in_one_run_in_two_and_by_segments() {
    let (mut r, c) = (Random(3), 3);
    let none = vec![0.0; (TAPS - 1) * c];
    for t in 1..=20 {
        let (x, w) = (r.floats(&[1, t, c], -1.0, 1.0), r.floats(&[c, TAPS], -1.0, 1.0));
        let want = conv_loop(&x.values, &w.values, &none, c);
        let whole = run(Composite::ShortConv { segments: false, state: false }, &[x.clone(), w.clone()]);
        close(&whole[0].values, &want, &format!("{t} rows"));
        let cut = t / 3;
        let mut pool = r.floats(&[2, TAPS - 1, c], -1.0, 1.0);
        let mut got = Vec::new();
        for (at, from, to) in [(0..cut, -1, 1), (cut..t, 1, 1)] {
            let mut own = rows(&x, at.clone());
            own.ty.dims[1] += 2;
            own.values.extend(vec![7.0; 2 * c]);
            let slots = [from, to, at.len() as i32].map(|n| ints(&[1], &[n]));
            let inputs: Vec<_> = [own, w.clone(), pool].into_iter().chain(slots).collect();
            let [out, after] =
                run(Composite::ShortConv { segments: false, state: true }, &inputs).try_into().unwrap();
            got.extend(out.values[..at.len() * c].to_vec());
            assert!(out.values[at.len() * c..].iter().all(|v| *v == 0.0));
            pool = after;
        }
        close(&got, &want, &format!("{cut} of {t} rows, then the others"));
        let last = [&none[..], &x.values].concat();
        close(&pool.values[none.len()..], &last[last.len() - none.len()..], "what is kept");
        let first = conv_loop(&x.values[..cut * c], &w.values, &none, c);
        let second = conv_loop(&x.values[cut * c..], &w.values, &none, c);
        let segments: Vec<i32> = (0..t).map(|row| i32::from(row >= cut)).collect();
        let inputs = [x, w, ints(&[1, t], &segments)];
        let got = run(Composite::ShortConv { segments: true, state: false }, &inputs);
        close(&got[0].values, &[first, second].concat(), "segments");
    }
}

#[test]
fn operands_that_do_not_fit_are_refused_by_name() {
    let refused = |composite: Composite, dims: &[(DType, &[usize])]| {
        let types: Vec<TensorType> = dims.iter().map(|(d, dims)| TensorType::new(*d, *dims)).collect();
        percept_graph::infer(&Op::Composite(composite), &types).unwrap_err().to_string()
    };
    let (f, i) = (DType::F32, DType::I32);
    let delta: Vec<(DType, &[usize])> =
        vec![(f, &[1, 2, 3, 4]), (f, &[1, 2, 3, 4]), (f, &[1, 2, 4, 4]), (f, &[1, 2, 4]), (f, &[1, 2, 4])];
    let e = refused(Composite::GatedDelta { segments: false, state: false }, &delta);
    assert!(e.contains("do not divide the 4"), "{e}");
    let conv: Vec<(DType, &[usize])> =
        vec![(f, &[1, 2, 3]), (f, &[3, 4]), (f, &[5, 4, 3]), (i, &[1]), (i, &[1]), (i, &[1])];
    let e = refused(Composite::ShortConv { segments: false, state: true }, &conv);
    assert!(e.contains("the pool of states"), "{e}");
}
