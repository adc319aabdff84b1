use percept_graph::{Composite, DType, HostTensor, INT8_GROUP, Op, OpDesc, TensorType, infer};

use crate::lanes::on_every_isa;
use crate::launch_test::{assert_near, noise, run_kernel, to_bytes, to_values};

const WEIGHTS: [DType; 5] = [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q4K, DType::Q6K];

/// Runs a product on `threads` threads.
fn product(x: &[f64], ty: &TensorType, w: &HostTensor, threads: usize) -> Vec<f64> {
    let op = Op::Composite(Composite::Int8Dot);
    let types = [ty.clone(), w.ty().clone()];
    let outputs = infer(&op, &types).unwrap();
    let kernel = crate::plan::plan(&OpDesc { op: &op, inputs: &types, outputs: &outputs }, threads).unwrap();
    let inputs = [to_bytes(ty, x), w.bytes().to_vec()];
    to_values(&outputs[0], &run_kernel(&kernel, &inputs, &outputs, threads)[0])
}

fn weight(dtype: DType, n: usize, k: usize) -> HostTensor {
    let dense: Vec<f32> = noise(&TensorType::new(DType::F32, [n, k]), 3).iter().map(|&x| x as f32).collect();
    let blocks = percept_graph::quantize(dtype, &dense).unwrap();
    HostTensor::new(TensorType::new(dtype, [n, k]), blocks).unwrap()
}

fn row(x: &[f64], i: usize, k: usize) -> &[f64] {
    &x[i * k..(i + 1) * k]
}

/// The definition in f64; and how far from the exact product it may lie.
fn truth(x: &[f64], w: &[f64], k: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut rounded, mut exact, mut bounds) = (Vec::new(), Vec::new(), Vec::new());
    for x in x.chunks_exact(k) {
        for w in w.chunks_exact(k) {
            let (mut sum, mut bound) = (0.0, 0.0);
            for (x, w) in x.chunks_exact(INT8_GROUP).zip(w.chunks_exact(INT8_GROUP)) {
                let a = x.iter().fold(0f64, |a, x| a.max(x.abs()));
                // In f32, as the definition says: what lies at a tie is then rounded alike.
                let scale = if a > 1e-30 { 127.0 / a as f32 } else { 0.0 };
                let q = |x: f64| f64::from((x as f32 * scale).round_ties_even()) * a / 127.0;
                sum += x.iter().zip(w).map(|(x, w)| q(*x) * w).sum::<f64>();
                bound += a / 254.0 * w.iter().map(|w| w.abs()).sum::<f64>();
            }
            rounded.push(sum);
            exact.push(x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>());
            bounds.push(bound);
        }
    }
    (rounded, exact, bounds)
}

#[test]
fn products_are_those_of_the_rounded_rows_on_every_set_and_any_number_of_threads() {
    for (m, n, blocks) in [(1, 7, 3), (2, 33, 2), (7, 66, 1), (13, 5, 2), (70, 129, 1)] {
        for dtype in WEIGHTS {
            let k = blocks * dtype.block_len();
            let w = weight(dtype, n, k);
            for (x_dtype, near) in [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)] {
                let ty = TensorType::new(x_dtype, [m, k]);
                let x = noise(&ty, 5);
                let (rounded, exact, bounds) = truth(&x, &w.values(), k);
                let mut first: Option<Vec<f64>> = None;
                on_every_isa(|isa| {
                    for threads in [1, 3] {
                        let got = product(&x, &ty, &w, threads);
                        assert_near(
                            &got,
                            &rounded,
                            near,
                            &format!("{x_dtype} by {dtype}, {m} rows, {isa:?}"),
                        );
                        assert_eq!(first.get_or_insert_with(|| got.clone()), &got, "{dtype}, {isa:?}");
                    }
                });
                if x_dtype == DType::F32 {
                    for ((got, exact), bound) in first.unwrap().iter().zip(exact).zip(bounds) {
                        assert!((got - exact).abs() <= bound * 1.0001, "{got} is too far from {exact}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_is_the_same_alone() {
    for dtype in WEIGHTS {
        let (m, k) = (21, 2 * dtype.block_len());
        let w = weight(dtype, 40, k);
        let x = noise(&TensorType::new(DType::F32, [m, k]), 7);
        let all = product(&x, &TensorType::new(DType::F32, [m, k]), &w, 2);
        for count in 1..=9 {
            let some = product(&x[..count * k], &TensorType::new(DType::F32, [count, k]), &w, 1);
            assert_eq!(some, all[..count * 40], "{dtype}, {count} rows");
        }
    }
}

#[test]
fn what_is_not_finite_spoils_its_row_alone_and_nothing_counts_as_zero() {
    let k = 96;
    let w = weight(DType::Q4_1, 9, k);
    let ty = TensorType::new(DType::F32, [6, k]);
    let mut x = noise(&ty, 2);
    let clean = product(&x, &ty, &w, 1);
    (x[k + 40], x[2 * k + 95], x[3 * k]) = (f64::NAN, f64::INFINITY, f64::NEG_INFINITY);
    x[4 * k..5 * k].fill(1e-31);
    for i in 5 * k..6 * k {
        x[i] = f64::from(x[i] as f32 * 1e36);
    }
    on_every_isa(|isa| {
        let got = product(&x, &ty, &w, 1);
        assert_eq!(row(&got, 0, 9), row(&clean, 0, 9), "{isa:?}");
        assert!(got[9..4 * 9].iter().all(|y| y.is_nan()), "{isa:?}: {got:?}");
        assert!(row(&got, 4, 9).iter().all(|y| *y == 0.0), "{isa:?}");
        assert!(row(&got, 5, 9).iter().all(|y| !y.is_nan()), "{isa:?}");
    });
}
