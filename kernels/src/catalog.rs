//! The kernels by name, each with the cases that between them reach every variant of its source.

use percept_graph::{
    Activation, ArgKind, AttentionSpec, Binary, Compare, Composite, DType, DotSpec, Interpolation, Literal,
    Op, OpDesc, PoolKind, ReduceKind, ScatterKind, TensorType, Unary, infer,
};

use crate::caps::Caps;
use crate::lower;
use crate::program::{KernelProgram, Module, Unsupported};

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
    pub fn lower(&self, caps: &Caps) -> Result<KernelProgram, Unsupported> {
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

/// All dtypes without blocks.
pub(crate) const DENSE: [DType; 7] =
    [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::U8, DType::Bool];

fn ty(dtype: DType, dims: &[usize]) -> TensorType {
    TensorType::new(dtype, dims)
}

/// The entries of all kernels.
pub fn catalog() -> Vec<Entry> {
    vec![
        elementwise(),
        movement(),
        reduce(),
        gather(),
        scatter(),
        sort(),
        matmul(),
        ragged(),
        quant(),
        softmax(),
        norm(),
        cross_entropy(),
        rope(),
        attention(),
        kv_append(),
        embedding(),
        random(),
        adamw(),
        cumsum(),
        pool(),
        conv1d(),
        recurrent(),
        patchify(),
        upsample(),
    ]
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

/// All float dtypes.
const FLOATS: [DType; 3] = [DType::F32, DType::F16, DType::BF16];
/// All block-quantized dtypes.
const QUANTIZED: [DType; 6] = [DType::Q8_0, DType::Q4_0, DType::Q4_1, DType::Q4K, DType::Q6K, DType::Q8X];

fn matmul() -> Entry {
    let mut e = Entry::new("matmul");
    // Each side's dimensions by role: batch, free, contracted; which of them are multiples of four picks the
    // loader.
    for d in [DType::F32, DType::F16, DType::BF16, DType::I32] {
        let outs: &[DType] = if d == DType::I32 { &[DType::I32] } else { &FLOATS };
        for &out in outs {
            let accum = if d.is_float() { DType::F32 } else { d };
            let mut dot = |l: &[usize], r: &[usize], batch: usize, lc: usize, rc: usize| {
                let batch: Vec<usize> = (0..batch).collect();
                let spec = DotSpec {
                    lhs_batch: batch.clone(),
                    rhs_batch: batch,
                    lhs_contract: vec![lc],
                    rhs_contract: vec![rc],
                    accum,
                    out,
                };
                e.case(Op::Dot(spec), &[ty(d, l), ty(d, r)]);
            };
            for m in [1, 3, 5, 16, 80] {
                for n in [8, 7, 80] {
                    dot(&[m, 8], &[8, n], 0, 1, 0);
                    dot(&[m, 8], &[n, 8], 0, 1, 1);
                    dot(&[8, m], &[8, n], 0, 0, 0);
                    dot(&[m, 7], &[7, n], 0, 1, 0);
                }
            }
            dot(&[2, 5, 8], &[2, 8, 12], 1, 2, 1);
            // Long sums of few rows, and what cooperative matrices divide.
            for n in [6, 8] {
                dot(&[3, 1024], &[1024, n], 0, 1, 0);
                dot(&[3, 1024], &[n, 1024], 0, 1, 1);
            }
            dot(&[32, 32], &[32, 32], 0, 1, 0);
            dot(&[32, 32], &[32, 32], 0, 1, 1);
            dot(&[32, 32], &[32, 32], 0, 0, 0);
            dot(&[2, 5, 0], &[2, 0, 12], 1, 2, 1);
            let spec = DotSpec {
                lhs_batch: vec![],
                rhs_batch: vec![],
                lhs_contract: vec![0, 2],
                rhs_contract: vec![2, 0],
                accum,
                out,
            };
            e.case(Op::Dot(spec), &[ty(d, &[3, 5, 4]), ty(d, &[4, 6, 3])]);
        }
    }
    for d in FLOATS {
        for (m, n, k) in
            [(1, 8, 8), (1, 6, 8), (5, 8, 8), (20, 80, 8), (5, 7, 8), (5, 8, 7), (2, 8, 1024), (32, 32, 16)]
        {
            for act in std::iter::once(None).chain(Activation::ALL.map(Some)) {
                for bias in [false, true] {
                    let operands = [ty(d, &[m, k]), ty(d, &[n, k]), ty(d, &[n])];
                    e.case(Op::Composite(Composite::Linear { bias, act }), &operands[..2 + bias as usize]);
                }
            }
        }
    }
    for w in QUANTIZED {
        for d in FLOATS {
            for m in [1, 3, 5, 20] {
                for n in [6, 80] {
                    let dot = |transposed| Op::Composite(Composite::QuantizedDot { transposed });
                    e.case(dot(false), &[ty(d, &[m, 256]), ty(w, &[n, 256])]);
                    e.case(dot(true), &[ty(d, &[m, n]), ty(w, &[n, 256])]);
                }
            }
        }
    }
    e
}

fn ragged() -> Entry {
    let mut e = Entry::new("ragged");
    let dot = |transposed| Op::Composite(Composite::RaggedDot { transposed });
    for d in FLOATS {
        let (x, groups) = (ty(d, &[3, 8]), ty(DType::I32, &[3, 2]));
        for (n, k) in [(4, 8), (5, 8), (4, 7), (5, 7)] {
            let w = ty(d, &[6, n, k]);
            e.case(dot(false), &[ty(d, &[3, k]), w.clone(), groups.clone()]);
            e.case(dot(true), &[ty(d, &[3, n]), w, groups.clone()]);
        }
        for q in QUANTIZED {
            for n in [4, 5] {
                let w = ty(q, &[6, n, 256]);
                e.case(dot(false), &[ty(d, &[3, 256]), w.clone(), groups.clone()]);
                e.case(dot(true), &[ty(d, &[3, n]), w, groups.clone()]);
            }
        }
        let outer = Op::Composite(Composite::RaggedOuter { groups: 6 });
        e.case(outer, &[x, ty(d, &[3, 2, 5]), groups]);
    }
    e
}

fn quant() -> Entry {
    let mut e = Entry::new("quant");
    for w in QUANTIZED {
        for to in FLOATS {
            e.case(Op::Dequantize { to }, &[ty(w, &[3, 512])]);
        }
    }
    e
}

fn softmax() -> Entry {
    let mut e = Entry::new("softmax");
    for d in FLOATS {
        for width in [1, 7, 8, 300] {
            e.case(Op::Composite(Composite::Softmax), &[ty(d, &[5, width])]);
            e.case(Op::Composite(Composite::LogSoftmax), &[ty(d, &[5, width])]);
        }
    }
    e
}

fn norm() -> Entry {
    let mut e = Entry::new("norm");
    for d in FLOATS {
        for (rows, width) in [(5, 8), (70, 7), (3, 300)] {
            let x = ty(d, &[rows, width]);
            let w = ty(d, &[width]);
            for unit_offset in [false, true] {
                let (forward, gradient) = (
                    Composite::RmsNorm { eps: 1e-5, unit_offset },
                    Composite::RmsNormGrad { eps: 1e-5, unit_offset },
                );
                e.case(Op::Composite(forward), &[x.clone(), w.clone()]);
                e.case(Op::Composite(gradient), &[x.clone(), w.clone(), x.clone()]);
            }
            e.case(Op::Composite(Composite::LayerNorm { eps: 1e-5 }), &[x.clone(), w.clone(), w.clone()]);
            e.case(Op::Composite(Composite::LayerNormGrad { eps: 1e-5 }), &[x.clone(), w, x]);
        }
    }
    e
}

fn cross_entropy() -> Entry {
    let mut e = Entry::new("cross_entropy");
    for d in FLOATS {
        for width in [7, 8, 300] {
            for label_smoothing in [0.0, 0.1] {
                let (x, labels, rows) = (ty(d, &[5, width]), ty(DType::I32, &[5]), ty(DType::F32, &[5]));
                let ignore = 1;
                let forward = Composite::CrossEntropy { ignore, label_smoothing };
                let gradient = Composite::CrossEntropyGrad { ignore, label_smoothing };
                e.case(Op::Composite(forward), &[x.clone(), labels.clone()]);
                e.case(Op::Composite(gradient), &[x, labels, rows.clone(), rows]);
            }
        }
    }
    e
}

fn rope() -> Entry {
    let mut e = Entry::new("rope");
    for d in FLOATS {
        for (width, half) in [(8, 4), (10, 3)] {
            for interleaved in [false, true] {
                let angle = ty(DType::F32, &[2, 5, half]);
                let rope = Op::Composite(Composite::Rope { interleaved });
                e.case(rope, &[ty(d, &[2, 3, 5, width]), angle.clone(), angle]);
            }
        }
    }
    e
}

fn attention() -> Entry {
    let mut e = Entry::new("attention");
    let full = AttentionSpec::full(0.3);
    let specs = [
        full.clone(),
        AttentionSpec::causal(0.3),
        AttentionSpec { window: Some(4), ..full.clone() },
        AttentionSpec { window: Some(4), soft_cap: Some(2.0), ..AttentionSpec::causal(0.3) },
        AttentionSpec { segments: true, ..full.clone() },
        AttentionSpec { blocks: true, offset: true, ..AttentionSpec::causal(0.3) },
        AttentionSpec { blocks: true, wide_blocks: true, window: Some(4), ..AttentionSpec::causal(0.3) },
        AttentionSpec { offset: true, kv_len: true, ..AttentionSpec::causal(0.3) },
        AttentionSpec { kv_len: true, offset: true, paged: true, ..AttentionSpec::causal(0.3) },
    ];
    for (spec, d) in specs.iter().flat_map(|s| FLOATS.map(|d| (s, d))) {
        for t in [1, 3, 20, 70] {
            let (b, h, hk, s) = (2, 4, 2, 24);
            let mut operands = vec![ty(d, &[b, h, t, 8])];
            let cache = if spec.paged { [7, hk, 8] } else { [b, hk, s] };
            operands.extend([8, 12].map(|width| ty(d, &[cache[0], cache[1], cache[2], width])));
            let mut add = |there: bool, dims: &[&[usize]]| {
                if there {
                    operands.extend(dims.iter().map(|dims| ty(DType::I32, dims)));
                }
            };
            add(spec.segments, &[&[b, t], &[b, s]]);
            add(spec.blocks, &[&[b, t], &[b, s]]);
            add(spec.offset, &[&[b]]);
            add(spec.kv_len, &[&[b]]);
            add(spec.paged, &[&[b, 3]]);
            e.case(Op::Composite(Composite::Attention(spec.clone())), &operands);
            let (out, lse) = (ty(d, &[b, h, t, 12]), ty(DType::F32, &[b, h, t]));
            operands.extend([out.clone(), lse, out]);
            e.case(Op::Composite(Composite::AttentionGrad(spec.clone())), &operands);
        }
    }
    e
}

fn kv_append() -> Entry {
    let mut e = Entry::new("kv_append");
    for d in FLOATS {
        let new = ty(d, &[2, 3, 4, 6]);
        let pos = ty(DType::I32, &[2]);
        let append = |paged| Op::Composite(Composite::KvAppend { paged });
        e.case(append(false), &[ty(d, &[2, 3, 10, 6]), new.clone(), pos.clone()]);
        e.case(append(true), &[ty(d, &[7, 3, 4, 6]), new, pos, ty(DType::I32, &[2, 3])]);
    }
    e
}

fn embedding() -> Entry {
    let mut e = Entry::new("embedding");
    for out in FLOATS {
        let ids = ty(DType::I32, &[3, 5]);
        for width in [7, 8] {
            e.case(Op::Composite(Composite::Embedding { out }), &[ty(out, &[9, width]), ids.clone()]);
        }
        for w in QUANTIZED {
            e.case(Op::Composite(Composite::Embedding { out }), &[ty(w, &[9, 256]), ids.clone()]);
        }
    }
    e
}

fn random() -> Entry {
    let mut e = Entry::new("random");
    let bits = Composite::RandomBits { stream: 3, dims: vec![5, 7] };
    e.case(Op::Composite(bits), &[ty(DType::U32, &[2])]);
    e
}

fn adamw() -> Entry {
    let mut e = Entry::new("adamw");
    let step = Composite::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
    let (x, scalar) = (ty(DType::F32, &[5, 7]), ty(DType::F32, &[]));
    e.case(Op::Composite(step), &[x.clone(), x.clone(), x.clone(), x, scalar.clone(), scalar]);
    e
}

fn cumsum() -> Entry {
    let mut e = Entry::new("cumsum");
    for d in DENSE {
        for (dims, axis) in [([3, 7], 1), ([200, 3], 0)] {
            e.case(Op::Composite(Composite::CumSum { axis }), &[ty(d, &dims)]);
        }
    }
    e
}

fn pool() -> Entry {
    let mut e = Entry::new("pool");
    for d in FLOATS {
        for kind in [PoolKind::Avg, PoolKind::Max] {
            let one = Composite::Pool { kind, window: vec![3], stride: vec![2] };
            let two = Composite::Pool { kind, window: vec![2, 3], stride: vec![2, 1] };
            e.case(Op::Composite(one), &[ty(d, &[2, 3, 9])]);
            e.case(Op::Composite(two), &[ty(d, &[2, 3, 6, 7])]);
        }
    }
    e
}

fn patchify() -> Entry {
    let mut e = Entry::new("patchify");
    for d in DENSE {
        for (dims, patch) in [(vec![2, 3, 8, 8], vec![4, 4]), (vec![1, 3, 4, 6, 6], vec![2, 3, 2])] {
            e.case(Op::Composite(Composite::Patchify { patch }), &[ty(d, &dims)]);
        }
    }
    e
}

fn upsample() -> Entry {
    let mut e = Entry::new("upsample");
    for d in FLOATS {
        for kind in [
            Interpolation::Nearest,
            Interpolation::Bilinear { align_corners: false },
            Interpolation::Bilinear { align_corners: true },
        ] {
            let resize = Composite::Upsample { size: [7, 5], kind };
            e.case(Op::Composite(resize), &[ty(d, &[2, 3, 4, 6])]);
        }
    }
    e
}

fn conv1d() -> Entry {
    let mut e = Entry::new("conv1d");
    for d in FLOATS {
        for bias in [false, true] {
            for (stride, padding, dilation) in [(1, 1, 1), (2, 0, 2)] {
                let conv = Composite::Conv1d { stride, padding, dilation, bias };
                let operands = [ty(d, &[2, 3, 11]), ty(d, &[4, 3, 3]), ty(d, &[4])];
                e.case(Op::Composite(conv), &operands[..2 + bias as usize]);
            }
        }
    }
    e
}

fn recurrent() -> Entry {
    let mut e = Entry::new("recurrent");
    let (f, i) = (DType::F32, DType::I32);
    for dk in [16, 48, 96, 200] {
        let keys = ty(f, &[2, 5, 1, dk]);
        let scalars = ty(f, &[2, 5, 3]);
        let x = [keys.clone(), keys, ty(f, &[2, 5, 3, 8]), scalars.clone(), scalars];
        let delta = |segments, state| Op::Composite(Composite::GatedDelta { segments, state });
        e.case(delta(false, false), &x);
        e.case(delta(true, false), &[&x[..], &[ty(i, &[2, 5])]].concat());
        let state = [ty(f, &[4, 3, dk, 8]), ty(i, &[2]), ty(i, &[2]), ty(i, &[2])];
        e.case(delta(false, true), &[&x[..], &state].concat());
    }
    for taps in [1, 4] {
        let x = [ty(f, &[2, 5, 7]), ty(f, &[7, taps])];
        let conv = |segments, state| Op::Composite(Composite::ShortConv { segments, state });
        e.case(conv(false, false), &x);
        e.case(conv(true, false), &[&x[..], &[ty(i, &[2, 5])]].concat());
        let state = [ty(f, &[4, taps - 1, 7]), ty(i, &[2]), ty(i, &[2]), ty(i, &[2])];
        e.case(conv(false, true), &[&x[..], &state].concat());
    }
    e
}
