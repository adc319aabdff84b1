//! From the graph a user gave to one a device can run: what is not native is decomposed, and what has no native
//! decomposition goes to the host, counted and named.

use std::collections::HashSet;
use std::sync::Arc;

use percept_graph::{Graph, Node, Op, OpDesc, ValueId, decompose};

use crate::device::{CompileOptions, Support};
use crate::error::{Error, Result};
use crate::fallback::absorb;
use crate::report::{Placed, Placement};

/// A graph in which every node runs natively, except those listed for the host.
pub struct Lowered {
    /// The graph after folding, decomposition and fusion.
    pub graph: Graph,
    /// Nodes (by index) that run on the host.
    pub host: HashSet<usize>,
    /// Where the operations of the original graph went.
    pub placed: Vec<Placed>,
}

/// Bring a graph into a form that `supports` calls native node by node.
///
/// Reshape, bitcast, barrier and constants are never asked about: an adapter renames memory for them, or copies bytes.
///
/// # Errors
/// When an operation would need the host and there is none, or the options are strict.
pub fn lower(
    device: &str,
    graph: &Graph,
    options: &CompileOptions,
    supports: &dyn Fn(&OpDesc<'_>) -> Support,
) -> Result<Lowered> {
    let mut expansion =
        Expansion { device, options, supports, graph: Graph::new(graph.name()), placed: Vec::new() };
    let expanded = expansion.run(graph)?;
    let placed = expansion.placed;
    let graph = own_outputs(&expanded)?;
    let mut host = graph
        .nodes()
        .iter()
        .enumerate()
        .filter(|(_, n)| !is_structural(&n.op))
        .filter(|(_, n)| graph.describe(n, |d| supports(d)) != Support::Native)
        .map(|(i, _)| i)
        .collect();
    absorb(&graph, &mut host);
    Ok(Lowered { graph, host, placed })
}

/// Operations that move no data, or only whole tensors byte for byte.
pub fn is_structural(op: &Op) -> bool {
    matches!(op, Op::Constant(_) | Op::Reshape { .. } | Op::Bitcast { .. } | Op::Barrier)
}

struct Expansion<'a> {
    device: &'a str,
    options: &'a CompileOptions,
    supports: &'a dyn Fn(&OpDesc<'_>) -> Support,
    graph: Graph,
    placed: Vec<Placed>,
}

impl Expansion<'_> {
    fn run(&mut self, source: &Graph) -> Result<Graph> {
        let mut map = copy_inputs(source, &mut self.graph)?;
        for node in source.nodes() {
            let inputs: Vec<ValueId> = node.inputs.iter().map(|v| map[v.index()]).collect();
            let (outputs, placement, reason) = self.place(node, &inputs, &node.path)?;
            for (from, to) in node.outputs.iter().zip(outputs) {
                map[from.index()] = to;
            }
            if !is_structural(&node.op) {
                let op = node.op.name();
                self.placed.push(Placed { op, path: node.path.to_string(), placement, reason });
            }
        }
        copy_outputs(source, &mut self.graph, &map)?;
        Ok(std::mem::take(&mut self.graph))
    }

    /// Add a node natively, decomposed, or for the host.
    fn place(
        &mut self,
        node: &Node,
        inputs: &[ValueId],
        path: &Arc<str>,
    ) -> Result<(Vec<ValueId>, Placement, String)> {
        let types = self.graph.types(inputs);
        let outputs = percept_graph::infer(&node.op, &types).unwrap_or_default();
        let desc = OpDesc { op: &node.op, inputs: &types, outputs: &outputs };
        let answer = if is_structural(&node.op) { Support::Native } else { (self.supports)(&desc) };
        if answer == Support::Native {
            let outputs = self.graph.add(node.op.clone(), inputs, path)?;
            return Ok((outputs, Placement::Native, String::new()));
        }
        let reason = match answer {
            Support::No(why) => why,
            _ => String::new(),
        };
        let Some(body) = decompose(&desc)? else {
            return self.to_host(node, inputs, path, &desc, reason);
        };
        let mut map = vec![ValueId(0); body.values().len()];
        for (input, v) in body.inputs().iter().zip(inputs) {
            map[input.value.index()] = *v;
        }
        let mut worst = Placement::Decomposed;
        let mut because = reason;
        for part in body.nodes() {
            let operands: Vec<ValueId> = part.inputs.iter().map(|v| map[v.index()]).collect();
            let (results, placement, why) = self.place(part, &operands, path)?;
            if placement > worst {
                (worst, because) = (placement, format!("{}: {why}", part.op.name()));
            }
            for (from, to) in part.outputs.iter().zip(results) {
                map[from.index()] = to;
            }
        }
        Ok((body.outputs().iter().map(|o| map[o.value.index()]).collect(), worst, because))
    }

    fn to_host(
        &mut self,
        node: &Node,
        inputs: &[ValueId],
        path: &Arc<str>,
        desc: &OpDesc<'_>,
        reason: String,
    ) -> Result<(Vec<ValueId>, Placement, String)> {
        let refused = |why: String| Error::Unsupported {
            device: self.device.to_string(),
            op: describe(desc),
            path: path.to_string(),
            why,
        };
        if self.options.strict {
            return Err(refused(format!("{reason}; it would run on the host, which --strict forbids")));
        }
        if self.options.host.is_none() {
            return Err(refused(format!("{reason}; there is no host device to run it on")));
        }
        let outputs = self.graph.add(node.op.clone(), inputs, path)?;
        Ok((outputs, Placement::Host, reason))
    }
}

/// An operation with the types around it, for messages: `dot(f32[2,3], f32[3,4])`.
pub fn describe(desc: &OpDesc<'_>) -> String {
    let types: Vec<String> = desc.inputs.iter().map(|t| t.to_string()).collect();
    format!("{}({})", desc.op.name(), types.join(", "))
}

/// Give every output a value of its own: an output that is an input, a constant, or named twice is copied, unless it
/// is the very input it replaces.
fn own_outputs(source: &Graph) -> Result<Graph> {
    let mut graph = Graph::new(source.name());
    let mut map = copy_inputs(source, &mut graph)?;
    for node in source.nodes() {
        copy_node(source, &mut graph, &mut map, node)?;
    }
    let mut taken = HashSet::new();
    for o in source.outputs() {
        let v = map[o.value.index()];
        let input = graph.inputs().iter().position(|i| i.value == v);
        let constant = matches!(graph.producer(v).map(|n| &n.op), Some(Op::Constant(_)));
        let in_place = input.is_some() && input == o.alias;
        let shared = !in_place && (input.is_some() || constant || !taken.insert(v));
        let v = if shared { graph.add(Op::Barrier, &[v], &Arc::from(""))?[0] } else { v };
        graph.add_output(o.name.clone(), v, o.alias)?;
    }
    Ok(graph)
}

/// Put the nodes of fused regions that the device does not take back in the open.
fn split_unsupported(source: &Graph, supports: &dyn Fn(&OpDesc<'_>) -> Support) -> Result<Graph> {
    let mut graph = Graph::new(source.name());
    let mut map = copy_inputs(source, &mut graph)?;
    for node in source.nodes() {
        match &node.op {
            Op::Fused(body) if source.describe(node, |d| supports(d)) != Support::Native => {
                let mut inner = vec![ValueId(0); body.values().len()];
                for (input, v) in body.inputs().iter().zip(&node.inputs) {
                    inner[input.value.index()] = map[v.index()];
                }
                for part in body.nodes() {
                    copy_node(body, &mut graph, &mut inner, part)?;
                }
                for (to, o) in node.outputs.iter().zip(body.outputs()) {
                    map[to.index()] = inner[o.value.index()];
                }
            }
            _ => copy_node(source, &mut graph, &mut map, node)?,
        }
    }
    copy_outputs(source, &mut graph, &map)?;
    Ok(graph)
}

fn copy_inputs(source: &Graph, graph: &mut Graph) -> Result<Vec<ValueId>> {
    let mut map = vec![ValueId(0); source.values().len()];
    for i in source.inputs() {
        map[i.value.index()] = graph.add_input(i.name.clone(), i.role, source.ty(i.value).clone())?;
    }
    Ok(map)
}

fn copy_node(source: &Graph, graph: &mut Graph, map: &mut [ValueId], node: &Node) -> Result<()> {
    debug_assert!(node.inputs.iter().all(|v| v.index() < source.values().len()));
    let inputs: Vec<ValueId> = node.inputs.iter().map(|v| map[v.index()]).collect();
    let outputs = graph.add(node.op.clone(), &inputs, &node.path)?;
    for (from, to) in node.outputs.iter().zip(outputs) {
        map[from.index()] = to;
    }
    Ok(())
}

fn copy_outputs(source: &Graph, graph: &mut Graph, map: &[ValueId]) -> Result<()> {
    for o in source.outputs() {
        graph.add_output(o.name.clone(), map[o.value.index()], o.alias)?;
    }
    Ok(())
}
