use percept_graph::{Composite, DType, Op, TensorType};

use crate::lanes::on_every_isa;
use crate::launch_test::{assert_near, noise, run_op};

const EPS: f64 = 1e-5f32 as f64;

/// y, dx, dw, db of one normalization in f64 (dw and db summed over rows).
struct Truth {
    y: Vec<f64>,
    dx: Vec<f64>,
    dw: Vec<f64>,
    db: Vec<f64>,
}

fn truth(x: &[f64], w: &[f64], b: &[f64], dy: &[f64], centred: bool) -> Truth {
    let d = w.len();
    let n = d as f64;
    let mut t = Truth { y: vec![], dx: vec![], dw: vec![0.0; d], db: vec![0.0; d] };
    for (x, dy) in x.chunks(d).zip(dy.chunks(d)) {
        let mean = if centred { x.iter().sum::<f64>() / n } else { 0.0 };
        let r = 1.0 / (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n + EPS).sqrt();
        let unit: Vec<f64> = x.iter().map(|x| (x - mean) * r).collect();
        let g: Vec<f64> = dy.iter().zip(w).map(|(a, b)| a * b).collect();
        let mean_g = if centred { g.iter().sum::<f64>() / n } else { 0.0 };
        let mean_gu = g.iter().zip(&unit).map(|(a, b)| a * b).sum::<f64>() / n;
        for i in 0..d {
            t.y.push(unit[i] * w[i] + b[i]);
            t.dx.push(r * (g[i] - mean_g - unit[i] * mean_gu));
            t.dw[i] += dy[i] * unit[i];
            t.db[i] += dy[i];
        }
    }
    t
}

#[test]
fn norms_and_their_gradients_agree_with_f64() {
    on_every_isa(|isa| {
        for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3)] {
            for (rows, d) in [(1, 1), (3, 17), (40, 64), (67, 130), (2, 2053)] {
                let matrix = TensorType::new(dtype, [rows, d]);
                let row = TensorType::new(dtype, [d]);
                let (x, dy) = (noise(&matrix, 1), noise(&matrix, 2));
                let (w, b) = (noise(&row, 3), noise(&row, 4));
                let what = format!("{dtype} {rows}x{d} {isa:?}");
                let operand = |ty: &TensorType, x: &Vec<f64>| (ty.clone(), x.clone());
                let run = |c: Composite, operands: &[(TensorType, Vec<f64>)]| {
                    let one = run_op(&Op::Composite(c.clone()), operands, 1);
                    assert_eq!(one, run_op(&Op::Composite(c), operands, 2), "{what}: threads");
                    one
                };

                let t = truth(&x, &w, &b, &dy, true);
                let eps = EPS as f32;
                let y = run(
                    Composite::LayerNorm { eps },
                    &[operand(&matrix, &x), operand(&row, &w), operand(&row, &b)],
                );
                assert_near(&y[0], &t.y, tolerance, &what);
                let backward = [operand(&matrix, &x), operand(&row, &w), operand(&matrix, &dy)];
                let g = run(Composite::LayerNormGrad { eps }, &backward);
                if d > 1 {
                    assert_near(&g[0], &t.dx, 4.0 * tolerance, &what);
                }
                assert_near(&g[1], &t.dw, 4.0 * tolerance, &what);
                assert_near(&g[2], &t.db, 4.0 * tolerance, &what);

                for unit_offset in [false, true] {
                    let zero = vec![0.0; d];
                    let w1: Vec<f64> = w.iter().map(|w| w + f64::from(u8::from(unit_offset))).collect();
                    let t = truth(&x, &w1, &zero, &dy, false);
                    let y = run(
                        Composite::RmsNorm { eps, unit_offset },
                        &[operand(&matrix, &x), operand(&row, &w)],
                    );
                    assert_near(&y[0], &t.y, tolerance, &what);
                    let g = run(Composite::RmsNormGrad { eps, unit_offset }, &backward);
                    // A single feature is its own norm: the gradient is rounding error around zero.
                    if d > 1 {
                        assert_near(&g[0], &t.dx, 4.0 * tolerance, &what);
                    }
                    assert_near(&g[1], &t.dw, 4.0 * tolerance, &what);
                }
            }
        }
    });
}

#[test]
fn a_row_is_the_same_alone_and_in_a_batch() {
    let (rows, d) = (50, 333);
    let matrix = TensorType::new(DType::F32, [rows, d]);
    let row = TensorType::new(DType::F32, [d]);
    let (x, w) = (noise(&matrix, 1), noise(&row, 3));
    let op = Op::Composite(Composite::RmsNorm { eps: 1e-6, unit_offset: false });
    let all = run_op(&op, &[(matrix, x.clone()), (row.clone(), w.clone())], 2).remove(0);
    for i in [0, 7, 49] {
        let alone = TensorType::new(DType::F32, [1, d]);
        let x = x[i * d..(i + 1) * d].to_vec();
        assert_eq!(run_op(&op, &[(alone, x), (row.clone(), w.clone())], 1)[0], all[i * d..(i + 1) * d]);
    }
}
