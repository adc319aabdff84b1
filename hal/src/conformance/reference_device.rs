//! The f64 reference as a device: the smallest complete [`Device`], and the judge's own place on the ladder.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use percept_graph::reference::{ReferenceError, evaluate};
use percept_graph::{DType, Graph, HostTensor, Node, Op, OpDesc, Role, TensorType};

use crate::buffer::{Arg, Buffer, DeviceKey};
use crate::device::{CompileOptions, Device, DeviceInfo, Executable, MemoryUse, Pending, Support};
use crate::error::{Error, Result};
use crate::lower::is_structural;
use crate::op_library::check_args;
use crate::report::{CompileReport, OpTiming, Placed, Placement};

/// A device that evaluates one operation after the other with [`percept_graph::reference`] and rounds each
/// result to its dtype.
pub struct ReferenceDevice(Arc<Shared>);

struct Shared {
    info: DeviceInfo,
    key: DeviceKey,
    live: AtomicU64,
}

/// A buffer's bytes; counted while they live.
struct Held {
    tensor: HostTensor,
    shared: Arc<Shared>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.live.fetch_sub(self.tensor.bytes().len() as u64, Ordering::Relaxed);
    }
}

/// Largest buffer in bytes.
const MAX_BUFFER: u64 = 1 << 32;

impl ReferenceDevice {
    /// Open the device.
    pub fn new() -> Self {
        let info = DeviceInfo {
            id: "reference".into(),
            name: "f64 evaluator".into(),
            vendor: "percept".into(),
            driver: env!("CARGO_PKG_VERSION").into(),
            software: true,
            dtypes: DType::ALL.to_vec(),
            features: Vec::new(),
            max_buffer_bytes: MAX_BUFFER,
            memory_bytes: None,
            computes_in: DType::F32,
        };
        Self(Arc::new(Shared { info, key: DeviceKey::fresh(), live: AtomicU64::new(0) }))
    }

    fn tensor<'a>(&self, buffer: &'a Buffer) -> Result<&'a HostTensor> {
        self.0.tensor(buffer)
    }
}

impl Default for ReferenceDevice {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn hold(self: &Arc<Self>, tensor: HostTensor) -> Buffer {
        self.live.fetch_add(tensor.bytes().len() as u64, Ordering::Relaxed);
        let ty = tensor.ty().clone();
        Buffer::new(self.key, ty, Held { tensor, shared: self.clone() })
    }

    fn tensor<'a>(&self, buffer: &'a Buffer) -> Result<&'a HostTensor> {
        buffer.check_device(self.key, &self.info.id)?;
        buffer
            .storage::<Held>()
            .map(|h| &h.tensor)
            .ok_or_else(|| self.failed("", "a buffer's memory is gone"))
    }

    fn failed(&self, op: &str, why: &str) -> Error {
        Error::Failed { device: self.info.id.clone(), op: op.into(), why: why.into() }
    }
}

impl Device for ReferenceDevice {
    fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    fn supports(&self, op: &OpDesc<'_>) -> Support {
        match op.op {
            Op::Composite(_) | Op::Fused(_) => Support::Decompose,
            _ => Support::Native,
        }
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Buffer> {
        let wrong = |_| Error::ByteCount { ty: ty.clone(), given: bytes.len() };
        Ok(self.0.hold(HostTensor::new(ty.clone(), bytes).map_err(wrong)?))
    }

    fn zeros(&self, ty: &TensorType) -> Result<Buffer> {
        if ty.bytes() as u64 > MAX_BUFFER {
            return Err(Error::OutOfMemory {
                device: self.0.info.id.clone(),
                what: ty.to_string(),
                bytes: ty.bytes() as u64,
                why: format!("a buffer holds at most {MAX_BUFFER}"),
            });
        }
        self.upload(ty, &vec![0; ty.bytes()])
    }

    fn read_async(&self, src: &Buffer) -> Result<Pending> {
        Ok(Pending::ready(self.tensor(src)?.bytes().to_vec()))
    }

    fn compile(&self, graph: &Graph, _options: &CompileOptions) -> Result<Box<dyn Executable>> {
        let start = Instant::now();
        let placed = graph.nodes().iter().filter(|n| !is_structural(&n.op)).map(|n| {
            let native = graph.describe(n, |d| self.supports(d)) == Support::Native;
            let placement = if native { Placement::Native } else { Placement::Decomposed };
            Placed { op: n.op.name(), path: n.path.clone(), placement, reason: String::new() }
        });
        let placed: Vec<Placed> = placed.collect();
        let launches = placed.len();
        let compile_ms = start.elapsed().as_secs_f64() * 1e3;
        let report = CompileReport { placed, fused: 0, launches, scratch_bytes: 0, compile_ms };
        let steps = graph.nodes().iter().map(|n| single(graph, n)).collect::<Result<_>>()?;
        Ok(Box::new(ReferenceExecutable { shared: self.0.clone(), graph: graph.clone(), steps, report }))
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse { buffers: self.0.live.load(Ordering::Relaxed), scratch: 0 }
    }
}

/// A graph of this one node.
fn single(graph: &Graph, node: &Node) -> Result<Graph> {
    let mut one = Graph::new(node.op.name());
    let mut operands = Vec::with_capacity(node.inputs.len());
    for (i, &v) in node.inputs.iter().enumerate() {
        operands.push(one.add_input(i.to_string(), Role::Data, graph.ty(v).clone())?);
    }
    for (i, v) in one.add(node.op.clone(), &operands, &node.path)?.into_iter().enumerate() {
        one.add_output(i.to_string(), v, None)?;
    }
    Ok(one)
}

/// A graph to evaluate, and each of its nodes as a graph.
struct ReferenceExecutable {
    shared: Arc<Shared>,
    graph: Graph,
    steps: Vec<Graph>,
    report: CompileReport,
}

impl ReferenceExecutable {
    /// Evaluate, calling `done` after each node with its index and its start.
    fn evaluate(&self, args: Vec<Arg>, mut done: impl FnMut(usize, Instant)) -> Result<Vec<Buffer>> {
        check_args(&self.graph, &args, self.shared.key, &self.shared.info.id)?;
        let mut values: Vec<Option<HostTensor>> = vec![None; self.graph.values().len()];
        for (input, arg) in self.graph.inputs().iter().zip(&args) {
            values[input.value.index()] = Some(self.shared.tensor(arg.buffer())?.clone());
        }
        drop(args);
        for (i, (node, step)) in self.graph.nodes().iter().zip(&self.steps).enumerate() {
            let start = Instant::now();
            let operands: Vec<HostTensor> =
                node.inputs.iter().filter_map(|v| values[v.index()].clone()).collect();
            let failed = |e: ReferenceError| {
                self.shared.failed(format!("{} {}", node.path, step.name()).trim(), &e.to_string())
            };
            for (v, result) in node.outputs.iter().zip(evaluate(step, &operands).map_err(failed)?) {
                values[v.index()] = Some(result);
            }
            done(i, start);
        }
        let outputs = self.graph.outputs().iter().filter_map(|o| values[o.value.index()].clone());
        Ok(outputs.map(|t| self.shared.hold(t)).collect())
    }
}

impl Executable for ReferenceExecutable {
    fn run(&self, args: Vec<Arg>) -> Result<Vec<Buffer>> {
        self.evaluate(args, |_, _| {})
    }

    fn run_timed(&self, args: Vec<Arg>) -> Result<(Vec<Buffer>, Vec<OpTiming>)> {
        let origin = Instant::now();
        let mut events = Vec::new();
        let outputs = self.evaluate(args, |i, start| {
            events.push(OpTiming {
                name: self.steps[i].name().into(),
                path: self.graph.nodes()[i].path.clone(),
                place: self.shared.info.id.as_str().into(),
                start_us: (start - origin).as_secs_f64() * 1e6,
                duration_us: start.elapsed().as_secs_f64() * 1e6,
                waiting_us: 0.0,
                cost: None,
            });
        })?;
        Ok((outputs, events))
    }

    fn report(&self) -> &CompileReport {
        &self.report
    }
}
