//! Where every value lies during a run: liveness, renaming, in-place results, and one arena for the rest.

use crate::graph::{Graph, Node, ValueId};
use crate::op::{Op, OpDesc};
use crate::tensor_type::TensorType;

/// What planning needs to know of a device.
pub struct MemoryOptions<'a> {
    /// Offsets in the arena are multiples of this many bytes.
    pub alignment: usize,
    /// Bytes a tensor takes.
    pub bytes: &'a dyn Fn(&TensorType) -> usize,
    /// Pairs (operand, result) of an operation that may share memory; the first that fits is taken.
    pub in_place: &'a dyn Fn(&OpDesc<'_>) -> Vec<(usize, usize)>,
}

/// Where a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// In the argument of this input; for a result that replaces it, in the donated buffer.
    Input(usize),
    /// In a new buffer for this output.
    Output(usize),
    /// At an offset of the arena.
    Arena {
        /// The first byte of the value.
        offset: usize,
    },
    /// In the constant with this value.
    Constant(ValueId),
}

/// A plan for the values of one graph.
#[derive(Debug, Clone)]
pub struct Memory {
    slots: Vec<Slot>,
    renames: Vec<bool>,
    arena_bytes: usize,
}

impl Memory {
    /// Where a value lies.
    pub fn slot(&self, v: ValueId) -> Slot {
        self.slots[v.index()]
    }

    /// Whether a value is its operand's memory under another type, so that its node has nothing to do.
    pub fn renames(&self, v: ValueId) -> bool {
        self.renames[v.index()]
    }

    /// Size of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.arena_bytes
    }
}

/// Values that share one piece of memory.
struct Storage {
    home: Home,
    bytes: usize,
    first: usize,
    last: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Home {
    Input(usize),
    Constant(ValueId),
    Output(usize),
    Arena,
}

/// Plan the memory of a graph.
///
/// Reshape, bitcast and barrier rename their operand unless that would make an output share memory with an
/// input, a constant or another output. An output takes over a donated input only in place; otherwise it gets
/// memory of its own and the donated buffer is given back.
pub fn plan_memory(graph: &Graph, options: &MemoryOptions<'_>) -> Memory {
    let mut planner = Planner {
        graph,
        last_use: last_uses(graph),
        output_of: vec![None; graph.values().len()],
        storage_of: vec![usize::MAX; graph.values().len()],
        storages: Vec::new(),
        donated: graph.inputs().iter().map(|_| false).collect(),
        renames: vec![false; graph.values().len()],
    };
    for (i, o) in graph.outputs().iter().enumerate() {
        planner.output_of[o.value.index()].get_or_insert(i);
        if let Some(input) = o.alias {
            planner.donated[input] = true;
        }
    }
    for (i, input) in graph.inputs().iter().enumerate() {
        planner.open(input.value, Home::Input(i), 0, 0);
    }
    for (at, node) in graph.nodes().iter().enumerate() {
        planner.node(at, node, options);
    }
    let offsets = assign(&planner.storages, options.alignment.max(1));
    let end = |s: usize| offsets[s] + planner.storages[s].bytes;
    let in_arena = |s: &usize| planner.storages[*s].home == Home::Arena;
    let arena_bytes = (0..planner.storages.len()).filter(in_arena).map(end).max().unwrap_or(0);
    let slot = |s: &usize| match planner.storages[*s].home {
        Home::Input(i) => Slot::Input(i),
        Home::Output(i) => Slot::Output(i),
        Home::Constant(v) => Slot::Constant(v),
        Home::Arena => Slot::Arena { offset: offsets[*s] },
    };
    Memory { slots: planner.storage_of.iter().map(slot).collect(), renames: planner.renames, arena_bytes }
}

/// The last node that reads each value; values nobody reads live at their own node, outputs to the end.
fn last_uses(graph: &Graph) -> Vec<usize> {
    let mut last = vec![0; graph.values().len()];
    for (at, node) in graph.nodes().iter().enumerate() {
        for v in node.inputs.iter().chain(&node.outputs) {
            last[v.index()] = at;
        }
    }
    for o in graph.outputs() {
        last[o.value.index()] = graph.nodes().len();
    }
    last
}

struct Planner<'a> {
    graph: &'a Graph,
    last_use: Vec<usize>,
    output_of: Vec<Option<usize>>,
    storage_of: Vec<usize>,
    storages: Vec<Storage>,
    donated: Vec<bool>,
    renames: Vec<bool>,
}

impl Planner<'_> {
    fn open(&mut self, v: ValueId, home: Home, bytes: usize, at: usize) {
        self.storage_of[v.index()] = self.storages.len();
        self.storages.push(Storage { home, bytes, first: at, last: self.last_use[v.index()] });
    }

    fn join(&mut self, v: ValueId, storage: usize) {
        self.storage_of[v.index()] = storage;
        let s = &mut self.storages[storage];
        s.last = s.last.max(self.last_use[v.index()]);
        if let (Some(output), Home::Arena) = (self.output_of[v.index()], s.home) {
            s.home = Home::Output(output);
        }
    }

    fn node(&mut self, at: usize, node: &Node, options: &MemoryOptions<'_>) {
        if let Op::Constant(_) = node.op {
            self.open(node.outputs[0], Home::Constant(node.outputs[0]), 0, at);
            return;
        }
        if matches!(node.op, Op::Reshape { .. } | Op::Bitcast { .. } | Op::Barrier) && self.rename(node) {
            return;
        }
        let bytes = |v: &ValueId| (options.bytes)(self.graph.ty(*v));
        let sizes: Vec<usize> = node.outputs.iter().map(bytes).collect();
        let input_sizes: Vec<usize> = node.inputs.iter().map(bytes).collect();
        let pairs = self.graph.describe(node, |desc| (options.in_place)(desc));
        let mut reused = Vec::new();
        for (o, &v) in node.outputs.iter().enumerate() {
            let fits =
                pairs.iter().filter(|p| p.1 == o).map(|p| p.0).find(|&i| {
                    !reused.contains(&i) && input_sizes[i] == sizes[o] && self.dies_here(at, node, i)
                });
            match fits {
                Some(i) => {
                    reused.push(i);
                    self.join(v, self.storage_of[node.inputs[i].index()]);
                }
                None => {
                    let home = self.output_of[v.index()].map_or(Home::Arena, Home::Output);
                    self.open(v, home, sizes[o], at);
                }
            }
        }
    }

    /// Let the results be their operands' memory, where no output would come to share memory that way.
    fn rename(&mut self, node: &Node) -> bool {
        let shares = node.inputs.iter().zip(&node.outputs).any(|(from, to)| {
            let home = self.storages[self.storage_of[from.index()]].home;
            self.output_of[to.index()].is_some() && home != Home::Arena
        });
        let twice = (1..node.inputs.len()).any(|i| {
            let storage = |j: usize| self.storage_of[node.inputs[j].index()];
            (0..i).any(|j| storage(i) == storage(j))
        });
        if shares || twice {
            return false;
        }
        for (from, &to) in node.inputs.iter().zip(&node.outputs) {
            self.renames[to.index()] = true;
            self.join(to, self.storage_of[from.index()]);
        }
        true
    }

    /// Whether operand `i` is not needed after this node, is read by it once, and may be overwritten.
    fn dies_here(&self, at: usize, node: &Node, i: usize) -> bool {
        let index = self.storage_of[node.inputs[i].index()];
        let s = &self.storages[index];
        let free = match s.home {
            Home::Input(input) => self.donated[input],
            Home::Arena => true,
            Home::Output(_) | Home::Constant(_) => false,
        };
        let once = node.inputs.iter().filter(|v| self.storage_of[v.index()] == index).count() == 1;
        free && once && s.last <= at
    }
}

/// Offsets of the storages in the arena: the largest first, each at the lowest place free over its whole
/// life.
fn assign(storages: &[Storage], alignment: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..storages.len()).filter(|&s| storages[s].home == Home::Arena).collect();
    order.sort_by_key(|&s| (std::cmp::Reverse(storages[s].bytes), storages[s].first, s));
    let mut offsets = vec![0; storages.len()];
    // Placed storages by offset.
    let mut placed: Vec<usize> = Vec::new();
    for s in order {
        let me = &storages[s];
        let mut at = 0;
        for &other in &placed {
            let o = &storages[other];
            let together = o.first <= me.last && me.first <= o.last;
            if together && at + me.bytes > offsets[other] {
                at = at.max((offsets[other] + o.bytes).next_multiple_of(alignment));
            }
        }
        offsets[s] = at;
        let position = placed.partition_point(|&p| offsets[p] <= at);
        placed.insert(position, s);
    }
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttentionSpec, Composite, DType, Role, Tensor, Trace};

    fn in_place(op: &OpDesc<'_>) -> Vec<(usize, usize)> {
        match op.op {
            Op::Unary(_) => vec![(0, 0)],
            Op::Binary(_) => vec![(0, 0), (1, 0)],
            Op::Composite(Composite::KvAppend { .. }) => vec![(0, 0)],
            _ => Vec::new(),
        }
    }

    fn plan(graph: &Graph) -> Memory {
        let options =
            MemoryOptions { alignment: 64, bytes: &|t: &TensorType| t.bytes(), in_place: &in_place };
        plan_memory(graph, &options)
    }

    /// Runs a plan on memory that remembers which value each byte belongs to, and panics when an operand or
    /// an output is not what was written for it.
    fn simulate(graph: &Graph, memory: &Memory) {
        let mut arena: Vec<(usize, usize, u32)> = Vec::new();
        let mut homes: Vec<(Slot, u32)> =
            graph.inputs().iter().map(|i| (memory.slot(i.value), i.value.0)).collect();
        let alias = |v: ValueId, alias: &[u32]| alias[v.index()];
        let mut names: Vec<u32> = (0..graph.values().len() as u32).collect();
        for node in graph.nodes() {
            if let Op::Constant(_) = node.op {
                homes.push((memory.slot(node.outputs[0]), node.outputs[0].0));
                continue;
            }
            for &v in &node.inputs {
                check(graph, memory, &arena, &homes, v, alias(v, &names));
            }
            for (i, &v) in node.outputs.iter().enumerate() {
                if memory.renames(v) {
                    names[v.index()] = names[node.inputs[i].index()];
                    continue;
                }
                match memory.slot(v) {
                    Slot::Arena { offset } => {
                        let end = offset + graph.ty(v).bytes();
                        assert!(end <= memory.arena_bytes());
                        arena.retain(|&(from, to, _)| to <= offset || end <= from);
                        arena.push((offset, end, v.0));
                    }
                    slot => {
                        homes.retain(|(s, _)| *s != slot);
                        homes.push((slot, v.0));
                    }
                }
            }
        }
        for o in graph.outputs() {
            check(graph, memory, &arena, &homes, o.value, names[o.value.index()]);
            assert!(!matches!(memory.slot(o.value), Slot::Arena { .. } | Slot::Constant(_)));
        }
    }

    fn check(
        graph: &Graph,
        memory: &Memory,
        arena: &[(usize, usize, u32)],
        homes: &[(Slot, u32)],
        v: ValueId,
        name: u32,
    ) {
        let there = match memory.slot(v) {
            Slot::Arena { offset } => {
                let whole = (offset, offset + graph.ty(v).bytes(), name);
                whole.0 == whole.1 || arena.contains(&whole)
            }
            slot => homes.contains(&(slot, name)),
        };
        assert!(there, "value {} was overwritten or never written\n{graph}", v.0);
    }

    #[test]
    fn random_graphs_never_overwrite_a_live_value() {
        let mut state = 88172645463325252u64;
        let mut random = move |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 33) as usize % n
        };
        for _ in 0..300 {
            let t = Trace::new("random");
            let cache = t.input("cache", Role::State, TensorType::new(DType::F32, [64]));
            let mut pool: Vec<Tensor> =
                vec![cache.clone(), t.data("x", DType::F32, [64]), t.full(DType::F32, [64], 2.0)];
            for _ in 0..random(30) + 1 {
                let (a, b) = (pool[random(pool.len())].clone(), pool[random(pool.len())].clone());
                let (a, b) = (a.reshape([64]), b.reshape([64]));
                pool.push(match random(6) {
                    0 => a.exp(),
                    1 => &a + &b,
                    2 => a.reshape([8, 8]),
                    3 => a.barrier(),
                    4 => Tensor::concat(&[&a, &b], 0).unwrap().narrow(0, 0, 64),
                    _ => a.cumsum(0),
                });
            }
            let mut named = Vec::new();
            for i in 0..random(4) + 1 {
                // An output is a computed value named once, as devices arrange it.
                let v = pool[3 + random(pool.len() - 3)].reshape([64]).exp();
                t.output(format!("y{i}"), &v);
                named.push(v);
            }
            t.output_in_place("cache", &named[0].neg(), &cache);
            let g = t.finish().unwrap();
            simulate(&g, &plan(&g));
        }
    }

    #[test]
    fn a_donated_cache_is_updated_in_place_and_chains_reuse_memory() {
        let t = Trace::new("decode");
        let cache = t.input("cache", Role::State, TensorType::new(DType::F32, [1, 1, 8, 4]));
        let new = t.data("new", DType::F32, [1, 1, 1, 4]);
        let pos = t.input("pos", Role::Scalar, TensorType::new(DType::I32, [1]));
        let kv = cache.kv_append(&new, &pos, None);
        let y = new.attention(&kv, &kv, &[], AttentionSpec::full(1.0)).exp().neg().exp();
        t.output("y", &y);
        t.output_in_place("cache", &kv, &cache);
        let g = t.finish().unwrap();
        let memory = plan(&g);
        assert_eq!(memory.slot(g.outputs()[1].value), Slot::Input(0));
        assert_eq!(memory.slot(g.outputs()[0].value), Slot::Output(0));
        simulate(&g, &memory);
        // The chain runs in place in the output's memory; the arena holds attention's other result alone.
        assert_eq!(memory.arena_bytes(), 4);
    }

    #[test]
    fn an_output_never_shares_memory_with_an_input() {
        let t = Trace::new("views");
        let x = t.data("x", DType::F32, [4]);
        t.output("same", &x.reshape([2, 2]));
        let g = t.finish().unwrap();
        let memory = plan(&g);
        assert_eq!(memory.slot(g.outputs()[0].value), Slot::Output(0));
        assert!(!memory.renames(g.outputs()[0].value));
    }
}
