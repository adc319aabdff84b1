//! What the tests of the passes share: graphs from text, exact comparison of texts, and seeded random graphs.

use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Role, ValueId};
use crate::op::{Binary, Compare, Op, ReduceKind, ScatterKind};
use crate::reference::{ExactTensor, evaluate_exact};
use crate::tensor_type::{Literal, TensorType};
use crate::unary::Unary;

/// A graph from its text, whose lines may be indented.
pub fn graph(text: &str) -> Graph {
    text.parse().unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// A pass turns one text into the other.
pub fn assert_rewrites(pass: impl Fn(&Graph) -> Result<Graph>, before: &str, after: &str) {
    let result = pass(&graph(before)).unwrap().to_string();
    let expected: Vec<&str> = after.lines().map(str::trim).collect();
    assert_eq!(result.trim_end(), expected.join("\n"), "the pass gave:\n{result}");
}

/// A small generator of numbers (Steele, Lea and Flood 2014: SplitMix64).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// A graph of primitives over a few small shapes, with constants, barriers, reshapes, several results a node,
/// values used many times or never, outputs that are inputs, and outputs that replace donated inputs. Its
/// operations are exact on small whole numbers, so that constants folded in f32 equal those of the f64
/// reference.
pub fn random_graph(seed: u64) -> Graph {
    let mut b = Builder { g: Graph::new("random"), rng: Rng::new(seed), values: Vec::new() };
    for i in 0..2 + b.rng.below(4) {
        let dims = b.rng.pick(&SHAPES).to_vec();
        let v = b.g.add_input(format!("x{i}"), Role::State, TensorType::new(DType::F32, dims)).unwrap();
        b.values.push(v);
    }
    let nodes = 4 + b.rng.below(40);
    while b.g.nodes().len() < nodes {
        b.node();
    }
    b.outputs();
    b.g
}

const SHAPES: [&[usize]; 5] = [&[2, 3], &[3], &[3, 2], &[1, 3], &[]];

struct Builder {
    g: Graph,
    rng: Rng,
    values: Vec<ValueId>,
}

impl Builder {
    fn add(&mut self, op: Op, inputs: &[ValueId]) {
        let path = (*self.rng.pick(&["", "a", "a.b"])).into();
        let results = self.g.add(op, inputs, &path).unwrap();
        self.values.extend(results);
    }

    fn any(&mut self, dtype: DType) -> ValueId {
        let of: Vec<ValueId> = self.values.iter().copied().filter(|&v| self.g.ty(v).dtype == dtype).collect();
        // Recent values are likelier, so that chains grow long.
        let from = if self.rng.below(2) == 0 { of.len().saturating_sub(4) } else { 0 };
        if of.is_empty() { self.values[0] } else { *self.rng.pick(&of[from..]) }
    }

    /// Another value of this type, or the same.
    fn like(&mut self, v: ValueId) -> ValueId {
        let of: Vec<ValueId> =
            self.values.iter().copied().filter(|&w| self.g.ty(w) == self.g.ty(v)).collect();
        *self.rng.pick(&of)
    }

    fn node(&mut self) {
        let x = self.any(DType::F32);
        let ty = self.g.ty(x).clone();
        match self.rng.below(18) {
            0 | 1 => {
                let kind = *self.rng.pick(&[Unary::Neg, Unary::Abs, Unary::Sign, Unary::Floor]);
                self.add(Op::Unary(kind), &[x]);
            }
            2..=5 => {
                let y = self.like(x);
                let kind = *self.rng.pick(&[Binary::Add, Binary::Sub, Binary::Max, Binary::Min]);
                self.add(Op::Binary(kind), &[x, y]);
            }
            6 => {
                let value = *self.rng.pick(&[0.0, -0.0, 1.0, -1.0, 2.0]);
                let dims = self.rng.pick(&SHAPES).to_vec();
                self.add(Op::Constant(Literal::splat(TensorType::new(DType::F32, dims), value)), &[]);
            }
            7 => {
                let c = Op::Constant(Literal::splat(ty, *self.rng.pick(&[0.0, -0.0, 1.0])));
                self.add(c, &[]);
                let one = self.values[self.values.len() - 1];
                let kind = *self.rng.pick(&[Binary::Add, Binary::Sub, Binary::Mul, Binary::Div]);
                self.add(Op::Binary(kind), &[x, one]);
            }
            8 => {
                let y = self.like(x);
                let kind = *self.rng.pick(&Compare::ALL);
                self.add(Op::Compare(kind), &[x, y]);
                let p = self.values[self.values.len() - 1];
                let z = self.like(x);
                self.add(Op::Select, &[p, y, z]);
            }
            9 => self.add(Op::Barrier, &[x]),
            10 => {
                let flat = vec![ty.numel()];
                self.add(Op::Reshape { dims: flat }, &[x]);
            }
            11 if ty.rank() == 2 => self.add(Op::Transpose { perm: vec![1, 0] }, &[x]),
            12 if ty.rank() == 1 => {
                let dims = [&[2], &ty.dims[..]].concat();
                self.add(Op::Broadcast { dims, axes: vec![1] }, &[x]);
            }
            13 if ty.rank() > 0 => {
                self.add(Op::Reduce { kind: ReduceKind::Max, axes: vec![0], accum: DType::F32 }, &[x]);
            }
            14 if ty.rank() > 0 => {
                self.add(
                    Op::Sort {
                        axis: 0,
                        descending: self.g.nodes().len().is_multiple_of(2),
                        limit: ty.dims[0],
                    },
                    &[x],
                );
            }
            15 if ty.rank() > 0 && ty.dims[0] > 0 => {
                let start = vec![0; ty.rank()];
                let stride = vec![1; ty.rank()];
                let mut limit = ty.dims.clone();
                limit[0] = 1 + self.rng.below(limit[0]);
                self.add(Op::Slice { start, limit, stride }, &[x]);
            }
            16 if ty.rank() > 0 && ty.dims[0] > 1 => {
                let index = Literal::dense(TensorType::new(DType::I32, [1]), &[1.0]).unwrap();
                self.add(Op::Constant(index), &[]);
                let index = self.values[self.values.len() - 1];
                self.add(Op::Gather { axis: 0 }, &[x, index]);
                let update = self.values[self.values.len() - 1];
                self.add(Op::Scatter { axis: 0, kind: ScatterKind::Set }, &[x, index, update]);
            }
            _ => self.add(Op::Cast { to: DType::I32 }, &[x]),
        }
    }

    fn outputs(&mut self) {
        let inputs: Vec<ValueId> = self.g.inputs().iter().map(|i| i.value).collect();
        let mut used = std::collections::HashSet::new();
        for o in 0..2 + self.rng.below(4) {
            let near_end = self.values.len() - self.values.len().min(6);
            let from = if self.rng.below(4) == 0 { 0 } else { near_end };
            let v = self.values[from + self.rng.below(self.values.len() - from)];
            let alias = (0..inputs.len())
                .find(|&i| self.g.ty(inputs[i]) == self.g.ty(v) && !used.contains(&i))
                .filter(|_| self.rng.below(3) > 0);
            used.extend(alias);
            self.g.add_output(format!("y{o}"), v, alias).unwrap();
        }
    }
}

/// The text of a graph with the bodies of its fused regions named A, B .. and printed after it.
pub fn with_bodies(graph: &Graph) -> String {
    let mut text = graph.to_string();
    let bodies = graph.nodes().iter().filter_map(|n| match &n.op {
        Op::Fused(body) => Some(body.clone()),
        _ => None,
    });
    for (i, body) in bodies.enumerate() {
        let name = (b'A' + i as u8) as char;
        let quoted = ron::to_string(&body.to_string()).unwrap();
        text = text.replacen(&format!("fused({quoted})"), &format!("fused({name})"), 1);
        text.push_str(&format!("{name}: {body}"));
    }
    text
}

/// Both graphs give the same values, to the bit, on random inputs of small whole numbers, zeros of both
/// signs, infinities and NaN.
pub fn assert_same_values(before: &Graph, after: &Graph, seed: u64) {
    let inputs = |g: &Graph| {
        g.inputs().iter().map(|i| (i.name.clone(), i.role, g.ty(i.value).clone())).collect::<Vec<_>>()
    };
    assert_eq!(inputs(before), inputs(after));
    let names = |g: &Graph| g.outputs().iter().map(|o| (o.name.clone(), o.alias)).collect::<Vec<_>>();
    assert_eq!(names(before), names(after));
    let mut rng = Rng::new(seed);
    let inputs: Vec<ExactTensor> = before
        .inputs()
        .iter()
        .map(|i| {
            let ty = before.ty(i.value).clone();
            let special = [-0.0, 0.0, f64::INFINITY, f64::NAN];
            let value = |rng: &mut Rng| match rng.below(12) {
                0 => *rng.pick(&special),
                n => n as f64 - 6.0,
            };
            let values = (0..ty.numel()).map(|_| value(&mut rng)).collect();
            ExactTensor { ty, values }
        })
        .collect();
    let run = |g: &Graph| evaluate_exact(g, &inputs, 1 << 24).unwrap();
    for (i, (a, b)) in run(before).iter().zip(&run(after)).enumerate() {
        assert_eq!(a.ty, b.ty);
        for (x, y) in a.values.iter().zip(&b.values) {
            let same = x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
            assert!(same, "seed {seed}: output {i} was {x}, is {y}\n{before}\nbecame\n{after}");
        }
    }
}
