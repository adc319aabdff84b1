//! Primitives: kinds, shapes, dimension orders, and values used in several places.

use std::sync::Arc;

use super::Table;
use crate::dtype::DType;
use crate::op::{Binary, DotSpec, Op, ReduceKind, ScatterKind};
use crate::trace::{Tensor, Trace};
use crate::unary::{Domain, Unary};

pub fn all(t: &mut Table) {
    unary(t);
    binary(t);
    choice(t);
    conversion(t);
    shape(t);
    dynamic(t);
    reduce(t);
    dot(t);
    index(t);
    sort(t);
    structure(t);
}

fn unary(t: &mut Table) {
    for kind in Unary::ALL {
        let definition = kind.definition();
        if definition.derivative.is_none() {
            continue;
        }
        let (low, high) = match definition.domain {
            Domain::Above(bound) => (bound + 0.4, 2.0),
            Domain::All | Domain::Angles => (-1.4, 1.6),
        };
        t.one(Op::Unary(kind).name(), |c| c.within([2, 3], low, high).unary(kind));
    }
}

fn binary(t: &mut Table) {
    let kinds = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Rem,
        Binary::Pow,
        Binary::Max,
        Binary::Min,
    ];
    for kind in kinds {
        let name = Op::Binary(kind).name();
        let left = if kind == Binary::Pow { (0.4, 2.0) } else { (-1.4, 1.6) };
        let right = if matches!(kind, Binary::Div | Binary::Rem) { (0.5, 1.1) } else { (-1.4, 1.6) };
        for (what, l, r) in [
            ("equal", vec![2, 3], vec![2, 3]),
            ("row", vec![2, 3], vec![3]),
            ("column", vec![2, 1], vec![2, 3]),
            ("scalar", vec![], vec![2, 3]),
        ] {
            t.one(format!("{name}/{what}"), |c| {
                let (a, b) = (c.within(l, left.0, left.1), c.within(r, right.0, right.1));
                a.binary(kind, &b)
            });
        }
        if kind != Binary::Rem && kind != Binary::Max && kind != Binary::Min {
            t.one(format!("{name}/itself"), |c| {
                let x = c.positive([2, 3]);
                x.binary(kind, &x)
            });
        }
    }
    t.one("pow/constant exponent", |c| {
        let x = c.given([4], &[-1.5, -0.5, 0.0, 2.0]);
        x.pow(&x.like(3.0))
    });
    t.one("pow/zeroth", |c| {
        let x = c.given([3], &[-1.5, 0.0, 2.0]);
        x.pow(&x.like(0.0)) + &x
    });
    t.one("pow/base zero", |c| {
        let y = c.positive([3]);
        y.like(0.0).pow(&y) + &y
    });
}

fn choice(t: &mut Table) {
    t.one("select", |c| {
        let (a, b) = (c.x([2, 3]), c.x([2, 3]));
        a.gt(&a.like(0.1)).select(&(&a * &b), &b)
    });
    t.one("clamp", |c| {
        let x = c.x([3, 4]);
        let (low, high) = (c.within([3, 4], -0.9, -0.3), c.within([3, 4], 0.2, 0.9));
        c.op(Op::Clamp, &[&low, &x, &high])
    });
    t.one("clamp/crossed bounds", |c| {
        let x = c.x([3, 4]);
        let (low, high) = (c.within([3, 4], 0.2, 0.9), c.within([3, 4], -0.9, -0.3));
        c.op(Op::Clamp, &[&low, &x, &high])
    });
    t.one("clamp/constant bounds", |c| c.x([6]).clamp(-0.5, 0.5));
}

fn conversion(t: &mut Table) {
    // f16 has these values and those 2^-13 beside them, so that differences see no rounding.
    t.one("cast", |c| c.given([4], &[0.125, -0.1875, 0.21875, 0.0625]).cast(DType::F16).cast(DType::F32));
    t.one("bitcast", |c| {
        let x = c.single([3], -1.4, 1.6);
        c.op(Op::Bitcast { to: DType::F32 }, &[&x]) * x
    });
}

fn shape(t: &mut Table) {
    t.one("reshape", |c| c.x([2, 6]).reshape([3, 4]));
    t.one("transpose", |c| c.x([2, 3, 4]).transpose([2, 0, 1]));
    t.one("broadcast/new dimensions", |c| c.x([3]).broadcast([2, 3, 2], [1]));
    t.one("broadcast/repeated", |c| c.x([3, 1]).broadcast([3, 4], [0, 1]));
    t.one("broadcast/both", |c| c.x([1, 2]).broadcast([2, 3, 2], [1, 2]));
    t.one("broadcast/of a scalar", |c| c.x([]).broadcast([2, 2], []));
    t.one("slice", |c| c.x([5, 7]).slice([1, 0], [4, 7], [1, 1]));
    t.one("slice/strided", |c| c.x([7, 5]).slice([1, 0], [6, 5], [2, 3]));
    t.one("slice/empty", |c| {
        let x = c.x([3, 2]);
        Tensor::concat(&[&x.slice([1, 0], [1, 2], [1, 1]), &x], 0).unwrap_or(x)
    });
    t.one("pad", |c| {
        let (x, value) = (c.x([2, 3]), c.x([]));
        let op = Op::Pad { low: vec![1, 0], high: vec![0, 2], interior: vec![0, 0] };
        c.op(op, &[&x, &value])
    });
    t.one("pad/interior", |c| {
        let (x, value) = (c.x([3, 2]), c.x([]));
        let op = Op::Pad { low: vec![0, 1], high: vec![2, 0], interior: vec![1, 2] };
        c.op(op, &[&x, &value])
    });
    t.one("pad/of nothing", |c| {
        let (x, value) = (c.x([0, 2]), c.x([]));
        let op = Op::Pad { low: vec![1, 0], high: vec![1, 0], interior: vec![1, 0] };
        c.op(op, &[&x, &value])
    });
    t.one("concat", |c| {
        let (a, b) = (c.x([2, 1, 2]), c.x([2, 3, 2]));
        c.op(Op::Concat { axis: 1 }, &[&a, &b, &a])
    });
}

fn dynamic(t: &mut Table) {
    for (what, at) in [("inside", [1, 2]), ("clamped", [-4, 9])] {
        t.one(format!("dynamic_slice/{what}"), |c| {
            let (x, i, j) = (c.x([4, 5]), c.ints([], &at[..1]), c.ints([], &at[1..]));
            x.dynamic_slice(&[&i, &j], [2, 3])
        });
        t.one(format!("dynamic_update_slice/{what}"), |c| {
            let (x, update) = (c.x([4, 5]), c.x([2, 3]));
            let (i, j) = (c.ints([], &at[..1]), c.ints([], &at[1..]));
            x.dynamic_update_slice(&update, &[&i, &j])
        });
    }
}

fn reduce(t: &mut Table) {
    for kind in [ReduceKind::Sum, ReduceKind::Prod, ReduceKind::Max, ReduceKind::Min] {
        let op = Op::Reduce { kind, axes: vec![0], accum: DType::F32 };
        for (what, axes) in
            [("last", vec![2]), ("outer", vec![0, 2]), ("all", vec![0, 1, 2]), ("none", vec![])]
        {
            t.one(format!("{}/{what}", op.name()), |c| c.x([2, 3, 4]).reduce(kind, axes));
        }
    }
    t.one("reduce_prod/one zero", |c| {
        c.given([2, 3], &[0.0, 2.0, -1.5, 0.5, 3.0, 1.0]).reduce(ReduceKind::Prod, [1])
    });
    t.one("reduce_prod/two zeros", |c| {
        c.given([2, 3], &[0.0, 2.0, 0.0, 0.5, 3.0, 1.0]).reduce(ReduceKind::Prod, [1])
    });
    t.one("reduce_sum/of nothing", |c| {
        let (x, y) = (c.x([0, 3]), c.x([3]));
        x.sum([0]) + y
    });
}

fn dot(t: &mut Table) {
    let mut product =
        |what: &str, l: &[usize], r: &[usize], batch: [&[usize]; 2], contract: [&[usize]; 2]| {
            t.one(format!("dot/{what}"), |c| {
                c.x(l).dot(&c.x(r), (batch[0], batch[1]), (contract[0], contract[1]))
            });
        };
    product("matrix", &[2, 3], &[3, 4], [&[], &[]], [&[1], &[0]]);
    product("transposed", &[3, 2], &[4, 3], [&[], &[]], [&[0], &[1]]);
    product("vector", &[3], &[3], [&[], &[]], [&[0], &[0]]);
    product("outer", &[2], &[2, 3], [&[], &[]], [&[], &[]]);
    product("batched", &[2, 3, 4], &[2, 4, 2], [&[0], &[0]], [&[2], &[1]]);
    product("batch inside", &[3, 2, 4], &[4, 3, 2], [&[1], &[2]], [&[2], &[0]]);
    product("two batches crossed", &[2, 3, 2, 2], &[3, 2, 2, 2], [&[0, 1], &[1, 0]], [&[3], &[2]]);
    product("contractions crossed", &[2, 3, 4], &[4, 2, 3], [&[], &[]], [&[1, 2], &[2, 0]]);
    product("contractions out of order", &[3, 2, 4], &[2, 4, 2], [&[], &[]], [&[2, 1], &[1, 0]]);
    product("everything contracted", &[2, 3], &[3, 2], [&[], &[]], [&[0, 1], &[1, 0]]);
    t.one("dot/itself", |c| {
        let x = c.x([3, 3]);
        x.dot(&x, (&[], &[]), (&[1], &[0]))
    });
    t.one("dot/stored wider", |c| {
        let (a, b) = (c.x([2, 3]), c.x([3, 2]));
        let spec = DotSpec {
            lhs_batch: vec![],
            rhs_batch: vec![],
            lhs_contract: vec![1],
            rhs_contract: vec![0],
            accum: DType::F32,
            out: DType::F32,
        };
        c.op(Op::Dot(spec), &[&a, &b])
    });
}

fn index(t: &mut Table) {
    t.one("gather", |c| c.x([4, 3]).gather(&c.ints([2], &[2, 0]), 0));
    t.one("gather/duplicates and clamped", |c| c.x([4, 3]).gather(&c.ints([2, 3], &[3, 1, -5, 1, 9, 3]), 0));
    t.one("gather/inner axis", |c| c.x([2, 3, 2]).gather(&c.ints([2, 2], &[2, 2, 0, 1]), 1));
    t.one("gather/scalar index", |c| c.x([2, 3]).gather(&c.ints([], &[1]), 1));
    for kind in [ScatterKind::Set, ScatterKind::Add] {
        let name = Op::Scatter { axis: 0, kind }.name();
        t.one(format!("{name}/{kind:?} duplicates and dropped"), |c| {
            let (x, updates) = (c.x([4, 2]), c.x([6, 2]));
            x.scatter(kind, &c.ints([6], &[1, 3, 1, -1, 4, 1]), &updates, 0)
        });
        t.one(format!("{name}/{kind:?} inner axis"), |c| {
            let (x, updates) = (c.x([2, 3, 2]), c.x([2, 2, 2, 2]));
            x.scatter(kind, &c.ints([2, 2], &[2, 0, 2, 7]), &updates, 1)
        });
        t.one(format!("{name}/{kind:?} nothing"), |c| {
            let (x, updates) = (c.x([2, 3]), c.x([0, 3]));
            x.scatter(kind, &c.ints([0], &[]), &updates, 0)
        });
    }
}

fn sort(t: &mut Table) {
    for descending in [false, true] {
        let order = if descending { "descending" } else { "ascending" };
        t.add(format!("sort/{order}"), |c| c.x([2, 5]).sort(1, descending, 5).into());
        t.add(format!("sort/{order} inner axis cut"), |c| c.x([2, 4, 3]).sort(1, descending, 2).into());
    }
}

fn structure(t: &mut Table) {
    t.add("barrier", |c| {
        let (x, y) = (c.x([2]), c.x([3]));
        let z = x.exp();
        c.trace.ops(Op::Barrier, &[&z, &y])
    });
    t.one("fused", |c| {
        let dtype = c.dtype;
        let body = Trace::new("body");
        let (a, b) = (body.data("0", dtype, [2, 3]), body.data("1", dtype, [3]));
        let y = (a.tanh() * &b + &a).exp();
        body.output("0", &y);
        body.output("1", &(&y * &a));
        let operands = [c.x([2, 3]), c.x([3])];
        match body.finish() {
            Ok(body) => {
                let [y, z] = operands[0].results(Op::Fused(Arc::new(body)), &[&operands[0], &operands[1]]);
                y * 0.5 + z
            }
            Err(e) => {
                c.trace.fail(e.op, e.operands, e.why);
                c.trace.poison()
            }
        }
    });
    t.one("used twice", |c| {
        let x = c.x([2, 3]);
        let y = x.sin();
        &y * &x + y.exp() * &y - x.sum([0])
    });
    t.one("chain", |c| {
        let (x, w, v) = (c.x([2, 3]), c.x([3, 4]), c.x([4]));
        let hidden = x.matmul(&w).tanh() + &v;
        let hidden = (&hidden * &hidden).mean([1]).sqrt();
        hidden.reshape([2, 1]).broadcast_to([2, 3]).transpose([1, 0]).maximum(&x.transpose([1, 0]))
    });
}
