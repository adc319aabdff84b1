//! Cuts a lowered graph where nodes run on the host.
//!
//! A node's stage is the least that follows its operands' stages: even for the device, odd for the host. All nodes of
//! a stage become one program or one host call, so that a graph is cut no more often than data makes it necessary.

use std::collections::HashSet;
use std::ops::Range;

use percept_graph::passes::Rewrite;
use percept_graph::{Graph, Op, Role, Source, ValueId};

use crate::error::Result;

/// A graph whose nodes are in the order of their stages, and the ranges of nodes that run together.
pub(super) struct Cut {
    pub graph: Graph,
    pub parts: Vec<Part>,
}

/// Neighbouring nodes that run together.
pub(super) struct Part {
    pub nodes: Range<usize>,
    pub on_host: bool,
}

/// A part as a graph of its own.
pub(super) struct Segment {
    pub graph: Graph,
    /// The whole graph's values behind the inputs and outputs.
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
}

/// Order a graph by stages; `host` has the nodes that run on the host.
pub(super) fn cut(source: &Graph, host: &HashSet<usize>) -> Result<Cut> {
    let mut stages: Vec<usize> = Vec::with_capacity(source.nodes().len());
    for (i, node) in source.nodes().iter().enumerate() {
        let made = node.inputs.iter().filter_map(|v| match source.values()[v.index()].source {
            Source::Node(n) if !is_constant(&source.nodes()[n].op) => Some(stages[n]),
            _ => None,
        });
        let (after, parity) = (made.max().unwrap_or(0), host.contains(&i) as usize);
        stages.push(after + (after + parity) % 2);
    }
    let mut order: Vec<usize> = (0..stages.len()).collect();
    // Constants come first and belong to no part: whoever reads them has a copy.
    order.sort_by_key(|&i| (!is_constant(&source.nodes()[i].op), stages[i]));
    let mut rewrite = Rewrite::new(source)?;
    order.iter().try_for_each(|&i| rewrite.copy(&source.nodes()[i]))?;
    let graph = rewrite.finish()?;
    let mut parts: Vec<Part> = Vec::new();
    let mut last = None;
    for (position, &i) in order.iter().enumerate().filter(|(_, i)| !is_constant(&source.nodes()[**i].op)) {
        match parts.last_mut() {
            Some(part) if last == Some(stages[i]) => part.nodes.end = position + 1,
            _ => parts.push(Part { nodes: position..position + 1, on_host: stages[i] % 2 == 1 }),
        }
        last = Some(stages[i]);
    }
    Ok(Cut { graph, parts })
}

fn is_constant(op: &Op) -> bool {
    matches!(op, Op::Constant(_))
}

/// A range of nodes as a graph, with copies of the constants that it reads. An output keeps its alias where the range
/// reads the aliased input and nothing behind the range does.
pub(super) fn segment(graph: &Graph, nodes: Range<usize>) -> Result<Segment> {
    let made: HashSet<ValueId> =
        graph.nodes()[nodes.clone()].iter().flat_map(|n| n.outputs.clone()).collect();
    let later: HashSet<ValueId> = graph.nodes()[nodes.end..].iter().flat_map(|n| n.inputs.clone()).collect();
    let mut read: Vec<ValueId> = graph.nodes()[nodes.clone()]
        .iter()
        .flat_map(|n| n.inputs.clone())
        .filter(|v| !made.contains(v))
        .collect();
    read.sort_unstable();
    read.dedup();
    let mut segment = Graph::new(graph.name());
    let mut map = vec![ValueId(0); graph.values().len()];
    let mut inputs = Vec::new();
    for &v in &read {
        let (name, role) = match graph.values()[v.index()].source {
            Source::Input(i) => (graph.inputs()[i].name.clone(), graph.inputs()[i].role),
            Source::Node(n) if is_constant(&graph.nodes()[n].op) => continue,
            Source::Node(_) => (unused_name(v, |n| graph.input_index(n).is_some()), Role::Data),
        };
        map[v.index()] = segment.add_input(name, role, graph.ty(v).clone())?;
        inputs.push(v);
    }
    let constants = read.iter().filter_map(|&v| graph.producer(v)).filter(|n| is_constant(&n.op));
    for node in constants.chain(&graph.nodes()[nodes]) {
        let operands: Vec<ValueId> = node.inputs.iter().map(|v| map[v.index()]).collect();
        for (from, to) in node.outputs.iter().zip(segment.add(node.op.clone(), &operands, &node.path)?) {
            map[from.index()] = to;
        }
    }
    let mut outputs: Vec<ValueId> = Vec::new();
    for o in graph.outputs().iter().filter(|o| made.contains(&o.value)) {
        let replaced = o.alias.map(|i| graph.inputs()[i].value).filter(|v| !later.contains(v));
        let alias = replaced.and_then(|v| inputs.iter().position(|i| *i == v));
        segment.add_output(&o.name, map[o.value.index()], alias)?;
        outputs.push(o.value);
    }
    let mut crossing: Vec<ValueId> =
        made.into_iter().filter(|v| later.contains(v) && !outputs.contains(v)).collect();
    crossing.sort_unstable();
    for v in crossing {
        let name = unused_name(v, |n| graph.output_index(n).is_some());
        segment.add_output(name, map[v.index()], None)?;
        outputs.push(v);
    }
    Ok(Segment { graph: segment, inputs, outputs })
}

/// A name for a value without one, different from those in use.
fn unused_name(v: ValueId, used: impl Fn(&str) -> bool) -> String {
    let mut name = format!("%{}", v.0);
    while used(&name) {
        name.insert(0, '%');
    }
    name
}
