//! Reverse-mode differentiation: gradients are recorded as more of the same graph.
//!
//! Every operation has one rule, in the file of its kind; that of a function of one operand is in its row of
//! `unary.rs`. A rule is given the operation with its operands, results and the gradients of its results, and
//! gives the gradients of its operands. A composite either has a rule that uses its backward composite, or is
//! differentiated through its decomposition.
//!
//! Where a function has a kink the choice is: `max`, `min` and their reductions share the gradient evenly
//! among equal operands; `clamp` gives it to x on its bounds; `abs`, `relu` and the rounding functions give 0
//! there.

pub mod cases;
mod composite;
mod dot;
mod elementwise;
mod index;
mod reduce;
mod shape;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::decompose::decompose;
use crate::dtype::DType;
use crate::error::{GraphError, Result};
use crate::graph::{Graph, Node, Source, ValueId};
use crate::op::{Op, OpDesc};
use crate::tensor_type::TensorType;
use crate::trace::{Tensor, Trace};

/// The gradients of `loss`, a float scalar, with respect to float values of the same trace, in the order of
/// `wrt`.
///
/// They are recorded onto the trace under the path `grad`, each with the type of its value. As with every
/// method of tracing, an error is kept in the trace and returned by [`Trace::finish`]: a loss that is not a
/// float scalar, a value that is not a float (a quantized weight has no gradient), and a value that the loss
/// does not depend on, or only through operations without a derivative.
pub fn grad(loss: &Tensor, wrt: &[&Tensor]) -> Vec<Tensor> {
    let trace = loss.trace();
    let failed = || wrt.iter().map(|_| trace.poison()).collect();
    let ids: Option<Vec<ValueId>> = wrt.iter().map(|t| t.id()).collect();
    let (Some(loss_id), Some(ids)) = (loss.id(), ids) else { return failed() };
    let _scope = trace.scope("grad");
    if let Some((types, why)) = unfit(loss, wrt) {
        trace.fail("grad".into(), types, why);
        return failed();
    }
    let nodes = trace.with_graph(|g| match g.values()[loss_id.index()].source {
        Source::Node(n) => 0..n + 1,
        Source::Input(_) => 0..0,
    });
    let seed = trace.full(loss.dtype(), [], 1.0);
    let gradients = backward(trace, nodes, vec![(loss_id, seed)], &ids, true);
    let missing = gradients.iter().zip(&ids).filter(|(g, _)| g.is_none()).map(|(_, &id)| id);
    let missing: Vec<ValueId> = missing.collect();
    if !missing.is_empty() {
        let names = trace.with_graph(|g| missing.iter().map(|&id| describe(g, id)).collect::<Vec<_>>());
        let types = trace.with_graph(|g| g.types(&missing));
        let names = names.join(", ");
        let why =
            format!("the loss does not depend on {names}, or only through operations without a derivative");
        trace.fail("grad".into(), types, why);
    }
    gradients.into_iter().map(|g| g.unwrap_or_else(|| trace.poison())).collect()
}

/// A graph with the same inputs and outputs and, for each name in `wrt`, an output `grad.NAME`: the gradient
/// of the output `loss` with respect to that input. Errors are those of [`grad`], and names that the graph
/// does not have.
pub fn grad_graph(graph: &Graph, loss: &str, wrt: &[&str]) -> Result<Graph> {
    let error =
        |why: String| GraphError { path: String::new(), op: "grad".into(), operands: Vec::new(), why };
    let out = graph.output_index(loss).ok_or_else(|| error(format!("the graph has no output '{loss}'")))?;
    let values = wrt.iter().map(|name| {
        let i = graph.input_index(name).ok_or_else(|| error(format!("the graph has no input '{name}'")))?;
        Ok(graph.inputs()[i].value)
    });
    let values: Vec<ValueId> = values.collect::<Result<_>>()?;
    let trace = Trace::resume(graph.clone());
    let values: Vec<Tensor> = values.into_iter().map(|v| trace.value(v)).collect();
    let gradients = grad(&trace.value(graph.outputs()[out].value), &values.iter().collect::<Vec<_>>());
    for (name, g) in wrt.iter().zip(&gradients) {
        trace.output(format!("grad.{name}"), g);
    }
    trace.finish()
}

/// What keeps the loss from being differentiated, with the types concerned.
fn unfit(loss: &Tensor, wrt: &[&Tensor]) -> Option<(Vec<TensorType>, String)> {
    let ty = loss.ty();
    if !ty.dtype.is_float() || ty.rank() != 0 {
        return Some((vec![ty], "the loss must be a float scalar: reduce it first".into()));
    }
    wrt.iter().find_map(|t| {
        let ty = t.ty();
        if !t.trace().same(loss.trace()) {
            return Some((vec![ty], "a value belongs to another trace than the loss".into()));
        }
        let name = t.trace().with_graph(|g| t.id().map(|id| describe(g, id)))?;
        let why = match ty.dtype {
            d if d.is_float() => return None,
            d if d.is_quantized() => {
                format!("{name} is quantized and has no gradient: train an adapter beside it, or dequantize it first")
            }
            d => format!("{name} is {d}; only float values have gradients"),
        };
        Some((vec![ty], why))
    })
}

/// A value as its user knows it: by input name, or by the operation and module that made it.
fn describe(g: &Graph, id: ValueId) -> String {
    match g.values()[id.index()].source {
        Source::Input(i) => format!("input '{}'", g.inputs()[i].name),
        Source::Node(n) => {
            let node = &g.nodes()[n];
            let place = if node.path.is_empty() { String::new() } else { format!(" in {}", node.path) };
            format!("the result %{} of {}{place}", id.0, node.op.name())
        }
    }
}

/// One operation of the backward pass, with all that its rule reads.
struct BackwardStep {
    trace: Trace,
    op: Op,
    /// Operands.
    x: Vec<Tensor>,
    /// Results.
    y: Vec<Tensor>,
    /// Gradients of the results, where there are any.
    dy: Vec<Option<Tensor>>,
    /// Which operands need a gradient.
    needs: Vec<bool>,
}

/// Gradients of an operand each; `None` where it is zero by construction or not needed.
type Gradients = Vec<Option<Tensor>>;

impl BackwardStep {
    /// The gradient of the first result; zeros when only other results have one.
    fn g(&self) -> Tensor {
        self.g_of(0)
    }

    fn g_of(&self, result: usize) -> Tensor {
        self.dy[result].clone().unwrap_or_else(|| zeros_like(&self.y[result]))
    }

    /// The gradient of operand `i` if it is needed.
    fn when(&self, i: usize, f: impl FnOnce() -> Tensor) -> Option<Tensor> {
        self.needs[i].then(f)
    }

    /// Differentiate through the operation's decomposition (for a fused region, its body), recorded again
    /// here.
    fn through_decomposition(&self) -> Gradients {
        let (inputs, outputs) = (types(&self.x), types(&self.y));
        let body = match decompose(&OpDesc { op: &self.op, inputs: &inputs, outputs: &outputs }) {
            Ok(Some(body)) => body,
            Ok(None) => return vec![None; self.x.len()],
            Err(e) => {
                self.trace.fail(e.op, e.operands, e.why);
                return vec![None; self.x.len()];
            }
        };
        through(&body, self)
    }
}

/// Differentiate a step through a graph that computes the same.
fn through(body: &Graph, step: &BackwardStep) -> Gradients {
    let trace = &step.trace;
    let operands: Vec<&Tensor> = step.x.iter().collect();
    let count = || trace.with_graph(|g| g.nodes().len());
    let start = count();
    let results = trace.inline(body, &operands);
    let nodes = start..count();
    let seeds = results.iter().zip(&step.dy).filter_map(|(y, g)| Some((y.id()?, g.clone()?))).collect();
    let Some(ids) = step.x.iter().map(|t| t.id()).collect::<Option<Vec<_>>>() else {
        return vec![None; step.x.len()];
    };
    // A value that is two operands is differentiated once, for both.
    let first = |i: usize| step.needs[i] && !ids[..i].contains(&ids[i]);
    let wanted: Vec<usize> = (0..ids.len()).filter(|&i| first(i)).collect();
    let values: Vec<ValueId> = wanted.iter().map(|&i| ids[i]).collect();
    let mut gradients = vec![None; ids.len()];
    for (i, g) in wanted.into_iter().zip(backward(trace, nodes, seeds, &values, false)) {
        gradients[i] = g;
    }
    gradients
}

/// Carry gradients from `seeds` back over a range of nodes to the values `wrt`.
fn backward(
    trace: &Trace,
    nodes: Range<usize>,
    seeds: Vec<(ValueId, Tensor)>,
    wrt: &[ValueId],
    scoped: bool,
) -> Gradients {
    let active = trace.with_graph(|g| active(g, nodes.clone(), wrt));
    let mut gradients: HashMap<ValueId, Tensor> = HashMap::new();
    seeds.into_iter().for_each(|(v, g)| accumulate(&mut gradients, v, g));
    for n in nodes.rev() {
        let node: Node = trace.with_graph(|g| g.nodes()[n].clone());
        let dy: Gradients = node.outputs.iter().map(|v| gradients.get(v).cloned()).collect();
        let needs: Vec<bool> = node.inputs.iter().map(|v| active.contains(v)).collect();
        if dy.iter().all(Option::is_none) || !needs.contains(&true) {
            continue;
        }
        let _scope = (scoped && !node.path.is_empty()).then(|| trace.scope(node.path.as_ref()));
        let handles = |ids: &[ValueId]| ids.iter().map(|&v| trace.value(v)).collect();
        let (x, y) = (handles(&node.inputs), handles(&node.outputs));
        let step = BackwardStep { trace: trace.clone(), op: node.op, x, y, dy, needs };
        for ((v, g), needed) in node.inputs.iter().zip(rule(&step)).zip(&step.needs) {
            if let (Some(g), true) = (g, needed) {
                accumulate(&mut gradients, *v, g);
            }
        }
    }
    wrt.iter().map(|v| gradients.get(v).cloned()).collect()
}

fn accumulate(gradients: &mut HashMap<ValueId, Tensor>, v: ValueId, g: Tensor) {
    let sum = match gradients.remove(&v) {
        Some(before) => before + g,
        None => g,
    };
    gradients.insert(v, sum);
}

/// Which values carry a derivative with respect to `wrt`: those themselves and every float made from one.
fn active(g: &Graph, nodes: Range<usize>, wrt: &[ValueId]) -> HashSet<ValueId> {
    let mut active: HashSet<ValueId> = wrt.iter().copied().collect();
    for node in &g.nodes()[nodes] {
        if node.inputs.iter().any(|v| active.contains(v)) {
            active.extend(node.outputs.iter().filter(|&&v| g.ty(v).dtype.is_float()));
        }
    }
    active
}

/// The rule of every operation. Exhaustive: a new operation needs a decision here.
fn rule(s: &BackwardStep) -> Gradients {
    match &s.op {
        Op::Constant(_) | Op::Iota { .. } => Vec::new(),
        Op::Cast { .. } => vec![s.when(0, || s.g().cast(s.x[0].dtype()))],
        Op::Bitcast { .. } => elementwise::bitcast(s),
        Op::Unary(kind) => vec![elementwise::unary(s, *kind)],
        Op::Binary(kind) => elementwise::binary(s, *kind),
        // Their results are not floats, so no gradient reaches them.
        Op::Compare(_) | Op::ArgReduce { .. } => vec![None; s.x.len()],
        Op::Select => elementwise::select(s),
        Op::Clamp => elementwise::clamp(s),
        Op::Reshape { .. } => vec![s.when(0, || s.g().reshape(s.x[0].dims()))],
        Op::Transpose { perm } => vec![shape::transpose(s, perm)],
        Op::Broadcast { dims, axes } => vec![shape::broadcast(s, dims, axes)],
        Op::Slice { start, stride, .. } => vec![shape::slice(s, start, stride)],
        Op::Pad { low, interior, .. } => shape::pad(s, low, interior),
        Op::Concat { axis } => shape::concat(s, *axis),
        Op::DynamicSlice { .. } => shape::dynamic_slice(s),
        Op::DynamicUpdateSlice => shape::dynamic_update_slice(s),
        Op::Reduce { kind, axes, .. } => vec![reduce::reduce(s, *kind, axes)],
        Op::Dot(spec) => dot::dot(s, spec),
        Op::Gather { axis } => index::gather(s, *axis),
        Op::Scatter { axis, kind } => index::scatter(s, *axis, *kind),
        Op::Sort { axis, .. } => vec![index::sort(s, *axis)],
        // Its operand is quantized and never needs a gradient.
        Op::Dequantize { .. } => vec![None],
        Op::Barrier => s.dy.clone(),
        Op::Composite(c) => composite::composite(s, c),
        Op::Fused(body) => through(body, s),
    }
}

fn types(tensors: &[Tensor]) -> Vec<TensorType> {
    tensors.iter().map(Tensor::ty).collect()
}

fn zeros_like(x: &Tensor) -> Tensor {
    x.trace().full(x.dtype(), x.dims(), 0.0)
}

/// Wide enough to add many small terms in: half precision is widened to f32.
fn wide(x: &Tensor) -> Tensor {
    x.cast(DType::F32)
}
