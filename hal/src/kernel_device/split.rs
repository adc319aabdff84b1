//! Operations on tensors longer than a kernel can bind at once, cut along the first dimension.

use percept_graph::{Composite, Op, OpDesc, TensorType, infer};
use percept_kernels::storage_bytes;

use super::device::KernelLimits;

/// An operation on a range of rows: its types, and where its operands and results start in the whole ones, in
/// bytes.
pub(super) struct Piece {
    pub op: Op,
    pub inputs: Vec<TensorType>,
    pub outputs: Vec<TensorType>,
    pub input_offsets: Vec<u64>,
    pub output_offsets: Vec<u64>,
}

/// The pieces of an operation, in which what is cut is small enough for the device; `None` when it cannot be
/// cut. Operands that every piece needs whole are the kernels' affair.
pub(super) fn split(desc: &OpDesc<'_>, limits: &KernelLimits) -> Option<Vec<Piece>> {
    let (op, inputs, outputs) = flattened(desc)?;
    let cut = cut_operands(&op, &inputs)?;
    let rows = *outputs.first()?.dims.first()?;
    let moving = inputs.iter().zip(&cut).filter(|(_, c)| **c).map(|(ty, _)| ty).chain(&outputs);
    let row_bytes: Vec<u64> = moving.map(|ty| row_bytes(ty, rows)).collect::<Option<_>>()?;
    // Every piece starts at an offset that windows may have.
    let unit = row_bytes.iter().fold(1, |unit, &b| lcm(unit, limits.alignment / gcd(limits.alignment, b)));
    let step = limits.max_window / row_bytes.iter().max()? / unit * unit;
    if step == 0 {
        return None;
    }
    let step = usize::try_from(step).ok()?;
    (0..rows)
        .step_by(step)
        .map(|start| {
            let len = step.min(rows - start);
            let rows_of = |ty: &TensorType| {
                let mut dims = ty.dims.clone();
                dims[0] = len;
                TensorType::new(ty.dtype, dims)
            };
            let part = |(ty, &c): (&TensorType, &bool)| if c { rows_of(ty) } else { ty.clone() };
            let offset = |ty: &TensorType| row_bytes_of(ty, rows) * start as u64;
            let op = shortened(&op, len);
            let pieces: Vec<TensorType> = inputs.iter().zip(&cut).map(part).collect();
            let results = infer(&op, &pieces).ok()?;
            Some(Piece {
                input_offsets: inputs
                    .iter()
                    .zip(&cut)
                    .map(|(ty, &c)| if c { offset(ty) } else { 0 })
                    .collect(),
                output_offsets: outputs.iter().map(offset).collect(),
                inputs: pieces,
                outputs: results,
                op,
            })
        })
        .collect()
}

/// Elementwise operations, and repetitions of one element, as operations on one long row of elements, so that
/// it can be cut anywhere.
fn flattened(desc: &OpDesc<'_>) -> Option<(Op, Vec<TensorType>, Vec<TensorType>)> {
    let flat = |ty: &TensorType| TensorType::new(ty.dtype, [ty.numel()]);
    if matches!(desc.op, Op::Broadcast { .. }) && desc.inputs[0].numel() == 1 {
        let (one, many) = (flat(&desc.inputs[0]), flat(&desc.outputs[0]));
        let op = Op::Broadcast { dims: many.dims.clone(), axes: vec![0] };
        return Some((op, vec![one], vec![many]));
    }
    let elementwise = desc.op.is_elementwise()
        || matches!(desc.op, Op::Composite(Composite::Activate(_) | Composite::GatedActivate(_)));
    if !elementwise {
        return Some((desc.op.clone(), desc.inputs.to_vec(), desc.outputs.to_vec()));
    }
    let alike = desc.inputs.iter().all(|ty| ty.dims == desc.outputs[0].dims);
    alike.then(|| {
        (desc.op.clone(), desc.inputs.iter().map(flat).collect(), desc.outputs.iter().map(flat).collect())
    })
}

/// Which operands are cut along their first dimension together with the results; `None` when results are not
/// made row by row.
fn cut_operands(op: &Op, inputs: &[TensorType]) -> Option<Vec<bool>> {
    let all = || Some(vec![true; inputs.len()]);
    let first = || (inputs[0].rank() >= 2).then(|| (0..inputs.len()).map(|i| i == 0).collect());
    match op {
        op if op.is_elementwise() => all(),
        Op::Reduce { axes, .. } if !axes.contains(&0) => all(),
        Op::ArgReduce { axis, .. } | Op::Sort { axis, .. } | Op::Concat { axis } if *axis != 0 => all(),
        Op::Transpose { perm } if perm.first() == Some(&0) => all(),
        Op::Broadcast { dims, axes } => {
            let along = axes.first() == Some(&0) && inputs[0].dims[0] != 1;
            (!along || inputs[0].dims[0] == dims[0]).then(|| vec![along])
        }
        Op::Gather { axis: 0 } if inputs[1].rank() > 0 => Some(vec![false, true]),
        Op::Dot(d) if d.lhs_batch.first() == Some(&0) && d.rhs_batch.first() == Some(&0) => all(),
        Op::Dot(d) if d.lhs_batch.is_empty() && !d.lhs_contract.contains(&0) => Some(vec![true, false]),
        Op::Composite(c) => match c {
            Composite::Activate(_) | Composite::GatedActivate(_) => all(),
            Composite::CumSum { axis } if *axis != 0 => all(),
            Composite::Softmax | Composite::LogSoftmax => first(),
            Composite::RmsNorm { .. } | Composite::LayerNorm { .. } => first(),
            Composite::Linear { .. } | Composite::QuantizedDot { .. } => first(),
            Composite::Rope { .. } => all(),
            Composite::Embedding { .. } if inputs[1].rank() > 0 => Some(vec![false, true]),
            _ => None,
        },
        _ => None,
    }
}

/// The operation with the first extent of the result, where it names one, replaced.
fn shortened(op: &Op, rows: usize) -> Op {
    match op {
        Op::Broadcast { dims, axes } => {
            let mut dims = dims.clone();
            dims[0] = rows;
            Op::Broadcast { dims, axes: axes.clone() }
        }
        op => op.clone(),
    }
}

/// Bytes of a row, when the first dimension is the rows and rows are whole bytes of their own.
fn row_bytes(ty: &TensorType, rows: usize) -> Option<u64> {
    (ty.dims.first() == Some(&rows) && !ty.dtype.is_quantized() && ty.numel() > 0)
        .then(|| row_bytes_of(ty, rows))
}

fn row_bytes_of(ty: &TensorType, rows: usize) -> u64 {
    // Two elements: the 16-bit floats share a word.
    storage_bytes(ty.dtype, 2) / 2 * (ty.numel() / rows) as u64
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn lcm(a: u64, b: u64) -> u64 {
    a / gcd(a, b) * b
}

#[cfg(test)]
mod tests {
    use super::super::layout::device_bytes;
    use super::*;
    use percept_graph::{DType, Unary};
    use percept_kernels::Caps;

    fn limits(max_window: u64) -> KernelLimits {
        KernelLimits { caps: Caps::default(), alignment: 256, max_window, max_memory: u64::MAX }
    }

    fn pieces(op: Op, inputs: &[&str], max_window: u64) -> Option<Vec<Piece>> {
        let inputs: Vec<TensorType> = inputs.iter().map(|t| t.parse().unwrap()).collect();
        let outputs = infer(&op, &inputs).unwrap();
        split(&OpDesc { op: &op, inputs: &inputs, outputs: &outputs }, &limits(max_window))
    }

    #[test]
    fn pieces_are_aligned_fit_and_cover_every_row_once() {
        let cases = [
            (Op::Unary(Unary::Exp), vec!["bf16[3,1001]"]),
            (
                Op::Reduce { kind: percept_graph::ReduceKind::Sum, axes: vec![1], accum: DType::F32 },
                vec!["f32[999,7]"],
            ),
            (Op::Broadcast { dims: vec![500, 9], axes: vec![1] }, vec!["f32[9]"]),
            (Op::Broadcast { dims: vec![3, 999], axes: vec![] }, vec!["f32[]"]),
            (Op::Composite(Composite::Softmax), vec!["f16[640,5]"]),
            (Op::Gather { axis: 0 }, vec!["f32[10,3]", "i32[777]"]),
        ];
        for (op, inputs) in cases {
            let name = op.name();
            let cut = pieces(op, &inputs, 4096).unwrap_or_else(|| panic!("{name}"));
            assert!(cut.len() > 1, "{name}");
            let mut rows = 0;
            for p in &cut {
                let row = row_bytes_of(&p.outputs[0], p.outputs[0].dims[0]);
                assert_eq!(p.output_offsets[0], rows * row, "{name}");
                rows += p.outputs[0].dims[0] as u64;
                assert!(p.input_offsets.iter().chain(&p.output_offsets).all(|o| o % 256 == 0), "{name}");
                assert!(p.inputs.iter().chain(&p.outputs).all(|ty| device_bytes(ty) <= 4096), "{name}");
            }
        }
    }

    #[test]
    fn what_mixes_rows_or_does_not_fit_is_not_cut() {
        let sum = Op::Reduce { kind: percept_graph::ReduceKind::Sum, axes: vec![0], accum: DType::F32 };
        assert!(pieces(sum, &["f32[999,7]"], 2048).is_none());
        assert!(
            pieces(Op::Composite(Composite::Softmax), &["f32[3,1001]"], 2048).is_none(),
            "a row is too long"
        );
    }
}
