//! Rematerialisation: what a module computed on the way forward is computed again on the way back instead of
//! being kept.
//!
//! A *scope* is a module path. Of what its forward nodes compute, the backward nodes (those under a path
//! segment `grad`, where [`crate::grad`] records them) read copies, made right before the first of them from
//! the values that enter the scope. A barrier comes before the copies: it keeps common subexpression
//! elimination from undoing them, and as a gradient passes through it too, they cannot be computed before
//! that gradient is there.

use std::collections::HashMap;

use crate::error::{GraphError, Result};
use crate::graph::{Graph, Node, Source, ValueId};
use crate::op::Op;
use crate::passes::rewrite::Rewrite;

/// Recompute in the backward pass what the modules at `scopes` computed in the forward pass; a scope includes
/// the modules inside it. A value that other modules or outputs read is kept. Usual scopes are the layers of
/// a decoder.
///
/// # Errors
/// When a scope names no forward node, or lies inside another.
pub fn rematerialize(graph: &Graph, scopes: &[&str]) -> Result<Graph> {
    let plan = RecomputePlan::new(graph, scopes)?;
    let mut r = Rewrite::new(graph)?;
    let mut copies: HashMap<ValueId, ValueId> = HashMap::new();
    let mut done = vec![false; scopes.len()];
    for node in graph.nodes() {
        if !is_backward(node) {
            r.copy(node)?;
            continue;
        }
        for &v in &node.inputs {
            if let Some(scope) = plan.recomputed[v.index()].filter(|&s| !done[s]) {
                done[scope] = true;
                plan.recompute(&mut r, scope, node, &mut copies)?;
            }
        }
        let operands: Vec<ValueId> =
            node.inputs.iter().map(|v| copies.get(v).copied().unwrap_or_else(|| r.get(*v))).collect();
        let results = r.add(node.op.clone(), &operands, &node.path)?;
        node.outputs.iter().zip(results).for_each(|(&old, new)| r.replace(old, new));
    }
    r.finish()
}

fn is_backward(node: &Node) -> bool {
    gradient_root(&node.path).is_some()
}

/// The path up to the segment `grad`.
fn gradient_root(path: &str) -> Option<&str> {
    let start = path.split('.').scan(0, |at, s| {
        let from = *at;
        *at += s.len() + 1;
        Some((from, s))
    });
    start.filter(|(_, s)| *s == "grad").map(|(from, s)| &path[..from + s.len()]).next()
}

fn inside(path: &str, scope: &str) -> bool {
    path.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

struct RecomputePlan<'g> {
    graph: &'g Graph,
    /// The scope that each node belongs to.
    scope_of: Vec<Option<usize>>,
    /// The scope that each value is computed again in.
    recomputed: Vec<Option<usize>>,
}

impl<'g> RecomputePlan<'g> {
    fn new(graph: &'g Graph, scopes: &[&str]) -> Result<Self> {
        let wrong = |scope: &str, why: &str| GraphError {
            path: scope.to_string(),
            op: "rematerialize".into(),
            operands: Vec::new(),
            why: why.to_string(),
        };
        for (i, scope) in scopes.iter().enumerate() {
            if scopes.iter().enumerate().any(|(j, other)| i != j && inside(scope, other)) {
                return Err(wrong(scope, "it is given twice or lies inside another scope"));
            }
            if !graph.nodes().iter().any(|n| !is_backward(n) && inside(&n.path, scope)) {
                return Err(wrong(scope, "no forward operation was traced in it"));
            }
        }
        let scope_of: Vec<Option<usize>> = graph
            .nodes()
            .iter()
            .map(|n| scopes.iter().position(|s| !is_backward(n) && inside(&n.path, s)))
            .collect();
        let mut recomputed: Vec<Option<usize>> = graph
            .values()
            .iter()
            .map(|v| match v.source {
                Source::Node(n) => scope_of[n],
                Source::Input(_) => None,
            })
            .collect();
        // What other modules or outputs read is kept.
        for (node, &scope) in graph.nodes().iter().zip(&scope_of) {
            for v in node.inputs.iter().filter(|_| !is_backward(node)) {
                if recomputed[v.index()] != scope {
                    recomputed[v.index()] = None;
                }
            }
        }
        graph.outputs().iter().for_each(|o| recomputed[o.value.index()] = None);
        Ok(Self { graph, scope_of, recomputed })
    }

    /// Nodes of a scope that are computed again, because backward nodes read what comes of them.
    fn needed(&self, scope: usize) -> Vec<&'g Node> {
        let mut wanted = vec![false; self.graph.values().len()];
        let mut nodes = Vec::new();
        for (n, node) in self.graph.nodes().iter().enumerate().rev() {
            let again = self.scope_of[n] == Some(scope)
                && node.outputs.iter().any(|v| wanted[v.index()] && self.recomputed[v.index()].is_some());
            if again {
                nodes.push(node);
            }
            if again || is_backward(node) {
                node.inputs.iter().for_each(|v| wanted[v.index()] = true);
            }
        }
        nodes.reverse();
        nodes
    }

    /// Add the copies of a scope's nodes behind a barrier, for the backward node that reads one first.
    fn recompute(
        &self,
        r: &mut Rewrite,
        scope: usize,
        reader: &Node,
        copies: &mut HashMap<ValueId, ValueId>,
    ) -> Result<()> {
        let nodes = self.needed(scope);
        let mut enter: Vec<ValueId> = Vec::new();
        for &v in nodes.iter().flat_map(|n| &n.inputs) {
            if self.recomputed[v.index()] != Some(scope) && !enter.contains(&v) {
                enter.push(v);
            }
        }
        let gradient =
            reader.inputs.iter().copied().find(|&v| self.graph.producer(v).is_some_and(is_backward));
        let operands: Vec<ValueId> = enter.iter().copied().chain(gradient).map(|v| r.get(v)).collect();
        let mut behind: HashMap<ValueId, ValueId> = HashMap::new();
        if !operands.is_empty() {
            let mut results = r.add(Op::Barrier, &operands, &reader.path)?.into_iter();
            behind = enter.into_iter().zip(results.by_ref()).collect();
            if let (Some(old), Some(new)) = (gradient, results.next()) {
                r.replace(old, new);
            }
        }
        for node in nodes {
            let inputs: Vec<ValueId> = node
                .inputs
                .iter()
                .map(|v| behind.get(v).or_else(|| copies.get(v)).copied().unwrap_or_else(|| r.get(*v)))
                .collect();
            let path = format!("{}.{}", gradient_root(&reader.path).unwrap_or_default(), node.path).into();
            let results = r.add(node.op.clone(), &inputs, &path)?;
            for (old, new) in node.outputs.iter().zip(results) {
                // A kept result of a recomputed node is read where it is kept.
                if self.recomputed[old.index()].is_some() {
                    copies.insert(*old, new);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{assert_rewrites, assert_same_values, graph};
    use crate::passes::{MemoryOptions, PassOptions, pipeline, plan_memory};
    use crate::{Activation, DType, TensorType, Trace, grad};

    #[test]
    fn the_backward_reads_copies_made_behind_a_barrier() {
        assert_rewrites(
            |g| rematerialize(g, &["layers.0"]),
            r#"graph "g"
            %0:f32[2] = input "x" data
            %1:f32[2] = unary(sin) %0  ; stem
            %2:f32[2] = unary(exp) %1  ; layers.0.up
            %3:f32[2] = unary(tanh) %2  ; layers.0.down
            %4:f32[2] = unary(neg) %3  ; head
            %5:f32[2] = unary(cos) %4  ; grad.head
            %6:f32[2] = binary(mul) %5, %3  ; grad.layers.0.down
            %7:f32[2] = binary(mul) %6, %2  ; grad.layers.0.up
            output "y" %4
            output "dx" %7"#,
            r#"graph "g"
            %0:f32[2] = input "x" data
            %1:f32[2] = unary(sin) %0  ; stem
            %2:f32[2] = unary(exp) %1  ; layers.0.up
            %3:f32[2] = unary(tanh) %2  ; layers.0.down
            %4:f32[2] = unary(neg) %3  ; head
            %5:f32[2] = unary(cos) %4  ; grad.head
            %6:f32[2] = binary(mul) %5, %3  ; grad.layers.0.down
            %7:f32[2], %8:f32[2] = barrier %1, %6  ; grad.layers.0.up
            %9:f32[2] = unary(exp) %7  ; grad.layers.0.up
            %10:f32[2] = binary(mul) %8, %9  ; grad.layers.0.up
            output "y" %4
            output "dx" %10"#,
        );
    }

    /// A residual network of `layers` wide layers with the gradients of its weights.
    fn network(layers: usize) -> Graph {
        let t = Trace::new("network");
        let mut h = t.data("x", DType::F32, [16, 8]);
        let mut weights = Vec::new();
        for l in 0..layers {
            let _scope = t.scope(format!("layers.{l}"));
            let up = t.parameter(format!("layers.{l}.up"), DType::F32, [64, 8]);
            let down = t.parameter(format!("layers.{l}.down"), DType::F32, [8, 64]);
            let wide = h.linear(&up, None, Some(Activation::Silu)).tanh();
            h = &h + (&wide * &wide).linear(&down, None, None);
            weights.extend([up, down]);
        }
        let loss = (&h * &h).sum([0, 1]);
        t.output("loss", &loss);
        for (w, g) in weights.iter().zip(grad(&loss, &weights.iter().collect::<Vec<_>>())) {
            t.output(format!("g{}", w.id().unwrap().0), &g);
        }
        t.finish().unwrap()
    }

    #[test]
    fn planned_memory_falls_and_values_stay() {
        let g = network(6);
        let scopes: Vec<String> = (0..6).map(|l| format!("layers.{l}")).collect();
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let again = rematerialize(&g, &scopes).unwrap();
        let compiled = |g: &Graph| pipeline(g, &PassOptions::default()).unwrap();
        assert_same_values(&g, &compiled(&again), 3);
        let bytes = |g: &Graph| {
            let options = MemoryOptions {
                alignment: 64,
                bytes: &|t: &TensorType| t.bytes(),
                in_place: &|_| Vec::new(),
            };
            plan_memory(&compiled(g), &options).arena_bytes()
        };
        let (kept, recomputed) = (bytes(&g), bytes(&again));
        assert!(recomputed * 2 < kept, "{recomputed} bytes instead of {kept}");
    }

    #[test]
    fn wrong_scopes_are_named() {
        let g = network(2);
        for (scopes, name) in [(vec!["layers.7"], "layers.7"), (vec!["layers.0", "layers.0"], "layers.0")] {
            let e = rematerialize(&g, &scopes).unwrap_err();
            assert!(e.to_string().contains(name), "{e}");
        }
        let nothing = graph("graph \"g\"\n%0:f32[2] = input \"x\" data\noutput \"x\" %0");
        assert_eq!(rematerialize(&nothing, &[]).unwrap(), nothing);
    }
}
