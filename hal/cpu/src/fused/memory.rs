//! Between stored elements and 32-bit lanes.

use half::{bf16, f16};
use percept_graph::DType;

use super::instruction::Block;
use crate::element::Element;
use crate::kernel::Operands;
use crate::lanes::{WIDTH, simd};

simd! {
    fn widen_floats<T: Element>(l, x: &[T], to: &mut [f32]) {
        let (xs, rest) = x.as_chunks::<WIDTH>();
        let (out, last) = to.as_chunks_mut::<WIDTH>();
        for (x, out) in xs.iter().zip(out) {
            l.store(T::load(l, x), out);
        }
        if !rest.is_empty() {
            l.store_first(T::load_first(l, rest, 0.0), last);
        }
    }
}

simd! {
    fn narrow_floats<T: Element>(l, x: &[f32], to: &mut [T]) {
        let (xs, rest) = x.as_chunks::<WIDTH>();
        let (out, last) = to.as_chunks_mut::<WIDTH>();
        for (x, out) in xs.iter().zip(out) {
            T::store(l, l.load(x), out);
        }
        if !rest.is_empty() {
            T::store_first(l, l.load_first(rest, 0.0), last);
        }
    }
}

simd! {
    fn stream_blocks(l, x: &[Block], to: &mut [Block]) {
        for (x, out) in x.iter().zip(to) {
            l.stream(l.load(bytemuck::cast_ref(x)), bytemuck::cast_mut(out));
        }
    }
}

/// The lane of the first element.
pub(crate) fn first_lane(dtype: DType, memory: &[u8]) -> u32 {
    let mut lane = [0];
    widen(dtype, memory, 0, 1, &mut lane);
    lane[0]
}

/// Fills `to` with the elements at `start`, `start + stride`, ...
pub(crate) fn widen(dtype: DType, memory: &[u8], start: usize, stride: usize, to: &mut [u32]) {
    let n = to.len();
    if n == 0 {
        return;
    }
    if stride != 1 {
        return spread(dtype, memory, start, stride, to);
    }
    match dtype {
        DType::F16 => {
            widen_floats::<f16>(&bytemuck::cast_slice(memory)[start..start + n], bytemuck::cast_slice_mut(to))
        }
        DType::BF16 => {
            widen_floats::<bf16>(
                &bytemuck::cast_slice(memory)[start..start + n],
                bytemuck::cast_slice_mut(to),
            );
        }
        DType::U8 | DType::Bool => {
            for (to, x) in to.iter_mut().zip(&memory[start..start + n]) {
                *to = u32::from(*x);
            }
        }
        _ => to.copy_from_slice(&bytemuck::cast_slice(memory)[start..start + n]),
    }
}

fn spread(dtype: DType, memory: &[u8], start: usize, stride: usize, to: &mut [u32]) {
    let at = |i: usize| start + i * stride;
    let each = |to: &mut [u32], read: &dyn Fn(usize) -> u32| {
        if stride == 0 {
            to.fill(read(start));
        } else {
            to.iter_mut().enumerate().for_each(|(i, to)| *to = read(at(i)));
        }
    };
    match dtype {
        DType::F16 => {
            let x: &[f16] = bytemuck::cast_slice(memory);
            each(to, &|i| x[i].to_f32().to_bits());
        }
        DType::BF16 => {
            let x: &[bf16] = bytemuck::cast_slice(memory);
            each(to, &|i| x[i].to_f32().to_bits());
        }
        DType::U8 | DType::Bool => each(to, &|i| u32::from(memory[i])),
        _ => {
            let x: &[u32] = bytemuck::cast_slice(memory);
            each(to, &|i| x[i]);
        }
    }
}

/// Fills `to` with the operand's elements for the indices `base..` of a row-major space.
pub(crate) fn widen_strided(
    dtype: DType,
    memory: &[u8],
    dims: &[usize],
    strides: &[usize],
    base: usize,
    to: &mut [u32],
) {
    let inner = dims.len() - 1;
    let mut index = vec![0; dims.len()];
    let mut rest = base;
    for (i, d) in dims.iter().enumerate().rev() {
        index[i] = rest % d;
        rest /= d;
    }
    let mut done = 0;
    while done < to.len() {
        let run = (dims[inner] - index[inner]).min(to.len() - done);
        let offset: usize = index.iter().zip(strides).map(|(i, s)| i * s).sum();
        widen(dtype, memory, offset, strides[inner], &mut to[done..done + run]);
        done += run;
        index[inner] = 0;
        for i in (0..inner).rev() {
            index[i] += 1;
            if index[i] < dims[i] {
                break;
            }
            index[i] = 0;
        }
    }
}

/// Stores lanes as the elements `base..` of a result.
pub(crate) fn narrow(
    dtype: DType,
    lanes: &[u32],
    operands: &Operands<'_>,
    output: usize,
    base: usize,
    stream: bool,
) {
    let range = base..base + lanes.len();
    // SAFETY: chunks of different threads are disjoint parts of the result.
    unsafe {
        match dtype {
            DType::F16 => {
                narrow_floats(bytemuck::cast_slice(lanes), operands.output::<f16>(output).part(range))
            }
            DType::BF16 => {
                narrow_floats(bytemuck::cast_slice(lanes), operands.output::<bf16>(output).part(range))
            }
            DType::U8 | DType::Bool => {
                let to = operands.output::<u8>(output).part(range);
                to.iter_mut().zip(lanes).for_each(|(to, x)| *to = *x as u8);
            }
            _ => {
                let to = operands.output::<u32>(output).part(range);
                match (lanes.as_chunks::<WIDTH>(), to.as_chunks_mut::<WIDTH>()) {
                    ((lanes, []), (to, [])) if stream => stream_blocks(lanes, to),
                    _ => to.copy_from_slice(lanes),
                }
            }
        }
    }
}
