//! A graph run operation by operation on a device and on the cpu, each operation on the cpu's operands.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use percept_graph::{DType, Graph, Literal, LiteralData, Node, Op, Role, TensorType, ValueId};

use crate::buffer::Arg;
use crate::device::{CompileOptions, Device};
use crate::error::{Error, Result};
use crate::report::Placement;

/// One operation, with its results on both devices.
pub struct Visit<'a> {
    /// Its index in the graph.
    pub index: usize,
    /// The operation in the whole graph.
    pub node: &'a Node,
    /// It alone, as a graph.
    pub single: Graph,
    /// The types and bytes of its operands.
    pub operands: Vec<(&'a TensorType, &'a [u8])>,
    /// Where the device ran it.
    pub placement: Placement,
    /// Normalized mean square error of its worst result.
    pub error: f64,
    /// What is allowed for the dtype of that result.
    pub allowed: f64,
    /// Milliseconds of the device's second run.
    pub ms: f64,
}

impl Visit<'_> {
    /// Whether the results agree; a NaN error does not.
    pub fn agrees(&self) -> bool {
        self.error <= self.allowed
    }

    /// The operation alone with its dense operands as constants, so that the graph's text reproduces a difference.
    ///
    /// # Errors
    /// When the graph cannot be made of them.
    pub fn standalone(&self) -> Result<Graph> {
        let mut graph = Graph::new(self.single.name());
        let mut map = vec![ValueId(0); self.single.values().len()];
        for (input, (ty, bytes)) in self.single.inputs().iter().zip(&self.operands) {
            map[input.value.index()] = if ty.dtype.is_quantized() {
                graph.add_input(input.name.clone(), Role::Data, (*ty).clone())?
            } else {
                let literal = Literal { ty: (*ty).clone(), data: LiteralData::Dense((*bytes).into()) };
                graph.add(Op::Constant(literal), &[], &Arc::from(""))?[0]
            };
        }
        for node in self.single.nodes() {
            let operands: Vec<ValueId> = node.inputs.iter().map(|v| map[v.index()]).collect();
            for (from, to) in node.outputs.iter().zip(graph.add(node.op.clone(), &operands, &node.path)?) {
                map[from.index()] = to;
            }
        }
        for output in self.single.outputs() {
            graph.add_output(output.name.clone(), map[output.value.index()], None)?;
        }
        Ok(graph)
    }
}

/// Visit every operation of a graph in order, until `visit` breaks off. `inputs` are the bytes of the graph's inputs; `nmse` is what is
/// allowed of every operation, instead of what its dtype allows.
///
/// # Errors
/// When one of the devices does not run an operation, or `visit` fails.
pub fn walk<E: From<Error>>(
    graph: &Graph,
    inputs: &[Vec<u8>],
    device: &dyn Device,
    cpu: &Arc<dyn Device>,
    nmse: Option<f64>,
    mut visit: impl FnMut(Visit<'_>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let mut known: Vec<Option<Vec<u8>>> = vec![None; graph.values().len()];
    for (input, bytes) in graph.inputs().iter().zip(inputs) {
        known[input.value.index()] = Some(bytes.clone());
    }
    let mut left = graph.use_counts();
    for (index, node) in graph.nodes().iter().enumerate() {
        let single = isolate(graph, node)?;
        let operands: Vec<(&TensorType, &[u8])> =
            node.inputs.iter().map(|v| (graph.ty(*v), known[v.index()].as_deref().unwrap_or(&[]))).collect();
        let expected = Run::of(&single, &operands, &**cpu, &CompileOptions::default())?;
        let options = CompileOptions { host: Some(cpu.clone()), ..CompileOptions::default() };
        let given = Run::of(&single, &operands, device, &options)?;
        let mut worst = (0.0, tolerance(DType::F32));
        for ((v, e), g) in node.outputs.iter().zip(&expected.outputs).zip(&given.outputs) {
            let ty = graph.ty(*v);
            let error = nmse_of(&numbers(ty, e), &numbers(ty, g));
            let allowed = nmse.unwrap_or(tolerance(ty.dtype));
            // A NaN error is the worst there is.
            let share = error / allowed.max(f64::MIN_POSITIVE);
            if share.is_nan() || share > worst.0 / f64::max(worst.1, f64::MIN_POSITIVE) {
                worst = (error, allowed);
            }
        }
        let visited = Visit {
            index,
            node,
            single,
            operands,
            placement: given.placement,
            error: worst.0,
            allowed: worst.1,
            ms: given.ms,
        };
        if visit(visited)?.is_break() {
            return Ok(());
        }
        for (v, bytes) in node.outputs.iter().zip(expected.outputs) {
            known[v.index()] = Some(bytes);
        }
        for v in &node.inputs {
            left[v.index()] -= 1;
            if left[v.index()] == 0 {
                known[v.index()] = None;
            }
        }
    }
    Ok(())
}

/// A graph of one node whose inputs are its operands.
fn isolate(graph: &Graph, node: &Node) -> Result<Graph> {
    let mut single = Graph::new(node.op.name());
    let mut operands = Vec::new();
    for (i, v) in node.inputs.iter().enumerate() {
        operands.push(single.add_input(format!("x{i}"), Role::Data, graph.ty(*v).clone())?);
    }
    for (i, v) in single.add(node.op.clone(), &operands, &node.path)?.into_iter().enumerate() {
        single.add_output(format!("y{i}"), v, None)?;
    }
    Ok(single)
}

/// One device's results of one operation.
struct Run {
    outputs: Vec<Vec<u8>>,
    placement: Placement,
    ms: f64,
}

impl Run {
    fn of(
        graph: &Graph,
        operands: &[(&TensorType, &[u8])],
        device: &dyn Device,
        options: &CompileOptions,
    ) -> Result<Self> {
        let executable = device.compile(graph, options)?;
        let upload = || operands.iter().map(|(ty, b)| device.upload(ty, b)).collect::<Result<Vec<_>>>();
        let buffers = upload()?;
        let run = || executable.run(buffers.iter().cloned().map(Arg::Borrow).collect());
        let outputs = run()?;
        device.synchronize()?;
        let start = Instant::now();
        let again = run()?;
        device.synchronize()?;
        let ms = start.elapsed().as_secs_f64() * 1e3;
        drop(again);
        let placement =
            executable.report().placed.iter().map(|p| p.placement).max().unwrap_or(Placement::Native);
        let outputs = outputs.iter().map(|b| device.read(b)).collect::<Result<Vec<_>>>()?;
        Ok(Self { outputs, placement, ms })
    }
}

/// Mean square of the difference over the mean square of the expected; infinite where only one side is not
/// finite.
fn nmse_of(expected: &[f64], given: &[f64]) -> f64 {
    let (mut error, mut power) = (0.0, 0.0);
    for (e, g) in expected.iter().zip(given) {
        let same = e == g || e.is_nan() && g.is_nan();
        if !same {
            error += (e - g) * (e - g);
        }
        if e.is_finite() {
            power += e * e;
        }
    }
    if error == 0.0 { 0.0 } else { error / power.max(f64::MIN_POSITIVE) }
}

/// Rounding noise of one operation: the square of a few hundred units in the last place; integers are exact.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F32 => 1e-9,
        DType::F16 => 1e-5,
        DType::BF16 => 1e-3,
        _ => 0.0,
    }
}

/// Bytes of a dense type as numbers.
pub fn numbers(ty: &TensorType, bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(ty.dtype.block_bytes()).map(|chunk| percept_graph::decode(ty.dtype, chunk)).collect()
}
