//! L1: general products.

use percept_graph::{DType, DotSpec, Op};

use crate::conformance::case::Level::L1;
use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

/// Operand shapes with batch and contracted dimensions of each side.
struct Shape {
    name: &'static str,
    left: &'static [usize],
    right: &'static [usize],
    batch: (&'static [usize], &'static [usize]),
    contract: (&'static [usize], &'static [usize]),
}

const fn matrix(name: &'static str, left: &'static [usize], right: &'static [usize]) -> Shape {
    Shape { name, left, right, batch: (&[], &[]), contract: (&[1], &[0]) }
}

const SHAPES: [Shape; 16] = [
    matrix("prime", &[7, 13], &[13, 5]),
    matrix("one", &[1, 1], &[1, 1]),
    matrix("row", &[1, 67], &[67, 33]),
    matrix("column", &[67, 33], &[33, 1]),
    matrix("outer", &[17, 1], &[1, 19]),
    matrix("past-tile", &[65, 33], &[33, 129]),
    matrix("deep", &[3, 2049], &[2049, 5]),
    matrix("no-terms", &[3, 0], &[0, 5]),
    matrix("no-rows", &[0, 3], &[3, 5]),
    Shape {
        name: "right-transposed",
        left: &[7, 13],
        right: &[5, 13],
        batch: (&[], &[]),
        contract: (&[1], &[1]),
    },
    Shape {
        name: "left-transposed",
        left: &[13, 7],
        right: &[13, 5],
        batch: (&[], &[]),
        contract: (&[0], &[0]),
    },
    Shape {
        name: "batched",
        left: &[3, 7, 13],
        right: &[3, 13, 5],
        batch: (&[0], &[0]),
        contract: (&[2], &[1]),
    },
    Shape {
        name: "heads",
        left: &[2, 3, 5, 8],
        right: &[2, 3, 7, 8],
        batch: (&[0, 1], &[0, 1]),
        contract: (&[3], &[3]),
    },
    Shape {
        name: "two-terms",
        left: &[3, 5, 7],
        right: &[7, 5, 2],
        batch: (&[], &[]),
        contract: (&[1, 2], &[1, 0]),
    },
    Shape {
        name: "inner-batch",
        left: &[5, 3, 4],
        right: &[4, 3, 2],
        batch: (&[1], &[1]),
        contract: (&[2], &[0]),
    },
    Shape { name: "vectors", left: &[131], right: &[131], batch: (&[], &[]), contract: (&[0], &[0]) },
];

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    let types = [
        (DType::F32, DType::F32),
        (DType::F16, DType::F16),
        (DType::BF16, DType::BF16),
        (DType::F16, DType::F32),
        (DType::BF16, DType::F32),
        (DType::I32, DType::I32),
    ];
    for (d, out) in types {
        for s in &SHAPES {
            let spec = DotSpec {
                lhs_batch: s.batch.0.to_vec(),
                rhs_batch: s.batch.1.to_vec(),
                lhs_contract: s.contract.0.to_vec(),
                rhs_contract: s.contract.1.to_vec(),
                accum: if d.is_float() { DType::F32 } else { d },
                out,
            };
            let terms = s.contract.0.iter().map(|&a| s.left[a]).product();
            let recipe = move |b: &mut Build| {
                let (l, r) = (b.data(d, s.left, Fill::Normal), b.data(d, s.right, Fill::Normal));
                let y = b.trace.op(Op::Dot(spec.clone()), &[&l, &r]);
                b.output(&y, Class::Sum { terms });
            };
            let variant = format!("{d}-{out}/{}", s.name);
            if d == DType::F32 && terms > 0 && s.left[0] > 0 {
                t.differentiable(L1, "dot", variant, 131, recipe);
            } else {
                t.values(L1, "dot", variant, recipe);
            }
        }
        if d.is_float() {
            t.values(L1, "dot", format!("{d}-{out}/special"), move |b| {
                // One row of specials: the other rows must not notice.
                let l = b.data(d, &[1, 16], Fill::Special);
                let rest = b.data(d, &[4, 16], Fill::Normal);
                let r = b.data(d, &[16, 3], Fill::Positive);
                let l = b.trace.op(Op::Concat { axis: 0 }, &[&rest, &l]);
                let y = l.dot(&r, (&[], &[]), (&[1], &[0]));
                b.output(&y, Class::Sum { terms: 16 });
            });
        }
    }
}
