//! Stable sorting along a dimension, and its first few.

use percept_graph::{DType, OpDesc};

use crate::fused::memory;
use crate::kernel::Kernel;

/// A key whose unsigned order is the order of the values: NaN above everything, zeros of either sign equal.
fn key(dtype: DType, lane: u32) -> u32 {
    if dtype.is_float() {
        let x = f32::from_bits(lane);
        if x.is_nan() {
            return u32::MAX;
        }
        let bits = if x == 0.0 { 0 } else { lane };
        return if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    }
    if dtype == DType::I32 { lane ^ 1 << 31 } else { lane }
}

/// The first `limit` values along `axis` in order, and where they came from.
pub(crate) fn sort(desc: &OpDesc<'_>, axis: usize, descending: bool, limit: usize) -> Option<Kernel> {
    let x = &desc.inputs[0];
    if x.dtype.is_quantized() {
        return None;
    }
    let (dtype, dims, strides) = (x.dtype, x.dims.clone(), x.strides());
    let (n, stride) = (dims[axis], strides[axis]);
    let lines = x.numel().checked_div(n).unwrap_or(0);
    Some(Kernel::new(x.numel() * 20, move |team, operands| {
        let x = operands.input::<u8>(0);
        let (mut lanes, mut order) = (vec![0u32; n], Vec::<(u32, u32)>::with_capacity(n));
        for i in team.share(lines, (512 / n).max(1)) {
            let (outer, inner) = (i / stride, i % stride);
            memory::widen(dtype, x, outer * stride * n + inner, stride, &mut lanes);
            order.clear();
            let flip = if descending { u32::MAX } else { 0 };
            order.extend(lanes.iter().zip(0..).map(|(lane, at)| (key(dtype, *lane) ^ flip, at)));
            // Ties are broken by position, so an unstable sort of the pairs is a stable sort of the keys.
            if limit > 0 && limit < n {
                order.select_nth_unstable(limit - 1);
                order.truncate(limit);
            }
            order.sort_unstable();
            for (j, (_, at)) in order.iter().take(limit).enumerate() {
                let to = outer * stride * limit + j * stride + inner;
                memory::narrow(dtype, &[lanes[*at as usize]], operands, 0, to, false);
                memory::narrow(DType::I32, &[*at], operands, 1, to, false);
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use percept_graph::Op;

    use super::*;
    use crate::launch_test::{check_op, ints, operand};

    #[test]
    fn sorting_is_stable_and_puts_nan_last() {
        let (ty, mut x) = operand(DType::F32, &[7, 90, 2], 3);
        (x[5], x[9], x[11], x[13]) = (f64::NAN, 0.0, -0.0, f64::INFINITY);
        for descending in [false, true] {
            for (axis, limits) in [(0, [7, 3]), (1, [90, 1]), (2, [2, 0])] {
                for limit in limits {
                    let op = Op::Sort { axis, descending, limit };
                    check_op(&op, &[(ty.clone(), x.clone())], 0.0);
                }
            }
            let ties = ints(&[8], &[1, -1, 1, 0, -1, 0, i32::MIN, i32::MAX]);
            check_op(&Op::Sort { axis: 0, descending, limit: 8 }, &[ties], 0.0);
            check_op(&Op::Sort { axis: 0, descending, limit: 30 }, &[operand(DType::BF16, &[200], 6)], 0.0);
        }
    }
}
