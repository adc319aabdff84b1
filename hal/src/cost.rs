//! What an operation moves and computes, as far as its types tell: the least that any device has to do.

use percept_graph::{Composite, Op, OpDesc, TensorType};
use serde::Serialize;

/// The work of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct OpCost {
    /// Bytes of operands and results, each counted once.
    pub bytes: u64,
    /// Multiplications and additions of products; 0 of other operations, which are bound by what they move.
    pub flops: u64,
}

/// The work of an operation, or `None` where values decide how much of an operand is read, as in attention over a
/// cache.
pub fn op_cost(desc: &OpDesc<'_>) -> Option<OpCost> {
    let bytes_of = |types: &[TensorType]| types.iter().map(|t| t.bytes() as u64).sum::<u64>();
    let (read, written) = (bytes_of(desc.inputs), bytes_of(desc.outputs));
    let all = read + written;
    let elements = |t: &TensorType| t.dims.iter().product::<usize>() as u64;
    let results = desc.outputs.first().map_or(0, elements);
    // The last extent of the left operand is the one that a linear layer sums over.
    let width = || desc.inputs.first().and_then(|t| t.dims.last()).map_or(0, |&d| d as u64);
    match desc.op {
        // Of the operand, what is taken or put.
        Op::Gather { .. } | Op::DynamicSlice { .. } | Op::Slice { .. } => {
            Some(OpCost { bytes: 2 * written, flops: 0 })
        }
        Op::Composite(Composite::Embedding { .. }) => Some(OpCost { bytes: 2 * written, flops: 0 }),
        Op::DynamicUpdateSlice | Op::Scatter { .. } | Op::Composite(Composite::KvAppend { .. }) => {
            let put = desc.inputs.get(1).map_or(0, |t| t.bytes() as u64);
            Some(OpCost { bytes: 2 * put, flops: 0 })
        }
        Op::Dot(spec) => {
            let left = desc.inputs.first()?;
            let summed: usize = spec.lhs_contract.iter().filter_map(|&d| left.dims.get(d)).product();
            Some(OpCost { bytes: all, flops: 2 * results * summed as u64 })
        }
        Op::Composite(Composite::Linear { .. } | Composite::QuantizedDot { .. } | Composite::Int8Dot) => {
            Some(OpCost { bytes: all, flops: 2 * results * width() })
        }
        Op::Composite(Composite::Attention(spec) | Composite::AttentionGrad(spec))
            if spec.kv_len || spec.paged =>
        {
            None
        }
        Op::Composite(Composite::Attention(_)) => {
            let keys = desc.inputs.get(1).and_then(|k| k.dims.get(2)).map_or(0, |&s| s as u64);
            Some(OpCost { bytes: all, flops: 4 * results * keys })
        }
        _ => Some(OpCost { bytes: all, flops: 0 }),
    }
}
