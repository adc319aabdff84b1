use std::sync::Arc;

use percept_graph::{
    Activation, Binary, Compare, Composite, DType, Graph, Literal, Op, Role, TensorType, Unary,
};

use crate::lanes::on_every_isa;
use crate::launch_test::{assert_near, noise, run_op};

fn ty(dtype: DType, dims: &[usize]) -> TensorType {
    TensorType::new(dtype, dims)
}

/// (x * s + row) clamped, with a bf16 operand, a scalar, a broadcast row and column, and two results of two types.
fn region(rows: usize, cols: usize) -> Op {
    let path: Arc<str> = "".into();
    let dims = vec![rows, cols];
    let mut g = Graph::new("region");
    let x = g.add_input("x", Role::Data, ty(DType::F32, &dims)).unwrap();
    let y = g.add_input("y", Role::Data, ty(DType::BF16, &dims)).unwrap();
    let row = g.add_input("row", Role::Data, ty(DType::F32, &[cols])).unwrap();
    let col = g.add_input("col", Role::Data, ty(DType::F16, &[rows, 1])).unwrap();
    let mut add = |op: Op, inputs: &[percept_graph::ValueId]| g.add(op, inputs, &path).unwrap()[0];
    let row = add(Op::Broadcast { dims: dims.clone(), axes: vec![1] }, &[row]);
    let col = add(Op::Broadcast { dims: dims.clone(), axes: vec![0, 1] }, &[col]);
    let two = add(Op::Constant(Literal::splat(ty(DType::F32, &[]), 2.0)), &[]);
    let two = add(Op::Broadcast { dims: dims.clone(), axes: vec![] }, &[two]);
    let y = add(Op::Cast { to: DType::F32 }, &[y]);
    let col = add(Op::Cast { to: DType::F32 }, &[col]);
    let a = add(Op::Binary(Binary::Mul), &[x, two]);
    let b = add(Op::Binary(Binary::Add), &[a, row]);
    let c = add(Op::Binary(Binary::Sub), &[b, y]);
    let d = add(Op::Unary(Unary::Tanh), &[c]);
    let e = add(Op::Binary(Binary::Mul), &[d, col]);
    let positive = add(Op::Compare(Compare::Gt), &[e, x]);
    let f = add(Op::Select, &[positive, b, e]);
    let half = add(Op::Cast { to: DType::F16 }, &[f]);
    g.add_output("f", f, None).unwrap();
    g.add_output("half", half, None).unwrap();
    g.add_output("positive", positive, None).unwrap();
    Op::Fused(Arc::new(g))
}

#[test]
fn a_region_computes_its_body_for_every_length_and_thread_count() {
    on_every_isa(|isa| {
        for (rows, cols) in [(1, 1), (3, 5), (7, 331), (64, 64), (129, 17), (2, 4099)] {
            let types = [
                ty(DType::F32, &[rows, cols]),
                ty(DType::BF16, &[rows, cols]),
                ty(DType::F32, &[cols]),
                ty(DType::F16, &[rows, 1]),
            ];
            let inputs: Vec<_> =
                types.iter().enumerate().map(|(i, t)| (t.clone(), noise(t, i as u64 + 5))).collect();
            let results = run_op(&region(rows, cols), &inputs, 1);
            assert_eq!(results, run_op(&region(rows, cols), &inputs, 2), "threads");
            let at = |i: usize, r: usize, c: usize| match i {
                2 => inputs[2].1[c],
                3 => inputs[3].1[r],
                i => inputs[i].1[r * cols + c],
            };
            let (mut truth, mut picks) = (Vec::new(), Vec::new());
            for r in 0..rows {
                for c in 0..cols {
                    let b = at(0, r, c) * 2.0 + at(2, r, c);
                    let e = (b - at(1, r, c)).tanh() * at(3, r, c);
                    picks.push(f64::from(u8::from(e > at(0, r, c))));
                    truth.push(if e > at(0, r, c) { b } else { e });
                }
            }
            let what = format!("{rows}x{cols} {isa:?}");
            assert_eq!(results[2], picks, "{what}");
            assert_near(&results[0], &truth, 3e-7, &what);
            assert_near(&results[1], &truth, 1e-3, &what);
            for (h, f) in results[1].iter().zip(&results[0]) {
                assert_eq!(*h, half::f16::from_f64(*f).to_f64(), "the cast rounds to nearest even");
            }
        }
    });
}

#[test]
fn integers_wrap_and_division_is_total() {
    let t = ty(DType::I32, &[6]);
    let x = vec![f64::from(i32::MIN), 7.0, -7.0, 5.0, 1.0, -1.0];
    let y = vec![-1.0, 0.0, 2.0, 40.0, 31.0, 1.0];
    let run =
        |kind| run_op(&Op::Binary(kind), &[(t.clone(), x.clone()), (t.clone(), y.clone())], 1).remove(0);
    let min = f64::from(i32::MIN);
    assert_eq!(run(Binary::Div), [min, 7.0, -3.0, 0.0, 0.0, -1.0]);
    assert_eq!(run(Binary::Rem), [0.0, 0.0, -1.0, 5.0, 1.0, 0.0]);
    assert_eq!(run(Binary::Shl)[3..], [0.0, min, -2.0]);
    assert_eq!(run(Binary::Shr)[3..], [0.0, 0.0, f64::from(i32::MAX)]);
    assert_eq!(run(Binary::Sub)[0], min + 1.0);
}

#[test]
fn casts_truncate_saturate_and_treat_nan_as_zero() {
    let from = ty(DType::F32, &[6]);
    let x = vec![2.9, -2.9, 1e20, f64::NEG_INFINITY, f64::NAN, 300.0];
    let cast = |to| run_op(&Op::Cast { to }, &[(from.clone(), x.clone())], 1).remove(0);
    assert_eq!(cast(DType::I32), [2.0, -2.0, f64::from(i32::MAX), f64::from(i32::MIN), 0.0, 300.0]);
    assert_eq!(cast(DType::U32), [2.0, 0.0, f64::from(u32::MAX), 0.0, 0.0, 300.0]);
    assert_eq!(cast(DType::U8), [2.0, 0.0, 255.0, 0.0, 0.0, 255.0]);
    assert_eq!(cast(DType::Bool), [1.0; 6]);
}

#[test]
fn activations_follow_their_formulas() {
    let t = ty(DType::F32, &[4001]);
    let x: Vec<f64> = (0..4001).map(|i| f64::from((f64::from(i) / 200.0 - 10.0) as f32)).collect();
    let up = noise(&t, 3);
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    let truth = |kind, x: f64| match kind {
        Activation::GeluErf => 0.5 * x * (1.0 + libm::erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Silu => x * logistic(x),
        Activation::QuickGelu => x * logistic(1.702 * x),
        Activation::Relu => x.max(0.0),
    };
    for kind in Activation::ALL {
        let plain = run_op(&Op::Composite(Composite::Activate(kind)), &[(t.clone(), x.clone())], 2);
        let wanted: Vec<f64> = x.iter().map(|x| truth(kind, *x)).collect();
        for (g, t) in plain[0].iter().zip(&wanted) {
            assert!((g - t).abs() < 1.5e-7 * (1.0 + t.abs()), "{kind:?}: {g} {t}");
        }
        let op = Op::Composite(Composite::GatedActivate(kind));
        let gated = run_op(&op, &[(t.clone(), x.clone()), (t.clone(), up.clone())], 2);
        let wanted: Vec<f64> = wanted.iter().zip(&up).map(|(a, u)| a * u).collect();
        assert_near(&gated[0], &wanted, 3e-7, "gated");
    }
}

#[test]
fn a_broadcast_repeats_inner_outer_and_middle_dimensions() {
    let t = ty(DType::F16, &[3, 1, 2]);
    let x = noise(&t, 1);
    let op = Op::Broadcast { dims: vec![2, 3, 700, 2], axes: vec![1, 2, 3] };
    let got = run_op(&op, &[(t, x.clone())], 2).remove(0);
    for (i, g) in got.iter().enumerate() {
        let (c, a) = (i % 2, i / 1400 % 3);
        assert_eq!(*g, x[a * 2 + c]);
    }
}
