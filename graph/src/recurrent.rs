//! The tensor API of operations that go through rows one after the other and keep a state: the gated delta rule and
//! short convolutions.

use crate::composite::Composite;
use crate::op::Op;
use crate::trace::Tensor;

/// States of sequences in a pool, and which of them a step reads and writes.
///
/// A slot that one sequence of the step writes must not be read by another one.
#[derive(Clone, Copy)]
pub struct StateRows<'a> {
    /// The pool f32[slots,..].
    pub pool: &'a Tensor,
    /// The slot that each sequence goes on from, i32[b]; negative: from zeros.
    pub from: &'a Tensor,
    /// The slot in which its state is left, i32[b]; outside of the pool: nowhere.
    pub to: &'a Tensor,
    /// How many of its rows count, i32[b].
    pub rows: &'a Tensor,
}

impl StateRows<'_> {
    fn operands(&self) -> [&Tensor; 4] {
        [self.pool, self.from, self.to, self.rows]
    }
}

/// The operands of the gated delta rule: see [`Composite::GatedDelta`].
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct DeltaRows<'a> {
    pub q: &'a Tensor,
    pub k: &'a Tensor,
    pub v: &'a Tensor,
    pub g: &'a Tensor,
    pub beta: &'a Tensor,
}

impl DeltaRows<'_> {
    fn operands(&self) -> [&Tensor; 5] {
        [self.q, self.k, self.v, self.g, self.beta]
    }

    /// The outputs [b,t,h,dv] of whole sequences; rows of different `segments` i32[b,t] know nothing of each other.
    pub fn whole(&self, segments: Option<&Tensor>) -> Tensor {
        let op = Op::Composite(Composite::GatedDelta { segments: segments.is_some(), state: false });
        let inputs: Vec<&Tensor> = self.operands().into_iter().chain(segments).collect();
        self.q.trace().op(op, &inputs)
    }

    /// The outputs [b,t,h,dv] of the next rows of sequences, and the pool with their states.
    pub fn step(&self, state: StateRows<'_>) -> [Tensor; 2] {
        let op = Op::Composite(Composite::GatedDelta { segments: false, state: true });
        self.q.results(op, &[&self.operands()[..], &state.operands()].concat())
    }
}

/// Causal depthwise convolution of rows [b,t,c] with w [c,taps]: see [`Composite::ShortConv`].
impl Tensor {
    /// Of whole sequences; rows of different `segments` i32[b,t] know nothing of each other.
    pub fn short_conv(&self, w: &Tensor, segments: Option<&Tensor>) -> Tensor {
        let op = Op::Composite(Composite::ShortConv { segments: segments.is_some(), state: false });
        let inputs: Vec<&Tensor> = [self, w].into_iter().chain(segments).collect();
        self.trace().op(op, &inputs)
    }

    /// Of the next rows of sequences; gives the pool with their states too.
    pub fn short_conv_step(&self, w: &Tensor, state: StateRows<'_>) -> [Tensor; 2] {
        let op = Op::Composite(Composite::ShortConv { segments: false, state: true });
        self.results(op, &[&[self, w][..], &state.operands()].concat())
    }
}
