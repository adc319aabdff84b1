//! From the graph a user gave to one a device can run: what is not native is decomposed, and what has no
//! native decomposition goes to the host, counted and named.

use std::collections::HashSet;
use std::sync::Arc;

use percept_graph::passes::{
    FuseOptions, PassOptions, Rewrite, eliminate_common_subexpressions, eliminate_dead_code, fuse, pipeline,
};
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
/// Elementwise operations are fused into regions within `fusion`, unless the options say no. Reshape,
/// bitcast, barrier and constants are never queried: memory is renamed for them, or bytes are copied.
///
/// # Errors
/// When an operation would need the host and there is none, or the options are strict.
pub fn lower(
    device: &str,
    graph: &Graph,
    options: &CompileOptions,
    fusion: &FuseOptions,
    supports: &dyn Fn(&OpDesc<'_>) -> Support,
) -> Result<Lowered> {
    let graph = eliminate_dead_code(&eliminate_common_subexpressions(graph)?)?;
    let mut expansion =
        Expansion { device, options, supports, rewrite: Rewrite::new(&graph)?, placed: Vec::new() };
    graph.nodes().iter().try_for_each(|node| expansion.node(node))?;
    let placed = expansion.placed;
    let expanded = expansion.rewrite.finish()?;
    let mut graph = own_outputs(&pipeline(&expanded, &PassOptions { fuse: None })?)?;
    if options.fuse {
        graph = split_unsupported(&fuse(&graph, fusion)?, supports)?;
    }
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
    rewrite: Rewrite<'a>,
    placed: Vec<Placed>,
}

impl Expansion<'_> {
    fn node(&mut self, node: &Node) -> Result<()> {
        let inputs = self.rewrite.operands(node);
        let (outputs, placement, reason) = self.place(node, &inputs, &node.path)?;
        for (&from, to) in node.outputs.iter().zip(outputs) {
            self.rewrite.replace(from, to);
        }
        if !is_structural(&node.op) {
            self.placed.push(Placed { op: node.op.name(), path: node.path.clone(), placement, reason });
        }
        Ok(())
    }

    /// Add a node natively, decomposed, or for the host.
    fn place(
        &mut self,
        node: &Node,
        inputs: &[ValueId],
        path: &Arc<str>,
    ) -> Result<(Vec<ValueId>, Placement, String)> {
        let types = self.rewrite.graph().types(inputs);
        let outputs = percept_graph::infer(&node.op, &types).unwrap_or_default();
        let desc = OpDesc { op: &node.op, inputs: &types, outputs: &outputs };
        let answer = if is_structural(&node.op) { Support::Native } else { (self.supports)(&desc) };
        if answer == Support::Native {
            let outputs = self.rewrite.add(node.op.clone(), inputs, path)?;
            return Ok((outputs, Placement::Native, String::new()));
        }
        let reason = match answer {
            Support::No(why) => why,
            _ => String::new(),
        };
        let Some(body) = decompose(&desc)? else {
            return self.host(node, inputs, path, &desc, reason);
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

    fn host(
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
        let outputs = self.rewrite.add(node.op.clone(), inputs, path)?;
        Ok((outputs, Placement::Host, reason))
    }
}

/// An operation with the types around it, for messages: `dot(f32[2,3], f32[3,4])`.
pub fn describe(desc: &OpDesc<'_>) -> String {
    let types: Vec<String> = desc.inputs.iter().map(|t| t.to_string()).collect();
    format!("{}({})", desc.op.name(), types.join(", "))
}

/// Give every output a value of its own: an output that is an input, a constant, or named twice is copied,
/// unless it is the very input it replaces.
fn own_outputs(source: &Graph) -> Result<Graph> {
    let mut taken = HashSet::new();
    let needs_copy: Vec<bool> = source
        .outputs()
        .iter()
        .map(|o| {
            let input = source.inputs().iter().position(|i| i.value == o.value);
            let constant = matches!(source.producer(o.value).map(|n| &n.op), Some(Op::Constant(_)));
            let in_place = input.is_some() && input == o.alias;
            !in_place && (input.is_some() || constant || !taken.insert(o.value))
        })
        .collect();
    if !needs_copy.contains(&true) {
        return Ok(source.clone());
    }
    let mut graph = Graph::new(source.name());
    let mut map = vec![ValueId(0); source.values().len()];
    for i in source.inputs() {
        map[i.value.index()] = graph.add_input(i.name.clone(), i.role, source.ty(i.value).clone())?;
    }
    copy_nodes(source, &mut map, |op, inputs, path| Ok(graph.add(op, inputs, path)?))?;
    for (o, copy) in source.outputs().iter().zip(needs_copy) {
        let v = map[o.value.index()];
        let v = if copy { graph.add(Op::Barrier, &[v], &Arc::from(""))?[0] } else { v };
        graph.add_output(o.name.clone(), v, o.alias)?;
    }
    Ok(graph)
}

/// Put the nodes of fused regions that the device does not take back in the open.
fn split_unsupported(source: &Graph, supports: &dyn Fn(&OpDesc<'_>) -> Support) -> Result<Graph> {
    let mut rewrite = Rewrite::new(source)?;
    for node in source.nodes() {
        match &node.op {
            Op::Fused(body) if source.describe(node, |d| supports(d)) != Support::Native => {
                let mut map = vec![ValueId(0); body.values().len()];
                for (input, v) in body.inputs().iter().zip(rewrite.operands(node)) {
                    map[input.value.index()] = v;
                }
                copy_nodes(body, &mut map, |op, inputs, path| Ok(rewrite.add(op, inputs, path)?))?;
                for (&to, o) in node.outputs.iter().zip(body.outputs()) {
                    rewrite.replace(to, map[o.value.index()]);
                }
            }
            _ => rewrite.copy(node)?,
        }
    }
    Ok(rewrite.finish()?)
}

/// Add every node of a graph elsewhere; `map` holds where its inputs went and gets the rest.
fn copy_nodes(
    source: &Graph,
    map: &mut [ValueId],
    mut add: impl FnMut(Op, &[ValueId], &Arc<str>) -> Result<Vec<ValueId>>,
) -> Result<()> {
    for node in source.nodes() {
        let inputs: Vec<ValueId> = node.inputs.iter().map(|v| map[v.index()]).collect();
        for (from, to) in node.outputs.iter().zip(add(node.op.clone(), &inputs, &node.path)?) {
            map[from.index()] = to;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use percept_graph::{Composite, DType, Trace};

    use super::*;
    use crate::report::Placement;

    fn supports_primitives(op: &OpDesc<'_>) -> Support {
        match op.op {
            Op::Composite(_) | Op::Fused(_) => Support::Decompose,
            Op::Unary(percept_graph::Unary::Erf) => Support::No("no erf".into()),
            _ => Support::Native,
        }
    }

    fn gelu() -> Graph {
        let t = Trace::new("gelu");
        let _scope = t.scope("mlp");
        let x = t.data("x", DType::F32, [4]);
        t.output("y", &x.activate(percept_graph::Activation::GeluErf).softmax());
        t.finish().unwrap()
    }

    #[test]
    fn what_is_not_native_is_named_and_refused_without_a_host() {
        let options = CompileOptions::default();
        let Err(e) = lower("toy", &gelu(), &options, &FuseOptions::default(), &supports_primitives) else {
            panic!("erf has no home")
        };
        let text = e.to_string();
        for part in ["mlp", "erf", "f32[4]", "toy", "no erf"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn composites_decompose_until_native() {
        let options = CompileOptions::default();
        let all = |op: &OpDesc<'_>| match op.op {
            Op::Composite(_) => Support::Decompose,
            _ => Support::Native,
        };
        let lowered = lower("toy", &gelu(), &options, &FuseOptions::default(), &all).unwrap();
        let composite = |n: &Node| matches!(n.op, Op::Composite(Composite::Softmax | Composite::Activate(_)));
        assert!(!lowered.graph.nodes().iter().any(composite));
        assert!(lowered.graph.nodes().iter().any(|n| matches!(n.op, Op::Fused(_))));
        assert!(lowered.host.is_empty());
        assert_eq!(lowered.placed.len(), 2);
        assert!(lowered.placed.iter().all(|p| p.placement == Placement::Decomposed));
    }

    #[test]
    fn outputs_get_memory_of_their_own() {
        let t = Trace::new("outputs");
        let x = t.data("x", DType::F32, [4]);
        let y = x.exp();
        t.output("x", &x);
        t.output("y", &y);
        t.output("z", &y);
        let (graph, options, fusion) =
            (t.finish().unwrap(), CompileOptions::default(), FuseOptions::default());
        let lowered = lower("toy", &graph, &options, &fusion, &|_| Support::Native).unwrap();
        let mut values: Vec<_> = lowered.graph.outputs().iter().map(|o| o.value).collect();
        values.push(lowered.graph.inputs()[0].value);
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 4);
    }
}
