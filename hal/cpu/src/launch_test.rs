//! Launching a kernel on host values, for the tests of this crate.

use percept_graph::{Op, OpDesc, TensorType, infer};

use crate::kernel::{Kernel, Operands, RawTensor};
use crate::pool::Pool;

/// Memory aligned as a device's.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line {
    _bytes: [u8; 64],
}

/// A tensor's bytes in aligned memory.
struct Memory {
    lines: Vec<Line>,
    bytes: usize,
}

impl Memory {
    fn new(bytes: usize) -> Memory {
        // What was there before must not matter.
        Memory { lines: vec![Line { _bytes: [0xa5; 64] }; bytes.div_ceil(64)], bytes }
    }

    fn raw(&mut self) -> RawTensor {
        RawTensor { start: self.lines.as_mut_ptr().cast(), bytes: self.bytes }
    }

    fn flat(&self) -> &[u8] {
        // SAFETY: the lines are plain bytes, at least `bytes` of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.bytes) }
    }

    fn flat_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.bytes) }
    }
}

/// Runs a kernel on a team of `threads`; gives the results' bytes.
pub(crate) fn run_kernel(
    kernel: &Kernel,
    inputs: &[Vec<u8>],
    outputs: &[TensorType],
    threads: usize,
) -> Vec<Vec<u8>> {
    let mut ins: Vec<Memory> = inputs
        .iter()
        .map(|x| {
            let mut m = Memory::new(x.len());
            m.flat_mut().copy_from_slice(x);
            m
        })
        .collect();
    let mut outs: Vec<Memory> = outputs.iter().map(|ty| Memory::new(ty.bytes())).collect();
    let mut workspace = Memory::new(kernel.workspace);
    let raw_ins: Vec<RawTensor> = ins.iter_mut().map(Memory::raw).collect();
    let raw_outs: Vec<RawTensor> = outs.iter_mut().map(Memory::raw).collect();
    let raw_workspace = workspace.raw();
    let forced = crate::lanes::FORCED.get();
    Pool::new(threads)
        .unwrap()
        .run(|team| {
            let before = crate::lanes::FORCED.replace(forced);
            // SAFETY: every tensor has memory of its own that outlives the run.
            let operands = unsafe { Operands::new(&raw_ins, &raw_outs, raw_workspace) };
            (kernel.body)(team, &operands);
            crate::lanes::FORCED.set(before);
        })
        .unwrap();
    outs.iter().map(|m| m.flat().to_vec()).collect()
}

/// Plans and runs an operation on values rounded to its operands' types; gives the results as f64.
pub(crate) fn run_op(op: &Op, inputs: &[(TensorType, Vec<f64>)], threads: usize) -> Vec<Vec<f64>> {
    let types: Vec<TensorType> = inputs.iter().map(|(ty, _)| ty.clone()).collect();
    let outputs = infer(op, &types).unwrap();
    let desc = OpDesc { op, inputs: &types, outputs: &outputs };
    let kernel = crate::plan::plan(&desc, threads).unwrap_or_else(|| panic!("{} is not native", op.name()));
    let bytes: Vec<Vec<u8>> = inputs.iter().map(|(ty, x)| to_bytes(ty, x)).collect();
    let results = run_kernel(&kernel, &bytes, &outputs, threads);
    outputs.iter().zip(results).map(|(ty, bytes)| to_values(ty, &bytes)).collect()
}

/// The bytes of values rounded to a dtype.
pub(crate) fn to_bytes(ty: &TensorType, x: &[f64]) -> Vec<u8> {
    assert_eq!(x.len(), ty.numel());
    x.iter().flat_map(|&v| percept_graph::encode(ty.dtype, v)).collect()
}

/// The values of a tensor's bytes.
pub(crate) fn to_values(ty: &TensorType, bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(ty.dtype.block_bytes()).map(|b| percept_graph::decode(ty.dtype, b)).collect()
}

/// Repeatable values between -1 and 1, rounded to `ty`.
pub(crate) fn noise(ty: &TensorType, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    };
    (0..ty.numel())
        .map(|_| next())
        .map(|v| percept_graph::decode(ty.dtype, &percept_graph::encode(ty.dtype, v)))
        .collect()
}

/// Asserts that values agree within `relative` of the largest magnitude of the truth.
pub(crate) fn assert_near(got: &[f64], truth: &[f64], relative: f64, what: &str) {
    assert_eq!(got.len(), truth.len(), "{what}: count");
    let scale = truth.iter().filter(|t| t.is_finite()).fold(1e-30f64, |a, t| a.max(t.abs()));
    for (i, (g, t)) in got.iter().zip(truth).enumerate() {
        let same = g == t || g.is_nan() && t.is_nan() || (g - t).abs() <= relative * scale;
        assert!(same, "{what}: element {i} is {g}, not {t}");
    }
}

/// Runs an operation on one and on two threads and holds it to the graph's f64 reference, within `relative` of the
/// largest magnitude (0: the values themselves).
pub(crate) fn check_op(op: &Op, inputs: &[(TensorType, Vec<f64>)], relative: f64) -> Vec<Vec<f64>> {
    use percept_graph::{Graph, HostTensor, Role, reference::evaluate};
    let mut graph = Graph::new("case");
    let mut operands = Vec::new();
    let mut values = Vec::new();
    for (i, (ty, x)) in inputs.iter().enumerate() {
        operands.push(graph.add_input(format!("x{i}"), Role::Data, ty.clone()).unwrap());
        values.push(HostTensor::from_f64(ty.clone(), x).unwrap());
    }
    let results = graph.add(op.clone(), &operands, &"".into()).unwrap();
    for (i, r) in results.iter().enumerate() {
        graph.add_output(format!("y{i}"), *r, None).unwrap();
    }
    let truth = evaluate(&graph, &values).unwrap();
    let rounded: Vec<(TensorType, Vec<f64>)> =
        inputs.iter().zip(&values).map(|((ty, _), x)| (ty.clone(), x.values())).collect();
    let got = run_op(op, &rounded, 2);
    assert_eq!(to_bits(&got), to_bits(&run_op(op, &rounded, 1)), "{op:?}: threads");
    for (got, truth) in got.iter().zip(&truth) {
        let types: Vec<String> = inputs.iter().map(|(ty, _)| ty.to_string()).collect();
        assert_near(got, &truth.values(), relative, &format!("{op:?} of {}", types.join(", ")));
    }
    got
}

fn to_bits(x: &[Vec<f64>]) -> Vec<Vec<u64>> {
    x.iter().map(|x| x.iter().map(|x| x.to_bits()).collect()).collect()
}

/// A tensor of noise as an operand.
pub(crate) fn operand(dtype: percept_graph::DType, dims: &[usize], seed: u64) -> (TensorType, Vec<f64>) {
    let ty = TensorType::new(dtype, dims);
    let mut x = noise(&ty, seed);
    if !dtype.is_float() {
        x.iter_mut().zip(noise(&TensorType::new(percept_graph::DType::F32, dims), seed)).for_each(
            |(x, v)| {
                *x = match dtype {
                    percept_graph::DType::Bool => f64::from(u8::from(v > 0.0)),
                    percept_graph::DType::I32 => (v * 1000.0).round(),
                    _ => (v.abs() * 250.0).round(),
                };
            },
        );
    }
    (ty, x)
}

/// i32 values as an operand.
pub(crate) fn ints(dims: &[usize], x: &[i32]) -> (TensorType, Vec<f64>) {
    (TensorType::new(percept_graph::DType::I32, dims), x.iter().map(|x| f64::from(*x)).collect())
}
