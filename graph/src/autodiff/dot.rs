//! The general product.

use super::{BackwardStep, Gradients};
use crate::dtype::DType;
use crate::op::{DotSpec, Op};
use crate::trace::Tensor;

/// Each operand's gradient is the product of the result's with the other operand over the other's free
/// dimensions.
pub fn dot(s: &BackwardStep, spec: &DotSpec) -> Gradients {
    let (l, r) = (&s.x[0], &s.x[1]);
    let g = s.g();
    let batch = spec.lhs_batch.len();
    let free = |rank: usize, a: &[usize], b: &[usize]| -> Vec<usize> {
        (0..rank).filter(|d| !a.contains(d) && !b.contains(d)).collect()
    };
    let l_free = free(l.rank(), &spec.lhs_batch, &spec.lhs_contract);
    let r_free = free(r.rank(), &spec.rhs_batch, &spec.rhs_contract);
    let l_in_g: Vec<usize> = (batch..batch + l_free.len()).collect();
    let r_in_g: Vec<usize> = (batch + l_free.len()..g.rank()).collect();
    let left = Side { batch: &spec.lhs_batch, contract: &spec.lhs_contract, free: &l_free };
    let right = Side { batch: &spec.rhs_batch, contract: &spec.rhs_contract, free: &r_free };
    vec![
        s.when(0, || gradient(&g, &r_in_g, l, &left, r, &right)),
        s.when(1, || gradient(&g, &l_in_g, r, &right, l, &left)),
    ]
}

/// Dimension numbers of one operand.
struct Side<'a> {
    batch: &'a [usize],
    contract: &'a [usize],
    free: &'a [usize],
}

/// The gradient of `x`: g contracted with `other` over the dimensions of g that came from it.
fn gradient(
    g: &Tensor,
    from_other: &[usize],
    x: &Tensor,
    own: &Side,
    other: &Tensor,
    their: &Side,
) -> Tensor {
    // A result stored wider or narrower than the operands is brought to one dtype with them, the wider.
    let dtype = if g.dtype() == other.dtype() { g.dtype() } else { DType::F32 };
    let spec = DotSpec {
        lhs_batch: (0..own.batch.len()).collect(),
        rhs_batch: their.batch.to_vec(),
        lhs_contract: from_other.to_vec(),
        rhs_contract: their.free.to_vec(),
        accum: DType::F32,
        out: x.dtype(),
    };
    let product = x.trace().op(Op::Dot(spec), &[&g.cast(dtype), &other.cast(dtype)]);
    // Its dimensions are the batch, x's free ones, then the other's contracted ones in the other's order.
    let mut contracted: Vec<(usize, usize)> =
        their.contract.iter().copied().zip(own.contract.iter().copied()).collect();
    contracted.sort_unstable();
    let order: Vec<usize> = own
        .batch
        .iter()
        .chain(own.free)
        .copied()
        .chain(contracted.into_iter().map(|(_, mine)| mine))
        .collect();
    let mut perm = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &d)| perm[d] = i);
    if perm.iter().copied().eq(0..perm.len()) { product } else { product.transpose(perm) }
}
