//! Values worked out by hand for every primitive, with the edges of its definition.

use super::*;
use crate::op::{ArgKind, Binary, DotSpec, ReduceKind, ScatterKind};
use crate::tensor_type::TensorType;
use crate::unary::{Accuracy, Unary};
use crate::{Activation, Trace};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

fn tensor(ty: &str, values: &[f64]) -> ExactTensor {
    ExactTensor { ty: ty.parse().unwrap(), values: values.to_vec() }
}

/// The first result of one operation.
fn apply(op: Op, x: &[ExactTensor]) -> Vec<f64> {
    all(op, x).swap_remove(0)
}

fn all(op: Op, x: &[ExactTensor]) -> Vec<Vec<f64>> {
    let t = Trace::new("test");
    let inputs: Vec<_> =
        x.iter().enumerate().map(|(i, x)| t.data(i.to_string(), x.ty.dtype, x.ty.dims.clone())).collect();
    for (i, y) in t.ops(op, &inputs.iter().collect::<Vec<_>>()).iter().enumerate() {
        t.output(format!("y{i}"), y);
    }
    let graph = t.finish().unwrap();
    evaluate_exact(&graph, x, 1 << 20).unwrap().into_iter().map(|o| o.values).collect()
}

#[track_caller]
fn same(given: &[f64], expected: &[f64]) {
    let equal =
        |a: &f64, b: &f64| a.to_bits() == b.to_bits() || a == b && *a != 0.0 || a.is_nan() && b.is_nan();
    assert!(
        given.len() == expected.len() && given.iter().zip(expected).all(|(a, b)| equal(a, b)),
        "{given:?} is not {expected:?}"
    );
}

#[track_caller]
fn close(given: &[f64], expected: &[f64]) {
    let near = |a: &f64, b: &f64| a == b || (a - b).abs() <= 4e-16 * b.abs() || a.is_nan() && b.is_nan();
    assert!(
        given.len() == expected.len() && given.iter().zip(expected).all(|(a, b)| near(a, b)),
        "{given:?} is not {expected:?}"
    );
}

fn unary(k: Unary, ty: &str, x: &[f64]) -> Vec<f64> {
    apply(Op::Unary(k), &[tensor(&format!("{ty}[{}]", x.len()), x)])
}

fn binary(k: Binary, ty: &str, a: &[f64], b: &[f64]) -> Vec<f64> {
    let ty = format!("{ty}[{}]", a.len());
    apply(Op::Binary(k), &[tensor(&ty, a), tensor(&ty, b)])
}

#[test]
fn unary_functions() {
    for kind in Unary::ALL {
        let definition = kind.definition();
        if !definition.dtypes.contains(&DType::F32) {
            continue;
        }
        let (operands, results): (Vec<f64>, Vec<f64>) = definition.values.iter().copied().unzip();
        assert!(operands.len() >= 2, "{kind:?} has no values to be held to");
        let found = unary(kind, "f32", &operands);
        if definition.accuracy == Accuracy::Exact { same(&found, &results) } else { close(&found, &results) }
    }
    let min = i32::MIN as f64;
    same(&unary(Unary::Neg, "i32", &[5.0, min]), &[-5.0, min]);
    same(&unary(Unary::Abs, "i32", &[-5.0, min]), &[5.0, min]);
    same(&unary(Unary::Sign, "i32", &[-5.0, 0.0]), &[-1.0, 0.0]);
    same(&unary(Unary::Not, "bool", &[0.0, 1.0]), &[1.0, 0.0]);
    same(&unary(Unary::Not, "i32", &[0.0, -1.0, 5.0]), &[-1.0, 0.0, -6.0]);
    same(&unary(Unary::Not, "u32", &[0.0, 1.0]), &[4294967295.0, 4294967294.0]);
}

#[test]
fn binary_functions_of_floats() {
    let b = |k, x: &[f64], y: &[f64]| binary(k, "f32", x, y);
    same(&b(Binary::Add, &[1.0, INF], &[2.0, -INF]), &[3.0, NAN]);
    same(&b(Binary::Sub, &[1.0, 1.0], &[2.0, 1.0]), &[-1.0, 0.0]);
    same(&b(Binary::Mul, &[3.0, INF], &[-2.0, 0.0]), &[-6.0, NAN]);
    same(&b(Binary::Div, &[1.0, 1.0, 0.0], &[4.0, -0.0, 0.0]), &[0.25, -INF, NAN]);
    same(&b(Binary::Rem, &[5.5, -5.5, 1.0, 3.0], &[2.0, 2.0, 0.0, INF]), &[1.5, -1.5, NAN, 3.0]);
    same(&b(Binary::Pow, &[2.0, 4.0, -1.0, 0.0], &[10.0, -0.5, 0.5, 0.0]), &[1024.0, 0.5, NAN, 1.0]);
    same(&b(Binary::Max, &[1.0, NAN, 1.0, -INF], &[2.0, 1.0, NAN, 0.5]), &[2.0, NAN, NAN, 0.5]);
    same(&b(Binary::Min, &[1.0, NAN, 1.0, INF], &[2.0, 1.0, NAN, 0.5]), &[1.0, NAN, NAN, 0.5]);
}

#[test]
fn integers_wrap_and_division_by_zero_is_defined() {
    let i = |k, x: &[f64], y: &[f64]| binary(k, "i32", x, y);
    let u = |k, x: &[f64], y: &[f64]| binary(k, "u32", x, y);
    let (min, max, top) = (i32::MIN as f64, i32::MAX as f64, u32::MAX as f64);
    same(&i(Binary::Add, &[max], &[1.0]), &[min]);
    same(&u(Binary::Add, &[top], &[1.0]), &[0.0]);
    same(&i(Binary::Sub, &[min], &[1.0]), &[max]);
    same(&u(Binary::Sub, &[0.0], &[1.0]), &[top]);
    same(&i(Binary::Mul, &[65537.0], &[65537.0]), &[131073.0]);
    same(&u(Binary::Mul, &[4294967295.0], &[4294967295.0]), &[1.0]);
    same(&i(Binary::Div, &[7.0, -7.0, 7.0, min], &[2.0, 2.0, 0.0, -1.0]), &[3.0, -3.0, 7.0, min]);
    same(&u(Binary::Div, &[7.0, top], &[0.0, 2.0]), &[7.0, 2147483647.0]);
    same(&i(Binary::Rem, &[7.0, -7.0, 7.0, min], &[3.0, 3.0, 0.0, -1.0]), &[1.0, -1.0, 0.0, 0.0]);
    same(&u(Binary::Rem, &[7.0, 7.0], &[0.0, 4.0]), &[0.0, 3.0]);
    same(&i(Binary::Max, &[-1.0], &[1.0]), &[1.0]);
    same(&i(Binary::Min, &[-1.0], &[1.0]), &[-1.0]);
    same(&u(Binary::Max, &[top], &[1.0]), &[top]);
    same(&i(Binary::And, &[-1.0, 6.0], &[5.0, 3.0]), &[5.0, 2.0]);
    same(&i(Binary::Or, &[-8.0], &[3.0]), &[-5.0]);
    same(&u(Binary::Xor, &[5.0], &[top]), &[4294967290.0]);
    same(&i(Binary::Shl, &[1.0, 1.0, 1.0, 3.0], &[31.0, 32.0, -1.0, 1.0]), &[min, 0.0, 0.0, 6.0]);
    same(&i(Binary::Shr, &[-1.0, -1.0, -1.0], &[28.0, 32.0, 33.0]), &[15.0, 0.0, 0.0]);
    same(&u(Binary::Shr, &[top, top], &[31.0, 40.0]), &[1.0, 0.0]);
    same(&binary(Binary::And, "bool", &[1.0, 1.0], &[1.0, 0.0]), &[1.0, 0.0]);
    same(&binary(Binary::Or, "bool", &[0.0, 0.0], &[1.0, 0.0]), &[1.0, 0.0]);
    same(&binary(Binary::Xor, "bool", &[1.0, 1.0], &[1.0, 0.0]), &[0.0, 1.0]);
}

#[test]
fn comparisons_select_and_clamp() {
    use crate::op::Compare;
    let a = tensor("f32[4]", &[1.0, 2.0, NAN, -0.0]);
    let b = tensor("f32[4]", &[2.0, 2.0, NAN, 0.0]);
    for (k, expected) in [
        (Compare::Eq, [0.0, 1.0, 0.0, 1.0]),
        (Compare::Ne, [1.0, 0.0, 1.0, 0.0]),
        (Compare::Lt, [1.0, 0.0, 0.0, 0.0]),
        (Compare::Le, [1.0, 1.0, 0.0, 1.0]),
        (Compare::Gt, [0.0, 0.0, 0.0, 0.0]),
        (Compare::Ge, [0.0, 1.0, 0.0, 1.0]),
    ] {
        same(&apply(Op::Compare(k), &[a.clone(), b.clone()]), &expected);
    }
    let p = tensor("bool[4]", &[1.0, 0.0, 0.0, 1.0]);
    same(&apply(Op::Select, &[p, a, b]), &[1.0, 2.0, NAN, -0.0]);
    let x = tensor("f32[4]", &[-3.0, 0.5, 9.0, NAN]);
    let (low, high) = (tensor("f32[4]", &[0.0; 4]), tensor("f32[4]", &[1.0; 4]));
    same(&apply(Op::Clamp, &[low, x, high]), &[0.0, 0.5, 1.0, NAN]);
    let crossed = [tensor("i32[1]", &[5.0]), tensor("i32[1]", &[7.0]), tensor("i32[1]", &[2.0])];
    same(&apply(Op::Clamp, &crossed), &[2.0]);
}

#[test]
fn casts_round_and_saturate() {
    let c = |from: &str, to, x: &[f64]| apply(Op::Cast { to }, &[tensor(&format!("{from}[{}]", x.len()), x)]);
    same(&c("f32", DType::BF16, &[1.00390625, 1.01171875, 1e39]), &[1.0, 1.015625, INF]);
    same(&c("f32", DType::F16, &[65520.0, 2049.0, NAN]), &[INF, 2048.0, NAN]);
    same(&c("f16", DType::F32, &[0.1]), &[0.1f32 as f64]);
    same(&c("f32", DType::I32, &[-1.9, 3e9, -3e9, NAN]), &[-1.0, 2147483647.0, -2147483648.0, 0.0]);
    same(&c("f32", DType::U32, &[-1.0, 5e9, 2.7]), &[0.0, 4294967295.0, 2.0]);
    same(&c("f32", DType::U8, &[300.0, -2.0]), &[255.0, 0.0]);
    same(&c("f32", DType::Bool, &[0.0, -0.0, 0.5, NAN]), &[0.0, 0.0, 1.0, 1.0]);
    same(&c("i32", DType::U32, &[-1.0]), &[4294967295.0]);
    same(&c("u32", DType::I32, &[4294967295.0]), &[-1.0]);
    same(&c("i32", DType::U8, &[257.0, -1.0]), &[1.0, 255.0]);
    same(&c("i32", DType::F32, &[16777217.0]), &[16777216.0]);
    same(&c("bool", DType::F32, &[1.0]), &[1.0]);
    let bits = |from: &str, to, x| apply(Op::Bitcast { to }, &[tensor(&format!("{from}[1]"), &[x])]);
    same(&bits("f32", DType::U32, 1.0), &[0x3f800000u32 as f64]);
    same(&bits("u32", DType::I32, 4294967295.0), &[-1.0]);
    same(&bits("i32", DType::F32, 0xc0000000u32 as i32 as f64), &[-2.0]);
}

#[test]
fn nothing_rounds_between_casts() {
    let t = Trace::new("sum");
    let x = t.data("x", DType::BF16, [1]);
    t.output("y", &((&x + 1e-3) - 1.0));
    let graph = t.finish().unwrap();
    let y = evaluate_exact(&graph, &[tensor("bf16[1]", &[1.0])], 100).unwrap();
    // The literal is rounded to bf16, the sum is not.
    let step = round_to(DType::BF16, 1e-3);
    close(&y[0].values, &[1.0 + step - 1.0]);
    assert!(y[0].values[0] != 0.0);
}

#[test]
fn moving_elements() {
    let x = tensor("i32[2,3]", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let one = |op| apply(op, std::slice::from_ref(&x));
    same(&one(Op::Transpose { perm: vec![1, 0] }), &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    same(&one(Op::Reshape { dims: vec![3, 2] }), &x.values);
    same(&one(Op::Slice { start: vec![0, 0], limit: vec![2, 3], stride: vec![1, 2] }), &[1.0, 3.0, 4.0, 6.0]);
    same(&one(Op::Slice { start: vec![1, 1], limit: vec![1, 2], stride: vec![1, 1] }), &[]);
    same(&apply(Op::Iota { ty: "i32[2,2]".parse().unwrap(), axis: 1 }, &[]), &[0.0, 1.0, 0.0, 1.0]);
    let b = Op::Broadcast { dims: vec![2, 2, 3], axes: vec![1, 2] };
    same(&one(b), &[x.values.clone(), x.values.clone()].concat());
    let column = tensor("f32[2,1]", &[7.0, 8.0]);
    let b = Op::Broadcast { dims: vec![2, 3], axes: vec![0, 1] };
    same(&apply(b, &[column]), &[7.0, 7.0, 7.0, 8.0, 8.0, 8.0]);
    let p = Op::Pad { low: vec![1], high: vec![2], interior: vec![1] };
    let padded = apply(p, &[tensor("f32[2]", &[1.0, 2.0]), tensor("f32[]", &[9.0])]);
    same(&padded, &[9.0, 1.0, 9.0, 2.0, 9.0, 9.0]);
    let p = Op::Pad { low: vec![1], high: vec![1], interior: vec![3] };
    same(&apply(p, &[tensor("f32[0]", &[]), tensor("f32[]", &[9.0])]), &[9.0, 9.0]);
    let parts = [x.clone(), tensor("i32[2,0]", &[]), tensor("i32[2,1]", &[8.0, 9.0])];
    same(&apply(Op::Concat { axis: 1 }, &parts), &[1.0, 2.0, 3.0, 8.0, 4.0, 5.0, 6.0, 9.0]);
    same(&one(Op::Barrier), &x.values);
}

#[test]
fn dynamic_starts_are_clamped() {
    let x = tensor("i32[2,3]", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let at = |a, b| [tensor("i32[]", &[a]), tensor("i32[]", &[b])];
    let slice = |a, b| {
        let [a, b] = at(a, b);
        apply(Op::DynamicSlice { sizes: vec![1, 2] }, &[x.clone(), a, b])
    };
    same(&slice(1.0, 1.0), &[5.0, 6.0]);
    same(&slice(9.0, -4.0), &[4.0, 5.0]);
    let update = tensor("i32[1,2]", &[8.0, 9.0]);
    let [a, b] = at(-1.0, 7.0);
    same(&apply(Op::DynamicUpdateSlice, &[x, update, a, b]), &[1.0, 8.0, 9.0, 4.0, 5.0, 6.0]);
}

#[test]
fn reductions() {
    let r = |kind, axes: &[usize], x: ExactTensor| {
        let accum = if x.ty.dtype.is_float() { DType::F32 } else { x.ty.dtype };
        apply(Op::Reduce { kind, axes: axes.to_vec(), accum }, &[x])
    };
    let x = || tensor("f32[2,3]", &[1.0, 2.0, 3.0, 4.0, -5.0, 6.0]);
    same(&r(ReduceKind::Sum, &[0], x()), &[5.0, -3.0, 9.0]);
    same(&r(ReduceKind::Sum, &[0, 1], x()), &[11.0]);
    same(&r(ReduceKind::Sum, &[], x()), &x().values);
    same(&r(ReduceKind::Prod, &[1], x()), &[6.0, -120.0]);
    same(&r(ReduceKind::Max, &[1], x()), &[3.0, 6.0]);
    same(&r(ReduceKind::Min, &[1], x()), &[1.0, -5.0]);
    same(&r(ReduceKind::Max, &[0], tensor("f32[3]", &[1.0, NAN, 2.0])), &[NAN]);
    same(&r(ReduceKind::Min, &[0], tensor("f32[3]", &[NAN, 1.0, 2.0])), &[NAN]);
    same(&r(ReduceKind::Max, &[0], tensor("f32[2]", &[-INF, -INF])), &[-INF]);
    for (kind, float, int, unsigned) in [
        (ReduceKind::Sum, 0.0, 0.0, 0.0),
        (ReduceKind::Prod, 1.0, 1.0, 1.0),
        (ReduceKind::Max, -INF, i32::MIN as f64, 0.0),
        (ReduceKind::Min, INF, i32::MAX as f64, u32::MAX as f64),
    ] {
        same(&r(kind, &[1], tensor("f32[2,0]", &[])), &[float; 2]);
        same(&r(kind, &[0], tensor("i32[0]", &[])), &[int]);
        same(&r(kind, &[0], tensor("u32[0]", &[])), &[unsigned]);
    }
    let bools = || tensor("bool[2,2]", &[1.0, 1.0, 0.0, 1.0]);
    same(&r(ReduceKind::And, &[1], bools()), &[1.0, 0.0]);
    same(&r(ReduceKind::Or, &[0, 1], bools()), &[1.0]);
    same(&r(ReduceKind::And, &[0], tensor("bool[0]", &[])), &[1.0]);
    same(&r(ReduceKind::Sum, &[0], tensor("i32[2]", &[2147483647.0, 1.0])), &[-2147483648.0]);
    let big = tensor("u32[3]", &[65536.0, 65536.0, 3.0]);
    same(&r(ReduceKind::Prod, &[0], big), &[0.0]);
}

#[test]
fn arg_reductions() {
    let a = |kind, axis, x| apply(Op::ArgReduce { kind, axis }, &[x]);
    same(&a(ArgKind::Max, 0, tensor("f32[4]", &[1.0, 3.0, 3.0, 2.0])), &[1.0]);
    same(&a(ArgKind::Max, 0, tensor("f32[4]", &[INF, NAN, NAN, 2.0])), &[1.0]);
    same(&a(ArgKind::Min, 0, tensor("f32[4]", &[1.0, NAN, -INF, NAN])), &[1.0]);
    same(&a(ArgKind::Min, 1, tensor("i32[2,2]", &[1.0, 0.0, -1.0, -1.0])), &[1.0, 0.0]);
    same(&a(ArgKind::Max, 0, tensor("i32[2,2]", &[1.0, 0.0, -1.0, 3.0])), &[0.0, 1.0]);
    same(&a(ArgKind::Max, 0, tensor("f32[2]", &[-0.0, 0.0])), &[0.0]);
}

#[test]
fn dots() {
    let spec = |lb: &[usize], rb: &[usize], lc: &[usize], rc: &[usize], d| DotSpec {
        lhs_batch: lb.to_vec(),
        rhs_batch: rb.to_vec(),
        lhs_contract: lc.to_vec(),
        rhs_contract: rc.to_vec(),
        accum: d,
        out: d,
    };
    let a = tensor("f32[2,3]", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let b = tensor("f32[3,2]", &[1.0, 0.0, 0.0, 1.0, 2.0, -1.0]);
    let f = DType::F32;
    same(&apply(Op::Dot(spec(&[], &[], &[1], &[0], f)), &[a.clone(), b.clone()]), &[7.0, -1.0, 16.0, -1.0]);
    // Batch over a's columns and b's rows: out[k][m][n] = a[m][k] b[k][n].
    let y = apply(Op::Dot(spec(&[1], &[0], &[], &[], f)), &[a.clone(), b.clone()]);
    same(&y, &[1.0, 0.0, 4.0, 0.0, 0.0, 2.0, 0.0, 5.0, 6.0, -3.0, 12.0, -6.0]);
    same(&apply(Op::Dot(spec(&[], &[], &[0, 1], &[1, 0], f)), &[a, b]), &[1.0 + 6.0 + 5.0 - 6.0]);
    let (e, g) = (tensor("f32[2,0]", &[]), tensor("f32[0,2]", &[]));
    same(&apply(Op::Dot(spec(&[], &[], &[1], &[0], f)), &[e, g]), &[0.0; 4]);
    let i = tensor("i32[2]", &[2147483647.0, 1.0]);
    let j = tensor("i32[2]", &[2.0, 5.0]);
    same(&apply(Op::Dot(spec(&[], &[], &[0], &[0], DType::I32)), &[i, j]), &[3.0]);
}

#[test]
fn gather_clamps_and_scatter_drops() {
    let x = tensor("f32[3,2]", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let i = tensor("i32[2,2]", &[2.0, -7.0, 0.0, 9.0]);
    let y = apply(Op::Gather { axis: 0 }, &[x.clone(), i]);
    same(&y, &[5.0, 6.0, 1.0, 2.0, 1.0, 2.0, 5.0, 6.0]);
    same(&apply(Op::Gather { axis: 1 }, &[x.clone(), tensor("i32[1]", &[1.0])]), &[2.0, 4.0, 6.0]);
    same(&apply(Op::Gather { axis: 0 }, &[tensor("f32[0,2]", &[]), tensor("i32[0]", &[])]), &[]);

    let i = tensor("i32[4]", &[1.0, 3.0, -1.0, 1.0]);
    let u = tensor("f32[4,2]", &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0]);
    let s = |kind| apply(Op::Scatter { axis: 0, kind }, &[x.clone(), i.clone(), u.clone()]);
    same(&s(ScatterKind::Set), &[1.0, 2.0, 70.0, 80.0, 5.0, 6.0]);
    same(&s(ScatterKind::Add), &[1.0, 2.0, 83.0, 104.0, 5.0, 6.0]);
    let one = [tensor("i32[1,2]", &[1.0, 2.0]), tensor("i32[]", &[1.0]), tensor("i32[1]", &[2147483647.0])];
    same(&apply(Op::Scatter { axis: 1, kind: ScatterKind::Add }, &one), &[1.0, -2147483647.0]);
}

#[test]
fn sorting_is_stable_with_nan_greatest() {
    let x = tensor("f32[6]", &[2.0, NAN, -0.0, 0.0, NAN, -INF]);
    let up = all(Op::Sort { axis: 0, descending: false, limit: 6 }, std::slice::from_ref(&x));
    same(&up[0], &[-INF, -0.0, 0.0, 2.0, NAN, NAN]);
    same(&up[1], &[5.0, 2.0, 3.0, 0.0, 1.0, 4.0]);
    let down = all(Op::Sort { axis: 0, descending: true, limit: 4 }, &[x]);
    same(&down[0], &[NAN, NAN, 2.0, -0.0]);
    same(&down[1], &[1.0, 4.0, 0.0, 2.0]);
    let y =
        all(Op::Sort { axis: 0, descending: false, limit: 1 }, &[tensor("i32[2,2]", &[3.0, -4.0, 1.0, 2.0])]);
    same(&y[0], &[1.0, -4.0]);
    same(&y[1], &[1.0, 0.0]);
}

#[test]
fn quantized_weights_are_decoded() {
    let t = Trace::new("q");
    let w = t.parameter("w", DType::Q4_0, [1, 32]);
    let x = t.data("x", DType::F32, [1, 32]);
    t.output("y", &x.linear(&w, None, None));
    t.output("bf16", &w.dequantize(DType::BF16));
    let graph = t.finish().unwrap();
    // Scale 1.0009765625 has 11 significant bits; weights are 0 - 8 and 15 - 8.
    let mut block = vec![0x01, 0x3C];
    block.extend([0xF0; 16]);
    let w = HostTensor::new("q4_0[1,32]".parse().unwrap(), block).unwrap();
    let ones = HostTensor::from_f32([1, 32], &[1.0; 32]).unwrap();
    let y = evaluate(&graph, &[w, ones]).unwrap();
    assert_eq!(y[0].values(), [16.0 * (7.0 - 8.0) * 1.0009765625]);
    assert_eq!((y[1].values()[0], y[1].values()[31]), (-8.0, 7.0));
}

#[test]
fn composites_and_fused_regions_are_their_decompositions() {
    let t = Trace::new("c");
    let x = t.data("x", DType::F32, [1, 2]);
    t.output("softmax", &x.softmax());
    t.output("silu", &x.activate(Activation::Silu));
    let graph = t.finish().unwrap();
    let y = evaluate_exact(&graph, &[tensor("f32[1,2]", &[0.0, 3f64.ln()])], 1000).unwrap();
    close(&y[0].values, &[0.25, 0.75]);
    close(&y[1].values, &[0.0, 3f64.ln() * 0.75]);

    let body = Trace::new("body");
    let a = body.data("0", DType::F32, [2]);
    let b = body.data("1", DType::F32, [1]);
    body.output("0", &(&a * &b));
    body.output("1", &a);
    let body = body.finish().unwrap();
    let y =
        all(Op::Fused(std::sync::Arc::new(body)), &[tensor("f32[2]", &[1.0, 2.0]), tensor("f32[1]", &[3.0])]);
    same(&y[0], &[3.0, 6.0]);
    same(&y[1], &[1.0, 2.0]);
}

#[test]
fn a_composite_stores_its_result_without_rounding() {
    let t = Trace::new("half");
    let x = t.data("x", DType::BF16, [1]);
    t.output("y", &x.activate(Activation::Silu));
    t.output("cast", &x.activate(Activation::Silu).cast(DType::F32).cast(DType::BF16));
    let graph = t.finish().unwrap();
    let y = evaluate_exact(&graph, &[tensor("bf16[1]", &[1.0])], 1000).unwrap();
    // 1 / (1 + e^-1) as in Abramowitz and Stegun, table 4.4; as bf16 it is 0.73046875.
    close(&y[0].values, &[0.731_058_578_630_004_9]);
    close(&y[1].values, &[0.73046875]);
}

/// Threefry-2x32-20 of the Random123 distribution's known-answer file `kat_vectors`.
#[test]
fn random_bits_are_threefry() {
    let bits = |seed: [f64; 2], stream: u32| {
        let t = Trace::new("r");
        let s = t.data("seed", DType::U32, [2]);
        t.output("y", &s.random_bits(stream, [1]));
        let graph = t.finish().unwrap();
        evaluate_exact(&graph, &[tensor("u32[2]", &seed)], 1 << 16).unwrap()[0].values[0]
    };
    assert_eq!(bits([0.0, 0.0], 0), 0x6b200159u32 as f64);
}

#[test]
fn memory_is_given_back_and_bounded() {
    let t = Trace::new("chain");
    let x = t.data("x", DType::F32, [1000]);
    let mut y = x.clone();
    for _ in 0..50 {
        y = (&y + 1.0).activate(Activation::Relu);
    }
    t.output("y", &y);
    t.output("again", &y);
    t.output("x", &x);
    let graph = t.finish().unwrap();
    let input = [tensor("f32[1000]", &[0.0; 1000])];
    let y = evaluate_exact(&graph, &input, 7_000).unwrap();
    assert_eq!((y[0].values[0], y[1].values[999], y[2].values[0]), (50.0, 50.0, 0.0));
    let e = evaluate_exact(&graph, &input, 2_500).unwrap_err();
    assert!(matches!(e, ReferenceError::TooLarge { limit: 2_500, .. }), "{e}");

    let t = Trace::new("huge");
    let scope = t.scope("layers.7");
    let big = t.full(DType::F32, [usize::MAX / 2, 64], 0.0);
    drop(scope);
    t.output("y", &big.sum([0, 1]));
    let e = evaluate(&t.finish().unwrap(), &[]).unwrap_err();
    assert!(e.to_string().contains("layers.7: constant"), "{e}");
}

#[test]
fn wrong_inputs_are_named() {
    let t = Trace::new("g");
    let x = t.data("x", DType::F32, [2]);
    t.output("y", &x.exp());
    let graph = t.finish().unwrap();
    let e = evaluate(&graph, &[]).unwrap_err();
    assert_eq!(e.to_string(), "graph 'g' takes 1 inputs, was given 0");
    let e = evaluate(&graph, &[HostTensor::from_i32([2], &[1, 2]).unwrap()]).unwrap_err();
    assert!(e.to_string().contains("'x' is f32[2], was given i32[2]"), "{e}");
    let short = ExactTensor { ty: TensorType::new(DType::F32, [2]), values: vec![0.0] };
    assert!(matches!(evaluate_exact(&graph, &[short], 10), Err(ReferenceError::InputType { values: 1, .. })));
}
