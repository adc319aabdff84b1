//! L1: operations that move elements, over every dense dtype.

use percept_graph::{DType, HostTensor, Literal, Op, Role, Tensor, TensorType};

use super::DENSE;
use crate::conformance::case::Level::L1;
use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

fn moved(t: &mut Table, op: &'static str, variant: &str, dims: &'static [usize], f: fn(&Tensor) -> Tensor) {
    for d in DENSE {
        let recipe = move |b: &mut Build| {
            // Barely moved bits show: special values keep theirs too.
            let x = b.data(d, dims, if d == DType::F32 { Fill::Normal } else { Fill::Huge });
            b.output(&f(&x), Class::Exact);
        };
        if d == DType::F32 && !dims.contains(&0) {
            t.differentiable(L1, op, format!("{d}/{variant}"), 1, recipe);
        } else {
            t.values(L1, op, format!("{d}/{variant}"), recipe);
        }
    }
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    moved(t, "reshape", "prime", &[7, 13], |x| x.reshape([13, 7]));
    moved(t, "reshape", "scalar", &[1, 1], |x| x.reshape([]));
    moved(t, "reshape", "empty", &[0, 5], |x| x.reshape([3, 0]));
    moved(t, "transpose", "prime", &[7, 13], |x| x.transpose([1, 0]));
    moved(t, "transpose", "past-tile", &[33, 65], |x| x.transpose([1, 0]));
    moved(t, "transpose", "heads", &[2, 5, 3, 7], |x| x.transpose([0, 2, 1, 3]));
    moved(t, "transpose", "reversed", &[3, 1, 5, 7], |x| x.transpose([3, 2, 1, 0]));
    moved(t, "transpose", "last-kept", &[5, 3, 64], |x| x.transpose([1, 0, 2]));
    moved(t, "transpose", "empty", &[0, 5], |x| x.transpose([1, 0]));
    moved(t, "broadcast", "row", &[1, 13], |x| x.broadcast([7, 13], [0, 1]));
    moved(t, "broadcast", "column", &[7, 1], |x| x.broadcast([7, 13], [0, 1]));
    moved(t, "broadcast", "scalar", &[], |x| x.broadcast([5, 3], []));
    moved(t, "broadcast", "inner", &[3, 5], |x| x.broadcast([3, 4, 5], [0, 2]));
    moved(t, "broadcast", "large", &[257], |x| x.broadcast([131, 257], [1]));
    moved(t, "broadcast", "empty", &[1, 3], |x| x.broadcast([0, 3], [0, 1]));
    moved(t, "slice", "block", &[7, 13], |x| x.slice([2, 3], [6, 12], [1, 1]));
    moved(t, "slice", "strided", &[7, 13], |x| x.slice([0, 1], [7, 13], [2, 5]));
    moved(t, "slice", "nothing", &[7, 13], |x| x.slice([3, 3], [3, 9], [1, 1]));
    moved(t, "slice", "last-element", &[1025], |x| x.slice([1024], [1025], [1]));
    moved(t, "pad", "sides", &[3, 5], |x| x.pad(2.0, [1, 0], [2, 3], [0, 0]));
    moved(t, "pad", "interior", &[3, 5], |x| x.pad(0.0, [0, 1], [1, 0], [2, 1]));
    moved(t, "pad", "empty", &[0, 5], |x| x.pad(1.0, [1, 1], [1, 0], [3, 0]));
    moved(t, "barrier", "prime", &[7, 13], |x| x.barrier());
    concat(t);
    dynamic(t);
    sources(t);
}

fn concat(t: &mut Table) {
    for d in DENSE {
        let shapes: [(&str, usize, [[usize; 2]; 3]); 3] = [
            ("rows", 0, [[3, 5], [1, 5], [4, 5]]),
            ("columns", 1, [[3, 5], [3, 2], [3, 9]]),
            ("with-empty", 1, [[3, 5], [3, 0], [3, 1]]),
        ];
        for (name, axis, parts) in shapes {
            let recipe = move |b: &mut Build| {
                let parts = parts.map(|p| b.data(d, &p, Fill::Normal));
                let y = b.trace.op(Op::Concat { axis }, &parts.iter().collect::<Vec<_>>());
                b.output(&y, Class::Exact);
            };
            if d == DType::F32 {
                t.differentiable(L1, "concat", format!("{d}/{name}"), 1, recipe);
            } else {
                t.values(L1, "concat", format!("{d}/{name}"), recipe);
            }
        }
    }
}

fn dynamic(t: &mut Table) {
    for d in DENSE {
        for (name, at) in [("inside", [1i64, 4]), ("below", [-3, -1]), ("beyond", [99, 6])] {
            let slice = move |b: &mut Build| {
                let x = b.data(d, &[7, 13], Fill::Normal);
                let starts = at.map(|v| b.integers(&[], &[v]));
                b.output(&x.dynamic_slice(&[&starts[0], &starts[1]], [3, 8]), Class::Exact);
            };
            let update = move |b: &mut Build| {
                let x = b.data(d, &[7, 13], Fill::Normal);
                let u = b.data(d, &[2, 5], Fill::Normal);
                let starts = at.map(|v| b.integers(&[], &[v]));
                b.output(&x.dynamic_update_slice(&u, &[&starts[0], &starts[1]]), Class::Exact);
            };
            let in_place = move |b: &mut Build| {
                let x = b.input(Role::State, TensorType::new(d, [7, 13]), Fill::Normal);
                let u = b.data(d, &[2, 5], Fill::Normal);
                let starts = at.map(|v| b.integers(&[], &[v]));
                let y = x.dynamic_update_slice(&u, &[&starts[0], &starts[1]]);
                b.output_in_place(&y, &x, Class::Exact);
            };
            let variant = format!("{d}/{name}");
            if d == DType::F32 {
                t.differentiable(L1, "dynamic_slice", &variant, 1, slice);
                t.differentiable(L1, "dynamic_update_slice", &variant, 1, update);
            } else {
                t.values(L1, "dynamic_slice", &variant, slice);
                t.values(L1, "dynamic_update_slice", &variant, update);
            }
            t.values(L1, "dynamic_update_slice", format!("{variant}/in-place"), in_place);
        }
    }
}

/// Operations without operands.
fn sources(t: &mut Table) {
    for d in DENSE {
        for (name, dims) in
            [("prime", &[7usize, 13] as &[usize]), ("past-tile", &[1, 1025]), ("empty", &[0, 3])]
        {
            t.values(L1, "constant", format!("{d}/{name}/splat"), move |b| {
                let c = b.trace.full(d, dims, 1.0);
                b.output(&c, Class::Exact);
            });
            t.values(L1, "constant", format!("{d}/{name}/dense"), move |b| {
                let ty = TensorType::new(d, dims);
                let values: HostTensor = b.random().tensor(&ty, Fill::Normal);
                if let Some(literal) = Literal::dense(ty, &values.values()) {
                    let c = b.trace.constant(literal);
                    b.output(&c, Class::Exact);
                }
            });
            if d.is_float() || d.is_int() {
                for axis in 0..2 {
                    t.values(L1, "iota", format!("{d}/{name}/axis{axis}"), move |b| {
                        let i = b.trace.iota(d, dims, axis);
                        b.output(&i, Class::Exact);
                    });
                }
            }
        }
    }
}
