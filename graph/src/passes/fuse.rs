//! Fusion: connected elementwise primitives over one index space become one [`Op::Fused`] region, so that a
//! device reads their operands and writes their results once.
//!
//! Every node gets a *stage* that never falls along an edge and rises on every edge that leaves an
//! elementwise node for anything but an elementwise node of the same shape. Two elementwise nodes of one
//! shape and stage therefore have no path through an outside node between them, and connected ones may share
//! a region without making a cycle. This takes linear time. Stages are as early as operands allow and then
//! moved as late as users allow, so that what the backward pass derives from a forward value is computed
//! beside its use and not kept.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use crate::error::Result;
use crate::graph::{Graph, Role, Source, ValueId};
use crate::op::Op;
use crate::passes::dce::eliminate_dead_code;
use crate::passes::rewrite::Rewrite;
use crate::tensor_type::{Literal, LiteralData, TensorType};

/// Limits of a fused region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuseOptions {
    /// The most distinct operands of a region.
    pub max_operands: usize,
    /// The most results of a region.
    pub max_results: usize,
    /// Both together; GPUs bind few buffers.
    pub max_buffers: usize,
    /// The most elementwise operations of a region.
    pub max_ops: usize,
}

impl Default for FuseOptions {
    fn default() -> Self {
        Self { max_operands: 8, max_results: 8, max_buffers: 16, max_ops: 256 }
    }
}

/// Group elementwise primitives into regions. Splat constants, iota and broadcasts that feed a region are
/// repeated in it; a region of one node and nothing else stays a node.
pub fn fuse(graph: &Graph, options: &FuseOptions) -> Result<Graph> {
    // Without dead nodes every region has a result that someone reads.
    let graph = eliminate_dead_code(graph)?;
    let fusion = Fusion { graph: &graph, uses: graph.use_counts() };
    let regions = fusion.regions(options);
    eliminate_dead_code(&fusion.emit(&regions)?)
}

/// What an operand of a region's operation is to the region.
enum Feed<'g> {
    /// The result of another member, or of any other node or input: read at the index.
    Value(ValueId),
    /// The same value everywhere.
    Splat(Literal),
    /// A count along an axis, made inside.
    Iota(&'g Op),
    /// A value from outside under a broadcast, repeated inside.
    Broadcast(ValueId, &'g Op),
}

struct Fusion<'g> {
    graph: &'g Graph,
    uses: Vec<usize>,
}

impl<'g> Fusion<'g> {
    fn producer(&self, v: ValueId) -> Option<usize> {
        match self.graph.values()[v.index()].source {
            Source::Node(n) => Some(n),
            Source::Input(_) => None,
        }
    }

    fn elementwise(&self, n: usize) -> bool {
        self.graph.nodes()[n].op.is_elementwise()
    }

    fn result_dims(&self, n: usize) -> &'g [usize] {
        &self.graph.ty(self.graph.nodes()[n].outputs[0]).dims
    }

    /// Both elementwise over one index space.
    fn joins(&self, a: usize, b: usize) -> bool {
        self.elementwise(a) && self.elementwise(b) && self.result_dims(a) == self.result_dims(b)
    }

    fn splat(&self, v: ValueId, ty: &TensorType) -> Option<Literal> {
        match &self.graph.nodes()[self.producer(v)?].op {
            Op::Constant(Literal { data: LiteralData::Splat(x), .. }) => {
                Some(Literal { ty: ty.clone(), data: LiteralData::Splat(*x) })
            }
            _ => None,
        }
    }

    fn feed(&self, v: ValueId) -> Feed<'g> {
        let ty = self.graph.ty(v);
        if let Some(literal) = self.splat(v, ty) {
            return Feed::Splat(literal);
        }
        let node = self.graph.producer(v);
        match node.map(|n| (&n.op, n)) {
            Some((op @ Op::Iota { .. }, _)) => Feed::Iota(op),
            Some((op @ Op::Broadcast { .. }, n)) => match self.splat(n.inputs[0], ty) {
                Some(literal) => Feed::Splat(literal),
                None => Feed::Broadcast(n.inputs[0], op),
            },
            _ => Feed::Value(v),
        }
    }

    /// The value that feeds an operand from outside a region, if one does.
    fn read(&self, v: ValueId) -> Option<ValueId> {
        match self.feed(v) {
            Feed::Value(v) | Feed::Broadcast(v, _) => Some(v),
            Feed::Splat(_) | Feed::Iota(_) => None,
        }
    }

    fn stages(&self) -> Vec<usize> {
        let nodes = self.graph.nodes();
        let rise = |from: usize, to: usize| (self.elementwise(from) && !self.joins(from, to)) as usize;
        let mut stage = vec![0; nodes.len()];
        for (n, node) in nodes.iter().enumerate() {
            let operands = node.inputs.iter().filter_map(|&v| self.producer(v));
            stage[n] = operands.map(|p| stage[p] + rise(p, n)).max().unwrap_or(0);
        }
        let mut latest = vec![usize::MAX; nodes.len()];
        for (n, node) in nodes.iter().enumerate().rev() {
            let moves = self.elementwise(n) || matches!(node.op, Op::Broadcast { .. });
            if moves && latest[n] != usize::MAX {
                stage[n] = latest[n];
            }
            for p in node.inputs.iter().filter_map(|&v| self.producer(v)) {
                latest[p] = latest[p].min(stage[n] - rise(p, n));
            }
        }
        stage
    }

    /// Regions as lists of nodes in topological order.
    fn regions(&self, options: &FuseOptions) -> Vec<Vec<usize>> {
        let stage = self.stages();
        let mut sets = DisjointSets((0..stage.len()).collect());
        let elementwise: Vec<usize> = (0..stage.len()).filter(|&n| self.elementwise(n)).collect();
        for &n in &elementwise {
            for p in self.graph.nodes()[n].inputs.iter().filter_map(|&v| self.producer(v)) {
                if stage[p] == stage[n] && self.joins(p, n) {
                    sets.union(p, n);
                }
            }
        }
        let mut order = Vec::new();
        let mut groups: HashMap<usize, Vec<usize>> = HashMap::new();
        for &n in &elementwise {
            let root = sets.find(n);
            let group = groups.entry(root).or_default();
            if group.is_empty() {
                order.push(root);
            }
            group.push(n);
        }
        let pieces = order.iter().flat_map(|root| self.split(&groups[root], options));
        pieces.filter(|region| region.len() > 1 || self.absorbs(region[0])).collect()
    }

    /// A node with a constant, iota or broadcast among its operands is worth a region of its own.
    fn absorbs(&self, n: usize) -> bool {
        self.graph.nodes()[n].inputs.iter().any(|&v| !matches!(self.feed(v), Feed::Value(_)))
    }

    /// Cut a group into consecutive pieces within the limits; consecutive pieces cannot make a cycle.
    fn split(&self, group: &[usize], options: &FuseOptions) -> Vec<Vec<usize>> {
        let mut pieces = Vec::new();
        let mut rest = group;
        while !rest.is_empty() {
            let (mut best, mut operands) = (1, Vec::new());
            // Uses of the piece's results that are outside the piece so far.
            let mut open: HashMap<ValueId, usize> = HashMap::new();
            for (i, &n) in rest.iter().take(options.max_ops).enumerate() {
                let node = &self.graph.nodes()[n];
                for &v in &node.inputs {
                    if let Some(left) = open.get_mut(&v) {
                        *left -= 1;
                    } else if let Some(v) = self.read(v).filter(|v| !operands.contains(v)) {
                        operands.push(v);
                    }
                }
                if operands.len() > options.max_operands {
                    break;
                }
                open.insert(node.outputs[0], self.uses[node.outputs[0].index()]);
                let results = open.values().filter(|&&left| left > 0).count();
                if results <= options.max_results && operands.len() + results <= options.max_buffers {
                    best = i + 1;
                }
            }
            pieces.push(rest[..best].to_vec());
            rest = &rest[best..];
        }
        pieces
    }

    /// Rebuild the graph with regions in place of their nodes, in an order as near the old one as they allow.
    fn emit(&self, regions: &[Vec<usize>]) -> Result<Graph> {
        let nodes = self.graph.nodes();
        // A unit is a region, known by its last node, or a node outside every region.
        let mut unit: Vec<usize> = (0..nodes.len()).collect();
        let mut region_of = vec![None; nodes.len()];
        for region in regions {
            let last = region[region.len() - 1];
            region.iter().for_each(|&n| unit[n] = last);
            region_of[last] = Some(region);
        }
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        let mut missing = vec![0usize; nodes.len()];
        for (n, node) in nodes.iter().enumerate() {
            let in_region = region_of[unit[n]].is_some();
            for &v in &node.inputs {
                let read = if in_region { self.read(v) } else { Some(v) };
                let Some(p) = read.and_then(|v| self.producer(v)).map(|p| unit[p]) else { continue };
                if p != unit[n] {
                    users[p].push(unit[n]);
                    missing[unit[n]] += 1;
                }
            }
        }
        let mut ready: BinaryHeap<Reverse<usize>> =
            (0..nodes.len()).filter(|&n| unit[n] == n && missing[n] == 0).map(Reverse).collect();
        let mut r = Rewrite::new(self.graph)?;
        while let Some(Reverse(u)) = ready.pop() {
            match region_of[u] {
                Some(region) => self.emit_region(&mut r, region)?,
                None => r.copy(&nodes[u])?,
            }
            for &user in &users[u] {
                missing[user] -= 1;
                if missing[user] == 0 {
                    ready.push(Reverse(user));
                }
            }
        }
        r.finish()
    }

    fn emit_region(&self, r: &mut Rewrite, region: &[usize]) -> Result<()> {
        let nodes = self.graph.nodes();
        let path: Arc<str> = "".into();
        let mut body = Graph::new("fused");
        // Values of the body: those read at the index, and broadcast or constant ones, by the old values they
        // stand for.
        let mut inside: HashMap<ValueId, ValueId> = HashMap::new();
        let mut operands: HashMap<ValueId, ValueId> = HashMap::new();
        let mut operand_order = Vec::new();
        // Bodies take their operands first, so that equal regions have equal texts.
        for &v in region.iter().flat_map(|&n| &nodes[n].inputs) {
            if self.producer(v).is_some_and(|p| region.binary_search(&p).is_ok()) {
                continue;
            }
            if let Some(read) = self.read(v).filter(|read| !operands.contains_key(read)) {
                let name = operand_order.len().to_string();
                operands.insert(read, body.add_input(name, Role::Data, self.graph.ty(read).clone())?);
                operand_order.push(read);
            }
        }
        let mut left: HashMap<ValueId, usize> = HashMap::new();
        for &n in region {
            let node = &nodes[n];
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for &v in &node.inputs {
                if let Some(left) = left.get_mut(&v) {
                    *left -= 1;
                }
                let made = match inside.get(&v) {
                    Some(&made) => made,
                    None => {
                        let made = match self.feed(v) {
                            Feed::Value(v) => operands[&v],
                            Feed::Splat(literal) => body.add(Op::Constant(literal), &[], &path)?[0],
                            Feed::Iota(op) => body.add(op.clone(), &[], &path)?[0],
                            Feed::Broadcast(v, op) => body.add(op.clone(), &[operands[&v]], &path)?[0],
                        };
                        inside.insert(v, made);
                        made
                    }
                };
                inputs.push(made);
            }
            inside.insert(node.outputs[0], body.add(node.op.clone(), &inputs, &path)?[0]);
            left.insert(node.outputs[0], self.uses[node.outputs[0].index()]);
        }
        let results: Vec<ValueId> =
            region.iter().map(|&n| nodes[n].outputs[0]).filter(|v| left[v] > 0).collect();
        for (i, v) in results.iter().enumerate() {
            body.add_output(i.to_string(), inside[v], None)?;
        }
        let inputs: Vec<ValueId> = operand_order.iter().map(|&v| r.get(v)).collect();
        let made = r.add(Op::Fused(Arc::new(body)), &inputs, &nodes[region[region.len() - 1]].path)?;
        results.into_iter().zip(made).for_each(|(old, new)| r.replace(old, new));
        Ok(())
    }
}

struct DisjointSets(Vec<usize>);

impl DisjointSets {
    fn find(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }

    fn union(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::passes::testing::{graph, random_graph, with_bodies};
    use crate::trace::Trace;

    fn assert_fuses(before: &str, after: &str) {
        let result = with_bodies(&fuse(&graph(before), &FuseOptions::default()).unwrap());
        let expected: Vec<&str> = after.lines().map(str::trim).collect();
        assert_eq!(result.trim_end(), expected.join("\n"), "fusion gave:\n{result}");
    }

    #[test]
    fn a_chain_with_constants_and_a_broadcast_becomes_one_region() {
        assert_fuses(
            r#"graph "g"
            %0:f32[2,3] = input "x" data
            %1:f32[3] = input "b" data
            %2:f32[2,3] = broadcast(dims:[2,3],axes:[1]) %1
            %3:f32[2,3] = binary(add) %0, %2  ; a
            %4:f32[2,3] = constant((ty:"f32[2,3]",splat:Some(0.5)))
            %5:f32[2,3] = binary(mul) %3, %4  ; a
            %6:f32[2,3] = unary(exp) %5  ; a
            output "y" %6
            output "half" %5"#,
            r#"graph "g"
            %0:f32[2,3] = input "x" data
            %1:f32[3] = input "b" data
            %2:f32[2,3], %3:f32[2,3] = fused(A) %0, %1  ; a
            output "y" %3
            output "half" %2
            A: graph "fused"
            %0:f32[2,3] = input "0" data
            %1:f32[3] = input "1" data
            %2:f32[2,3] = broadcast(dims:[2,3],axes:[1]) %1
            %3:f32[2,3] = binary(add) %0, %2
            %4:f32[2,3] = constant((ty:"f32[2,3]",splat:Some(0.5)))
            %5:f32[2,3] = binary(mul) %3, %4
            %6:f32[2,3] = unary(exp) %5
            output "0" %5
            output "1" %6"#,
        );
    }

    #[test]
    fn a_region_never_swallows_a_path_through_an_outside_node() {
        // exp feeds the sum both directly and through a reduction: they cannot be one region.
        assert_fuses(
            r#"graph "g"
            %0:f32[2,3] = input "x" data
            %1:f32[2,3] = unary(neg) %0
            %2:f32[2,3] = unary(exp) %1
            %3:f32[2] = reduce(kind:sum,axes:[1],accum:f32) %2
            %4:f32[2,3] = broadcast(dims:[2,3],axes:[0]) %3
            %5:f32[2,3] = binary(div) %2, %4
            output "y" %5"#,
            r#"graph "g"
            %0:f32[2,3] = input "x" data
            %1:f32[2,3] = fused(A) %0
            %2:f32[2] = reduce(kind:sum,axes:[1],accum:f32) %1
            %3:f32[2,3] = fused(B) %1, %2
            output "y" %3
            A: graph "fused"
            %0:f32[2,3] = input "0" data
            %1:f32[2,3] = unary(neg) %0
            %2:f32[2,3] = unary(exp) %1
            output "0" %2
            B: graph "fused"
            %0:f32[2,3] = input "0" data
            %1:f32[2] = input "1" data
            %2:f32[2,3] = broadcast(dims:[2,3],axes:[0]) %1
            %3:f32[2,3] = binary(div) %0, %2
            output "0" %3"#,
        );
    }

    #[test]
    fn single_nodes_and_barriers_stay() {
        let text = r#"graph "g"
            %0:f32[2] = input "x" data
            %1:f32[2] = unary(exp) %0
            %2:f32[2] = barrier %1
            %3:f32[2] = unary(log) %2
            output "y" %3"#;
        assert_fuses(text, text);
    }

    #[test]
    fn what_only_the_late_part_needs_is_computed_there() {
        // The mask of the backward part is fused with its use, so that only x is kept across the product.
        assert_fuses(
            r#"graph "g"
            %0:f32[2,2] = input "x" data
            %1:f32[2,2] = unary(abs) %0
            %2:bool[2,2] = compare(gt) %0, %1
            %3:f32[2,2] = dot((lhs_batch:[],rhs_batch:[],lhs_contract:[1],rhs_contract:[0],accum:f32,out:f32)) %1, %0
            %4:f32[2,2] = unary(neg) %3
            %5:f32[2,2] = select %2, %3, %4
            output "y" %5"#,
            r#"graph "g"
            %0:f32[2,2] = input "x" data
            %1:f32[2,2] = unary(abs) %0
            %2:f32[2,2] = dot((lhs_batch:[],rhs_batch:[],lhs_contract:[1],rhs_contract:[0],accum:f32,out:f32)) %1, %0
            %3:f32[2,2] = fused(A) %0, %1, %2
            output "y" %3
            A: graph "fused"
            %0:f32[2,2] = input "0" data
            %1:f32[2,2] = input "1" data
            %2:f32[2,2] = input "2" data
            %3:bool[2,2] = compare(gt) %0, %1
            %4:f32[2,2] = unary(neg) %2
            %5:f32[2,2] = select %3, %2, %4
            output "0" %5"#,
        );
    }

    #[test]
    fn a_hundred_operations_make_at_most_three_regions_and_limits_hold() {
        let t = Trace::new("chain");
        let inputs: Vec<_> = (0..10).map(|i| t.data(format!("x{i}"), DType::F32, [4, 5])).collect();
        let mut y = inputs[0].clone();
        for i in 0..50 {
            y = (&y + &inputs[i % 10]).tanh();
        }
        t.output("y", &y);
        let g = t.finish().unwrap();
        let fused = fuse(&g, &FuseOptions { max_operands: 12, ..FuseOptions::default() }).unwrap();
        assert_eq!(fused.nodes().len(), 1);
        let narrow = FuseOptions { max_operands: 4, max_results: 2, max_ops: 40, ..FuseOptions::default() };
        for n in fuse(&g, &narrow).unwrap().nodes() {
            let Op::Fused(body) = &n.op else { panic!("{} stayed out", n.op.name()) };
            assert!(n.inputs.len() <= 4 && n.outputs.len() <= 2 && body.nodes().len() <= 40);
        }
        let few = FuseOptions { max_operands: 8, ..FuseOptions::default() };
        let ten_at_a_time: Graph = {
            let t = Trace::new("chain");
            let x = t.data("x", DType::F32, [4, 5]);
            let mut y = x.clone();
            for i in 0..50 {
                y = (&y * (1.0 + i as f64)).tanh();
            }
            t.output("y", &y);
            t.finish().unwrap()
        };
        assert!(fuse(&ten_at_a_time, &few).unwrap().nodes().len() <= 3);
    }

    #[test]
    fn random_graphs_keep_their_order_and_limits() {
        for seed in 0..300 {
            let g = random_graph(seed);
            let options = FuseOptions { max_operands: 3, max_results: 2, max_buffers: 4, max_ops: 6 };
            // Construction checks types and that operands come first.
            let fused = fuse(&g, &options).unwrap();
            for n in fused.nodes() {
                if let Op::Fused(body) = &n.op {
                    let ops = body.nodes().iter().filter(|n| n.op.is_elementwise()).count();
                    assert!(n.inputs.len() <= 3 && n.outputs.len() <= 2 && ops <= 6, "{fused}");
                    assert!(n.inputs.len() + n.outputs.len() <= 4, "{fused}");
                }
            }
            assert_eq!(fused.inputs(), g.inputs());
            assert_eq!(fused.outputs().len(), g.outputs().len());
        }
    }
}
