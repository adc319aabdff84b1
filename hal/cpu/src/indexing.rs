//! Reading and writing slices named by indices: gather, scatter, embedding, KV append.

use half::{bf16, f16};
use percept_graph::{DType, OpDesc, ScatterKind};

use crate::element::Element;
use crate::fused::memory;
use crate::kernel::{Kernel, Operands};
use crate::movement::copy_unless_in_place;
use crate::pool::Team;

/// Bytes a thread should move before a second one is woken.
const GRAIN: usize = 1 << 16;

/// A tensor around one dimension: `outer` times `n` slices of `inner` elements.
#[derive(Clone, Copy)]
struct Around {
    outer: usize,
    n: usize,
    inner: usize,
}

impl Around {
    fn new(dims: &[usize], axis: usize) -> Around {
        Around {
            outer: dims[..axis].iter().product(),
            n: dims[axis],
            inner: dims[axis + 1..].iter().product(),
        }
    }
}

/// Slices of the operand along `axis`, at indices clamped into it.
pub(crate) fn gather(desc: &OpDesc<'_>, axis: usize) -> Option<Kernel> {
    let x = &desc.inputs[0];
    if x.dtype.is_quantized() {
        return None;
    }
    let Around { outer, n, inner } = Around::new(&x.dims, axis);
    let m = desc.inputs[1].numel();
    let bytes = inner * x.dtype.block_bytes();
    Some(Kernel::new(outer * m * (bytes / 16 + 4), move |team, operands| {
        let (x, indices) = (operands.input::<u8>(0), operands.input::<i32>(1));
        let y = operands.output::<u8>(0);
        if n == 0 {
            return;
        }
        for row in team.share(outer * m, GRAIN / bytes.max(1)) {
            let from = (row / m * n + clamped(indices[row % m], n)) * bytes;
            // SAFETY: each row of the result is one thread's.
            let to = unsafe { y.part(row * bytes..(row + 1) * bytes) };
            to.copy_from_slice(&x[from..from + bytes]);
        }
    }))
}

fn clamped(index: i32, n: usize) -> usize {
    (index.max(0) as usize).min(n - 1)
}

/// The operand with slices along `axis` replaced or added to, in the order of the indices; indices outside are
/// dropped. Each thread owns a range of slices and looks for them among all indices, so that their order is kept.
pub(crate) fn scatter(desc: &OpDesc<'_>, axis: usize, kind: ScatterKind) -> Option<Kernel> {
    let x = &desc.inputs[0];
    if x.dtype.is_quantized() {
        return None;
    }
    let (around, dtype) = (Around::new(&x.dims, axis), x.dtype);
    let m = desc.inputs[1].numel();
    let work = (x.numel() + around.outer * m * around.inner) * dtype.block_bytes() / 8;
    Some(Kernel::new(work, move |team, operands| {
        copy_unless_in_place(team, operands, 0, 0);
        match (kind, dtype) {
            (ScatterKind::Set, _) => scatter_set(team, operands, around, dtype),
            (ScatterKind::Add, DType::F16) => scatter_add_halves::<f16>(team, operands, around, dtype),
            (ScatterKind::Add, DType::BF16) => scatter_add_halves::<bf16>(team, operands, around, dtype),
            (ScatterKind::Add, DType::F32) => {
                scatter_each(team, operands, around, |to: &mut f32, x| *to += x)
            }
            (ScatterKind::Add, DType::I32) => {
                scatter_each(team, operands, around, |to: &mut i32, x| *to = to.wrapping_add(x));
            }
            (ScatterKind::Add, DType::U32) => {
                scatter_each(team, operands, around, |to: &mut u32, x| *to = to.wrapping_add(x));
            }
            (ScatterKind::Add, _) => {
                scatter_each(team, operands, around, |to: &mut u8, x| *to = to.wrapping_add(x))
            }
        }
    }))
}

/// Calls `body(target, source)` for each slice number of the result that is this thread's, with the slice of the
/// updates that lands there, in the order of the indices.
fn each_target(team: &Team<'_>, operands: &Operands<'_>, around: Around, mut body: impl FnMut(usize, usize)) {
    let indices = operands.input::<i32>(1);
    let own = team.share(around.outer * around.n, 1);
    for outer in 0..around.outer {
        let first = outer * around.n;
        if own.end <= first || own.start >= first + around.n {
            continue;
        }
        for (i, index) in indices.iter().enumerate() {
            let Ok(index) = usize::try_from(*index) else { continue };
            if index < around.n && own.contains(&(first + index)) {
                body(first + index, outer * indices.len() + i);
            }
        }
    }
}

fn scatter_set(team: &Team<'_>, operands: &Operands<'_>, around: Around, dtype: DType) {
    let bytes = around.inner * dtype.block_bytes();
    let (updates, y) = (operands.input::<u8>(2), operands.output::<u8>(0));
    each_target(team, operands, around, |target, source| {
        // SAFETY: each slice of the result is one thread's.
        let to = unsafe { y.part(target * bytes..(target + 1) * bytes) };
        to.copy_from_slice(&updates[source * bytes..(source + 1) * bytes]);
    });
}

fn scatter_each<T: bytemuck::Pod>(
    team: &Team<'_>,
    operands: &Operands<'_>,
    around: Around,
    combine: impl Fn(&mut T, T),
) {
    let inner = around.inner;
    let (updates, y) = (operands.input::<T>(2), operands.output::<T>(0));
    each_target(team, operands, around, |target, source| {
        // SAFETY: each slice of the result is one thread's.
        let to = unsafe { y.part(target * inner..(target + 1) * inner) };
        to.iter_mut().zip(&updates[source * inner..(source + 1) * inner]).for_each(|(to, x)| combine(to, *x));
    });
}

/// Halves are summed in f32 and rounded once.
fn scatter_add_halves<T: Element>(team: &Team<'_>, operands: &Operands<'_>, around: Around, dtype: DType) {
    let inner = around.inner;
    let (updates, y) = (operands.input::<u8>(2), operands.output::<T>(0));
    let mut pairs = Vec::new();
    each_target(team, operands, around, |target, source| pairs.push((target, source)));
    pairs.sort_by_key(|(target, _)| *target);
    let (mut sum, mut update) = (vec![0f32; inner], vec![0u32; inner]);
    for group in pairs.chunk_by(|a, b| a.0 == b.0) {
        let target = group[0].0 * inner;
        // SAFETY: each slice of the result is one thread's.
        let to = unsafe { y.part(target..target + inner) };
        sum.iter_mut().zip(to.iter()).for_each(|(sum, x)| *sum = x.to_f32());
        for (_, source) in group {
            memory::widen(dtype, updates, source * inner, 1, &mut update);
            sum.iter_mut().zip(&update).for_each(|(sum, x)| *sum += f32::from_bits(*x));
        }
        to.iter_mut().zip(&sum).for_each(|(to, sum)| *to = T::from_f32(*sum));
    }
}

/// Rows of a float table, at ids clamped into it.
pub(crate) fn embedding(desc: &OpDesc<'_>) -> Option<Kernel> {
    (desc.inputs[0].dtype == desc.outputs[0].dtype).then(|| gather(desc, 0)).flatten()
}

/// A cache with rows replaced from a position on, per batch element; in place when its memory is the result's.
pub(crate) fn kv_append(desc: &OpDesc<'_>, paged: bool) -> Option<Kernel> {
    let (cache, new) = (desc.inputs[0].dims.clone(), desc.inputs[1].dims.clone());
    if cache.contains(&0) {
        return Some(Kernel::new(0, |_, _| {}));
    }
    let (heads, page, t) = (cache[1], cache[2], new[2]);
    let row_bytes = cache[3] * desc.inputs[0].dtype.block_bytes();
    let pages = if paged { desc.inputs[3].dims[1] } else { 1 };
    let pool = cache[0];
    let work_in_place = new.iter().product::<usize>() / 4;
    let kernel = Kernel::new(work_in_place + desc.inputs[0].numel() / 8, move |team, operands| {
        copy_unless_in_place(team, operands, 0, 0);
        let (new, positions) = (operands.input::<u8>(1), operands.input::<i32>(2));
        let table: &[i32] = if paged { operands.input(3) } else { &[] };
        let y = operands.output::<u8>(0);
        // Rows are dealt out by where they come from; two batch elements that share a page are the last one's.
        let own = team.share(heads, 1);
        for (b, position) in positions.iter().enumerate() {
            for i in 0..t {
                let at = i64::from(*position) + i as i64;
                if at < 0 || at >= (pages * page) as i64 {
                    continue;
                }
                let at = at as usize;
                let slot = if paged { clamped(table[b * pages + at / page], pool) } else { b };
                for head in own.clone() {
                    let to = ((slot * heads + head) * page + at % page) * row_bytes;
                    let from = ((b * heads + head) * t + i) * row_bytes;
                    // SAFETY: each head of the cache is one thread's.
                    let to = unsafe { y.part(to..to + row_bytes) };
                    to.copy_from_slice(&new[from..from + row_bytes]);
                }
            }
        }
    });
    Some(Kernel { work_in_place, ..kernel })
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, Op};

    use super::*;
    use crate::launch_test::{check_op, ints, operand};

    #[test]
    fn gather_clamps_and_scatter_drops_what_is_outside() {
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32] {
            for axis in 0..3 {
                let x = operand(dtype, &[5, 6, 7], 1);
                let indices = ints(&[2, 4], &[0, 3, -2, 3, 99, 4, 3, 0]);
                check_op(&Op::Gather { axis }, &[x.clone(), indices.clone()], 0.0);
                let mut dims = vec![5, 6, 7];
                dims.splice(axis..=axis, [2, 4]);
                let updates = operand(dtype, &dims, 2);
                for kind in [ScatterKind::Set, ScatterKind::Add] {
                    let near = if dtype == DType::F32 { 1e-6 } else { 0.0 };
                    check_op(
                        &Op::Scatter { axis, kind },
                        &[x.clone(), indices.clone(), updates.clone()],
                        near,
                    );
                }
            }
        }
        let table = operand(DType::BF16, &[50, 33], 1);
        let op = Op::Composite(Composite::Embedding { out: DType::BF16 });
        check_op(&op, &[table, ints(&[2, 3], &[7, -1, 49, 50, 0, 7])], 0.0);
    }

    #[test]
    fn rows_are_appended_and_dropped_past_the_end() {
        let cache = operand(DType::F16, &[2, 3, 10, 4], 1);
        let new = operand(DType::F16, &[2, 3, 4, 4], 2);
        let op = Op::Composite(Composite::KvAppend { paged: false });
        for positions in [[0, 6], [8, -2], [10, 3]] {
            check_op(&op, &[cache.clone(), new.clone(), ints(&[2], &positions)], 0.0);
        }
        let pool = operand(DType::F16, &[7, 3, 2, 4], 3);
        let op = Op::Composite(Composite::KvAppend { paged: true });
        let table = ints(&[2, 3], &[6, 2, 0, 1, 5, 3]);
        for positions in [[0, 1], [3, 5], [-1, 2]] {
            check_op(&op, &[pool.clone(), new.clone(), ints(&[2], &positions), table.clone()], 0.0);
        }
    }
}
