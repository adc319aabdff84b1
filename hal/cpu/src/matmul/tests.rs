//! Every path against an f64 loop, and the same bits however the work is cut.

use half::{bf16, f16};
use percept_graph::DType;

use super::{DotIsa, Layout, MatMul, decode_f32};
use crate::pool::{Pool, SharedSlice};

/// A small generator of reproducible numbers in [-1, 1).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }

    pub(super) fn unit(&mut self) -> f32 {
        (self.bits() & 0xff_ffff) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// Dense values as bytes of `dtype`.
pub(super) fn encode(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
    }
}

/// Bytes of `dtype` as values.
pub(super) fn values(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    let halves = bytes.as_chunks::<2>().0;
    match dtype {
        DType::F32 => bytes.as_chunks::<4>().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
        DType::F16 => halves.iter().map(|&b| f16::from_le_bytes(b).to_f64()).collect(),
        DType::BF16 => halves.iter().map(|&b| bf16::from_le_bytes(b).to_f64()).collect(),
        _ => {
            let mut out = vec![0.0f32; bytes.len() / dtype.block_bytes() * dtype.block_len()];
            assert!(percept_graph::dequantize(dtype, bytes, &mut out));
            out.into_iter().map(f64::from).collect()
        }
    }
}

/// Random storage of `elements` of `dtype`.
pub(super) fn storage(random: &mut Random, dtype: DType, elements: usize) -> Vec<u8> {
    let values: Vec<f32> = (0..elements).map(|_| random.unit()).collect();
    if dtype.is_quantized() {
        percept_graph::quantize(dtype, &values).unwrap()
    } else {
        encode(dtype, &values)
    }
}

/// Runs a product on a team of `threads` and returns the result's bytes.
pub(super) fn run(matmul: &MatMul, isa: DotIsa, threads: usize, lhs: &[u8], rhs: &[u8]) -> Vec<u8> {
    // Memory that a kernel forgets to write is not zero.
    let mut out = vec![0xeeu8; matmul.batch * matmul.m * matmul.n * matmul.out.block_bytes()];
    let mut work = vec![u32::MAX; matmul.workspace(threads).div_ceil(4)];
    let (shared_out, shared_work) =
        (SharedSlice::new(&mut out), SharedSlice::new(bytemuck::cast_slice_mut(&mut work)));
    Pool::new(threads).unwrap().run(|t| matmul.run(t, isa, lhs, rhs, shared_out, shared_work, None)).unwrap();
    out
}

/// The f64 product and, element by element, the sum of magnitudes that bounds its rounding.
fn oracle(p: &MatMul, lhs: &[u8], rhs: &[u8]) -> Vec<(f64, f64)> {
    let (a, b) = (values(p.lhs, lhs), values(p.rhs, rhs));
    let mut out = Vec::new();
    for batch in 0..p.batch {
        for i in 0..p.m {
            for j in 0..p.n {
                let (mut sum, mut size) = (0.0, 0.0);
                for k in 0..p.k {
                    let x = a[batch * p.lhs_strides[0] + i * p.lhs_strides[1] + k * p.lhs_strides[2]];
                    let (row, column) = if p.layout == Layout::Inner { (j, k) } else { (k, j) };
                    let y = b[batch * p.rhs_strides[0] + row * p.rhs_strides[1] + column];
                    sum += x * y;
                    size += (x * y).abs();
                }
                out.push((sum, size));
            }
        }
    }
    out
}

/// Holds a result to the oracle: f32 accumulation, then rounding to the result's dtype.
fn check(p: &MatMul, isa: DotIsa, threads: usize, lhs: &[u8], rhs: &[u8]) {
    let found = values(p.out, &run(p, isa, threads, lhs, rhs));
    let rounding = match p.out {
        DType::F32 => 2f64.powi(-24),
        DType::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    };
    for (at, (x, (sum, size))) in found.iter().zip(oracle(p, lhs, rhs)).enumerate() {
        let bound = (p.k as f64).sqrt() * 4.0 * 2f64.powi(-24) * size + rounding * sum.abs() + 1e-7;
        assert!(
            (x - sum).abs() <= bound,
            "{p:?} on {isa:?}, {threads} threads, element {at}: {x}, not {sum}"
        );
    }
}

const SHAPES: [(usize, usize, usize); 15] = [
    (1, 1, 1),
    (0, 3, 4),
    (3, 0, 4),
    (2, 3, 0),
    (7, 5, 0),
    (1, 17, 33),
    (2, 31, 15),
    (3, 257, 64),
    (4, 65, 1031),
    (5, 33, 7),
    (13, 97, 101),
    (24, 64, 512),
    (29, 300, 1543),
    (195, 67, 48),
    (1, 130, 2309),
];

#[test]
fn every_float_path_agrees_with_f64_over_odd_shapes() {
    let mut random = Random(1);
    let floats = [DType::F32, DType::F16, DType::BF16];
    for isa in DotIsa::available() {
        for (case, (m, n, k)) in SHAPES.into_iter().enumerate() {
            for (l, lhs) in floats.into_iter().enumerate() {
                for (r, rhs) in floats.into_iter().enumerate() {
                    let out = floats[(case + l + r) % 3];
                    let threads = 1 + (case + l) % 3;
                    let a = storage(&mut random, lhs, m * k);
                    let b = storage(&mut random, rhs, n * k);
                    check(&MatMul::linear(m, n, k, lhs, rhs, out), isa, threads, &a, &b);
                    check(&MatMul::plain(m, n, k, lhs, rhs, out), isa, threads, &a, &b);
                }
            }
        }
    }
}

#[test]
fn chunks_larger_than_the_workspace_are_joined() {
    let mut random = Random(2);
    let isa = DotIsa::best();
    for (m, n, k) in [(1541, 40, 530), (9, 1600, 1030), (1100, 70, 20)] {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let (a, b) = (storage(&mut random, dtype, m * k), storage(&mut random, dtype, n * k));
            check(&MatMul::plain(m, n, k, dtype, dtype, dtype), isa, 2, &a, &b);
            check(&MatMul::linear(m, n, k, dtype, dtype, dtype), isa, 2, &a, &b);
        }
    }
}

#[test]
fn batches_and_strides_address_the_right_elements() {
    let mut random = Random(3);
    for isa in DotIsa::available() {
        for (batch, threads) in [(1, 2), (3, 2), (7, 3), (9, 2)] {
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                let (m, n, k) = (9, 35, 19);
                let a = storage(&mut random, dtype, batch * m * k);
                let b = storage(&mut random, dtype, batch * n * k);
                for layout in [Layout::Inner, Layout::Outer] {
                    let stored = if layout == Layout::Inner { k } else { n };
                    let common = MatMul { batch, layout, ..MatMul::plain(m, n, k, dtype, dtype, DType::F32) };
                    // Matrices one after the other; interleaved by rows; the left one transposed.
                    for (lhs_strides, rhs_strides) in [
                        ([m * k, k, 1], [n * k, stored]),
                        ([k, batch * k, 1], [stored, batch * stored]),
                        ([m * k, 1, m], [n * k, stored]),
                        // One right matrix for the whole batch.
                        ([m * k, k, 1], [0, stored]),
                    ] {
                        check(&MatMul { lhs_strides, rhs_strides, ..common }, isa, threads, &a, &b);
                    }
                }
            }
        }
    }
}

// The gradient of a weight is such a product: squares of 16 are turned in registers, what is left one by one.
#[test]
fn a_transposed_left_operand_is_packed_whole() {
    let mut random = Random(5);
    for isa in DotIsa::available() {
        for (m, k) in [(16, 16), (37, 53), (48, 1040), (33, 5)] {
            for layout in [Layout::Inner, Layout::Outer] {
                let n = 35;
                let (a, b) =
                    (storage(&mut random, DType::F32, m * k), storage(&mut random, DType::F32, n * k));
                let stored = if layout == Layout::Inner { k } else { n };
                let f32 = DType::F32;
                let (lhs_strides, rhs_strides) = ([m * k, 1, m], [n * k, stored]);
                let product =
                    MatMul { lhs_strides, rhs_strides, layout, ..MatMul::plain(m, n, k, f32, f32, f32) };
                check(&product, isa, 2, &a, &b);
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_in_a_batch_and_on_any_number_of_threads() {
    let mut random = Random(4);
    let dtypes = [
        (DType::F32, DType::F32),
        (DType::F16, DType::F16),
        (DType::BF16, DType::BF16),
        (DType::F32, DType::BF16),
        (DType::F32, DType::Q8_0),
        (DType::F32, DType::Q4_0),
        (DType::F32, DType::Q4_1),
        (DType::F32, DType::Q4K),
        (DType::BF16, DType::Q6K),
        (DType::F32, DType::Q8X),
    ];
    for isa in DotIsa::available() {
        for (lhs, rhs) in dtypes {
            // Quantized rows are whole blocks, along k or along n.
            let (n, k) = if rhs.is_quantized() { (256, 1280) } else { (67, 1571) };
            let m = 203;
            let (a, b) = (storage(&mut random, lhs, m * k), storage(&mut random, rhs, n * k));
            for make in [MatMul::linear, MatMul::plain] {
                let whole = run(&make(m, n, k, lhs, rhs, DType::F32), isa, 2, &a, &b);
                let row = k * lhs.block_bytes();
                for (rows, threads) in
                    [(203, 1), (203, 3), (1, 1), (1, 2), (2, 1), (4, 2), (5, 1), (9, 2), (40, 3)]
                {
                    for first in [0, 163] {
                        let part = &a[first * row..(first + rows).min(m) * row];
                        let rows = part.len() / row;
                        let found = run(&make(rows, n, k, lhs, rhs, DType::F32), isa, threads, part, &b);
                        let wanted = &whole[first * n * 4..(first + rows) * n * 4];
                        assert!(
                            found == wanted,
                            "{lhs} x {rhs} on {isa:?}: rows {first}+{rows}, {threads} threads"
                        );
                    }
                }
            }
        }
    }
}

// Every number of rows has tiles of its own, and every format its own decoding: of one row in registers, of several to memory.
#[test]
fn a_few_rows_have_the_bits_of_each_alone_in_every_format() {
    let mut random = Random(9);
    let most = 33;
    for isa in DotIsa::available() {
        for rhs in DType::ALL.into_iter().filter(|d| d.is_quantized() || d.is_float()) {
            // Columns that are no whole tile, and a reduced axis of more than one block, the last of them not whole.
            let (n, k) = (21, if rhs.is_quantized() { 768 + rhs.block_len() } else { 781 });
            for lhs in [DType::F32, DType::BF16] {
                let (a, b) = (storage(&mut random, lhs, most * k), storage(&mut random, rhs, n * k));
                let row = k * lhs.block_bytes();
                let product = |rows: usize| MatMul::linear(rows, n, k, lhs, rhs, DType::F32);
                let alone: Vec<u8> =
                    a.chunks_exact(row).flat_map(|x| run(&product(1), isa, 1, x, &b)).collect();
                for rows in (2..=19).chain([24, 25, 31, 32, most]) {
                    let first = most - rows;
                    let found = run(&product(rows), isa, 1 + rows % 2, &a[first * row..], &b);
                    assert!(found == alone[first * n * 4..], "{rows} rows of {lhs} x {rhs} on {isa:?}");
                }
            }
        }
    }
}

#[test]
fn columns_have_the_same_bits_in_a_narrower_product() {
    let mut random = Random(5);
    let (m, n, k) = (14, 333, 1100);
    for isa in DotIsa::available() {
        for dtype in [DType::F32, DType::BF16] {
            let (a, b) = (storage(&mut random, dtype, m * k), storage(&mut random, dtype, n * k));
            let whole = run(&MatMul::linear(m, n, k, dtype, dtype, DType::F32), isa, 2, &a, &b);
            let plain = run(&MatMul::plain(m, n, k, dtype, dtype, DType::F32), isa, 2, &a, &b);
            for narrow in [1, 2, 17, 31, 300] {
                let found = run(&MatMul::linear(m, narrow, k, dtype, dtype, DType::F32), isa, 1, &a, &b);
                let strided =
                    MatMul { rhs_strides: [0, n], ..MatMul::plain(m, narrow, k, dtype, dtype, DType::F32) };
                let found_plain = run(&strided, isa, 1, &a, &b);
                for i in 0..m {
                    let of = |all: &[u8], width: usize| all[i * width * 4..][..narrow * 4].to_vec();
                    assert_eq!(of(&found, narrow), of(&whole, n), "{dtype} {isa:?} linear, {narrow} columns");
                    assert_eq!(
                        of(&found_plain, narrow),
                        of(&plain, n),
                        "{dtype} {isa:?} plain, {narrow} columns"
                    );
                }
            }
        }
    }
}

#[test]
fn infinities_and_nan_reach_exactly_the_elements_they_belong_to() {
    for isa in DotIsa::available() {
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            for m in [2, 11] {
                let (n, k) = (35, 37);
                let mut a = vec![1.0f32; m * k];
                let mut b = vec![1.0f32; n * k];
                a[k + 36] = f32::NAN;
                a[3] = f32::INFINITY;
                // Both layouts of b hold one -inf: [n, k] at row 34, column 3; [k, n] at row 3, column 34.
                b[34 * k + 3] = f32::NEG_INFINITY;
                let inner = encode(dtype, &b);
                b[34 * k + 3] = 1.0;
                b[3 * n + 34] = f32::NEG_INFINITY;
                let (a, outer) = (encode(dtype, &a), encode(dtype, &b));
                for found in [
                    run(&MatMul::linear(m, n, k, dtype, dtype, DType::F32), isa, 2, &a, &inner),
                    run(&MatMul::plain(m, n, k, dtype, dtype, DType::F32), isa, 2, &a, &outer),
                ] {
                    for (at, x) in values(DType::F32, &found).into_iter().enumerate() {
                        let (i, j) = (at / n, at % n);
                        match (i, j) {
                            (1, _) => assert!(x.is_nan()),
                            (0, 34) => assert_eq!(x, f64::NEG_INFINITY),
                            (0, _) => assert_eq!(x, f64::INFINITY),
                            (_, 34) => assert_eq!(x, f64::NEG_INFINITY),
                            _ => assert_eq!(x, 37.0, "{dtype} {isa:?} ({i}, {j})"),
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn quantized_weights_agree_with_f64_both_ways() {
    let mut random = Random(6);
    for isa in DotIsa::available() {
        for rhs in [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q4K, DType::Q6K, DType::Q8X] {
            let block = rhs.block_len();
            for (m, rows, blocks) in
                [(1, 1, 1), (1, 67, 3), (2, 5, 4), (3, 9, 7), (4, 33, 2), (5, 6, 9), (37, 70, 5)]
            {
                for (lhs, out) in
                    [(DType::F32, DType::F32), (DType::BF16, DType::F16), (DType::F16, DType::BF16)]
                {
                    let w = storage(&mut random, rhs, rows * blocks * block);
                    let x = storage(&mut random, lhs, m * blocks * block);
                    check(&MatMul::linear(m, rows, blocks * block, lhs, rhs, out), isa, 2, &x, &w);
                    let g = storage(&mut random, lhs, m * rows);
                    check(&MatMul::plain(m, blocks * block, rows, lhs, rhs, out), isa, 2, &g, &w);
                }
            }
        }
    }
}

#[test]
fn decoding_is_exact() {
    let mut random = Random(7);
    for isa in DotIsa::available() {
        for dtype in DType::ALL.into_iter().filter(|d| d.is_quantized() || d.is_float()) {
            let elements = if dtype.is_quantized() { 5 * dtype.block_len() } else { 77 };
            // Random bytes reach every bit pattern of scales and integers.
            let mut bytes: Vec<u8> = (0..elements / dtype.block_len() * dtype.block_bytes())
                .map(|_| random.bits() as u8)
                .collect();
            let mut found = vec![0.0f32; elements];
            decode_f32(isa, dtype, &bytes, &mut found);
            for (f, w) in found.iter().zip(values(dtype, &bytes)) {
                assert!(f64::from(*f) == w || f.is_nan() && w.is_nan(), "{dtype} on {isa:?}: {f}, not {w}");
            }
            bytes.clear();
        }
    }
}

#[test]
fn finish_sees_every_sum_once_before_it_is_rounded() {
    let (m, n, k) = (13, 300, 600);
    let mut random = Random(8);
    let (a, b) = (storage(&mut random, DType::F32, m * k), storage(&mut random, DType::F32, n * k));
    for rows in [1, m] {
        for make in [MatMul::linear, MatMul::plain] {
            for out in [DType::F32, DType::F16] {
                let p = make(rows, n, k, DType::F32, DType::F32, out);
                let plain =
                    values(DType::F32, &run(&MatMul { out: DType::F32, ..p }, DotIsa::best(), 1, &a, &b));
                let mut result = vec![0u8; rows * n * out.block_bytes()];
                let mut work = vec![0u32; p.workspace(2).div_ceil(4)];
                let (to, space) =
                    (SharedSlice::new(&mut result), SharedSlice::new(bytemuck::cast_slice_mut(&mut work)));
                let finish = |row: usize, column: usize, sums: &mut [f32]| {
                    for (at, sum) in sums.iter_mut().enumerate() {
                        *sum = *sum * 2.0 + (row * 1000 + column + at) as f32;
                    }
                };
                Pool::new(2)
                    .unwrap()
                    .run(|t| p.run(t, DotIsa::best(), &a, &b, to, space, Some(&finish)))
                    .unwrap();
                let wanted: Vec<f32> = plain
                    .iter()
                    .enumerate()
                    .map(|(at, x)| *x as f32 * 2.0 + (at / n * 1000 + at % n) as f32)
                    .collect();
                assert_eq!(result, encode(out, &wanted));
            }
        }
    }
}
