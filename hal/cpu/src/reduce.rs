//! Reductions over any dimensions, arg-reductions and running sums.
//!
//! The order of a reduction depends on the operand's shape along the reduced dimensions alone: inner runs are cut
//! into pieces of a fixed length, each folded by sixteen lanes; outer ones are added in groups of a fixed count.

use percept_graph::{ArgKind, Binary, DType, OpDesc, ReduceKind};

use crate::fused::instruction::{Block, Class, Instruction, execute};
use crate::fused::memory;
use crate::kernel::{Kernel, Operands};
use crate::lanes::{WIDTH, simd};
use crate::pool::Team;
use crate::rows::{fold_rows, sum_rows};
use crate::scratch::with_scratch;
use crate::vector_math as vm;

/// Elements of an inner run folded at a time.
const PIECE: usize = 8192;
/// Rows added up before they join the total.
const GROUP: usize = 32;
/// Columns reduced together where the inner dimension stays.
const COLUMNS: usize = 1024;

simd! {
    fn fold_floats(l, kind: ReduceKind, x: &[f32]) -> f32 {
        let start = f32::from_bits(identity(kind, Class::Float));
        let lanes = match kind {
            ReduceKind::Sum => return sum_rows!(l, [x: x], acc => l.add(acc, x)),
            ReduceKind::Prod => {
                fold_rows!(l, [x: x, 1.0], l.splat(1.0), acc => l.mul(acc, x), a, b => l.mul(a, b))
            }
            ReduceKind::Max => {
                fold_rows!(l, [x: x, start], l.splat(start), acc => vm::max(l, acc, x), a, b => vm::max(l, a, b))
            }
            _ => fold_rows!(l, [x: x, start], l.splat(start), acc => vm::min(l, acc, x), a, b => vm::min(l, a, b)),
        };
        let mut last = [0.0; WIDTH];
        l.store(lanes, &mut last);
        last.into_iter().fold(start, |a, b| f32::from_bits(combine(kind, Class::Float, a.to_bits(), b.to_bits())))
    }
}

fn identity(kind: ReduceKind, class: Class) -> u32 {
    match (kind, class) {
        (ReduceKind::Sum | ReduceKind::Or, _) => 0,
        (ReduceKind::Prod, Class::Float) => 1f32.to_bits(),
        (ReduceKind::Prod | ReduceKind::And, _) => 1,
        (ReduceKind::Max, Class::Float) => f32::NEG_INFINITY.to_bits(),
        (ReduceKind::Max, Class::Signed) => i32::MIN as u32,
        (ReduceKind::Max, Class::Unsigned) => 0,
        (ReduceKind::Min, Class::Float) => f32::INFINITY.to_bits(),
        (ReduceKind::Min, Class::Signed) => i32::MAX as u32,
        (ReduceKind::Min, Class::Unsigned) => u32::MAX,
    }
}

fn binary(kind: ReduceKind) -> Binary {
    match kind {
        ReduceKind::Sum => Binary::Add,
        ReduceKind::Prod => Binary::Mul,
        ReduceKind::Max => Binary::Max,
        ReduceKind::Min => Binary::Min,
        ReduceKind::And => Binary::And,
        ReduceKind::Or => Binary::Or,
    }
}

/// One step of a reduction on lanes of a class.
fn combine(kind: ReduceKind, class: Class, a: u32, b: u32) -> u32 {
    let floats = (f32::from_bits(a), f32::from_bits(b));
    match (kind, class) {
        (ReduceKind::Sum, Class::Float) => (floats.0 + floats.1).to_bits(),
        (ReduceKind::Prod, Class::Float) => (floats.0 * floats.1).to_bits(),
        (ReduceKind::Max, Class::Float) if floats.0.is_nan() || floats.0 > floats.1 => a,
        (ReduceKind::Min, Class::Float) if floats.0.is_nan() || floats.0 < floats.1 => a,
        (ReduceKind::Max | ReduceKind::Min, Class::Float) => b,
        (ReduceKind::Sum, _) => a.wrapping_add(b),
        (ReduceKind::Prod, _) => a.wrapping_mul(b),
        (ReduceKind::Max, Class::Signed) => (a as i32).max(b as i32) as u32,
        (ReduceKind::Min, Class::Signed) => (a as i32).min(b as i32) as u32,
        (ReduceKind::Max, Class::Unsigned) => a.max(b),
        (ReduceKind::Min, Class::Unsigned) => a.min(b),
        (ReduceKind::And, _) => a & b,
        (ReduceKind::Or, _) => a | b,
    }
}

fn fold(kind: ReduceKind, class: Class, x: &[u32]) -> u32 {
    match class {
        Class::Float => fold_floats(kind, bytemuck::cast_slice(x)).to_bits(),
        _ => x.iter().fold(identity(kind, class), |a, b| combine(kind, class, a, *b)),
    }
}

/// Extents and strides of the dimensions that stay and of those that go, neighbours merged.
struct Split {
    kept: Vec<(usize, usize)>,
    reduced: Vec<(usize, usize)>,
    /// Whether the innermost dimension goes.
    inner_goes: bool,
}

impl Split {
    fn new(dims: &[usize], strides: &[usize], axes: &[usize]) -> Split {
        let mut split = Split { kept: vec![], reduced: vec![], inner_goes: true };
        let mut last = None;
        for (i, (&d, &s)) in dims.iter().zip(strides).enumerate().filter(|(_, (d, _))| **d != 1) {
            let goes = axes.contains(&i);
            let side = if goes { &mut split.reduced } else { &mut split.kept };
            match side.last_mut() {
                Some((extent, stride)) if last == Some(goes) => (*extent, *stride) = (*extent * d, s),
                _ => side.push((d, s)),
            }
            last = Some(goes);
        }
        split.inner_goes = last != Some(false);
        split
    }
}

/// The offset of an index in row-major order of `dims`.
fn offset(dims: &[(usize, usize)], mut index: usize) -> usize {
    let mut at = 0;
    for (d, s) in dims.iter().rev() {
        at += index % d * s;
        index /= d;
    }
    at
}

fn count(dims: &[(usize, usize)]) -> usize {
    dims.iter().map(|(d, _)| d).product()
}

/// Reduces over `axes`.
pub(crate) fn reduce(desc: &OpDesc<'_>, kind: ReduceKind, axes: &[usize]) -> Option<Kernel> {
    let x = &desc.inputs[0];
    if x.dtype.is_quantized() {
        return None;
    }
    let class = match x.dtype {
        DType::I32 => Class::Signed,
        dtype if dtype.is_float() => Class::Float,
        _ => Class::Unsigned,
    };
    let (dtype, work) = (x.dtype, x.numel() / 4);
    if desc.outputs[0].numel() == 0 || x.numel() == 0 {
        let (total, lane) = (desc.outputs[0].numel(), identity(kind, class));
        let lane = if dtype == DType::U8 { lane & 0xff } else { lane };
        return Some(Kernel::new(total, move |team, operands| {
            for i in team.share(total, COLUMNS) {
                memory::narrow(dtype, &[lane], operands, 0, i, false);
            }
        }));
    }
    let split = Split::new(&x.dims, &x.strides(), axes);
    Some(if split.inner_goes {
        reduce_runs(split, dtype, kind, class, work)
    } else {
        reduce_columns(split, dtype, kind, class, work)
    })
}

/// The innermost dimension goes: each result is a fold of runs of memory, in pieces.
fn reduce_runs(split: Split, dtype: DType, kind: ReduceKind, class: Class, work: usize) -> Kernel {
    let run = split.reduced.last().map_or(1, |(d, _)| *d);
    let outer = split.reduced[..split.reduced.len().saturating_sub(1)].to_vec();
    let (results, runs, pieces) = (count(&split.kept), count(&outer), run.div_ceil(PIECE));
    let parts = runs * pieces;
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        let x = operands.input::<u8>(0);
        let partial = operands.workspace::<u32>();
        let piece = |buffer: &mut [f32], task: usize| {
            let (result, part) = (task / parts, task % parts);
            let first = part % pieces * PIECE;
            let start = offset(&split.kept, result) + offset(&outer, part / pieces) + first;
            let lanes: &mut [u32] = bytemuck::cast_slice_mut(&mut buffer[..PIECE.min(run - first)]);
            memory::widen(dtype, x, start, 1, lanes);
            fold(kind, class, lanes)
        };
        let grain = (16_384 / run).max(1);
        if parts == 1 {
            with_scratch(PIECE, |buffer| {
                for task in team.share(results, grain) {
                    let lane = piece(buffer, task);
                    memory::narrow(dtype, &[lane], operands, 0, task, false);
                }
            });
            return;
        }
        with_scratch(PIECE, |buffer| {
            for task in team.share(results * parts, grain) {
                // SAFETY: each part of the workspace is one thread's.
                unsafe { partial.part(task..task + 1)[0] = piece(buffer, task) };
            }
        });
        team.barrier();
        for result in team.share(results, COLUMNS) {
            // SAFETY: after the barrier the workspace is only read.
            let lanes = unsafe { partial.view(result * parts..(result + 1) * parts) };
            memory::narrow(dtype, &[fold(kind, class, lanes)], operands, 0, result, false);
        }
    };
    let workspace = if parts == 1 { 0 } else { results * parts * 4 };
    Kernel::with_workspace(workspace, work, body)
}

/// The innermost dimension stays: rows of it are combined element by element, in groups.
fn reduce_columns(split: Split, dtype: DType, kind: ReduceKind, class: Class, work: usize) -> Kernel {
    let inner = split.kept.last().map_or(1, |(d, _)| *d);
    let outer = split.kept[..split.kept.len().saturating_sub(1)].to_vec();
    let (blocks, rows) = (inner.div_ceil(COLUMNS), count(&split.reduced));
    let instruction = Instruction::Binary(binary(kind), class);
    Kernel::new(work, move |team, operands| {
        let x = operands.input::<u8>(0);
        let grain = (16_384 / (rows * COLUMNS.min(inner))).max(1);
        with_scratch(4 * COLUMNS, |scratch| {
            let (row, rest) = bytemuck::cast_slice_mut::<f32, u32>(scratch).split_at_mut(COLUMNS);
            let (group, rest) = rest.split_at_mut(COLUMNS);
            let (total, next) = rest.split_at_mut(COLUMNS);
            for task in team.share(count(&outer) * blocks, grain) {
                let first = task % blocks * COLUMNS;
                let n = COLUMNS.min(inner - first);
                let base = offset(&outer, task / blocks) + first;
                let vectors = n.div_ceil(WIDTH) * WIDTH;
                total[..vectors].fill(identity(kind, class));
                for start in (0..rows).step_by(GROUP) {
                    group[..vectors].fill(identity(kind, class));
                    for r in start..rows.min(start + GROUP) {
                        memory::widen(dtype, x, base + offset(&split.reduced, r), 1, &mut row[..n]);
                        join(instruction, &mut next[..vectors], &group[..vectors], &row[..vectors]);
                        group[..vectors].copy_from_slice(&next[..vectors]);
                    }
                    join(instruction, &mut next[..vectors], &total[..vectors], &group[..vectors]);
                    total[..vectors].copy_from_slice(&next[..vectors]);
                }
                let to = task / blocks * inner + first;
                memory::narrow(dtype, &total[..n], operands, 0, to, false);
            }
        });
    })
}

fn join(instruction: Instruction, out: &mut [u32], a: &[u32], b: &[u32]) {
    let (a, b): (&[Block], &[Block]) = (a.as_chunks().0, b.as_chunks().0);
    execute(instruction, out.as_chunks_mut().0, a, b, b);
}

/// Index of the extreme along `axis`: NaN wins, then the lowest index among equals.
pub(crate) fn arg_reduce(desc: &OpDesc<'_>, kind: ArgKind, axis: usize) -> Option<Kernel> {
    let x = &desc.inputs[0];
    if x.dtype.is_quantized() {
        return None;
    }
    let (dtype, strides) = (x.dtype, x.strides());
    let (n, stride, work) = (x.dims[axis], strides[axis], x.numel());
    let results = desc.outputs[0].numel();
    Some(Kernel::new(work, move |team, operands| {
        let x = operands.input::<u8>(0);
        with_scratch(n, |buffer| {
            let lanes: &mut [u32] = bytemuck::cast_slice_mut(buffer);
            for i in team.share(results, (8192 / n).max(1)) {
                memory::widen(dtype, x, i / stride * stride * n + i % stride, stride, lanes);
                let best = (1..n)
                    .fold(0, |best, j| if beats(kind, dtype, lanes[j], lanes[best]) { j } else { best });
                memory::narrow(DType::I32, &[best as u32], operands, 0, i, false);
            }
        });
    }))
}

fn beats(kind: ArgKind, dtype: DType, new: u32, old: u32) -> bool {
    if dtype.is_float() {
        let (new, old) = (f32::from_bits(new), f32::from_bits(old));
        let better = if kind == ArgKind::Max { new > old } else { new < old };
        return !old.is_nan() && (new.is_nan() || better);
    }
    let order = if dtype == DType::I32 { (new as i32).cmp(&(old as i32)) } else { new.cmp(&old) };
    if kind == ArgKind::Max { order.is_gt() } else { order.is_lt() }
}

/// Inclusive sums along `axis`, halves summed in f32.
pub(crate) fn cumsum(desc: &OpDesc<'_>, axis: usize) -> Option<Kernel> {
    let x = &desc.inputs[0];
    if !x.dtype.is_float() && !x.dtype.is_int() {
        return None;
    }
    let (dtype, strides) = (x.dtype, x.strides());
    let (n, stride, work) = (x.dims[axis], strides[axis], x.numel());
    let lines = x.numel().checked_div(n).unwrap_or(0);
    Some(Kernel::new(work, move |team, operands| {
        let x = operands.input::<u8>(0);
        for i in team.share(lines, (8192 / n.max(1)).max(1)) {
            let first = i / stride * stride * n + i % stride;
            let mut sum = 0u32;
            for j in 0..n {
                let at = first + j * stride;
                let mut lane = [0];
                memory::widen(dtype, x, at, 1, &mut lane);
                let class = if dtype.is_float() { Class::Float } else { Class::Unsigned };
                sum = combine(ReduceKind::Sum, class, sum, lane[0]);
                memory::narrow(dtype, &[sum], operands, 0, at, false);
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, Op};

    use super::*;
    use crate::launch_test::{check_op, ints, operand, run_op};

    #[test]
    fn every_kind_reduces_any_dimensions_of_every_dtype() {
        for (dtype, near) in [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3), (DType::I32, 0.0)]
        {
            for kind in [ReduceKind::Sum, ReduceKind::Prod, ReduceKind::Max, ReduceKind::Min] {
                let accum = if dtype == DType::I32 { DType::I32 } else { DType::F32 };
                for (dims, axes) in [
                    (vec![5, 7, 33], vec![2]),
                    (vec![5, 7, 33], vec![0]),
                    (vec![5, 7, 33], vec![1]),
                    (vec![5, 7, 33], vec![0, 2]),
                    (vec![5, 7, 33], vec![0, 1, 2]),
                    (vec![1, 20_000], vec![1]),
                    (vec![100, 3], vec![0]),
                    (vec![3, 0, 2], vec![1]),
                    (vec![], vec![]),
                ] {
                    let op = Op::Reduce { kind, axes, accum };
                    check_op(&op, &[operand(dtype, &dims, 3)], near);
                }
            }
        }
        for kind in [ReduceKind::And, ReduceKind::Or] {
            let op = Op::Reduce { kind, axes: vec![1], accum: DType::Bool };
            check_op(&op, &[operand(DType::Bool, &[40, 3], 3)], 0.0);
        }
    }

    #[test]
    fn extremes_propagate_nan() {
        let (ty, mut x) = operand(DType::F32, &[4, 40], 1);
        (x[7], x[155]) = (f64::NAN, f64::NAN);
        for kind in [ReduceKind::Max, ReduceKind::Min] {
            for axis in 0..2 {
                let op = Op::Reduce { kind, axes: vec![axis], accum: DType::F32 };
                check_op(&op, &[(ty.clone(), x.clone())], 0.0);
            }
        }
    }

    #[test]
    fn arg_extremes_take_nan_then_the_lowest_index() {
        let x = ints(&[2, 5], &[3, 9, 9, -1, -1, 4, 4, 4, 4, 4]);
        let (ty, mut f) = operand(DType::F32, &[3, 50], 5);
        (f[60], f[70]) = (f64::NAN, f64::NAN);
        for kind in [ArgKind::Max, ArgKind::Min] {
            for axis in 0..2 {
                check_op(&Op::ArgReduce { kind, axis }, std::slice::from_ref(&x), 0.0);
                check_op(&Op::ArgReduce { kind, axis }, &[(ty.clone(), f.clone())], 0.0);
            }
        }
    }

    #[test]
    fn running_sums_agree() {
        for (dtype, near) in [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::I32, 0.0)] {
            for axis in 0..3 {
                check_op(&Op::Composite(Composite::CumSum { axis }), &[operand(dtype, &[3, 70, 5], 2)], near);
            }
        }
    }

    #[test]
    fn a_row_sums_to_the_same_bits_alone() {
        let (ty, x) = operand(DType::F32, &[9, 20_011], 4);
        let op = Op::Reduce { kind: ReduceKind::Sum, axes: vec![1], accum: DType::F32 };
        let all = run_op(&op, &[(ty, x.clone())], 2).remove(0);
        let one = percept_graph::TensorType::new(DType::F32, [1, 20_011]);
        let alone = run_op(&op, &[(one, x[3 * 20_011..4 * 20_011].to_vec())], 2).remove(0);
        assert_eq!(alone[0], all[3]);
    }
}
