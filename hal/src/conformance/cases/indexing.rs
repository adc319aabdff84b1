//! L1: gather, scatter, sort and dequantize.

use percept_graph::{DType, Op, Role, ScatterKind, TensorType};

use super::{DENSE, FLOATS, QUANTIZED};
use crate::conformance::case::Level::L1;
use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

/// Operand shapes, indexed axes and index shapes.
const SHAPES: [(&str, &[usize], usize, &[usize]); 6] = [
    ("rows", &[11, 5], 0, &[7]),
    ("columns", &[3, 11], 1, &[2, 4]),
    ("middle", &[2, 7, 3], 1, &[5]),
    ("one-index", &[11, 5], 0, &[]),
    ("no-index", &[11, 5], 0, &[0]),
    ("long", &[257, 65], 0, &[131]),
];

fn gather(t: &mut Table) {
    for d in DENSE {
        for (shape, dims, axis, index) in SHAPES {
            let recipe = move |b: &mut Build| {
                let x = b.data(d, dims, Fill::Normal);
                // Some are out of range on both sides and are clamped.
                let i = b.data(DType::I32, index, Fill::Between(-2, dims[axis] as i64 + 2));
                b.output(&x.gather(&i, axis), Class::Exact);
            };
            if d == DType::F32 {
                t.differentiable(L1, "gather", format!("{d}/{shape}"), 64, recipe);
            } else {
                t.values(L1, "gather", format!("{d}/{shape}"), recipe);
            }
        }
    }
}

fn scatter(t: &mut Table) {
    for d in FLOATS.into_iter().chain([DType::I32, DType::U32]) {
        for (shape, dims, axis, index) in SHAPES {
            for kind in [ScatterKind::Set, ScatterKind::Add] {
                let updates = [&dims[..axis], index, &dims[axis + 1..]].concat();
                let terms = 1 + index.iter().product::<usize>();
                let class = if kind == ScatterKind::Set { Class::Exact } else { Class::Sum { terms } };
                let inputs = move |b: &mut Build| {
                    let x = b.input(Role::State, TensorType::new(d, dims), Fill::Normal);
                    // Out of range on both sides: dropped. Fewer places than updates: repeated.
                    let i = b.data(DType::I32, index, Fill::Between(-2, dims[axis] as i64 + 1));
                    let u = b.data(d, &updates, Fill::Normal);
                    [x, i, u]
                };
                let fresh = {
                    let inputs = inputs.clone();
                    move |b: &mut Build| {
                        let [x, i, u] = inputs(b);
                        b.output(&x.scatter(kind, &i, &u, axis), class);
                    }
                };
                let in_place = move |b: &mut Build| {
                    let [x, i, u] = inputs(b);
                    b.output_in_place(&x.scatter(kind, &i, &u, axis), &x, class);
                };
                let op = if kind == ScatterKind::Set { "scatter_set" } else { "scatter_add" };
                if d == DType::F32 {
                    t.differentiable(L1, op, format!("{d}/{shape}"), terms, fresh);
                } else {
                    t.values(L1, op, format!("{d}/{shape}"), fresh);
                }
                t.values(L1, op, format!("{d}/{shape}/in-place"), in_place);
            }
        }
    }
}

fn sort(t: &mut Table) {
    for d in FLOATS.into_iter().chain([DType::I32, DType::U32]) {
        for (shape, dims, axis, limit) in [
            ("rows", &[3usize, 29] as &[usize], 1usize, 29usize),
            ("columns", &[29, 3], 0, 29),
            ("top-5", &[4, 131], 1, 5),
            ("one", &[3, 1], 1, 1),
            ("none", &[3, 7], 1, 0),
            ("long", &[1, 1025], 1, 1025),
        ] {
            for (name, fill) in [("ties", Fill::Between(0, 4)), ("special", Fill::Special)] {
                if name == "special" && !d.is_float() {
                    continue;
                }
                for descending in [false, true] {
                    let order = if descending { "down" } else { "up" };
                    t.values(L1, "sort", format!("{d}/{shape}/{name}/{order}"), move |b| {
                        let x = b.data(d, dims, fill);
                        let [values, indices] = x.sort(axis, descending, limit);
                        b.output(&values, Class::Exact);
                        b.output(&indices, Class::Exact);
                    });
                }
            }
        }
    }
    t.differentiable(L1, "sort", "f32/gradient", 1, |b| {
        let x = b.data(DType::F32, &[4, 31], Fill::Normal);
        b.output(&x.top_k(5)[0], Class::Exact);
    });
}

fn dequantize(t: &mut Table) {
    for q in QUANTIZED {
        for to in FLOATS {
            for (shape, rows) in [("one", 1), ("prime", 7), ("none", 0)] {
                t.values(L1, "dequantize", format!("{q}-{to}/{shape}"), move |b| {
                    let w = b.weight(q, &[rows, 2 * q.block_len()], Fill::Normal);
                    let y = b.trace.op(Op::Dequantize { to }, &[&w]);
                    // A minimum is added in f32, fused with the product or not.
                    b.output(&y, Class::Function { ulp: 1.0, floor: 0.5 });
                });
            }
        }
    }
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    gather(t);
    scatter(t);
    sort(t);
    dequantize(t);
}
