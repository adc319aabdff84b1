//! A graph as ONNX nodes.
//!
//! Every operation keeps the graph's own meaning: what ONNX leaves open, such as a division by zero or an
//! index out of range, is written out with other operators. Half-precision values are computed in f32 and
//! rounded by a cast, which gives the same result for a single operation.

mod attention;
mod builder;
mod composite;
mod convert;
mod elementwise;
mod indexing;
mod movement;
mod product;
mod reduce;
mod support;
mod weight;

use std::collections::HashSet;

use percept_graph::{Graph, GraphError, Node, Op, ValueId, decompose};

pub use builder::Elem;
use builder::{Builder, Place};
pub use support::supports;
pub use weight::{Part, WeightTensor};

use crate::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use crate::style::Style;

/// Why a graph cannot be written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EmitError {
    /// An operation has no operators in this style.
    #[error("{}{op} cannot be written as ONNX: {why}", at(path))]
    Refused {
        /// The operation's name.
        op: String,
        /// Module path of the operation.
        path: String,
        /// Why, and what would help.
        why: String,
    },
    /// A decomposition does not build.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

fn at(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("in {path}: ") }
}

/// An input or output of an emitted graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Index among the graph's inputs or outputs.
    pub index: usize,
    /// Name in the model.
    pub name: String,
    /// Element type in the model.
    pub elem: Elem,
    /// The shape.
    pub dims: Vec<usize>,
}

/// An output that may be written where a donated input lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InPlace {
    /// Index among the graph's outputs.
    pub output: usize,
    /// Index among the graph's inputs.
    pub input: usize,
}

/// A graph in ONNX, without its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Emitted {
    /// Operator sets by domain.
    pub opsets: Vec<(String, i64)>,
    /// The graph's name.
    pub name: String,
    /// The nodes, operands before users.
    pub nodes: Vec<NodeProto>,
    /// Small constants of the graph itself.
    pub constants: Vec<TensorProto>,
    /// What is made of the inputs that are constants, at the time their bytes are known.
    pub weights: Vec<WeightTensor>,
    /// The inputs that are given with each run.
    pub inputs: Vec<Port>,
    /// The outputs.
    pub outputs: Vec<Port>,
    /// Outputs that may take the place of the donated input that they alias: nothing reads the input after
    /// the node that writes the output.
    pub in_place: Vec<InPlace>,
}

/// Write a graph. The inputs in `constants` (by index) become weights of the model, as do all quantized ones.
///
/// # Errors
/// When an operation cannot be written in the style, naming it.
pub fn emit(graph: &Graph, style: Style, constants: &HashSet<usize>) -> Result<Emitted, EmitError> {
    let mut e = Emission { builder: Builder::new(style) };
    let mut places = vec![None; graph.values().len()];
    let mut inputs = Vec::new();
    for (index, input) in graph.inputs().iter().enumerate() {
        let ty = graph.ty(input.value);
        let name = e.builder.unique(&input.name);
        let place = if ty.dtype.is_quantized() || constants.contains(&index) {
            e.builder.weight_names.insert(index, name);
            Place::Weight(index)
        } else {
            inputs.push(Port { index, name: name.clone(), elem: Elem::of(ty.dtype), dims: ty.dims.clone() });
            Place::Whole(name)
        };
        places[input.value.index()] = Some(place);
    }
    let mut values = Values { graph, places, uses: graph.use_counts() };
    graph.nodes().iter().try_for_each(|node| e.node(&mut values, node))?;
    let mut outputs = Vec::new();
    for (index, output) in graph.outputs().iter().enumerate() {
        let ty = graph.ty(output.value);
        if ty.dtype.is_quantized() {
            return Err(EmitError::Refused {
                op: format!("output '{}'", output.name),
                path: String::new(),
                why: format!("ONNX has no tensors of {}", ty.dtype),
            });
        }
        let value = values.whole(&mut e.builder, output.value);
        let name = e.builder.unique(&output.name);
        e.builder.name_output(&value, &name);
        outputs.push(Port { index, name, elem: Elem::of(ty.dtype), dims: ty.dims.clone() });
    }
    let mut builder = e.builder;
    builder.drop_unused(&outputs);
    let in_place = in_place(graph, &builder.nodes, &inputs, &outputs);
    let mut opsets = vec![(String::new(), style.opset)];
    if builder.nodes.iter().any(|n| !n.domain.is_empty()) {
        opsets.push((MICROSOFT.to_string(), 1));
    }
    Ok(Emitted {
        opsets,
        name: graph.name().to_string(),
        nodes: builder.nodes,
        constants: builder.constants,
        weights: builder.weights,
        inputs,
        outputs,
        in_place,
    })
}

/// The domain of ONNX Runtime's own operators.
pub(crate) const MICROSOFT: &str = "com.microsoft";

/// Operators that copy their first operand and change a part of it; their runtimes do so in place.
const WRITERS: [&str; 3] = ["ScatterND", "ScatterElements", "TensorScatter"];

/// Outputs whose writer takes the aliased input first, while every other reader of it comes before the writer.
fn in_place(graph: &Graph, nodes: &[NodeProto], inputs: &[Port], outputs: &[Port]) -> Vec<InPlace> {
    let mut found = Vec::new();
    for output in outputs {
        let Some(alias) = graph.outputs()[output.index].alias else { continue };
        let Some(input) = inputs.iter().find(|p| p.index == alias) else { continue };
        let Some(writer) = nodes.iter().position(|n| n.output.contains(&output.name)) else { continue };
        let writes = WRITERS.contains(&nodes[writer].op_type.as_str())
            && nodes[writer].input.first() == Some(&input.name)
            && !nodes[writer].input[1..].contains(&input.name);
        // What the writer needs, directly or not: only that is sure to have run before it.
        let mut needed: HashSet<&str> = nodes[writer].input.iter().map(String::as_str).collect();
        let mut before = vec![false; writer];
        for i in (0..writer).rev() {
            if nodes[i].output.iter().any(|o| needed.contains(o.as_str())) {
                before[i] = true;
                needed.extend(nodes[i].input.iter().map(String::as_str));
            }
        }
        let reads = |n: &NodeProto| n.input.contains(&input.name);
        let safe = nodes
            .iter()
            .enumerate()
            .all(|(i, n)| i == writer || !reads(n) || before.get(i).copied().unwrap_or(false));
        if writes && safe {
            found.push(InPlace { output: output.index, input: alias });
        }
    }
    found
}

impl Emitted {
    /// The model with these weights inside, in the order of [`Emitted::weights`].
    pub fn model(&self, weights: Vec<TensorProto>) -> ModelProto {
        let port = |p: &Port| ValueInfoProto::tensor(&p.name, p.elem as i32, &p.dims);
        ModelProto {
            // Version 10 came with operator set 21, and 8 with 16 to 18; readers refuse newer ones than theirs.
            ir_version: if self.opsets[0].1 < 19 { 8 } else { 10 },
            producer_name: "percept".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(GraphProto {
                node: self.nodes.clone(),
                name: if self.name.is_empty() { "graph".into() } else { self.name.clone() },
                initializer: self.constants.iter().cloned().chain(weights).collect(),
                input: self.inputs.iter().map(port).collect(),
                output: self.outputs.iter().map(port).collect(),
            }),
            opset_import: self
                .opsets
                .iter()
                .map(|(domain, version)| OperatorSetIdProto { domain: domain.clone(), version: *version })
                .collect(),
        }
    }
}

/// The values of a graph and where they are in the model.
struct Values<'g> {
    graph: &'g Graph,
    places: Vec<Option<Place>>,
    uses: Vec<usize>,
}

struct Emission {
    builder: Builder,
}

impl Emission {
    fn node(&mut self, values: &mut Values<'_>, node: &Node) -> Result<(), EmitError> {
        let b = &mut self.builder;
        b.path =
            if node.path.is_empty() { node.op.name() } else { format!("{}/{}", node.path, node.op.name()) };
        // Nothing is computed where nothing comes out.
        if node.outputs.iter().all(|&o| values.graph.ty(o).numel() == 0) {
            for &o in &node.outputs {
                let place = Place::Whole(b.empty(values.graph.ty(o)));
                values.set(o, place);
            }
            return Ok(());
        }
        let refused =
            |why: String| EmitError::Refused { op: node.op.name(), path: node.path.to_string(), why };
        let whole = match &node.op {
            Op::Fused(_) => false,
            Op::Composite(_) => {
                let starved = node.inputs.iter().any(|&i| values.graph.ty(i).numel() == 0);
                !starved && values.graph.describe(node, |d| supports(d, b.style)).is_ok()
            }
            _ => {
                values.graph.describe(node, |d| supports(d, b.style)).map_err(refused)?;
                true
            }
        };
        if whole {
            return self.primitive(values, node);
        }
        let Some(body) = values.graph.describe(node, decompose)? else {
            return Err(refused("it has no decomposition".into()));
        };
        let mut inner =
            Values { graph: &body, places: vec![None; body.values().len()], uses: body.use_counts() };
        for (input, v) in body.inputs().iter().zip(&node.inputs) {
            inner.places[input.value.index()] = values.places[v.index()].clone();
        }
        let path = self.builder.path.clone();
        for part in body.nodes() {
            self.node(&mut inner, part)?;
            self.builder.path.clone_from(&path);
        }
        for (output, &v) in body.outputs().iter().zip(&node.outputs) {
            let place = inner.place(output.value).clone();
            values.set(v, place);
        }
        Ok(())
    }

    /// A node of the graph as nodes of the model.
    fn primitive(&mut self, values: &mut Values<'_>, node: &Node) -> Result<(), EmitError> {
        let b = &mut self.builder;
        let results = match &node.op {
            Op::Constant(l) => vec![b.literal(l)],
            Op::Iota { ty, axis } => vec![b.iota(ty, *axis)],
            Op::Broadcast { dims, axes } => vec![movement::broadcast(b, values, node, dims, axes)],
            Op::Cast { .. }
            | Op::Bitcast { .. }
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select
            | Op::Clamp => elementwise::emit(b, values, node),
            Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Concat { .. }
            | Op::DynamicSlice { .. }
            | Op::DynamicUpdateSlice
            | Op::Barrier => movement::emit(b, values, node),
            Op::Reduce { kind, axes, .. } => vec![reduce::reduce(b, values, node, *kind, axes)],
            Op::ArgReduce { kind, axis } => vec![reduce::arg_reduce(b, values, node, *kind, *axis)],
            Op::Dot(spec) => vec![product::dot(b, values, node, spec)],
            Op::Gather { axis } => vec![indexing::gather(b, values, node, *axis)],
            Op::Scatter { axis, kind } => vec![indexing::scatter(b, values, node, *axis, *kind)],
            Op::Sort { axis, descending, limit } => {
                indexing::sort(b, values, node, *axis, *descending, *limit)
            }
            Op::Dequantize { to } => vec![weight::dequantize(b, values, node, *to)],
            Op::Composite(c) => composite::emit(b, values, node, c),
            Op::Fused(_) => Vec::new(),
        };
        for (&o, place) in node.outputs.iter().zip(results) {
            values.set(o, place);
        }
        Ok(())
    }
}

impl Values<'_> {
    fn place(&self, v: ValueId) -> &Place {
        static NOTHING: Place = Place::Missing;
        self.places[v.index()].as_ref().unwrap_or(&NOTHING)
    }

    /// Whether anything reads a value. What a decomposed composite does not use may have been asked for.
    fn is_used(&self, v: ValueId) -> bool {
        self.uses[v.index()] > 0
    }

    fn set(&mut self, v: ValueId, place: Place) {
        self.places[v.index()] = Some(place);
    }

    /// The name of a value in its full shape.
    fn whole(&mut self, b: &mut Builder, v: ValueId) -> String {
        let ty = self.graph.ty(v);
        let name = match self.place(v) {
            Place::Whole(name) => return name.clone(),
            Place::Weight(input) => b.weight(*input, Part::Dense, ty),
            Place::Spread { name, .. } => b.expand(&name.clone(), ty),
            Place::Missing => b.empty(ty),
        };
        self.set(v, Place::Whole(name.clone()));
        name
    }
}

#[cfg(test)]
mod tests;
