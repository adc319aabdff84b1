//! A compiled graph of a kernel device: batches of dispatches, host calls between them, and where every value
//! lies.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use percept_graph::passes::{FuseOptions, Memory, MemoryOptions, Slot, plan_memory};
use percept_graph::{Graph, Op, OpDesc, Output, TensorType, ValueId};
use percept_kernels::{Caps, KernelProgram, Module, Unsupported};

use super::backed_device::{Arena, Shared};
use super::device::{Dispatch, KernelDevice, Window};
use super::layout::{device_bytes, read_bytes, to_device, to_host};
use super::lowering::{Lowered, Lowering, Part};
use super::tune;
use crate::buffer::{Arg, Buffer};
use crate::device::{CompileOptions, Executable};
use crate::error::{Error, Result};
use crate::fallback::HostCall;
use crate::lower::{describe, is_structural, lower};
use crate::op_library::check_args;
use crate::report::{CompileReport, OpTiming};

/// Positions of the memories of a submission: scratch, constants, then arguments, then outputs.
const ARENA: usize = 0;
const CONSTANTS: usize = 1;
const ARGUMENTS: usize = 2;

/// A graph compiled for a kernel device.
pub(super) struct Compiled<K: KernelDevice> {
    shared: Arc<Shared<K>>,
    graph: Graph,
    memory: Memory,
    /// Where each constant starts in the memory of constants.
    constant_offsets: Vec<u64>,
    constant_bytes: u64,
    /// The constants on the device, made again after the device was lost.
    constants: Mutex<Option<Arc<K::Memory>>>,
    steps: Vec<ExecutionStep<K>>,
    /// Bytes of planned values in the arena.
    values_bytes: u64,
    /// With the largest scratch behind them.
    arena_bytes: u64,
    report: CompileReport,
}

enum ExecutionStep<K: KernelDevice> {
    /// One submission, with the operation and module path of each dispatch.
    Batch(K::Batch, Vec<(String, String)>),
    Host(HostCall),
}

/// Dispatches on their way into a batch.
#[derive(Default)]
struct Pending {
    dispatches: Vec<Dispatch>,
    names: Vec<(String, String)>,
}

impl<K: KernelDevice> Compiled<K> {
    pub fn new(shared: Arc<Shared<K>>, graph: &Graph, options: &CompileOptions) -> Result<Self> {
        let start = Instant::now();
        let limits = shared.device.limits();
        let tune = |op: &OpDesc<'_>, caps: &Caps| tune::choose(&shared, op, caps);
        let accepts = |module: &Module| shared.device.accepts(module);
        let lowering = Lowering::new(limits, options.batch_invariant, &tune, &accepts);
        let fusion = FuseOptions { max_buffers: limits.caps.max_bindings as usize, ..FuseOptions::default() };
        let lowered = lower(shared.id(), graph, options, &fusion, &|op| lowering.support(op))?;
        let graph = lowered.graph;
        let in_place = |op: &OpDesc<'_>| lowering.lower(op).map(|p| p.in_place.clone()).unwrap_or_default();
        let memory = plan_memory(
            &graph,
            &MemoryOptions {
                alignment: limits.alignment as usize,
                bytes: &|ty: &TensorType| device_bytes(ty) as usize,
                in_place: &in_place,
            },
        );
        let mut constant_offsets = vec![0; graph.values().len()];
        let mut constant_bytes = 0;
        for node in graph.nodes().iter().filter(|n| matches!(n.op, Op::Constant(_))) {
            constant_offsets[node.outputs[0].index()] = constant_bytes;
            constant_bytes += device_bytes(graph.ty(node.outputs[0])).next_multiple_of(limits.alignment);
        }
        let values_bytes = (memory.arena_bytes() as u64).next_multiple_of(limits.alignment);
        let mut compiled = Self {
            values_bytes,
            arena_bytes: values_bytes,
            shared: shared.clone(),
            memory,
            constant_offsets,
            constant_bytes,
            constants: Mutex::new(None),
            steps: Vec::new(),
            report: CompileReport { placed: lowered.placed, ..CompileReport::default() },
            graph,
        };
        compiled.schedule(&lowered.host, options, &lowering)?;
        compiled.constants()?;
        compiled.report.scratch_bytes = compiled.arena_bytes;
        compiled.report.compile_ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(compiled)
    }

    /// Turn nodes into batches and host calls.
    fn schedule(
        &mut self,
        host: &HashSet<usize>,
        options: &CompileOptions,
        lowering: &Lowering<'_>,
    ) -> Result<()> {
        let graph = std::mem::take(&mut self.graph);
        let shared = self.shared.clone();
        let mut pending = Pending::default();
        let mut index = 0;
        while let Some(node) = graph.nodes().get(index) {
            if host.contains(&index) {
                let segment = (index..graph.nodes().len()).take_while(|i| host.contains(i)).count();
                self.record(std::mem::take(&mut pending))?;
                self.steps.push(ExecutionStep::Host(HostCall::compile(
                    &graph,
                    index..index + segment,
                    options,
                )?));
                index += segment;
                continue;
            }
            index += 1;
            if matches!(node.op, Op::Constant(_)) || node.outputs.iter().all(|&v| self.memory.renames(v)) {
                continue;
            }
            self.report.fused += matches!(node.op, Op::Fused(_)) as usize;
            let unsupported = |op: String, why: Unsupported| Error::Unsupported {
                device: shared.id().to_string(),
                op,
                path: node.path.to_string(),
                why: why.reason,
            };
            let name = (&*node.op.name(), &*node.path);
            let windows =
                |values: &[ValueId]| values.iter().map(|&v| self.window(&graph, v)).collect::<Vec<_>>();
            let (inputs, outputs) = (windows(&node.inputs), windows(&node.outputs));
            let mut copy = |this: &mut Self, i: usize, o: usize| {
                let ty = graph.ty(node.outputs[o]);
                let copy = lowering.copy(ty).map_err(|why| unsupported(format!("copy({ty})"), why))?;
                this.launch(&mut pending, &copy, &[inputs[i]], &[outputs[o]], name);
                Ok::<(), Error>(())
            };
            if is_structural(&node.op) {
                (0..outputs.len()).try_for_each(|at| copy(self, at, at))?;
                continue;
            }
            let lowered = graph.describe(node, |desc| {
                lowering.lower(desc).map_err(|why| unsupported(describe(desc), why))
            })?;
            for &(i, o) in &lowered.in_place {
                if (inputs[i].memory, inputs[i].offset) != (outputs[o].memory, outputs[o].offset) {
                    copy(self, i, o)?;
                }
            }
            self.launch(&mut pending, &lowered, &inputs, &outputs, name);
        }
        self.record(pending)?;
        self.graph = graph;
        Ok(())
    }

    /// Add the launches of an operation; their scratch lies behind the planned values.
    fn launch(
        &mut self,
        pending: &mut Pending,
        lowered: &Lowered,
        inputs: &[Window],
        outputs: &[Window],
        name: (&str, &str),
    ) {
        let alignment = self.shared.device.limits().alignment;
        for part in &lowered.parts {
            let mut end = self.values_bytes;
            let place = |&bytes: &u64| {
                let window = Window { memory: ARENA, offset: end, bytes: bytes.max(4) };
                end += window.bytes.next_multiple_of(alignment);
                window
            };
            let scratch: Vec<Window> = part.program.scratch.iter().map(place).collect();
            self.arena_bytes = self.arena_bytes.max(end);
            let cut = |whole: &[Window], ranges: &[(u64, u64)]| -> Vec<Window> {
                whole.iter().zip(ranges).map(|(w, &range)| Part::within(w, range)).collect()
            };
            let (inputs, outputs) = (cut(inputs, &part.inputs), cut(outputs, &part.outputs));
            pending.add(&part.program, &inputs, &outputs, &scratch, name);
        }
    }

    fn record(&mut self, pending: Pending) -> Result<()> {
        if pending.dispatches.is_empty() {
            return Ok(());
        }
        self.report.launches += pending.dispatches.len();
        let batch = self.shared.device.record(pending.dispatches)?;
        self.steps.push(ExecutionStep::Batch(batch, pending.names));
        Ok(())
    }

    /// Where a value lies among the memories of a submission.
    fn window(&self, graph: &Graph, v: ValueId) -> Window {
        let bytes = device_bytes(graph.ty(v));
        match self.memory.slot(v) {
            Slot::Input(i) => Window { memory: ARGUMENTS + i, offset: 0, bytes },
            Slot::Output(o) => Window { memory: ARGUMENTS + graph.inputs().len() + o, offset: 0, bytes },
            Slot::Arena { offset } => Window { memory: ARENA, offset: offset as u64, bytes },
            Slot::Constant(origin) => {
                Window { memory: CONSTANTS, offset: self.constant_offsets[origin.index()], bytes }
            }
        }
    }

    /// The constants on the device.
    fn constants(&self) -> Result<Arc<K::Memory>> {
        let mut kept = self.constants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(memory) = &*kept {
            return Ok(memory.clone());
        }
        let device = &self.shared.device;
        let memory = Arc::new(device.allocate(self.constant_bytes.max(4), "the constants of a graph")?);
        for node in self.graph.nodes() {
            if let Op::Constant(literal) = &node.op {
                let offset = self.constant_offsets[node.outputs[0].index()];
                device.write(&memory, offset, &to_device(literal.ty.dtype, &literal.to_bytes()))?;
            }
        }
        *kept = Some(memory.clone());
        Ok(memory)
    }

    fn execute(&self, args: Vec<Arg>, mut timings: Option<&mut Vec<OpTiming>>) -> Result<Vec<Buffer>> {
        check_args(&self.graph, &args, self.shared.key, self.shared.id())?;
        let results = self.new_outputs()?;
        let mut stream = self.shared.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ran = self.run_steps(&mut stream, &args, &results, timings.as_deref_mut());
        if let Err(Error::Lost { .. }) = ran {
            // Scratch and constants may be all that a reopened device has lost; arguments are checked again.
            *stream = None;
            *self.constants.lock().unwrap_or_else(PoisonError::into_inner) = None;
            ran = self.run_steps(&mut stream, &args, &results, timings);
        }
        drop(stream);
        ran?;
        self.collect(args, results)
    }

    fn run_steps(
        &self,
        stream: &mut Option<Arena<K>>,
        args: &[Arg],
        results: &[Option<K::Memory>],
        mut timings: Option<&mut Vec<OpTiming>>,
    ) -> Result<()> {
        let start = Instant::now();
        let device = &self.shared.device;
        let bytes = self.arena_bytes.max(4);
        if stream.as_ref().is_none_or(|a| a.bytes < bytes) {
            *stream = None;
        }
        let arena = match stream {
            Some(arena) => arena,
            None => stream.insert(Arena { memory: device.allocate(bytes, "the scratch of a run")?, bytes }),
        };
        let constants = self.constants()?;
        let mut memories: Vec<&K::Memory> = vec![&arena.memory, &constants];
        for arg in args {
            memories.push(self.shared.memory(arg.buffer())?);
        }
        // An output that takes over a donated argument is never named as an output.
        memories.extend(results.iter().map(|r| r.as_ref().unwrap_or(&arena.memory)));
        for step in &self.steps {
            match (step, timings.as_deref_mut()) {
                (ExecutionStep::Batch(batch, _), None) => device.submit(batch, &memories)?,
                (ExecutionStep::Batch(batch, names), Some(timings)) => {
                    let from = start.elapsed().as_secs_f64() * 1e6;
                    let times = device.submit_timed(batch, &memories)?;
                    timings.extend(names.iter().zip(times).map(|((name, path), (at, duration))| OpTiming {
                        name: name.as_str().into(),
                        path: path.as_str().into(),
                        place: self.shared.id().into(),
                        start_us: from + at,
                        duration_us: duration,
                        waiting_us: 0.0,
                        cost: None,
                    }));
                }
                (ExecutionStep::Host(call), timings) => {
                    let from = start.elapsed();
                    self.call_host(call, &memories)?;
                    if let Some(timings) = timings {
                        timings.push(call.timing(from, start.elapsed() - from));
                    }
                }
            }
        }
        Ok(())
    }

    fn call_host(&self, call: &HostCall, memories: &[&K::Memory]) -> Result<()> {
        let device = &self.shared.device;
        let read = |v: ValueId| {
            let (ty, w) = (self.graph.ty(v), self.window(&self.graph, v));
            let bytes = device.read(memories[w.memory], w.offset, read_bytes(ty))?.wait()?;
            Ok(to_host(ty.dtype, bytes))
        };
        let write = |v: ValueId, bytes: &[u8]| {
            let w = self.window(&self.graph, v);
            device.write(memories[w.memory], w.offset, &to_device(self.graph.ty(v).dtype, bytes))
        };
        call.run(&read, &write)
    }

    /// Memory for the outputs that do not take over a donated argument.
    fn new_outputs(&self) -> Result<Vec<Option<K::Memory>>> {
        let output = |(i, o): (usize, &Output)| match self.memory.slot(o.value) {
            Slot::Output(j) if i == j => {
                let bytes = device_bytes(self.graph.ty(o.value));
                self.shared.device.allocate(bytes, &format!("output '{}'", o.name)).map(Some)
            }
            _ => Ok(None),
        };
        self.graph.outputs().iter().enumerate().map(output).collect()
    }

    /// The outputs as buffers: new memory, or the donated memory they were written into.
    fn collect(&self, args: Vec<Arg>, results: Vec<Option<K::Memory>>) -> Result<Vec<Buffer>> {
        let mut args: Vec<Option<Buffer>> = args
            .into_iter()
            .map(|a| match a {
                Arg::Donate(b) => Some(b),
                Arg::Borrow(_) => None,
            })
            .collect();
        let mut buffers = Vec::with_capacity(results.len());
        for (o, memory) in self.graph.outputs().iter().zip(results) {
            let memory = match (memory, self.memory.slot(o.value)) {
                (Some(memory), _) => memory,
                (None, Slot::Input(i)) => {
                    let donated = args[i].take().and_then(|b| b.into_storage::<K::Memory>().ok());
                    let name = || self.graph.inputs()[i].name.clone();
                    donated.ok_or_else(|| Error::DonatedButHeld { name: name() })?
                }
                (None, _) => {
                    return Err(Error::Failed {
                        device: self.shared.id().to_string(),
                        op: format!("output '{}'", o.name),
                        why: "the plan gave it no memory of its own".into(),
                    });
                }
            };
            buffers.push(Buffer::new(self.shared.key, self.graph.ty(o.value).clone(), memory));
        }
        Ok(buffers)
    }
}

impl Pending {
    /// Add the launches of a program over these windows.
    fn add(
        &mut self,
        program: &KernelProgram,
        inputs: &[Window],
        outputs: &[Window],
        scratch: &[Window],
        (op, path): (&str, &str),
    ) {
        use percept_kernels::Slot as Bound;
        for launch in &program.launches {
            let window = |slot: &Bound| match *slot {
                Bound::Input(i) => inputs[i],
                Bound::InputPart { input, offset, bytes } => Part::within(&inputs[input], (offset, bytes)),
                Bound::Output(i) => outputs[i],
                Bound::Scratch(i) => scratch[i],
            };
            self.dispatches.push(Dispatch {
                bindings: launch.bindings.iter().map(window).collect(),
                module: launch.module.clone(),
                checked: false,
                groups: launch.groups,
                params: launch.params.clone(),
                op: if path.is_empty() { op.to_string() } else { format!("{op} at {path}") },
            });
            self.names.push((op.to_string(), path.to_string()));
        }
    }
}

impl<K: KernelDevice> Executable for Compiled<K> {
    fn run(&self, args: Vec<Arg>) -> Result<Vec<Buffer>> {
        self.execute(args, None)
    }

    fn run_timed(&self, args: Vec<Arg>) -> Result<(Vec<Buffer>, Vec<OpTiming>)> {
        let mut events = Vec::new();
        let buffers = self.execute(args, Some(&mut events))?;
        Ok((buffers, events))
    }

    fn report(&self) -> &CompileReport {
        &self.report
    }
}
