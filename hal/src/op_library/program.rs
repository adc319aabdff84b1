//! A compiled graph of an op library: planned launches, host calls between them, and where every value lies.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use percept_graph::passes::{FuseOptions, MemoryOptions, Slot, plan_memory};
use percept_graph::{Graph, Node, Op, OpDesc, TensorType, Value, ValueId};

use super::{OpLaunch, OpLibrary, Region, Shared, check_args, support, vanished, whole};
use crate::buffer::{Arg, Buffer};
use crate::cost::op_cost;
use crate::device::{CompileOptions, Executable};
use crate::error::{Error, Result};
use crate::fallback::HostCall;
use crate::lower::{describe, lower};
use crate::pool::Block;
use crate::report::{CompileReport, OpTiming};

/// Alignment of values within the arena: a cache line, and the widest vector.
const ALIGN: usize = 64;
/// Bytes within which the workspaces of neighbouring launches lie side by side, so that a library may run launches that do
/// not need each other at the same time.
const SIDE_BY_SIDE: usize = 512 << 10;

pub(super) struct LibraryExecutable<L: OpLibrary> {
    shared: Arc<Shared<L>>,
    /// Its inputs and outputs.
    signature: Graph,
    /// Where the values of the launches and host calls lie.
    places: Vec<Place>,
    /// Where the outputs lie.
    results: Vec<ValueLocation>,
    launches: Vec<Launch<L::LaunchPlan>>,
    host_calls: Vec<HostCall>,
    /// Launches and host calls in order.
    items: Vec<Item>,
    constants: Block<L::Memory>,
    /// Bytes of planned values; the workspace follows them.
    arena_bytes: usize,
    workspace_bytes: usize,
    report: CompileReport,
}

/// Where a value lies during a run.
#[derive(Clone, Copy)]
enum ValueLocation {
    Input(usize),
    Output(usize),
    Arena(usize),
    Constant(usize),
}

#[derive(Clone, Copy)]
struct Place {
    at: ValueLocation,
    bytes: usize,
}

/// An operation on tensors of some types, as the library prepared it. Launches that are alike share it: the layers of a
/// model are, programs are many, and they live long.
struct Prepared<P> {
    plan: P,
    op: Op,
    input_types: Vec<TensorType>,
    output_types: Vec<TensorType>,
    /// Bytes of scratch.
    workspace: usize,
    /// The operation's name, as timings have it.
    name: Arc<str>,
}

struct Launch<P> {
    prepared: Arc<Prepared<P>>,
    inputs: Box<[ValueId]>,
    outputs: Box<[ValueId]>,
    /// Where its scratch begins behind the planned values.
    workspace_offset: usize,
    path: Arc<str>,
}

/// What was prepared so far, by the operation's name and the types of its operands.
type Known<P> = HashMap<(String, Vec<TensorType>), Vec<Arc<Prepared<P>>>>;

enum Item {
    Launches(Range<usize>),
    Host(usize),
}

impl<L: OpLibrary> LibraryExecutable<L> {
    pub(super) fn compile(shared: Arc<Shared<L>>, graph: &Graph, options: &CompileOptions) -> Result<Self> {
        let start = Instant::now();
        let library = &shared.library;
        let fusion = FuseOptions::default();
        let lowered = lower(shared.id(), graph, options, &fusion, &|op| support(library, op))?;
        let graph = lowered.graph;
        let in_place = |op: &OpDesc<'_>| library.in_place(op);
        let memory = plan_memory(
            &graph,
            &MemoryOptions { alignment: ALIGN, bytes: &|ty: &TensorType| ty.bytes(), in_place: &in_place },
        );
        let mut offsets = vec![0; graph.values().len()];
        let mut constant_bytes = 0;
        for node in graph.nodes() {
            if let Op::Constant(literal) = &node.op {
                offsets[node.outputs[0].index()] = constant_bytes;
                constant_bytes += literal.ty.bytes().next_multiple_of(ALIGN);
            }
        }
        let constants = shared.alloc(constant_bytes, "constants")?;
        let place = |v: ValueId| match memory.slot(v) {
            Slot::Input(i) => ValueLocation::Input(i),
            Slot::Output(i) => ValueLocation::Output(i),
            Slot::Arena { offset } => ValueLocation::Arena(offset),
            Slot::Constant(origin) => ValueLocation::Constant(offsets[origin.index()]),
        };
        let located =
            |(v, value): (usize, &Value)| Place { at: place(ValueId(v as u32)), bytes: value.ty.bytes() };
        let places = graph.values().iter().enumerate().map(located).collect();
        let results = graph.outputs().iter().map(|o| place(o.value)).collect();
        let mut program = Self {
            arena_bytes: memory.arena_bytes().next_multiple_of(ALIGN),
            shared,
            signature: graph.signature(),
            places,
            results,
            launches: Vec::new(),
            host_calls: Vec::new(),
            items: Vec::new(),
            constants,
            workspace_bytes: 0,
            report: CompileReport { placed: lowered.placed, ..CompileReport::default() },
        };
        program.schedule(&graph, &lowered.host, &|v| memory.renames(v), options)?;
        let is_fused = |l: &&Launch<_>| matches!(l.prepared.op, Op::Fused(_));
        program.report.launches = program.launches.len();
        program.report.fused = program.launches.iter().filter(is_fused).count();
        program.report.scratch_bytes = (program.arena_bytes + program.workspace_bytes) as u64;
        program.report.compile_ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(program)
    }

    /// Plan every node; `renames` tells results that are their operand's memory under another type.
    fn schedule(
        &mut self,
        graph: &Graph,
        host: &std::collections::HashSet<usize>,
        renames: &dyn Fn(ValueId) -> bool,
        options: &CompileOptions,
    ) -> Result<()> {
        let mut known = Known::new();
        let mut first = 0;
        let mut index = 0;
        let mut next_workspace = 0;
        while index < graph.nodes().len() {
            let node = &graph.nodes()[index];
            if host.contains(&index) {
                let segment = (index..graph.nodes().len()).take_while(|i| host.contains(i)).count();
                if first < self.launches.len() {
                    self.items.push(Item::Launches(first..self.launches.len()));
                    first = self.launches.len();
                }
                self.items.push(Item::Host(self.host_calls.len()));
                self.host_calls.push(HostCall::compile(graph, index..index + segment, options)?);
                index += segment;
                continue;
            }
            index += 1;
            if let Op::Constant(literal) = &node.op {
                if let ValueLocation::Constant(offset) = self.places[node.outputs[0].index()].at {
                    let region = whole(&self.constants, 0, self.shared.id())?;
                    let bytes = literal.to_bytes();
                    self.shared.library.write(Region { offset, bytes: bytes.len(), ..region }, &bytes)?;
                }
                continue;
            }
            if node.outputs.iter().all(|&v| renames(v)) {
                continue;
            }
            let prepared = self.prepare(graph, node, &mut known)?;
            if next_workspace + prepared.workspace > SIDE_BY_SIDE {
                next_workspace = 0;
            }
            let workspace_offset = next_workspace;
            next_workspace = (workspace_offset + prepared.workspace).next_multiple_of(ALIGN);
            self.workspace_bytes = self.workspace_bytes.max(next_workspace);
            self.launches.push(Launch {
                prepared,
                inputs: node.inputs.clone().into(),
                outputs: node.outputs.clone().into(),
                workspace_offset,
                path: node.path.clone(),
            });
        }
        if first < self.launches.len() {
            self.items.push(Item::Launches(first..self.launches.len()));
        }
        self.launches.shrink_to_fit();
        self.report.placed.shrink_to_fit();
        Ok(())
    }

    /// A node's operation, prepared now or for a node before that was alike.
    fn prepare(
        &self,
        graph: &Graph,
        node: &Node,
        known: &mut Known<L::LaunchPlan>,
    ) -> Result<Arc<Prepared<L::LaunchPlan>>> {
        let (name, input_types, output_types) =
            (node.op.name(), graph.types(&node.inputs), graph.types(&node.outputs));
        let alike = known.entry((name.clone(), input_types.clone())).or_default();
        let same = |p: &&Arc<Prepared<_>>| p.op == node.op && p.output_types == output_types;
        if let Some(prepared) = alike.iter().find(same) {
            return Ok(prepared.clone());
        }
        let desc = OpDesc { op: &node.op, inputs: &input_types, outputs: &output_types };
        let planned = self.shared.library.query(&desc).map_err(|why| Error::Unsupported {
            device: self.shared.id().to_string(),
            op: describe(&desc),
            path: node.path.to_string(),
            why,
        })?;
        let prepared = Arc::new(Prepared {
            plan: planned.plan,
            op: node.op.clone(),
            input_types,
            output_types,
            workspace: planned.workspace,
            name: name.into(),
        });
        alike.push(prepared.clone());
        Ok(prepared)
    }

    fn execute(&self, args: Vec<Arg>, mut timings: Option<&mut Vec<OpTiming>>) -> Result<Vec<Buffer>> {
        let shared = &*self.shared;
        let start = Instant::now();
        check_args(&self.signature, &args, shared.key, shared.id())?;
        let mut stream = shared.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let need = self.arena_bytes + self.workspace_bytes;
        if stream.as_ref().is_none_or(|a| a.bytes() < need) {
            *stream = None;
            *stream = Some(shared.alloc(need, "the scratch of a run")?);
        }
        let arena = stream.as_ref().and_then(|a| a.memory()).ok_or_else(|| vanished(shared.id()))?;
        let results = self.new_outputs()?;
        let run = Run { program: self, args: &args, results: &results, arena };
        for item in &self.items {
            match item {
                Item::Launches(range) => run.launches(range.clone(), start, timings.as_deref_mut())?,
                Item::Host(call) => run.host(&self.host_calls[*call], start, timings.as_deref_mut())?,
            }
        }
        drop(stream);
        self.collect(args, results)
    }

    /// Blocks for the outputs that do not take over a donated one.
    fn new_outputs(&self) -> Result<Vec<Option<Block<L::Memory>>>> {
        let output = |(i, o): (usize, &percept_graph::Output)| match self.results[i] {
            ValueLocation::Output(j) if i == j => {
                let bytes = self.signature.ty(o.value).bytes();
                self.shared.alloc(bytes, &format!("output '{}'", o.name)).map(Some)
            }
            _ => Ok(None),
        };
        self.signature.outputs().iter().enumerate().map(output).collect()
    }

    /// The outputs as buffers: new blocks, or the donated ones they were written into.
    fn collect(&self, args: Vec<Arg>, results: Vec<Option<Block<L::Memory>>>) -> Result<Vec<Buffer>> {
        let shared = &self.shared;
        let mut args: Vec<Option<Buffer>> = args
            .into_iter()
            .map(|a| match a {
                Arg::Donate(b) => Some(b),
                Arg::Borrow(_) => None,
            })
            .collect();
        let mut buffers = Vec::with_capacity(results.len());
        for ((o, at), block) in self.signature.outputs().iter().zip(&self.results).zip(results) {
            let block = match (block, *at) {
                (Some(block), _) => block,
                (None, ValueLocation::Input(i)) => {
                    let donated = args[i].take().and_then(|b| b.into_storage::<Block<L::Memory>>().ok());
                    let name = || self.signature.inputs()[i].name.clone();
                    donated.ok_or_else(|| Error::DonatedButHeld { name: name() })?
                }
                (None, _) => return Err(vanished(shared.id())),
            };
            buffers.push(Buffer::new(shared.key, self.signature.ty(o.value).clone(), block));
        }
        Ok(buffers)
    }
}

/// The memory of one run.
struct Run<'a, L: OpLibrary> {
    program: &'a LibraryExecutable<L>,
    args: &'a [Arg],
    results: &'a [Option<Block<L::Memory>>],
    arena: &'a L::Memory,
}

impl<'a, L: OpLibrary> Run<'a, L> {
    fn region(&self, v: ValueId) -> Result<Region<'a, L::Memory>> {
        let shared = &*self.program.shared;
        let Place { at, bytes } = self.program.places[v.index()];
        match at {
            ValueLocation::Input(i) => shared.region(self.args[i].buffer()).map(|r| Region { bytes, ..r }),
            ValueLocation::Output(i) => match &self.results[i] {
                Some(block) => whole(block, bytes, shared.id()),
                None => Err(vanished(shared.id())),
            },
            ValueLocation::Arena(offset) => Ok(Region { memory: self.arena, offset, bytes }),
            ValueLocation::Constant(offset) => {
                whole(&self.program.constants, bytes, shared.id()).map(|r| Region { offset, ..r })
            }
        }
    }

    fn launches(
        &self,
        range: Range<usize>,
        start: Instant,
        timings: Option<&mut Vec<OpTiming>>,
    ) -> Result<()> {
        let launches = &self.program.launches[range];
        let values = launches.iter().flat_map(|l| l.inputs.iter().chain(&*l.outputs));
        let regions = values.map(|&v| self.region(v)).collect::<Result<Vec<_>>>()?;
        let mut rest = &regions[..];
        let steps: Vec<OpLaunch<'_, L>> = launches
            .iter()
            .map(|l| {
                let (inputs, tail) = rest.split_at(l.inputs.len());
                let (outputs, tail) = tail.split_at(l.outputs.len());
                rest = tail;
                let Prepared { plan, op, input_types, output_types, workspace, .. } = &*l.prepared;
                let workspace = (*workspace > 0).then_some(Region {
                    memory: self.arena,
                    offset: self.program.arena_bytes + l.workspace_offset,
                    bytes: *workspace,
                });
                let op = OpDesc { op, inputs: input_types, outputs: output_types };
                OpLaunch { plan, op, path: &l.path, inputs, outputs, workspace }
            })
            .collect();
        let library = &self.program.shared.library;
        let Some(timings) = timings else { return library.launch_program(&steps) };
        let times = library.launch_program_timed(&steps)?;
        let place: Arc<str> = self.program.shared.id().into();
        timings.extend(launches.iter().zip(&steps).zip(times).map(|((launch, step), time)| OpTiming {
            name: launch.prepared.name.clone(),
            path: launch.path.clone(),
            place: place.clone(),
            start_us: time.start.saturating_duration_since(start).as_secs_f64() * 1e6,
            duration_us: time.duration.as_secs_f64() * 1e6,
            waiting_us: time.waiting.as_secs_f64() * 1e6,
            cost: op_cost(&step.op),
        }));
        Ok(())
    }

    fn host(&self, call: &HostCall, start: Instant, timings: Option<&mut Vec<OpTiming>>) -> Result<()> {
        let library = &self.program.shared.library;
        let at = start.elapsed();
        let read = |v: ValueId| {
            let region = self.region(v)?;
            let mut bytes = vec![0; region.bytes];
            library.read(region, &mut bytes)?;
            Ok(bytes)
        };
        let write = |v: ValueId, bytes: &[u8]| library.write(self.region(v)?, bytes);
        call.run(&read, &write)?;
        if let Some(timings) = timings {
            timings.push(call.timing(at, start.elapsed() - at));
        }
        Ok(())
    }
}

impl<L: OpLibrary> Executable for LibraryExecutable<L> {
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
