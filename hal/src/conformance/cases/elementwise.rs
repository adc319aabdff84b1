//! L1: functions of single elements, over dtypes, shapes and values.

use percept_graph::{Accuracy, Binary, Compare, DType, Definition, Domain, Op, Unary};

use super::{DENSE, FLOATS};
use crate::conformance::case::Level::{L1, L2};
use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

/// Shapes that kernels get wrong: nothing, no dimension, one element, primes, one past a tile, many
/// workgroups.
const SHAPES: [(&str, &[usize]); 6] = [
    ("empty", &[0, 5]),
    ("scalar", &[]),
    ("one", &[1, 1]),
    ("prime", &[7, 13]),
    ("past-tile", &[1025]),
    ("large", &[3, 22_229]),
];

/// Shapes with ordinary values, then one shape with each kind of odd value.
fn variants(ordinary: Fill, odd: &[(&'static str, Fill)]) -> Vec<(String, &'static [usize], Fill)> {
    let shapes = SHAPES.iter().map(|&(name, dims)| (format!("{name}/normal"), dims, ordinary));
    let values = odd.iter().map(|&(name, fill)| (format!("past-tile/{name}"), SHAPES[4].1, fill));
    shapes.chain(values).collect()
}

const ODD: [(&str, Fill); 3] =
    [("special", Fill::Special), ("huge", Fill::Huge), ("denormal", Fill::Denormal)];
const LIMITS: [(&str, Fill); 1] = [("limits", Fill::Huge)];

/// What a function is held to, and what it is fed ordinarily.
fn unary_rule(definition: &Definition) -> (Class, Fill) {
    let class = match definition.accuracy {
        Accuracy::Exact => Class::Exact,
        Accuracy::Units { ulp, floor } => Class::Function { ulp, floor },
    };
    let fill = match definition.domain {
        Domain::All if class == Class::Exact => Fill::Scaled(3.0),
        Domain::All => Fill::Normal,
        Domain::Above(_) => Fill::Positive,
        Domain::Angles => Fill::Scaled(10.0),
    };
    (class, fill)
}

fn unary(t: &mut Table) {
    for k in Unary::ALL {
        let definition = k.definition();
        let (class, ordinary) = unary_rule(&definition);
        let op = Op::Unary(k).name();
        for &d in definition.dtypes {
            let odd: &[_] = match definition.domain {
                _ if !d.is_float() => &LIMITS,
                Domain::Angles => &[("special", Fill::Special), ("denormal", Fill::Denormal)],
                Domain::All | Domain::Above(_) => &ODD,
            };
            for (name, dims, fill) in variants(ordinary, odd) {
                let recipe = move |b: &mut Build| {
                    let x = b.data(d, dims, fill);
                    b.output(&x.unary(k), class);
                };
                let variant = format!("{d}/{name}");
                if definition.derivative.is_some() && d == DType::F32 && name == "prime/normal" {
                    t.differentiable(L1, &op, variant, 1, recipe);
                } else {
                    t.values(L1, &op, variant, recipe);
                }
            }
        }
    }
}

fn binary_rule(k: Binary) -> (Class, Fill, Fill) {
    match k {
        Binary::Add | Binary::Sub | Binary::Mul => (Class::Rounded, Fill::Normal, Fill::Normal),
        Binary::Div => (Class::Function { ulp: 2.5, floor: 0.0 }, Fill::Normal, Fill::Positive),
        Binary::Rem => (Class::Function { ulp: 4.0, floor: 1.0 }, Fill::Normal, Fill::Positive),
        Binary::Pow => (Class::Function { ulp: 32.0, floor: 0.0 }, Fill::Positive, Fill::Normal),
        _ => (Class::Exact, Fill::Normal, Fill::Normal),
    }
}

fn binary(t: &mut Table) {
    for k in Binary::ALL {
        let (class, left, right) = binary_rule(k);
        let op = Op::Binary(k).name();
        let dtypes: &[DType] = match k {
            Binary::Pow => &FLOATS,
            Binary::And | Binary::Or | Binary::Xor => &[DType::Bool, DType::I32, DType::U32],
            Binary::Shl | Binary::Shr => &[DType::I32, DType::U32],
            _ => &[DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32],
        };
        for &d in dtypes {
            let odd: &[_] = match k {
                _ if !d.is_float() => &LIMITS,
                // The remainder of a huge quotient is exact in theory only.
                Binary::Rem | Binary::Pow => &[("special", Fill::Special)],
                _ => &ODD,
            };
            for (name, dims, fill) in variants(Fill::Normal, odd) {
                let (l, r) = if fill == Fill::Normal { (left, right) } else { (fill, fill) };
                let shift = matches!(k, Binary::Shl | Binary::Shr);
                let recipe = move |b: &mut Build| {
                    let x = b.data(d, dims, l);
                    let y = b.data(d, dims, if shift { Fill::Between(0, 40) } else { r });
                    b.output(&x.binary(k, &y), class);
                };
                let variant = format!("{d}/{name}");
                if d == DType::F32 && name == "prime/normal" {
                    t.differentiable(L1, &op, variant, 1, recipe);
                } else {
                    t.values(L1, &op, variant, recipe);
                }
            }
        }
    }
}

fn choices(t: &mut Table) {
    for k in Compare::ALL {
        for d in DENSE {
            let odd: &[_] = if d.is_float() { &ODD } else { &LIMITS };
            for (name, dims, fill) in variants(Fill::Between(-2, 3), odd).into_iter().skip(3) {
                t.values(L1, &Op::Compare(k).name(), format!("{d}/{name}"), move |b| {
                    let fill = if d == DType::Bool || d == DType::U8 { Fill::Normal } else { fill };
                    let (x, y) = (b.data(d, dims, fill), b.data(d, dims, fill));
                    let y = b.trace.op(Op::Compare(k), &[&x, &y]);
                    b.output(&y, Class::Exact);
                });
            }
        }
    }
    for d in DENSE {
        let odd: &[_] = if d.is_float() { &ODD } else { &LIMITS };
        for (name, dims, fill) in variants(Fill::Normal, odd) {
            let recipe = move |b: &mut Build| {
                let p = b.data(DType::Bool, dims, Fill::Normal);
                let (x, y) = (b.data(d, dims, fill), b.data(d, dims, fill));
                b.output(&p.select(&x, &y), Class::Exact);
            };
            if d == DType::F32 && name == "prime/normal" {
                t.differentiable(L1, "select", format!("{d}/{name}"), 1, recipe);
            } else {
                t.values(L1, "select", format!("{d}/{name}"), recipe);
            }
            if d.is_float() || d.is_int() {
                t.values(L1, "clamp", format!("{d}/{name}"), move |b| {
                    let x = b.data(d, dims, fill);
                    let (low, high) = (b.data(d, dims, Fill::All(0.0)), b.data(d, dims, Fill::All(1.5)));
                    let y = b.trace.op(Op::Clamp, &[&low, &x, &high]);
                    b.output(&y, Class::Exact);
                });
            }
        }
    }
}

fn casts(t: &mut Table) {
    for from in DENSE {
        for to in DENSE {
            let odd: &[_] = if from.is_float() { &ODD } else { &LIMITS };
            let ordinary =
                if from == DType::Bool || from == DType::U8 { Fill::Normal } else { Fill::Scaled(100.0) };
            for (name, dims, fill) in variants(ordinary, odd).into_iter().skip(3) {
                t.values(L1, "cast", format!("{from}-{to}/{name}"), move |b| {
                    let x = b.data(from, dims, fill);
                    let y = b.trace.op(Op::Cast { to }, &[&x]);
                    b.output(&y, Class::Exact);
                });
            }
        }
    }
    for from in [DType::F32, DType::I32, DType::U32] {
        for to in [DType::F32, DType::I32, DType::U32] {
            t.values(L1, "bitcast", format!("{from}-{to}"), move |b| {
                // Whole numbers of this range are normal floats when their bits are.
                let fill =
                    if from == DType::F32 { Fill::Normal } else { Fill::Between(0x3f80_0000, 0x4000_0000) };
                let x = b.data(from, &[7, 13], fill);
                let y = b.trace.op(Op::Bitcast { to }, &[&x]);
                b.output(&y, Class::Exact);
            });
        }
    }
}

/// L2: chains that a fusion pass joins.
fn chains(t: &mut Table) {
    for d in FLOATS {
        for (name, dims) in [("prime", &[7usize, 13] as &[usize]), ("past-tile", &[1025]), ("empty", &[0, 3])]
        {
            let recipe = move |b: &mut Build| {
                let x = b.data(d, dims, Fill::Normal);
                let y = b.data(d, dims, Fill::Positive);
                let x32 = x.cast(DType::F32);
                let z = (&x32 * 0.5 + y.cast(DType::F32)).tanh() * 2.0 - x32.logistic();
                let z = (z.abs() + 0.5).sqrt().maximum(&x32.clamp(-1.0, 1.0)) / (y.cast(DType::F32) + 1.0);
                b.output(&z, Class::Composite { terms: 1 });
                if d != DType::F32 {
                    b.output(&z.cast(d), Class::Stored);
                }
                b.output(&x32.gt(&z), Class::Exact);
            };
            t.values(L2, "fused_chain", format!("{d}/{name}"), recipe);
        }
        for (name, dims) in [("row", &[1usize, 13] as &[usize]), ("column", &[7, 1]), ("scalar", &[])] {
            let recipe = move |b: &mut Build| {
                let x = b.data(d, &[7, 13], Fill::Normal);
                let y = b.data(d, dims, Fill::Positive);
                b.output(&(&x * &y), Class::Rounded);
                b.output(&(&x - &y), Class::Rounded);
            };
            t.differentiable(L1, "broadcast_arithmetic", format!("{d}/{name}"), 13, recipe);
        }
    }
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    unary(t);
    binary(t);
    choices(t);
    casts(t);
    chains(t);
}
