use percept_graph::{Composite, DType, Op, TensorType};

use crate::lanes::on_every_isa;
use crate::launch_test::{assert_near, noise, run_op};

fn log_sum_exp(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    x.iter().map(|x| (x - max).exp()).sum::<f64>().ln() + max
}

#[test]
fn softmax_and_its_logarithm_agree_with_f64() {
    on_every_isa(|isa| {
        for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)] {
            for (rows, d) in [(1, 1), (3, 17), (67, 64), (129, 1031)] {
                let ty = TensorType::new(dtype, [rows, d]);
                let x: Vec<f64> = noise(&ty, 9).iter().map(|x| x * 8.0).collect();
                let mut x = crate::launch_test::to_values(&ty, &crate::launch_test::to_bytes(&ty, &x));
                if d > 2 {
                    x[1] = f64::NEG_INFINITY;
                }
                let logs: Vec<f64> = x
                    .chunks(d)
                    .flat_map(|row| {
                        let lse = log_sum_exp(row);
                        row.iter().map(move |x| x - lse).collect::<Vec<_>>()
                    })
                    .collect();
                let what = format!("{dtype} {rows}x{d} {isa:?}");
                let y = run_op(&Op::Composite(Composite::Softmax), &[(ty.clone(), x.clone())], 2);
                assert_near(&y[0], &logs.iter().map(|x| x.exp()).collect::<Vec<_>>(), tolerance, &what);
                assert_eq!(y, run_op(&Op::Composite(Composite::Softmax), &[(ty.clone(), x.clone())], 1));
                let y = run_op(&Op::Composite(Composite::LogSoftmax), &[(ty.clone(), x)], 2);
                assert_near(&y[0], &logs, tolerance, &what);
            }
        }
    });
}

#[test]
fn a_row_with_nan_or_without_a_finite_value_is_nan() {
    let ty = TensorType::new(DType::F32, [3, 40]);
    let mut x = noise(&ty, 2);
    x[35] = f64::NAN;
    x[40..80].fill(f64::NEG_INFINITY);
    let y = run_op(&Op::Composite(Composite::Softmax), &[(ty, x)], 1).remove(0);
    assert!(y[..80].iter().all(|y| y.is_nan()));
    assert!((y[80..].iter().sum::<f64>() - 1.0).abs() < 1e-6);
}

#[test]
fn cross_entropy_and_its_gradient_agree_with_f64() {
    let (rows, v, ignore) = (6, 301, -100);
    let ty = TensorType::new(DType::F32, [rows, v]);
    let ints = TensorType::new(DType::I32, [rows]);
    let floats = TensorType::new(DType::F32, [rows]);
    let x: Vec<f64> = noise(&ty, 5).iter().map(|x| f64::from((x * 6.0) as f32)).collect();
    let labels = vec![0.0, 300.0, f64::from(ignore), 17.0, 64.0, 5.0];
    let g = noise(&floats, 8);
    for smoothing in [0.0f32, 0.1] {
        let s = f64::from(smoothing);
        let (mut losses, mut lses, mut grads) = (vec![], vec![], vec![]);
        for (i, row) in x.chunks(v).enumerate() {
            let lse = log_sum_exp(row);
            lses.push(lse);
            let counted = labels[i] != f64::from(ignore);
            let target = if counted { row[labels[i] as usize] } else { 0.0 };
            let loss = lse - (1.0 - s) * target - s * row.iter().sum::<f64>() / v as f64;
            losses.push(if counted { loss } else { 0.0 });
            for (j, x) in row.iter().enumerate() {
                let hot = if j as f64 == labels[i] { 1.0 - s } else { 0.0 };
                let d = ((x - lse).exp() - hot - s / v as f64) * g[i];
                grads.push(if counted { d } else { 0.0 });
            }
        }
        let forward = Op::Composite(Composite::CrossEntropy { ignore, label_smoothing: smoothing });
        let got = run_op(&forward, &[(ty.clone(), x.clone()), (ints.clone(), labels.clone())], 2);
        assert_near(&got[0], &losses, 1e-6, "loss");
        assert_near(&got[1], &lses, 1e-6, "lse");
        let backward = Op::Composite(Composite::CrossEntropyGrad { ignore, label_smoothing: smoothing });
        let mut unread = x.clone();
        unread[2 * v..3 * v].fill(f64::NAN);
        let operands = [
            (ty.clone(), unread),
            (ints.clone(), labels.clone()),
            (floats.clone(), got[1].clone()),
            (floats.clone(), g.clone()),
        ];
        assert_near(&run_op(&backward, &operands, 2)[0], &grads, 2e-6, "gradient");
    }
}
