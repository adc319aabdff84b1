//! Copying a graph node by node, with changes on the way.

use std::sync::Arc;

use crate::error::Result;
use crate::graph::{Graph, Input, Node, ValueId};
use crate::op::Op;
use crate::tensor_type::TensorType;

/// A new graph made from an old one: it starts with the old inputs, and every old value that was copied or
/// replaced has a counterpart in it.
pub struct Rewrite<'g> {
    old: &'g Graph,
    new: Graph,
    map: Vec<Option<ValueId>>,
}

impl<'g> Rewrite<'g> {
    /// A graph with the inputs of `old` and no nodes.
    pub fn new(old: &'g Graph) -> Result<Self> {
        Self::with_types(old, |_, ty| ty.clone())
    }

    /// A graph with the inputs of `old` under other types and no nodes.
    pub fn with_types(old: &'g Graph, ty: impl Fn(&Input, &TensorType) -> TensorType) -> Result<Self> {
        let mut r = Self { old, new: Graph::new(old.name()), map: vec![None; old.values().len()] };
        for input in old.inputs() {
            let v = r.new.add_input(&input.name, input.role, ty(input, old.ty(input.value)))?;
            r.replace(input.value, v);
        }
        Ok(r)
    }

    /// The counterpart of an old value, which was copied or replaced before.
    pub fn get(&self, old: ValueId) -> ValueId {
        self.map[old.index()].expect("operands are copied before their users")
    }

    /// The new graph so far.
    pub fn graph(&self) -> &Graph {
        &self.new
    }

    /// The counterparts of a node's operands.
    pub fn operands(&self, node: &Node) -> Vec<ValueId> {
        node.inputs.iter().map(|&v| self.get(v)).collect()
    }

    /// Let `new` stand for `old` from here on.
    pub fn replace(&mut self, old: ValueId, new: ValueId) {
        self.map[old.index()] = Some(new);
    }

    /// Add an operation to the new graph.
    pub fn add(&mut self, op: Op, inputs: &[ValueId], path: &Arc<str>) -> Result<Vec<ValueId>> {
        self.new.add(op, inputs, path)
    }

    /// Copy a node on the counterparts of its operands.
    pub fn copy(&mut self, node: &Node) -> Result<()> {
        let operands = self.operands(node);
        let alike =
            node.inputs.iter().zip(&operands).all(|(&old, &new)| self.old.ty(old) == self.new.ty(new));
        // Types were inferred when the old graph was made, and passes copy most of its nodes.
        let results = match alike {
            true => self.new.add_alike(self.old, node, operands),
            false => self.new.add(node.op.clone(), &operands, &node.path)?,
        };
        for (&old, new) in node.outputs.iter().zip(results) {
            self.replace(old, new);
        }
        Ok(())
    }

    /// Copy the outputs and give the graph.
    pub fn finish(mut self) -> Result<Graph> {
        for o in self.old.outputs() {
            let v = self.get(o.value);
            self.new.add_output(&o.name, v, o.alias)?;
        }
        Ok(self.new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{graph, random_graph};

    #[test]
    fn copying_every_node_gives_the_same_graph() {
        for seed in 0..20 {
            let old = random_graph(seed);
            let mut r = Rewrite::new(&old).unwrap();
            old.nodes().iter().for_each(|n| r.copy(n).unwrap());
            assert_eq!(r.finish().unwrap(), old);
        }
    }

    #[test]
    fn aliases_and_paths_are_kept() {
        let old = graph(
            r#"graph "g"
            %0:f32[2] = input "x" state
            %1:f32[2] = unary(exp) %0  ; layers.0
            output "x" %1 replaces "x""#,
        );
        let mut r = Rewrite::new(&old).unwrap();
        old.nodes().iter().for_each(|n| r.copy(n).unwrap());
        assert_eq!(r.finish().unwrap().to_string(), old.to_string());
    }
}
