//! L2: the gated delta rule and short convolutions, over whole sequences and from state to state.

use percept_graph::{Composite, DType, Role, Tensor, TensorType};

use super::network::record;
use crate::conformance::case::Level::L2;
use crate::conformance::problem::Build;
use crate::conformance::table::Table;
use crate::conformance::tolerance::Class;
use crate::conformance::values::Fill;

/// Extents of a delta rule: b, t, heads of q and k, heads of v, features of each.
const DELTA: [(&str, [usize; 6]); 5] = [
    ("one", [1, 1, 1, 1, 1, 1]),
    ("decode", [3, 1, 2, 4, 16, 16]),
    ("prime", [2, 13, 1, 3, 7, 5]),
    ("past-chunk", [1, 65, 1, 2, 16, 8]),
    ("chunks", [1, 150, 2, 2, 8, 17]),
];

/// Extents of a short convolution: b, t, channels, taps.
const CONV: [(&str, [usize; 4]); 4] = [
    ("one", [1, 1, 1, 1]),
    ("decode", [3, 1, 20, 4]),
    ("prime", [2, 13, 7, 3]),
    ("past-tile", [1, 65, 33, 4]),
];

fn delta(b: &mut Build, [n, t, hk, h, dk, dv]: [usize; 6]) -> Vec<Tensor> {
    let keys = b.data(DType::F32, &[n, t, hk, dk], Fill::Normal);
    // As models have them: keys of length 1, decays and shares between 0 and 1.
    let length = (&keys * &keys).sum([3]).unsqueeze(3) + 1e-6;
    let scalars = |b: &mut Build| b.data(DType::F32, &[n, t, h], Fill::Normal).logistic();
    vec![
        b.data(DType::F32, &[n, t, hk, dk], Fill::Normal),
        &keys / length.sqrt(),
        b.data(DType::F32, &[n, t, h, dv], Fill::Normal),
        scalars(b).neg(),
        scalars(b),
    ]
}

/// The pool of states and the operands behind it: the last element goes on from another slot than it is left in, the
/// first from zeros, the others where they are, and of the last a row does not count where there are some.
fn carried(b: &mut Build, n: usize, t: usize, state: &[usize]) -> (Tensor, [Tensor; 3]) {
    let dims: Vec<usize> = [n + 1].into_iter().chain(state.iter().copied()).collect();
    let pool = b.input(Role::State, TensorType::new(DType::F32, dims), Fill::Normal);
    let each = |f: &dyn Fn(usize) -> i64| (0..n).map(f).collect::<Vec<i64>>();
    let from = each(&|i| match i {
        _ if i + 1 == n => n as i64,
        0 => -1,
        _ => i as i64,
    });
    let to = each(&|i| i as i64);
    let rows = each(&|i| if i + 1 == n && t > 1 { t as i64 - 1 } else { t as i64 });
    (pool, [from, to, rows].map(|values| b.integers(&[n], &values)))
}

fn segments(b: &mut Build, n: usize, t: usize) -> Tensor {
    let numbers: Vec<i64> = (0..n * t).map(|i| (i % t) as i64 / 5).collect();
    b.integers(&[n, t], &numbers)
}

/// Adds the cases of this kind.
pub fn add(t: &mut Table) {
    for (shape, extents) in DELTA {
        let [n, rows, _, h, dk, dv] = extents;
        let class = Class::Composite { terms: rows * dk };
        let whole = move |b: &mut Build| {
            let x = delta(b, extents);
            let c = Composite::GatedDelta { segments: false, state: false };
            record(b, c, &x.iter().collect::<Vec<_>>(), class);
        };
        match rows {
            // The gradients of the long ones are those of these, and slow to check.
            0..=16 => t.differentiable(L2, "gated_delta", format!("{shape}/whole"), 4 * rows * dk, whole),
            _ => t.values(L2, "gated_delta", format!("{shape}/whole"), whole),
        }
        t.values(L2, "gated_delta", format!("{shape}/segments"), move |b| {
            let mut x = delta(b, extents);
            x.push(segments(b, n, rows));
            let c = Composite::GatedDelta { segments: true, state: false };
            record(b, c, &x.iter().collect::<Vec<_>>(), class);
        });
        t.values(L2, "gated_delta", format!("{shape}/state"), move |b| {
            let mut x = delta(b, extents);
            let (pool, rest) = carried(b, n, rows, &[h, dk, dv]);
            x.extend([pool.clone()].into_iter().chain(rest));
            step(b, Composite::GatedDelta { segments: false, state: true }, &x, &pool, class);
        });
    }
    for (shape, [n, rows, c, taps]) in CONV {
        let class = Class::Composite { terms: taps };
        let operands = move |b: &mut Build| {
            vec![
                b.data(DType::F32, &[n, rows, c], Fill::Normal),
                b.data(DType::F32, &[c, taps], Fill::Normal),
            ]
        };
        t.differentiable(L2, "short_conv", format!("{shape}/whole"), rows * taps, move |b| {
            let x = operands(b);
            let op = Composite::ShortConv { segments: false, state: false };
            record(b, op, &x.iter().collect::<Vec<_>>(), class);
        });
        t.values(L2, "short_conv", format!("{shape}/segments"), move |b| {
            let mut x = operands(b);
            x.push(segments(b, n, rows));
            let op = Composite::ShortConv { segments: true, state: false };
            record(b, op, &x.iter().collect::<Vec<_>>(), class);
        });
        t.values(L2, "short_conv", format!("{shape}/state"), move |b| {
            let mut x = operands(b);
            let (pool, rest) = carried(b, n, rows, &[taps - 1, c]);
            x.extend([pool.clone()].into_iter().chain(rest));
            step(b, Composite::ShortConv { segments: false, state: true }, &x, &pool, class);
        });
    }
}

/// Records a step whose second result replaces the pool.
fn step(b: &mut Build, op: Composite, x: &[Tensor], pool: &Tensor, class: Class) {
    let results = b.trace.ops(percept_graph::Op::Composite(op), &x.iter().collect::<Vec<_>>());
    if let [out, after] = &results[..] {
        b.output(out, class);
        b.output_in_place(after, pool, class);
    }
}
