use percept_graph::{Composite, DType, Op};

use crate::launch_test::{check_op, ints, operand};

const TYPES: [DType; 5] = [DType::F32, DType::BF16, DType::I32, DType::U8, DType::Bool];

#[test]
fn transposes_slices_and_joins_move_every_dtype() {
    for dtype in TYPES {
        for (dims, perm) in [
            (vec![1, 1], vec![1, 0]),
            (vec![37, 53], vec![1, 0]),
            (vec![3, 17, 5, 19], vec![0, 2, 1, 3]),
            (vec![3, 17, 5, 19], vec![3, 1, 0, 2]),
            (vec![4, 1, 300], vec![2, 1, 0]),
            (vec![5, 0, 2], vec![1, 2, 0]),
        ] {
            check_op(&Op::Transpose { perm }, &[operand(dtype, &dims, 1)], 0.0);
        }
        let slice = Op::Slice { start: vec![1, 0, 2], limit: vec![4, 7, 19], stride: vec![2, 1, 3] };
        check_op(&slice, &[operand(dtype, &[5, 7, 20], 2)], 0.0);
        let whole = Op::Slice { start: vec![0, 3], limit: vec![500, 90], stride: vec![1, 1] };
        check_op(&whole, &[operand(dtype, &[500, 100], 2)], 0.0);
        let pad = Op::Pad { low: vec![1, 0], high: vec![0, 2], interior: vec![0, 3] };
        check_op(&pad, &[operand(dtype, &[70, 31], 3), operand(dtype, &[], 4)], 0.0);
        for axis in 0..3 {
            let mut parts = vec![vec![4, 5, 6]; 3];
            parts[0][axis] = 1;
            parts[1][axis] = 0;
            let parts: Vec<_> = parts.iter().enumerate().map(|(i, d)| operand(dtype, d, i as u64)).collect();
            check_op(&Op::Concat { axis }, &parts, 0.0);
        }
        let patchify = Op::Composite(Composite::Patchify { patch: vec![4, 2] });
        check_op(&patchify, &[operand(dtype, &[2, 3, 12, 8], 5)], 0.0);
    }
}

#[test]
fn dynamic_blocks_are_clamped_into_the_tensor() {
    let x = operand(DType::F16, &[9, 40], 1);
    for (a, b) in [(0, 0), (3, 17), (-5, 100), (8, i32::MIN)] {
        let at = [ints(&[], &[a]), ints(&[], &[b])];
        let slice = Op::DynamicSlice { sizes: vec![4, 30] };
        check_op(&slice, &[x.clone(), at[0].clone(), at[1].clone()], 0.0);
        let update = operand(DType::F16, &[2, 39], 7);
        check_op(&Op::DynamicUpdateSlice, &[x.clone(), update, at[0].clone(), at[1].clone()], 0.0);
    }
}

#[test]
fn iota_counts_along_its_axis() {
    for dtype in [DType::F32, DType::F16, DType::I32, DType::U32] {
        for axis in 0..2 {
            let ty = percept_graph::TensorType::new(dtype, [30, 7]);
            check_op(&Op::Iota { ty, axis }, &[], 0.0);
        }
    }
}

#[test]
fn a_barrier_passes_every_operand_on() {
    let operands =
        [operand(DType::F32, &[300, 70], 1), operand(DType::Bool, &[7], 2), operand(DType::BF16, &[0, 3], 3)];
    check_op(&Op::Barrier, &operands, 0.0);
}
