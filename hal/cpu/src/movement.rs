//! Operations that move elements without computing: transposes, slices, padding, joins and dynamic slices.

use bytemuck::Pod;
use percept_graph::{OpDesc, TensorType};

use crate::kernel::{Kernel, Operands};
use crate::pool::Team;

/// Elements a thread should move before a second one is woken.
const GRAIN: usize = 16_384;
/// Rows and columns moved together where reading and writing run along different dimensions.
const TILE: usize = 16;

/// A copy between two strided views of the same extents.
#[derive(Clone, Debug)]
pub(crate) struct StridedCopy {
    /// Extents, in an order of walking that need not be the tensors' own.
    dims: Vec<usize>,
    from: Vec<usize>,
    to: Vec<usize>,
    element: usize,
}

impl StridedCopy {
    /// Element strides of the operand and of the result along each of `dims`; elements of `element` bytes.
    pub(crate) fn new(dims: &[usize], from: &[usize], to: &[usize], element: usize) -> StridedCopy {
        let mut merged: Vec<(usize, usize, usize)> = Vec::new();
        for ((&d, &f), &t) in dims.iter().zip(from).zip(to) {
            match merged.last_mut() {
                _ if d == 1 => {}
                Some(last) if last.1 == d * f && last.2 == d * t => *last = (last.0 * d, f, t),
                _ => merged.push((d, f, t)),
            }
        }
        // Writing should run along memory; where reading runs along another dimension, that one comes next to it.
        if let Some(at) = merged.iter().position(|(_, _, t)| *t == 1) {
            let inner = merged.remove(at);
            merged.push(inner);
            if inner.1 != 1
                && let Some(at) = merged.iter().position(|(_, f, _)| *f == 1)
            {
                let across = merged.remove(at);
                merged.insert(merged.len() - 1, across);
            }
        }
        if merged.is_empty() {
            merged.push((dims.iter().product(), 1, 1));
        }
        let mut copy = StridedCopy { dims: vec![], from: vec![], to: vec![], element };
        for (d, f, t) in merged {
            copy.dims.push(d);
            copy.from.push(f);
            copy.to.push(t);
        }
        copy
    }

    /// Elements that are moved.
    pub(crate) fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// This thread's part of the copy of operand elements from `from` on to result elements from `to` on.
    pub(crate) fn run(
        &self,
        team: &Team<'_>,
        operands: &Operands<'_>,
        (input, from): (usize, usize),
        (output, to): (usize, usize),
    ) {
        self.run_between(team, operands.input(input), from, operands.output::<u8>(output), to);
    }

    /// As [`StridedCopy::run`], between any two tensors.
    pub(crate) fn run_between(
        &self,
        team: &Team<'_>,
        input: &[u8],
        from: usize,
        output: crate::pool::SharedSlice<'_, u8>,
        to: usize,
    ) {
        if self.len() == 0 {
            return;
        }
        let last =
            |strides: &[usize]| -> usize { self.dims.iter().zip(strides).map(|(d, s)| (d - 1) * s).sum() };
        assert!((from + last(&self.from) + 1) * self.element <= input.len());
        assert!((to + last(&self.to) + 1) * self.element <= output.len());
        // SAFETY: the furthest elements lie inside both tensors by the lines above.
        unsafe {
            let (input, output) = (input.as_ptr(), output.as_ptr());
            match self.element {
                1 => self.typed::<u8>(team, input.add(from), output.add(to)),
                2 => self.typed::<u16>(team, input.cast::<u16>().add(from), output.cast::<u16>().add(to)),
                _ => self.typed::<u32>(team, input.cast::<u32>().add(from), output.cast::<u32>().add(to)),
            }
        }
    }

    /// # Safety
    /// Every element of the views lies within its tensor, and threads write disjoint rows.
    unsafe fn typed<T: Pod>(&self, team: &Team<'_>, from: *const T, to: *mut T) {
        let inner = self.dims.len() - 1;
        let (n, f, t) = (self.dims[inner], self.from[inner], self.to[inner]);
        let rows: usize = self.dims[..inner].iter().product();
        if rows == 1 {
            let own = team.share(n, GRAIN);
            // SAFETY: part of the one row.
            unsafe { copy_run(from.add(own.start * f), f, to.add(own.start * t), t, own.len()) };
            return;
        }
        // Rows of the dimension next to the inner one are taken together, so that the lines read for one serve all.
        let group = if f == 1 { 1 } else { TILE.min(self.dims[inner - 1]) };
        let width = self.dims[inner - 1].div_ceil(group);
        let outer = rows / self.dims[inner - 1];
        for task in team.share(outer * width, (GRAIN / (n * group)).max(1)) {
            let first = task % width * group;
            let count = group.min(self.dims[inner - 1] - first);
            let (mut a, mut b) = (first * self.from[inner - 1], first * self.to[inner - 1]);
            let mut rest = task / width;
            for i in (0..inner - 1).rev() {
                let index = rest % self.dims[i];
                rest /= self.dims[i];
                a += index * self.from[i];
                b += index * self.to[i];
            }
            // SAFETY: rows `first..` of this task; the offsets are those of elements of the views.
            unsafe {
                for start in (0..n).step_by(if group == 1 { n } else { TILE }) {
                    let length = (n - start).min(if group == 1 { n } else { TILE });
                    for row in 0..count {
                        let a = from.add(a + row * self.from[inner - 1] + start * f);
                        copy_run(a, f, to.add(b + row * self.to[inner - 1] + start * t), t, length);
                    }
                }
            }
        }
    }
}

/// # Safety
/// `n` elements at the given strides may be read, and written.
#[inline(always)]
unsafe fn copy_run<T: Pod>(from: *const T, f: usize, to: *mut T, t: usize, n: usize) {
    // SAFETY: the caller's promise; operands and results do not overlap.
    unsafe {
        if f == 1 && t == 1 {
            std::ptr::copy_nonoverlapping(from, to, n);
        } else {
            for i in 0..n {
                *to.add(i * t) = *from.add(i * f);
            }
        }
    }
}

/// Bytes of a dense element.
fn element(ty: &TensorType) -> Option<usize> {
    (!ty.dtype.is_quantized()).then(|| ty.dtype.block_bytes())
}

fn work(elements: usize) -> usize {
    elements / 4
}

/// A kernel that is one copy with fixed offsets.
fn copy_kernel(copy: StridedCopy, from: usize, to: usize) -> Kernel {
    Kernel::new(work(copy.len()), move |team, operands| copy.run(team, operands, (0, from), (0, to)))
}

/// Result dimension i is operand dimension `perm[i]`.
pub(crate) fn transpose(desc: &OpDesc<'_>, perm: &[usize]) -> Option<Kernel> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let strides = x.strides();
    let from: Vec<usize> = perm.iter().map(|&p| strides[p]).collect();
    Some(copy_kernel(StridedCopy::new(&y.dims, &from, &y.strides(), element(x)?), 0, 0))
}

/// The bytes as they are.
pub(crate) fn copy(desc: &OpDesc<'_>) -> Option<Kernel> {
    let [x] = desc.inputs else { return None };
    Some(copy_kernel(StridedCopy::new(&[x.bytes()], &[1], &[1], 1), 0, 0))
}

/// Every `stride`-th element from `start` on, per dimension.
pub(crate) fn slice(desc: &OpDesc<'_>, start: &[usize], stride: &[usize]) -> Option<Kernel> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let strides = x.strides();
    let from: Vec<usize> = strides.iter().zip(stride).map(|(a, b)| a * b).collect();
    let first = strides.iter().zip(start).map(|(a, b)| a * b).sum();
    Some(copy_kernel(StridedCopy::new(&y.dims, &from, &y.strides(), element(x)?), first, 0))
}

/// The operand spread over a result filled with the second operand.
pub(crate) fn pad(desc: &OpDesc<'_>, low: &[usize], interior: &[usize]) -> Option<Kernel> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let strides = y.strides();
    let to: Vec<usize> = strides.iter().zip(interior).map(|(s, i)| s * (i + 1)).collect();
    let first = strides.iter().zip(low).map(|(a, b)| a * b).sum();
    let element = element(x)?;
    let copy = StridedCopy::new(&x.dims, &x.strides(), &to, element);
    let count = y.numel();
    Some(Kernel::new(work(count + copy.len()), move |team, operands| {
        let value = operands.input::<u8>(1);
        let own = team.share(count, GRAIN);
        // SAFETY: shares of threads are disjoint.
        let own = unsafe { operands.output::<u8>(0).part(own.start * element..own.end * element) };
        own.chunks_exact_mut(element).for_each(|to| to.copy_from_slice(value));
        team.barrier();
        copy.run(team, operands, (0, 0), (0, first));
    }))
}

/// Operands one after the other along `axis`.
pub(crate) fn concat(desc: &OpDesc<'_>, axis: usize) -> Option<Kernel> {
    let y = &desc.outputs[0];
    let (strides, element) = (y.strides(), element(y)?);
    let mut at = 0;
    let mut copies = Vec::new();
    for x in desc.inputs {
        copies.push((StridedCopy::new(&x.dims, &x.strides(), &strides, element), at * strides[axis]));
        at += x.dims[axis];
    }
    Some(Kernel::new(work(y.numel()), move |team, operands| {
        for (i, (copy, to)) in copies.iter().enumerate() {
            copy.run(team, operands, (i, 0), (0, *to));
        }
    }))
}

/// Where a block of `sizes` starts in a tensor, its start clamped so that it fits.
fn dynamic_start(
    operands: &Operands<'_>,
    first: usize,
    dims: &[usize],
    sizes: &[usize],
    strides: &[usize],
) -> usize {
    let along = |(i, ((&d, &size), &stride)): (usize, ((&usize, &usize), &usize))| {
        let start = operands.input::<i32>(first + i)[0].max(0) as usize;
        start.min(d - size) * stride
    };
    dims.iter().zip(sizes).zip(strides).enumerate().map(along).sum()
}

/// A block of the operand from a start known at run time.
pub(crate) fn dynamic_slice(desc: &OpDesc<'_>) -> Option<Kernel> {
    let (x, y) = (desc.inputs[0].clone(), desc.outputs[0].clone());
    let copy = StridedCopy::new(&y.dims, &x.strides(), &y.strides(), element(&x)?);
    Some(Kernel::new(work(copy.len()), move |team, operands| {
        let from = dynamic_start(operands, 1, &x.dims, &y.dims, &x.strides());
        copy.run(team, operands, (0, from), (0, 0));
    }))
}

/// The operand with a block replaced, in place when its memory is the result's.
pub(crate) fn dynamic_update_slice(desc: &OpDesc<'_>) -> Option<Kernel> {
    let (x, update) = (desc.inputs[0].clone(), desc.inputs[1].clone());
    let copy = StridedCopy::new(&update.dims, &update.strides(), &x.strides(), element(&x)?);
    let work_in_place = work(copy.len());
    let kernel = Kernel::new(work_in_place + work(x.numel() / 2), move |team, operands| {
        let to = dynamic_start(operands, 2, &x.dims, &update.dims, &x.strides());
        copy_unless_in_place(team, operands, 0, 0);
        copy.run(team, operands, (1, 0), (0, to));
    });
    Some(Kernel { work_in_place, ..kernel })
}

/// Brings operand `input` to result `output` and waits, unless it lies there already.
pub(crate) fn copy_unless_in_place(team: &Team<'_>, operands: &Operands<'_>, input: usize, output: usize) {
    if !operands.in_place(output, input) {
        copy_whole(team, operands, input, output);
        team.barrier();
    }
}

/// Copies this thread's part of operand `input` to result `output`.
fn copy_whole(team: &Team<'_>, operands: &Operands<'_>, input: usize, output: usize) {
    let from = operands.input::<u8>(input);
    let own = team.share(from.len(), 4 * GRAIN);
    // SAFETY: shares of threads are disjoint.
    unsafe { operands.output::<u8>(output).part(own.clone()) }.copy_from_slice(&from[own]);
}

/// Every operand as it is.
pub(crate) fn identity(desc: &OpDesc<'_>) -> Option<Kernel> {
    let count = desc.inputs.len();
    let bytes: usize = desc.inputs.iter().map(TensorType::bytes).sum();
    Some(Kernel::new(bytes / 16, move |team, operands| {
        (0..count).for_each(|i| copy_whole(team, operands, i, i));
    }))
}

/// Patches of `[b, c, s1..sn]` in row-major order, channel first within a patch.
pub(crate) fn patchify(desc: &OpDesc<'_>, patch: &[usize]) -> Option<Kernel> {
    let x = &desc.inputs[0];
    let strides = x.strides();
    // The result's dimensions: batch, patch position along each axis, channel, position inside the patch.
    let (mut dims, mut from) = (vec![x.dims[0]], vec![strides[0]]);
    for ((d, p), s) in x.dims[2..].iter().zip(patch).zip(&strides[2..]) {
        dims.push(d / p);
        from.push(s * p);
    }
    dims.push(x.dims[1]);
    from.push(strides[1]);
    for (p, s) in patch.iter().zip(&strides[2..]) {
        dims.push(*p);
        from.push(*s);
    }
    let to = TensorType::new(x.dtype, dims.clone()).strides();
    Some(copy_kernel(StridedCopy::new(&dims, &from, &to, element(x)?), 0, 0))
}

/// 0, 1, 2 ... along `axis`.
pub(crate) fn iota(desc: &OpDesc<'_>, axis: usize) -> Option<Kernel> {
    let y = desc.outputs[0].clone();
    let (n, stride, count) = (y.dims[axis], y.strides()[axis], y.numel());
    Some(Kernel::new(count, move |team, operands| {
        for i in team.share(count, GRAIN) {
            let value = (i / stride % n) as u32;
            let lane = if y.dtype.is_float() { (value as f32).to_bits() } else { value };
            crate::fused::memory::narrow(y.dtype, &[lane], operands, 0, i, false);
        }
    }))
}

#[cfg(test)]
#[path = "movement_test.rs"]
mod tests;
