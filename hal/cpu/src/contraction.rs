//! Products of tensors: general dots, linear layers, quantized products; and quantized tensors as floats.

use percept_graph::{Activation, DType, DotSpec, OpDesc, TensorType};

use crate::fused::instruction::activate;
use crate::fused::memory;
use crate::kernel::{Kernel, Operands};
use crate::lanes::{WIDTH, simd};
use crate::matmul::{DotIsa, Layout, MatMul, decode_f32};
use crate::movement::StridedCopy;
use crate::pool::{SharedSlice, Team};
use crate::scratch::with_scratch;

/// Multiply-adds per nanosecond of one thread, roughly.
const SPEED: usize = 30;

/// A group of dimensions as one: its extent, and its stride if a single one reaches all of its elements.
fn merge(dims: &[usize], strides: &[usize], group: &[usize]) -> (usize, Option<usize>) {
    let extent = group.iter().map(|&i| dims[i]).product();
    let mut stride = None;
    let mut reach = 1;
    for &i in group.iter().rev().filter(|&&i| dims[i] != 1) {
        match stride {
            None => stride = Some(strides[i]),
            Some(s) if strides[i] == s * reach => {}
            Some(_) => return (extent, None),
        }
        reach *= dims[i];
    }
    (extent, Some(stride.unwrap_or(1)))
}

/// An operand brought to [batch, free, contracted]: strides where it lies, or a copy in that order.
struct Arranged {
    extents: [usize; 3],
    strides: [usize; 3],
    copy: Option<StridedCopy>,
}

impl Arranged {
    fn new(
        ty: &TensorType,
        batch: &[usize],
        contract: &[usize],
        fits: impl Fn([usize; 3]) -> bool,
    ) -> Arranged {
        let free: Vec<usize> =
            (0..ty.rank()).filter(|i| !batch.contains(i) && !contract.contains(i)).collect();
        let strides = ty.strides();
        let [b, f, k] = [batch, &free, contract].map(|group| merge(&ty.dims, &strides, group));
        let extents = [b.0, f.0, k.0];
        if let (Some(b), Some(f), Some(k)) = (b.1, f.1, k.1)
            && fits([b, f, k])
        {
            return Arranged { extents, strides: [b, f, k], copy: None };
        }
        let order: Vec<usize> = batch.iter().chain(&free).chain(contract).copied().collect();
        let dims: Vec<usize> = order.iter().map(|&i| ty.dims[i]).collect();
        let from: Vec<usize> = order.iter().map(|&i| strides[i]).collect();
        let to = TensorType::new(ty.dtype, dims.clone()).strides();
        let copy = StridedCopy::new(&dims, &from, &to, ty.dtype.block_bytes());
        Arranged { extents, strides: [extents[1] * extents[2], extents[2], 1], copy: Some(copy) }
    }

    /// Bytes of the copy, on whole cache lines.
    fn room(&self, dtype: DType) -> usize {
        let bytes = self.extents.iter().product::<usize>() * dtype.block_bytes();
        if self.copy.is_some() { bytes.next_multiple_of(64) } else { 0 }
    }

    /// The bytes to multiply: operand `i` where it lies, or its finished copy in `room`.
    fn bytes<'a>(&self, operands: &Operands<'a>, i: usize, room: SharedSlice<'a, u8>) -> &'a [u8] {
        match self.copy {
            // SAFETY: the copy is finished and only read from now on.
            Some(_) => unsafe { room.view(0..room.len()) },
            None => operands.input(i),
        }
    }
}

/// A general dot product; operands that no strides describe are copied into order first.
pub(crate) fn dot(desc: &OpDesc<'_>, spec: &DotSpec, threads: usize) -> Option<Kernel> {
    let (x, y) = (&desc.inputs[0], &desc.inputs[1]);
    let whole = x.dtype == DType::I32;
    let lhs = Arranged::new(x, &spec.lhs_batch, &spec.lhs_contract, |_| !whole);
    let rhs = Arranged::new(y, &spec.rhs_batch, &spec.rhs_contract, |[_, n, k]| !whole && (k == 1 || n == 1));
    let ([batch, m, k], [_, n, _]) = (lhs.extents, rhs.extents);
    let (layout, row) =
        if rhs.strides[2] == 1 { (Layout::Inner, rhs.strides[1]) } else { (Layout::Outer, rhs.strides[2]) };
    let matmul = MatMul {
        batch,
        m,
        n,
        k,
        lhs: x.dtype,
        lhs_strides: lhs.strides,
        rhs: y.dtype,
        layout,
        rhs_strides: [rhs.strides[0], row],
        out: spec.out,
    };
    let rooms = [lhs.room(x.dtype), rhs.room(y.dtype)];
    let own = if whole { 0 } else { matmul.workspace(threads).max(matmul.workspace(1)) };
    let isa = DotIsa::best();
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        let work = operands.workspace::<u8>();
        let [a, b, rest] = split(work, rooms);
        for (i, (side, room)) in [(&lhs, a), (&rhs, b)].into_iter().enumerate() {
            if let Some(copy) = &side.copy {
                copy.run_between(team, operands.input(i), 0, room, 0);
            }
        }
        if lhs.copy.is_some() || rhs.copy.is_some() {
            team.barrier();
        }
        let (a, b) = (lhs.bytes(operands, 0, a), rhs.bytes(operands, 1, b));
        if whole {
            whole_numbers(team, operands, [batch, m, n, k], bytemuck::cast_slice(a), bytemuck::cast_slice(b));
        } else {
            matmul.run(team, isa, a, b, operands.output(0), rest, None);
        }
    };
    let work = batch * m * n * k / SPEED;
    Some(Kernel::with_workspace(rooms[0] + rooms[1] + own, work, body))
}

/// The workspace cut into two rooms of these sizes and the rest.
fn split<'a>(work: SharedSlice<'a, u8>, rooms: [usize; 2]) -> [SharedSlice<'a, u8>; 3] {
    let ends = [rooms[0], rooms[0] + rooms[1], work.len()];
    let starts = [0, ends[0], ends[1]];
    std::array::from_fn(|i| {
        // SAFETY: disjoint parts of the workspace, for as long as it is shared.
        unsafe { SharedSlice::from_raw(work.as_ptr().add(starts[i]), ends[i] - starts[i]) }
    })
}

/// Wrapping products of whole numbers, `[b, m, k]` by `[b, n, k]`.
fn whole_numbers(
    team: &Team<'_>,
    operands: &Operands<'_>,
    [batch, m, n, k]: [usize; 4],
    a: &[i32],
    b: &[i32],
) {
    let out = operands.output::<i32>(0);
    for row in team.share(batch * m, 1) {
        // SAFETY: each row is one thread's.
        let out = unsafe { out.part(row * n..(row + 1) * n) };
        let a = &a[row * k..(row + 1) * k];
        for (j, out) in out.iter_mut().enumerate() {
            let b = &b[(row / m * n + j) * k..][..k];
            *out = a.iter().zip(b).fold(0, |sum, (a, b)| a.wrapping_mul(*b).wrapping_add(sum));
        }
    }
}

simd! {
    fn finish(l, sums: &mut [f32], bias: &[f32], act: Option<Activation>) {
        for (i, sums) in sums.chunks_mut(WIDTH).enumerate() {
            let mut x = l.load_first(sums, 0.0);
            if let Some(bias) = bias.get(i * WIDTH..i * WIDTH + sums.len()) {
                x = l.add(x, l.load_first(bias, 0.0));
            }
            let x = match act {
                None => x,
                Some(Activation::GeluErf) => activate(l, Activation::GeluErf, x),
                Some(Activation::GeluTanh) => activate(l, Activation::GeluTanh, x),
                Some(Activation::Silu) => activate(l, Activation::Silu, x),
                Some(Activation::QuickGelu) => activate(l, Activation::QuickGelu, x),
                Some(Activation::Relu) => activate(l, Activation::Relu, x),
            };
            l.store_first(x, sums);
        }
    }
}

/// `act(x w^T + bias)` with a float weight `[n, k]`.
pub(crate) fn linear(
    desc: &OpDesc<'_>,
    bias: bool,
    act: Option<Activation>,
    threads: usize,
) -> Option<Kernel> {
    let (x, w) = (&desc.inputs[0], &desc.inputs[1]);
    let (n, k) = (w.dims[0], w.dims[1]);
    let m = desc.outputs[0].numel().checked_div(n).unwrap_or(0);
    let matmul = MatMul::linear(m, n, k, x.dtype, w.dtype, desc.outputs[0].dtype);
    let bias = bias.then(|| desc.inputs[2].dtype);
    let isa = DotIsa::best();
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        let mut buffer = Vec::new();
        let bias = bias.map_or(&[][..], |dtype| crate::rows::vector(operands, 2, dtype, &mut buffer));
        let done = |_: usize, first: usize, sums: &mut [f32]| {
            let bias = bias.get(first..first + sums.len()).unwrap_or(&[]);
            finish(sums, bias, act);
        };
        let last: Option<crate::matmul::Finish<'_>> =
            if bias.is_empty() && act.is_none() { None } else { Some(&done) };
        let (a, b) = (operands.input(0), operands.input(1));
        matmul.run(team, isa, a, b, operands.output(0), operands.workspace(), last);
    };
    let workspace = matmul.workspace(threads).max(matmul.workspace(1));
    Some(Kernel::with_workspace(workspace, m * n * k / SPEED + n * k / 16, body))
}

/// A product with a quantized weight `[n, k]`: contracted over its columns, or over its rows when transposed.
pub(crate) fn quantized_dot(desc: &OpDesc<'_>, transposed: bool, threads: usize) -> Option<Kernel> {
    let (x, w, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let (n, k) = (w.dims[0], w.dims[1]);
    let width = if transposed { k } else { n };
    let m = y.numel().checked_div(width).unwrap_or(0);
    let matmul = if transposed {
        MatMul::plain(m, k, n, x.dtype, w.dtype, y.dtype)
    } else {
        MatMul::linear(m, n, k, x.dtype, w.dtype, y.dtype)
    };
    let isa = DotIsa::best();
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        let (a, b) = (operands.input(0), operands.input(1));
        matmul.run(team, isa, a, b, operands.output(0), operands.workspace(), None);
    };
    let workspace = matmul.workspace(threads).max(matmul.workspace(1));
    Some(Kernel::with_workspace(workspace, m * n * k / SPEED + n * k / 16, body))
}

/// Decodes quantized rows into a float result: row `i` of it is row `source(i)` of operand 0.
fn decode_rows(
    desc: &OpDesc<'_>,
    rows: usize,
    source: impl Fn(&Operands<'_>, usize) -> usize + Send + Sync + 'static,
) -> Option<Kernel> {
    let (from, to) = (&desc.inputs[0], desc.outputs[0].dtype);
    let (dtype, d) = (from.dtype, *from.dims.last()?);
    let bytes = d / dtype.block_len() * dtype.block_bytes();
    let isa = DotIsa::best();
    Some(Kernel::new(rows * d / 2, move |team, operands| {
        let table = operands.input::<u8>(0);
        with_scratch(d, |row| {
            for i in team.share(rows, (4096 / d.max(1)).max(1)) {
                let at = source(operands, i) * bytes;
                decode_f32(isa, dtype, &table[at..at + bytes], row);
                memory::narrow(to, bytemuck::cast_slice(row), operands, 0, i * d, false);
            }
        });
    }))
}

/// A quantized tensor as floats.
pub(crate) fn dequantize(desc: &OpDesc<'_>) -> Option<Kernel> {
    let x = &desc.inputs[0];
    let rows = x.numel().checked_div(*x.dims.last()?).unwrap_or(0);
    if !x.dtype.is_quantized() {
        return None;
    }
    decode_rows(desc, rows, |_, i| i)
}

/// Rows of a quantized table, at ids clamped into it.
pub(crate) fn quantized_embedding(desc: &OpDesc<'_>) -> Option<Kernel> {
    let v = desc.inputs[0].dims[0];
    decode_rows(desc, desc.inputs[1].numel(), move |operands, i| {
        (operands.input::<i32>(1)[i].max(0) as usize).min(v - 1)
    })
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, Op};

    use super::*;
    use crate::launch_test::{check_op, operand, run_op};

    fn spec(batch: [&[usize]; 2], contract: [&[usize]; 2], out: DType) -> DotSpec {
        DotSpec {
            lhs_batch: batch[0].into(),
            rhs_batch: batch[1].into(),
            lhs_contract: contract[0].into(),
            rhs_contract: contract[1].into(),
            accum: if out == DType::I32 { DType::I32 } else { DType::F32 },
            out,
        }
    }

    #[test]
    fn dots_of_any_dimension_numbers_agree() {
        for (dtype, near) in [(DType::F32, 1e-6), (DType::F16, 1e-3), (DType::BF16, 8e-3), (DType::I32, 0.0)]
        {
            let cases: [(&[usize], &[usize], DotSpec); 8] = [
                (&[5, 7], &[7, 9], spec([&[], &[]], [&[1], &[0]], dtype)),
                (&[5, 70], &[33, 70], spec([&[], &[]], [&[1], &[1]], dtype)),
                (&[70, 5], &[70, 33], spec([&[], &[]], [&[0], &[0]], dtype)),
                (&[2, 3, 5, 16], &[2, 3, 16, 4], spec([&[0, 1], &[0, 1]], [&[3], &[2]], dtype)),
                (&[3, 4, 2, 5], &[5, 2, 6, 4], spec([&[1], &[3]], [&[2, 3], &[1, 0]], dtype)),
                (&[4, 3, 5], &[6, 3, 4], spec([&[1], &[1]], [&[0], &[2]], dtype)),
                (&[3], &[3], spec([&[], &[]], [&[0], &[0]], dtype)),
                (&[4, 0], &[0, 3], spec([&[], &[]], [&[1], &[0]], dtype)),
            ];
            for (a, b, spec) in cases {
                check_op(&Op::Dot(spec), &[operand(dtype, a, 1), operand(dtype, b, 2)], near);
            }
        }
    }

    #[test]
    fn a_linear_layer_adds_its_bias_and_activates() {
        for (dtype, near) in [(DType::F32, 2e-6), (DType::F16, 2e-3), (DType::BF16, 1.6e-2)] {
            for act in [None, Some(Activation::GeluErf), Some(Activation::Relu)] {
                for bias in [false, true] {
                    let mut x = vec![operand(dtype, &[2, 3, 40], 1), operand(dtype, &[37, 40], 2)];
                    if bias {
                        x.push(operand(dtype, &[37], 3));
                    }
                    check_op(&Op::Composite(Composite::Linear { bias, act }), &x, near);
                }
            }
        }
    }

    #[test]
    fn quantized_weights_are_decoded_exactly() {
        // Blocks of Q8_0: a scale of 1/64 (as f16) and signed bytes.
        let (n, k) = (5, 64);
        let mut bytes = Vec::new();
        for block in 0..n * k / 32 {
            bytes.extend(half::f16::from_f32(1.0 / 64.0).to_le_bytes());
            bytes.extend((0..32).map(|i| (i * 7 + block * 13) as u8));
        }
        let value = |i: usize| f64::from(((i % 32) * 7 + i / 32 * 13) as u8 as i8) / 64.0;
        let table = TensorType::new(DType::Q8_0, [n, k]);
        let launch = |op: Op, others: &[(TensorType, Vec<f64>)]| {
            let types: Vec<TensorType> =
                std::iter::once(table.clone()).chain(others.iter().map(|x| x.0.clone())).collect();
            let outputs = percept_graph::infer(&op, &types).unwrap();
            let kernel =
                crate::plan::plan(&OpDesc { op: &op, inputs: &types, outputs: &outputs }, 2).unwrap();
            let mut inputs = vec![bytes.clone()];
            inputs.extend(others.iter().map(|(ty, x)| crate::launch_test::to_bytes(ty, x)));
            let out = crate::launch_test::run_kernel(&kernel, &inputs, &outputs, 2).remove(0);
            crate::launch_test::to_values(&outputs[0], &out)
        };
        let all = launch(Op::Dequantize { to: DType::F32 }, &[]);
        assert!(all.iter().enumerate().all(|(i, x)| *x == value(i)));
        let ids = crate::launch_test::ints(&[3], &[4, -1, 9]);
        let rows = launch(Op::Composite(Composite::Embedding { out: DType::F16 }), &[ids]);
        for (i, x) in rows.iter().enumerate() {
            assert_eq!(*x, value([4, 0, 4][i / k] * k + i % k));
        }
    }

    #[test]
    fn a_row_of_a_linear_layer_is_the_same_alone() {
        let (x, w) = (operand(DType::F32, &[33, 200], 1), operand(DType::F32, &[50, 200], 2));
        let op = Op::Composite(Composite::Linear { bias: false, act: None });
        let all = run_op(&op, &[x.clone(), w.clone()], 2).remove(0);
        for i in [0, 7, 32] {
            let one = (TensorType::new(DType::F32, [1, 200]), x.1[i * 200..(i + 1) * 200].to_vec());
            assert_eq!(run_op(&op, &[one, w.clone()], 1)[0], all[i * 50..(i + 1) * 50]);
        }
    }
}
