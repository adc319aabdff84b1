//! Tracing: running model code over [`Tensor`] handles records a graph.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::dtype::DType;
use crate::error::{GraphError, Result};
use crate::graph::{Graph, Role, ValueId};
use crate::op::Op;
use crate::tensor_type::{Literal, TensorType};

/// A graph being recorded. Cloning gives another handle to the same recording.
///
/// Methods do not return errors one by one: the first one is kept with its module path, everything computed
/// from the failed value is ignored, and [`Trace::finish`] returns it.
#[derive(Clone)]
pub struct Trace(Rc<RefCell<Recording>>);

struct Recording {
    graph: Graph,
    error: Option<GraphError>,
    scopes: Vec<String>,
    path: Arc<str>,
}

/// A handle to a value of a [`Trace`].
#[derive(Clone)]
pub struct Tensor {
    trace: Trace,
    /// `None` when an operation it depends on failed.
    id: Option<ValueId>,
}

/// Ends a scope when dropped.
pub struct Scope(Trace);

impl Drop for Scope {
    fn drop(&mut self) {
        let mut r = self.0.0.borrow_mut();
        r.scopes.pop();
        r.path = r.scopes.join(".").into();
    }
}

impl Trace {
    /// Start recording a graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self::resume(Graph::new(name))
    }

    /// Go on recording onto a graph that exists; [`Trace::value`] gives handles to its values.
    pub fn resume(graph: Graph) -> Self {
        Self(Rc::new(RefCell::new(Recording { graph, error: None, scopes: Vec::new(), path: "".into() })))
    }

    /// Enter a module; paths join with dots. Holds until the guard is dropped.
    pub fn scope(&self, name: impl Into<String>) -> Scope {
        let mut r = self.0.borrow_mut();
        r.scopes.push(name.into());
        r.path = r.scopes.join(".").into();
        drop(r);
        Scope(self.clone())
    }

    /// Add an input.
    pub fn input(&self, name: impl Into<String>, role: Role, ty: TensorType) -> Tensor {
        let added = self.0.borrow_mut().graph.add_input(name, role, ty);
        self.wrap(added)
    }

    /// Add a parameter input, named as in the checkpoint.
    pub fn parameter(&self, name: impl Into<String>, dtype: DType, dims: impl Into<Vec<usize>>) -> Tensor {
        self.input(name, Role::Parameter, TensorType::new(dtype, dims))
    }

    /// Add a data input.
    pub fn data(&self, name: impl Into<String>, dtype: DType, dims: impl Into<Vec<usize>>) -> Tensor {
        self.input(name, Role::Data, TensorType::new(dtype, dims))
    }

    /// A constant.
    pub fn constant(&self, literal: Literal) -> Tensor {
        self.op(Op::Constant(literal), &[])
    }

    /// A constant tensor of one value.
    pub fn full(&self, dtype: DType, dims: impl Into<Vec<usize>>, value: f64) -> Tensor {
        self.constant(Literal::splat(TensorType::new(dtype, dims), value))
    }

    /// 0, 1, 2 ... along `axis`.
    pub fn iota(&self, dtype: DType, dims: impl Into<Vec<usize>>, axis: usize) -> Tensor {
        self.op(Op::Iota { ty: TensorType::new(dtype, dims), axis }, &[])
    }

    /// Record an operation with one result.
    pub fn op(&self, op: Op, inputs: &[&Tensor]) -> Tensor {
        self.ops(op, inputs).into_iter().next().unwrap_or_else(|| self.poison())
    }

    /// Record an operation with any number of results; none when it fails or an operand had failed.
    pub fn ops(&self, op: Op, inputs: &[&Tensor]) -> Vec<Tensor> {
        let Some(ids) = inputs.iter().map(|t| t.id).collect::<Option<Vec<_>>>() else { return Vec::new() };
        if let Some(stranger) = inputs.iter().find(|t| !t.trace.same(self)) {
            let types = vec![stranger.ty()];
            self.fail(op.name(), types, "an operand belongs to another trace".into());
            return Vec::new();
        }
        let mut r = self.0.borrow_mut();
        let path = r.path.clone();
        match r.graph.add(op, &ids, &path) {
            Ok(values) => {
                drop(r);
                values.into_iter().map(|id| Tensor { trace: self.clone(), id: Some(id) }).collect()
            }
            Err(e) => {
                r.error.get_or_insert(e);
                Vec::new()
            }
        }
    }

    /// Name an output.
    pub fn output(&self, name: impl Into<String>, value: &Tensor) {
        self.add_output(name.into(), value, None);
    }

    /// Name an output that replaces the donated buffer of `input`.
    pub fn output_in_place(&self, name: impl Into<String>, value: &Tensor, input: &Tensor) {
        let name = name.into();
        let index = {
            let r = self.0.borrow();
            r.graph.inputs().iter().position(|i| Some(i.value) == input.id)
        };
        match index {
            Some(_) => self.add_output(name, value, index),
            None if input.id.is_some() => {
                self.fail(
                    format!("output '{name}'"),
                    vec![input.ty()],
                    "only an input can be donated".into(),
                );
            }
            None => {}
        }
    }

    /// Record another graph's nodes on `inputs`, in place of its inputs, under their own module paths; gives
    /// its outputs.
    pub fn inline(&self, graph: &Graph, inputs: &[&Tensor]) -> Vec<Tensor> {
        if inputs.len() != graph.inputs().len() {
            let why =
                format!("'{}' has {} inputs, was given {}", graph.name(), graph.inputs().len(), inputs.len());
            self.fail("inline".into(), Vec::new(), why);
            return Vec::new();
        }
        let mut map: Vec<Option<Tensor>> = vec![None; graph.values().len()];
        for (input, t) in graph.inputs().iter().zip(inputs) {
            map[input.value.index()] = Some((*t).clone());
        }
        let poison = self.poison();
        for node in graph.nodes() {
            let operands: Vec<Tensor> = node
                .inputs
                .iter()
                .map(|v| map[v.index()].clone().unwrap_or_else(|| poison.clone()))
                .collect();
            let _scope = (!node.path.is_empty()).then(|| self.scope(node.path.as_ref()));
            let results = self.ops(node.op.clone(), &operands.iter().collect::<Vec<_>>());
            for (v, t) in node.outputs.iter().zip(results) {
                map[v.index()] = Some(t);
            }
        }
        graph
            .outputs()
            .iter()
            .map(|o| map[o.value.index()].clone().unwrap_or_else(|| poison.clone()))
            .collect()
    }

    /// A handle to a value of the graph recorded so far.
    pub fn value(&self, id: ValueId) -> Tensor {
        let known = id.index() < self.0.borrow().graph.values().len();
        Tensor { trace: self.clone(), id: known.then_some(id) }
    }

    /// Look at the graph recorded so far.
    pub fn with_graph<R>(&self, f: impl FnOnce(&Graph) -> R) -> R {
        f(&self.0.borrow().graph)
    }

    /// Keep an error, unless one was kept before.
    pub fn fail(&self, op: String, operands: Vec<TensorType>, why: String) {
        let mut r = self.0.borrow_mut();
        let path = r.path.to_string();
        r.error.get_or_insert(GraphError { path, op, operands, why });
    }

    /// The graph, or the first error of its recording.
    pub fn finish(self) -> Result<Graph> {
        let mut r = self.0.borrow_mut();
        match r.error.take() {
            Some(e) => Err(e),
            None => Ok(std::mem::take(&mut r.graph)),
        }
    }

    /// A handle that stands for a failed value.
    pub(crate) fn poison(&self) -> Tensor {
        Tensor { trace: self.clone(), id: None }
    }

    /// Whether both handles are of one recording.
    pub(crate) fn same(&self, other: &Trace) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    fn wrap(&self, added: Result<ValueId>) -> Tensor {
        let id = match added {
            Ok(id) => Some(id),
            Err(e) => {
                self.0.borrow_mut().error.get_or_insert(e);
                None
            }
        };
        Tensor { trace: self.clone(), id }
    }

    fn add_output(&self, name: String, value: &Tensor, alias: Option<usize>) {
        let Some(id) = value.id else { return };
        let mut r = self.0.borrow_mut();
        if let Err(e) = r.graph.add_output(name, id, alias) {
            r.error.get_or_insert(e);
        }
    }
}

impl Tensor {
    /// The recording it belongs to.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Its value; `None` when an operation it depends on failed.
    pub fn id(&self) -> Option<ValueId> {
        self.id
    }

    /// Its type; f32[] when an operation it depends on failed.
    pub fn ty(&self) -> TensorType {
        match self.id {
            Some(id) => self.trace.with_graph(|g| g.ty(id).clone()),
            None => TensorType::new(DType::F32, []),
        }
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        self.ty().dtype
    }

    /// Its shape.
    pub fn dims(&self) -> Vec<usize> {
        self.ty().dims
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.ty().rank()
    }

    /// Extent of a dimension; 1 when there is none, so that model code continues after a recorded error.
    pub fn dim(&self, i: usize) -> usize {
        self.ty().dims.get(i).copied().unwrap_or(1)
    }
}
