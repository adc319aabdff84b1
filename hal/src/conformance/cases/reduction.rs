//! L1: reductions and arg-reductions.

use percept_graph::{ArgKind, DType, Op, ReduceKind};

use super::FLOATS;
use crate::conformance::case::Level::L1;
use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

/// Shapes with the axes that go: rows, columns, the middle, everything, nothing, an empty extent, many of one
/// row.
const SHAPES: [(&str, &[usize], &[usize]); 10] = [
    ("rows", &[7, 13], &[1]),
    ("columns", &[7, 13], &[0]),
    ("middle", &[3, 17, 5], &[1]),
    ("outer", &[3, 5, 7], &[0, 2]),
    ("all", &[7, 13], &[0, 1]),
    ("none", &[7, 13], &[]),
    ("empty", &[3, 0], &[1]),
    ("no-rows", &[0, 3], &[1]),
    ("long", &[2, 4097], &[1]),
    ("many", &[1031, 3], &[1]),
];

fn class(kind: ReduceKind, terms: usize) -> Class {
    match kind {
        ReduceKind::Sum => Class::Sum { terms },
        // Each product rounds once: the relative error grows with the count, without cancellation.
        ReduceKind::Prod => Class::Function { ulp: 1.0 + terms as f64, floor: 0.0 },
        _ => Class::Exact,
    }
}

fn reduce(t: &mut Table) {
    for kind in ReduceKind::ALL {
        let logical = matches!(kind, ReduceKind::And | ReduceKind::Or);
        let dtypes: &[DType] = if logical {
            &[DType::Bool]
        } else {
            &[DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32]
        };
        for &d in dtypes {
            for (shape, dims, axes) in SHAPES {
                let terms: usize = axes.iter().map(|&a| dims[a]).product();
                let fill = match kind {
                    // A product of thousands stays in range when its factors are signs.
                    ReduceKind::Prod if terms > 100 => Fill::All(-1.0),
                    ReduceKind::Prod if d.is_float() => Fill::Positive,
                    _ => Fill::Normal,
                };
                let recipe = move |b: &mut Build| {
                    let x = b.data(d, dims, fill);
                    b.output(&x.reduce(kind, axes), class(kind, terms));
                };
                let op = Op::Reduce { kind, axes: vec![], accum: d }.name();
                let smooth = d == DType::F32 && terms > 0 && terms < 100 && dims[0] > 0;
                if smooth {
                    t.differentiable(L1, &op, format!("{d}/{shape}/normal"), terms, recipe);
                } else {
                    t.values(L1, &op, format!("{d}/{shape}/normal"), recipe);
                }
            }
            if logical {
                continue;
            }
            let op = Op::Reduce { kind, axes: vec![], accum: d }.name();
            let odd: &[(&str, Fill)] = if d.is_float() {
                &[
                    ("special", Fill::Special),
                    ("infinite", Fill::All(f64::NEG_INFINITY)),
                    ("nan", Fill::All(f64::NAN)),
                ]
            } else {
                &[("limits", Fill::Huge)]
            };
            for &(name, fill) in odd {
                t.values(L1, &op, format!("{d}/rows/{name}"), move |b| {
                    let x = b.data(d, &[29, 5], fill);
                    b.output(&x.reduce(kind, [1]), class(kind, 5));
                });
            }
        }
    }
}

fn arg_reduce(t: &mut Table) {
    for kind in [ArgKind::Max, ArgKind::Min] {
        let op = if kind == ArgKind::Max { "argmax" } else { "argmin" };
        for d in FLOATS.into_iter().chain([DType::I32, DType::U32]) {
            for (shape, dims, axis) in [
                ("rows", &[7usize, 13] as &[usize], 1usize),
                ("columns", &[7, 13], 0),
                ("one", &[5, 1], 1),
                ("long", &[3, 4097], 1),
                ("no-rows", &[0, 3], 1),
            ] {
                // Few values make many ties.
                for (name, fill) in
                    [("ties", Fill::Between(0, 3)), ("normal", Fill::Normal), ("special", Fill::Special)]
                {
                    if name == "special" && !d.is_float() {
                        continue;
                    }
                    t.values(L1, op, format!("{d}/{shape}/{name}"), move |b| {
                        let x = b.data(d, dims, fill);
                        let y = b.trace.op(Op::ArgReduce { kind, axis }, &[&x]);
                        b.output(&y, Class::Exact);
                    });
                }
            }
        }
    }
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    reduce(t);
    arg_reduce(t);
}
