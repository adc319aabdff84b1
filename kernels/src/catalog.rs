//! The kernels by name, each with the cases that between them reach every variant of its source.

use percept_graph::{
    Activation, ArgKind, Binary, Compare, Composite, DType, Literal, Op, OpDesc, ReduceKind, ScatterKind,
    TensorType, Unary, infer,
};

use crate::caps::Caps;
use crate::lower;
use crate::program::{Module, Program, Unsupported};

/// A kernel's folder and the operations it computes.
pub struct Entry {
    /// The name on the command line.
    pub name: &'static str,
    /// Operations with operand types that together reach every variant of the sources.
    pub cases: Vec<Case>,
}

/// One operation with types.
#[derive(Debug, Clone)]
pub struct Case {
    /// The operation.
    pub op: Op,
    /// Operand types.
    pub inputs: Vec<TensorType>,
    /// Result types.
    pub outputs: Vec<TensorType>,
}

impl Case {
    /// The launches of this case on an adapter.
    pub fn lower(&self, caps: &Caps) -> Result<Program, Unsupported> {
        lower(&OpDesc { op: &self.op, inputs: &self.inputs, outputs: &self.outputs }, caps)
    }
}

impl Entry {
    fn new(name: &'static str) -> Self {
        Self { name, cases: Vec::new() }
    }

    /// Add a case; operands that the op does not accept are left out.
    fn case(&mut self, op: Op, inputs: &[TensorType]) {
        if let Ok(outputs) = infer(&op, inputs) {
            self.cases.push(Case { op, inputs: inputs.to_vec(), outputs });
        }
    }

    /// The distinct modules of this kernel on an adapter, by key.
    pub fn modules(&self, caps: &Caps) -> Vec<Module> {
        let mut modules: Vec<Module> = Vec::new();
        for program in self.cases.iter().filter_map(|c| c.lower(caps).ok()) {
            modules.extend(program.launches.into_iter().map(|l| l.module));
        }
        modules.sort_by(|a, b| a.key.cmp(&b.key));
        modules.dedup();
        modules
    }
}

/// Every dense dtype.
pub(crate) const DENSE: [DType; 7] =
    [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::U8, DType::Bool];

fn ty(dtype: DType, dims: &[usize]) -> TensorType {
    TensorType::new(dtype, dims)
}

/// All kernels.
pub fn catalog() -> Vec<Entry> {
    vec![elementwise(), movement(), reduce(), gather(), scatter(), sort()]
}

/// The kernel with this name.
pub fn entry(name: &str) -> Option<Entry> {
    catalog().into_iter().find(|e| e.name == name)
}

fn elementwise() -> Entry {
    let mut e = Entry::new("elementwise");
    // 8 elements are read as vectors, 7 one by one.
    for (d, n) in DENSE.into_iter().flat_map(|d| [(d, 8), (d, 7)]) {
        let x = ty(d, &[n]);
        for kind in Unary::ALL {
            e.case(Op::Unary(kind), &[x.clone()]);
        }
        for kind in Binary::ALL {
            e.case(Op::Binary(kind), &[x.clone(), x.clone()]);
        }
        for kind in Compare::ALL {
            e.case(Op::Compare(kind), &[x.clone(), x.clone()]);
        }
        e.case(Op::Select, &[ty(DType::Bool, &[n]), x.clone(), x.clone()]);
        e.case(Op::Clamp, &[x.clone(), x.clone(), x.clone()]);
        for to in DENSE {
            e.case(Op::Cast { to }, &[x.clone()]);
            e.case(Op::Bitcast { to }, &[x.clone()]);
        }
        for act in Activation::ALL {
            e.case(Op::Composite(Composite::Activate(act)), &[x.clone()]);
            e.case(Op::Composite(Composite::GatedActivate(act)), &[x.clone(), x.clone()]);
        }
    }
    e
}

fn movement() -> Entry {
    let mut e = Entry::new("movement");
    for d in DENSE {
        let x = ty(d, &[3, 4, 5]);
        let even = ty(d, &[4, 8]);
        e.case(Op::Constant(Literal::splat(x.clone(), 1.0)), &[]);
        e.case(Op::Constant(Literal::splat(even.clone(), 1.0)), &[]);
        for axis in 0..3 {
            e.case(Op::Iota { ty: x.clone(), axis }, &[]);
            e.case(Op::Concat { axis }, &[x.clone(), x.clone()]);
            e.case(Op::Concat { axis }, &vec![x.clone(); 9]);
        }
        e.case(Op::Concat { axis: 0 }, &[x.clone()]);
        e.case(Op::Iota { ty: even.clone(), axis: 1 }, &[]);
        e.case(Op::Reshape { dims: vec![60] }, &[x.clone()]);
        e.case(Op::Barrier, &[x.clone(), even.clone()]);
        for perm in [[0, 2, 1], [2, 1, 0], [1, 0, 2]] {
            e.case(Op::Transpose { perm: perm.to_vec() }, &[x.clone()]);
        }
        e.case(Op::Transpose { perm: vec![1, 0] }, &[even.clone()]);
        e.case(Op::Broadcast { dims: vec![2, 8], axes: vec![1] }, &[ty(d, &[8])]);
        e.case(Op::Broadcast { dims: vec![2, 8], axes: vec![0] }, &[ty(d, &[2])]);
        e.case(Op::Broadcast { dims: vec![2, 7], axes: vec![0] }, &[ty(d, &[2])]);
        e.case(Op::Broadcast { dims: vec![2, 7], axes: vec![] }, &[ty(d, &[])]);
        let slice = |start: [usize; 3], stride: [usize; 3]| Op::Slice {
            start: start.to_vec(),
            limit: vec![3, 4, 5],
            stride: stride.to_vec(),
        };
        e.case(slice([0, 0, 0], [1, 1, 1]), &[x.clone()]);
        e.case(slice([1, 0, 1], [1, 1, 1]), &[x.clone()]);
        e.case(slice([1, 1, 1], [1, 2, 2]), &[x.clone()]);
        for rank in [1, 2, 3] {
            let pad = Op::Pad { low: vec![1; rank], high: vec![0; rank], interior: vec![1; rank] };
            e.case(pad, &[ty(d, &vec![3; rank]), ty(d, &[])]);
            let start = vec![ty(DType::I32, &[]); rank];
            let small = ty(d, &vec![2; rank]);
            let large = ty(d, &vec![5; rank]);
            let sizes = small.dims.clone();
            e.case(Op::DynamicSlice { sizes }, &[vec![large.clone()], start.clone()].concat());
            e.case(Op::DynamicUpdateSlice, &[vec![large, small], start].concat());
        }
    }
    e
}

fn reduce() -> Entry {
    let mut e = Entry::new("reduce");
    for d in DENSE {
        let accum = if d.is_float() { DType::F32 } else { d };
        for (dims, axes) in [
            (vec![3, 5], vec![1]),
            (vec![3, 100], vec![1]),
            (vec![100, 3], vec![0]),
            (vec![3, 40, 5], vec![0, 2]),
            (vec![2, 70_000], vec![1]),
            (vec![100], vec![0]),
        ] {
            for kind in ReduceKind::ALL {
                e.case(Op::Reduce { kind, axes: axes.clone(), accum }, &[ty(d, &dims)]);
            }
            for kind in [ArgKind::Max, ArgKind::Min] {
                e.case(Op::ArgReduce { kind, axis: axes[0] }, &[ty(d, &dims)]);
            }
        }
    }
    e
}

fn gather() -> Entry {
    let mut e = Entry::new("gather");
    for d in DENSE {
        for axis in 0..2 {
            e.case(Op::Gather { axis }, &[ty(d, &[5, 6]), ty(DType::I32, &[2, 3])]);
        }
    }
    e
}

fn scatter() -> Entry {
    let mut e = Entry::new("scatter");
    for d in DENSE {
        for kind in [ScatterKind::Set, ScatterKind::Add] {
            e.case(Op::Scatter { axis: 0, kind }, &[ty(d, &[5, 6]), ty(DType::I32, &[3]), ty(d, &[3, 6])]);
            let many = [ty(d, &[5, 6]), ty(DType::I32, &[3000]), ty(d, &[3000, 6])];
            e.case(Op::Scatter { axis: 0, kind }, &many);
        }
    }
    e
}

fn sort() -> Entry {
    let mut e = Entry::new("sort");
    for d in DENSE {
        for (descending, limit) in [(false, 7), (true, 3)] {
            e.case(Op::Sort { axis: 0, descending, limit }, &[ty(d, &[7])]);
            e.case(Op::Sort { axis: 0, descending, limit }, &[ty(d, &[3000, 2])]);
        }
    }
    e
}
