//! L2: products of rows with the matrices of their groups, as mixtures of experts have.

use percept_graph::{Composite, DType, Tensor};

use super::network::record;
use super::{FLOATS, QUANTIZED};
use crate::conformance::case::Level::L2;
use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

/// Rows, groups of each, groups, and the matrices' extents.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    m: usize,
    c: usize,
    g: usize,
    n: usize,
    k: usize,
}

const SHAPES: [Shape; 8] = [
    Shape { name: "prime", m: 7, c: 2, g: 5, n: 11, k: 13 },
    Shape { name: "one", m: 1, c: 1, g: 1, n: 1, k: 1 },
    Shape { name: "token", m: 1, c: 3, g: 17, n: 33, k: 67 },
    Shape { name: "past-tile", m: 131, c: 2, g: 3, n: 65, k: 33 },
    Shape { name: "deep", m: 3, c: 2, g: 4, n: 5, k: 2050 },
    Shape { name: "even", m: 16, c: 4, g: 8, n: 64, k: 32 },
    Shape { name: "no-rows", m: 0, c: 2, g: 3, n: 4, k: 8 },
    Shape { name: "no-groups", m: 3, c: 0, g: 3, n: 4, k: 8 },
];

/// Numbers that leave groups empty, crowd the second one, and now and then are those of no group.
fn numbers(b: &mut Build, s: Shape) -> Tensor {
    let g = s.g as i64;
    let number = |i: i64| match i % 7 {
        0 | 4 => 1 % g,
        3 if i > 3 => -1,
        5 if i > 5 => g,
        _ => i * 5 % g,
    };
    let all: Vec<i64> = (0..(s.m * s.c) as i64).map(number).collect();
    b.integers(&[s.m, s.c], &all)
}

fn dot(b: &mut Build, s: Shape, d: DType, w: DType, transposed: bool) {
    let (from, terms) = if transposed { (s.n, s.n) } else { (s.k, s.k) };
    let x = b.data(d, &[s.m, from], Fill::Normal);
    let fill = if w.is_quantized() { Fill::Normal } else { Fill::Scaled(0.3) };
    let w = b.weight(w, &[s.g, s.n, s.k], fill);
    let groups = numbers(b, s);
    record(b, Composite::RaggedDot { transposed }, &[&x, &w, &groups], Class::Sum { terms });
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    for d in FLOATS {
        for s in SHAPES {
            let rows = s.m * s.c > 0;
            for transposed in [false, true] {
                let op = if transposed { "ragged_dot_transposed" } else { "ragged_dot" };
                let variant = format!("{d}/{}", s.name);
                let recipe = move |b: &mut Build| dot(b, s, d, d, transposed);
                if d == DType::F32 && rows {
                    t.differentiable(L2, op, variant, s.n.max(s.k), recipe);
                } else {
                    t.values(L2, op, variant, recipe);
                }
            }
            t.values(L2, "ragged_outer", format!("{d}/{}", s.name), move |b| {
                let (x, y) =
                    (b.data(d, &[s.m, s.k], Fill::Normal), b.data(d, &[s.m, s.c, s.n], Fill::Normal));
                let groups = numbers(b, s);
                let outer = Composite::RaggedOuter { groups: s.g };
                record(b, outer, &[&x, &y, &groups], Class::Sum { terms: s.m * s.c });
            });
        }
        for q in QUANTIZED {
            for s in [SHAPES[0], SHAPES[2], SHAPES[3]] {
                let s = Shape { k: q.block_len() * 2, ..s };
                for transposed in [false, true] {
                    let op = if transposed { "ragged_dot_transposed" } else { "ragged_dot" };
                    t.values(L2, op, format!("{d}-{q}/{}", s.name), move |b| dot(b, s, d, q, transposed));
                }
            }
        }
        t.values(L2, "ragged_dot", format!("{d}/special"), move |b| {
            // What stands in a matrix that a row does not ask for is nothing to it.
            let x = b.data(d, &[3, 16], Fill::Normal);
            let w = [Fill::Normal, Fill::Special, Fill::Normal].map(|fill| b.data(d, &[1, 5, 16], fill));
            let w = Tensor::concat(&w.each_ref(), 0).unwrap_or_else(|| x.clone());
            let groups = b.integers(&[3, 2], &[0, 2, 2, 0, 0, 0]);
            b.output(&x.ragged_dot(&w, &groups), Class::Sum { terms: 16 });
        });
    }
}
