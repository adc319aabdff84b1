//! The graph: SSA nodes in topological order, named inputs with roles, named outputs that may alias donated
//! inputs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{GraphError, Result};
use crate::infer::infer;
use crate::op::{Op, OpDesc};
use crate::tensor_type::TensorType;

/// A value of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// Position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an input is to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A weight, named as in the checkpoint.
    Parameter,
    /// Carried from run to run: a KV cache, optimizer moments.
    State,
    /// Different in every run.
    Data,
    /// A small value that changes from step to step: a seed, a learning rate, a position.
    Scalar,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The input with this index.
    Input(usize),
    /// A result of the node with this index.
    Node(usize),
}

/// A value's type and origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// The dtype and shape.
    pub ty: TensorType,
    /// Whether an input or a node makes it.
    pub source: Source,
}

/// An input of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// Unique name; for parameters the checkpoint's.
    pub name: String,
    /// What it is to the model.
    pub role: Role,
    /// The value in the graph.
    pub value: ValueId,
}

/// An output of a graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// The name, unique among the outputs.
    pub name: String,
    /// The value in the graph.
    pub value: ValueId,
    /// Index of the input whose donated buffer holds this output.
    pub alias: Option<usize>,
}

/// A node: one operation on values of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The operation that it computes.
    pub op: Op,
    /// The operands in order.
    pub inputs: Vec<ValueId>,
    /// Results, one or more.
    pub outputs: Vec<ValueId>,
    /// The module path it was traced in.
    pub path: Arc<str>,
}

/// A program: values, nodes in topological order, inputs and outputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    name: String,
    values: Vec<Value>,
    nodes: Vec<Node>,
    inputs: Vec<Input>,
    outputs: Vec<Output>,
}

impl Graph {
    /// A graph without nodes.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The name of the graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All values; a [`ValueId`] is an index into them.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// All nodes, operands before users.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The inputs in order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The outputs in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// Type of a value.
    pub fn ty(&self, v: ValueId) -> &TensorType {
        &self.values[v.index()].ty
    }

    /// The node that makes a value, unless it is an input.
    pub fn producer(&self, v: ValueId) -> Option<&Node> {
        match self.values[v.index()].source {
            Source::Node(n) => self.nodes.get(n),
            Source::Input(_) => None,
        }
    }

    /// The inputs and the outputs alone, in their order and with their types, for who has made something else of the nodes.
    /// Values are numbered anew.
    pub fn signature(&self) -> Self {
        let mut all = Self::new(self.name.clone());
        let mut numbers = HashMap::new();
        let mut number = |v: ValueId| {
            *numbers.entry(v).or_insert_with(|| {
                all.values.push(self.values[v.index()].clone());
                ValueId(all.values.len() as u32 - 1)
            })
        };
        let inputs = self.inputs.iter().map(|input| Input { value: number(input.value), ..input.clone() });
        let inputs = inputs.collect();
        let outputs =
            self.outputs.iter().map(|output| Output { value: number(output.value), ..output.clone() });
        let outputs = outputs.collect();
        Self { inputs, outputs, ..all }
    }

    /// Types of several values.
    pub fn types(&self, values: &[ValueId]) -> Vec<TensorType> {
        values.iter().map(|&v| self.ty(v).clone()).collect()
    }

    /// Call `f` with a node's description.
    pub fn describe<R>(&self, node: &Node, f: impl FnOnce(&OpDesc<'_>) -> R) -> R {
        let (inputs, outputs) = (self.types(&node.inputs), self.types(&node.outputs));
        f(&OpDesc { op: &node.op, inputs: &inputs, outputs: &outputs })
    }

    /// Index of the input with a name.
    pub fn input_index(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|i| i.name == name)
    }

    /// Index of the output with a name.
    pub fn output_index(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|o| o.name == name)
    }

    /// Add an input. Names are unique.
    pub fn add_input(&mut self, name: impl Into<String>, role: Role, ty: TensorType) -> Result<ValueId> {
        let name = name.into();
        let error = |why: String| GraphError {
            path: String::new(),
            op: format!("input '{name}'"),
            operands: vec![ty.clone()],
            why,
        };
        if self.input_index(&name).is_some() {
            return Err(error("another input has this name".into()));
        }
        check_blocks(&ty).map_err(error)?;
        let value = self.push_value(ty, Source::Input(self.inputs.len()));
        self.inputs.push(Input { name, role, value });
        Ok(value)
    }

    /// Add an operation; its result types are inferred and checked.
    pub fn add(&mut self, op: Op, inputs: &[ValueId], path: &Arc<str>) -> Result<Vec<ValueId>> {
        let types = self.types(inputs);
        let results = infer(&op, &types).map_err(|why| GraphError {
            path: path.to_string(),
            op: op.name(),
            operands: types,
            why,
        })?;
        Ok(self.push_node(op, inputs.to_vec(), results, path))
    }

    /// Add a node of a graph on operands that have the types of its own here, so that its results do too.
    pub(crate) fn add_alike(&mut self, other: &Graph, node: &Node, inputs: Vec<ValueId>) -> Vec<ValueId> {
        let results = node.outputs.iter().map(|&v| other.ty(v).clone()).collect();
        self.push_node(node.op.clone(), inputs, results, &node.path)
    }

    fn push_node(
        &mut self,
        op: Op,
        inputs: Vec<ValueId>,
        results: Vec<TensorType>,
        path: &Arc<str>,
    ) -> Vec<ValueId> {
        let node = self.nodes.len();
        let outputs: Vec<ValueId> =
            results.into_iter().map(|ty| self.push_value(ty, Source::Node(node))).collect();
        self.nodes.push(Node { op, inputs, outputs: outputs.clone(), path: path.clone() });
        outputs
    }

    /// Name a value as an output; `alias` is the input whose donated buffer it replaces, of the same type.
    pub fn add_output(
        &mut self,
        name: impl Into<String>,
        value: ValueId,
        alias: Option<usize>,
    ) -> Result<()> {
        let name = name.into();
        let ty = self.ty(value).clone();
        let error = |why: String| {
            Err(GraphError {
                path: String::new(),
                op: format!("output '{name}'"),
                operands: vec![ty.clone()],
                why,
            })
        };
        if self.output_index(&name).is_some() {
            return error("another output has this name".into());
        }
        if let Some(i) = alias {
            let Some(input) = self.inputs.get(i) else {
                return error(format!("it aliases input {i}, but there are {}", self.inputs.len()));
            };
            if self.ty(input.value) != &ty {
                return error(format!("it aliases '{}', which is {}", input.name, self.ty(input.value)));
            }
            if self.outputs.iter().any(|o| o.alias == Some(i)) {
                return error(format!("another output aliases '{}' already", input.name));
            }
        }
        self.outputs.push(Output { name, value, alias });
        Ok(())
    }

    /// Keep only the outputs whose names `keep` holds for; what nothing reads any more is dead code.
    pub fn retain_outputs(&mut self, keep: impl Fn(&str) -> bool) {
        self.outputs.retain(|o| keep(&o.name));
    }

    /// How many times each value is used, outputs included.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        for v in self.nodes.iter().flat_map(|n| &n.inputs).chain(self.outputs.iter().map(|o| &o.value)) {
            counts[v.index()] += 1;
        }
        counts
    }

    /// The inputs whose donated buffers outputs alias.
    pub fn donated(&self) -> HashSet<usize> {
        self.outputs.iter().filter_map(|o| o.alias).collect()
    }

    fn push_value(&mut self, ty: TensorType, source: Source) -> ValueId {
        self.values.push(Value { ty, source });
        ValueId(self.values.len() as u32 - 1)
    }
}

/// A quantized row must be a whole number of blocks.
pub(crate) fn check_blocks(ty: &TensorType) -> Result<(), String> {
    let block = ty.dtype.block_len();
    match ty.dims.last() {
        _ if block == 1 => Ok(()),
        Some(d) if d % block == 0 => Ok(()),
        _ => Err(format!("the last dimension of {} must be a multiple of its block of {block}", ty.dtype)),
    }
}
