//! What every graph means: a slow and obvious evaluator in f64.
//!
//! Float values are rounded to their dtype at inputs, literals and explicit casts only; everything between is
//! f64. Integers are exact: every value of every dtype is exact in f64, and arithmetic on integers is done in
//! integers. Composites and fused regions are their decompositions; the casts between floats in which a
//! composite's definition widens its operands and stores its results are no explicit casts and do not round.

mod data;
mod elementwise;
mod movement;
mod reduce;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use crate::decompose::decompose;
use crate::dtype::DType;
use crate::error::GraphError;
use crate::graph::{Graph, Node};
use crate::host_tensor::{HostTensor, HostTensorError};
use crate::op::Op;
use crate::tensor_type::{TensorType, round_to};

/// Elements that [`evaluate`] holds at most at any time: 1 GiB of f64.
pub const DEFAULT_MAX_ELEMENTS: usize = 1 << 27;

/// A tensor whose values are f64, whatever its dtype; a quantized one holds its decoded values.
#[derive(Debug, Clone, PartialEq)]
pub struct ExactTensor {
    /// The type of the input.
    pub ty: TensorType,
    /// Elements in row-major order, `ty.numel()` of them.
    pub values: Vec<f64>,
}

impl From<&HostTensor> for ExactTensor {
    fn from(t: &HostTensor) -> Self {
        Self { ty: t.ty().clone(), values: t.values() }
    }
}

impl ExactTensor {
    /// Rounded to its dtype; an error for a quantized type.
    pub fn to_host(&self) -> Result<HostTensor, HostTensorError> {
        HostTensor::from_f64(self.ty.clone(), &self.values)
    }
}

/// Why a graph could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// A wrong number of inputs.
    #[error("graph '{graph}' takes {expected} inputs, was given {given}")]
    InputCount {
        /// The name.
        graph: String,
        /// The number of inputs that it takes.
        expected: usize,
        /// The number that was given.
        given: usize,
    },
    /// An input of another type, or without a value for each element.
    #[error("input '{name}' is {expected}, was given {given} with {values} values")]
    InputType {
        /// The name.
        name: String,
        /// The type of the input.
        expected: TensorType,
        /// The type that was given.
        given: TensorType,
        /// The number of values that was given.
        values: usize,
    },
    /// More elements alive at once than allowed.
    #[error(
        "{what} of {ty} needs {needed} elements at once, more than the {limit} allowed; evaluate a smaller graph or allow more"
    )]
    TooLarge {
        /// The operation, with its module path.
        what: String,
        /// The result that went beyond.
        ty: TensorType,
        /// Elements that would be alive.
        needed: usize,
        /// The most elements that may be alive at once.
        limit: usize,
    },
    /// A decomposition does not build.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// An output of a quantized type.
    #[error(transparent)]
    Output(#[from] HostTensorError),
}

/// The outputs of a graph, rounded to their dtypes.
pub fn evaluate(graph: &Graph, inputs: &[HostTensor]) -> Result<Vec<HostTensor>, ReferenceError> {
    let inputs: Vec<ExactTensor> = inputs.iter().map(ExactTensor::from).collect();
    let outputs = evaluate_exact(graph, &inputs, DEFAULT_MAX_ELEMENTS)?;
    outputs.iter().map(|o| o.to_host().map_err(ReferenceError::from)).collect()
}

/// The outputs of a graph in f64, from inputs taken as they are: float inputs need not be values of their
/// dtype, so that central differences can be finer than it. At most `max_elements` are held at a time.
pub fn evaluate_exact(
    graph: &Graph,
    inputs: &[ExactTensor],
    max_elements: usize,
) -> Result<Vec<ExactTensor>, ReferenceError> {
    if inputs.len() != graph.inputs().len() {
        return Err(ReferenceError::InputCount {
            graph: graph.name().to_string(),
            expected: graph.inputs().len(),
            given: inputs.len(),
        });
    }
    for (declared, given) in graph.inputs().iter().zip(inputs) {
        let ty = graph.ty(declared.value);
        if given.ty != *ty || given.values.len() != ty.numel() {
            return Err(ReferenceError::InputType {
                name: declared.name.clone(),
                expected: ty.clone(),
                given: given.ty.clone(),
                values: given.values.len(),
            });
        }
    }
    let mut budget = Budget { live: 0, limit: max_elements };
    let mut shared = Vec::with_capacity(inputs.len());
    for (declared, given) in graph.inputs().iter().zip(inputs) {
        budget.take(&given.ty, || format!("input '{}'", declared.name))?;
        shared.push(Rc::new(given.values.clone()));
    }
    let outputs = run(graph, shared, Casts::Round, &mut budget)?;
    let types = graph.outputs().iter().map(|o| graph.ty(o.value).clone());
    Ok(types
        .zip(outputs)
        .map(|(ty, v)| ExactTensor { ty, values: Rc::try_unwrap(v).unwrap_or_else(|v| v.to_vec()) })
        .collect())
}

/// Row-major elements; shared where an operation leaves them as they are.
type Values = Rc<Vec<f64>>;

/// An operand.
pub(crate) struct Operand<'a> {
    ty: &'a TensorType,
    values: &'a [f64],
}

/// Counts the elements held.
struct Budget {
    live: usize,
    limit: usize,
}

impl Budget {
    fn take(&mut self, ty: &TensorType, what: impl FnOnce() -> String) -> Result<(), ReferenceError> {
        let needed = self.live.saturating_add(ty.numel());
        if needed > self.limit {
            return Err(ReferenceError::TooLarge { what: what(), ty: ty.clone(), needed, limit: self.limit });
        }
        self.live = needed;
        Ok(())
    }

    fn give(&mut self, elements: usize) {
        self.live -= elements;
    }
}

/// What casts between float dtypes do.
#[derive(Clone, Copy)]
enum Casts {
    /// Round: they are the graph's own.
    Round,
    /// Nothing: they belong to a composite's definition.
    Keep,
}

/// Evaluate on inputs that were checked and counted. On return the inputs are given back and the outputs
/// counted.
fn run(
    graph: &Graph,
    inputs: Vec<Values>,
    casts: Casts,
    budget: &mut Budget,
) -> Result<Vec<Values>, ReferenceError> {
    let mut uses = graph.use_counts();
    let mut values: Vec<Option<Values>> = vec![None; graph.values().len()];
    let release = |values: &mut Vec<Option<Values>>, i: usize, budget: &mut Budget| {
        if let Some(v) = values[i].take() {
            budget.give(v.len());
        }
    };
    for (input, v) in graph.inputs().iter().zip(inputs) {
        values[input.value.index()] = Some(v);
        if uses[input.value.index()] == 0 {
            release(&mut values, input.value.index(), budget);
        }
    }
    for node in graph.nodes() {
        let operands: Vec<Values> = node.inputs.iter().filter_map(|v| values[v.index()].clone()).collect();
        let results = step(graph, node, &operands, casts, budget)?;
        for (&id, result) in node.outputs.iter().zip(results) {
            debug_assert_eq!(result.len(), graph.ty(id).numel(), "{:?}", node.op);
            values[id.index()] = Some(result);
            if uses[id.index()] == 0 {
                release(&mut values, id.index(), budget);
            }
        }
        for v in &node.inputs {
            uses[v.index()] -= 1;
            if uses[v.index()] == 0 {
                release(&mut values, v.index(), budget);
            }
        }
    }
    let outputs: Vec<Values> =
        graph.outputs().iter().filter_map(|o| values[o.value.index()].clone()).collect();
    // An output named twice, or an input that is an output too, is counted once for every name.
    for (i, v) in values.iter().enumerate() {
        let names = graph.outputs().iter().filter(|o| o.value.index() == i).count();
        if let Some(v) = v {
            budget.live += (names - 1) * v.len();
        }
    }
    Ok(outputs)
}

/// The results of one node; they are counted, its operands stay counted by the caller.
fn step(
    graph: &Graph,
    node: &Node,
    operands: &[Values],
    casts: Casts,
    budget: &mut Budget,
) -> Result<Vec<Values>, ReferenceError> {
    let what = || match node.path.as_ref() {
        "" => node.op.name(),
        path => format!("{path}: {}", node.op.name()),
    };
    if let Some(body) = graph.describe(node, decompose)? {
        for (ty, v) in graph.types(&node.inputs).iter().zip(operands) {
            debug_assert_eq!(ty.numel(), v.len());
            budget.take(ty, what)?;
        }
        let casts = if matches!(node.op, Op::Composite(_)) { Casts::Keep } else { casts };
        return run(&body, operands.to_vec(), casts, budget);
    }
    for &o in &node.outputs {
        budget.take(graph.ty(o), what)?;
    }
    let kept = match (&node.op, casts) {
        (Op::Cast { to }, Casts::Keep) => to.is_float() && graph.ty(node.inputs[0]).dtype.is_float(),
        (Op::Dequantize { to }, Casts::Round) => *to == DType::F32,
        (op, _) => matches!(op, Op::Reshape { .. } | Op::Barrier | Op::Dequantize { .. }),
    };
    if kept {
        return Ok(operands.to_vec());
    }
    let inputs: Vec<Operand<'_>> =
        node.inputs.iter().zip(operands).map(|(&v, x)| Operand { ty: graph.ty(v), values: x }).collect();
    let outputs = graph.types(&node.outputs);
    Ok(primitive(&node.op, &inputs, &outputs).into_iter().map(Rc::new).collect())
}

/// The results of a primitive, from operands and to results of the types that inference checked.
fn primitive(op: &Op, x: &[Operand<'_>], out: &[TensorType]) -> Vec<Vec<f64>> {
    let one = match op {
        Op::Constant(l) => l.values(),
        Op::Iota { ty, axis } => movement::iota(ty, *axis),
        Op::Cast { to } => x[0].values.iter().map(|&v| elementwise::cast(x[0].ty.dtype, *to, v)).collect(),
        Op::Bitcast { to } => {
            x[0].values.iter().map(|&v| elementwise::bitcast(x[0].ty.dtype, *to, v)).collect()
        }
        Op::Transpose { perm } => movement::transpose(&x[0], perm),
        Op::Broadcast { dims, axes } => movement::broadcast(&x[0], dims, axes),
        Op::Slice { start, stride, .. } => movement::slice(&x[0], start, stride, &out[0].dims),
        Op::Pad { low, interior, .. } => movement::pad(&x[0], x[1].values[0], low, interior, &out[0].dims),
        Op::Concat { axis } => movement::concat(x, *axis, &out[0].dims),
        Op::DynamicSlice { sizes } => movement::dynamic_slice(&x[0], &x[1..], sizes),
        Op::DynamicUpdateSlice => movement::dynamic_update_slice(&x[0], &x[1], &x[2..]),
        Op::Unary(k) => {
            let meaning = k.definition().meaning;
            x[0].values.iter().map(|&v| meaning(x[0].ty.dtype, v)).collect()
        }
        Op::Binary(k) => {
            let pairs = x[0].values.iter().zip(x[1].values);
            pairs.map(|(&a, &b)| elementwise::binary(*k, x[0].ty.dtype, a, b)).collect()
        }
        Op::Compare(k) => {
            let pairs = x[0].values.iter().zip(x[1].values);
            pairs.map(|(&a, &b)| elementwise::compare(*k, a, b) as u8 as f64).collect()
        }
        Op::Select => {
            let pairs = x[1].values.iter().zip(x[2].values);
            x[0].values.iter().zip(pairs).map(|(&p, (&a, &b))| if p != 0.0 { a } else { b }).collect()
        }
        Op::Clamp => {
            let bounds = x[0].values.iter().zip(x[2].values);
            let clamp =
                |(&v, (&low, &high)): (&f64, (&f64, &f64))| elementwise::min(elementwise::max(v, low), high);
            x[1].values.iter().zip(bounds).map(clamp).collect()
        }
        Op::Reduce { kind, axes, .. } => reduce::reduce(*kind, &x[0], axes, &out[0]),
        Op::ArgReduce { kind, axis } => reduce::arg_reduce(*kind, &x[0], *axis),
        Op::Dot(spec) => reduce::dot(spec, &x[0], &x[1], out[0].numel()),
        Op::Gather { axis } => data::gather(&x[0], &x[1], *axis),
        Op::Scatter { axis, kind } => data::scatter(&x[0], &x[1], &x[2], *axis, *kind),
        Op::Sort { axis, descending, limit } => {
            let (values, indices) = data::sort(&x[0], *axis, *descending, *limit);
            return vec![values, indices];
        }
        Op::Dequantize { to } => x[0].values.iter().map(|&v| round_to(*to, v)).collect(),
        Op::Reshape { .. } | Op::Barrier | Op::Composite(_) | Op::Fused(_) => {
            return x.iter().map(|x| x.values.to_vec()).collect();
        }
    };
    vec![one]
}
