//! A compiled graph of a graph compiler: programs, host calls between them, and when values are dropped.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use percept_graph::passes::FuseOptions;
use percept_graph::{Graph, Node, Op, ValueId};

use super::cut::{Cut, cut, segment};
use super::device::Shared;
use super::emitter::{GraphEmitter, Operand};
use crate::buffer::{Arg, Buffer};
use crate::device::{CompileOptions, Executable};
use crate::error::{Error, Result};
use crate::fallback::HostCall;
use crate::lower::{is_structural, lower};
use crate::op_library::check_args;
use crate::report::{CompileReport, OpTiming};

pub(super) struct EmitterExecutable<E: GraphEmitter> {
    shared: Arc<Shared<E>>,
    graph: Graph,
    steps: Vec<Step<E::Program>>,
    /// Inputs that nothing reads and no output is: dropped at once.
    unread: Vec<ValueId>,
    report: CompileReport,
}

struct Step<P> {
    work: Work<P>,
    /// Values that no later step reads and that are no outputs.
    dead: Vec<ValueId>,
}

enum Work<P> {
    Program {
        program: P,
        /// What goes in, and whether it is donated.
        inputs: Vec<(ValueId, bool)>,
        outputs: Vec<ValueId>,
        name: String,
        path: String,
    },
    Host(HostCall),
}

impl<P> Work<P> {
    fn program(&self) -> Option<&P> {
        match self {
            Work::Program { program, .. } => Some(program),
            Work::Host(_) => None,
        }
    }
}

impl<E: GraphEmitter> EmitterExecutable<E> {
    pub(super) fn compile(shared: Arc<Shared<E>>, graph: &Graph, options: &CompileOptions) -> Result<Self> {
        let start = Instant::now();
        // A graph compiler fuses by itself.
        let options = CompileOptions { fuse: false, ..options.clone() };
        let lowered = lower(shared.id(), graph, &options, &FuseOptions::default(), &|op| shared.support(op))?;
        lowered.graph.values().iter().try_for_each(|v| shared.check_size(&v.ty))?;
        let Cut { graph, parts } = cut(&lowered.graph, &lowered.host)?;
        let mut steps = Vec::with_capacity(parts.len());
        for part in &parts {
            let work = if part.on_host {
                Work::Host(HostCall::compile(&graph, part.nodes.clone(), &options)?)
            } else {
                let segment = segment(&graph, part.nodes.clone())?;
                let donated = segment.graph.donated();
                let nodes = &graph.nodes()[part.nodes.clone()];
                Work::Program {
                    program: shared.emitter.compile(&segment.graph, &options)?,
                    inputs: segment
                        .inputs
                        .iter()
                        .enumerate()
                        .map(|(i, v)| (*v, donated.contains(&i)))
                        .collect(),
                    outputs: segment.outputs,
                    name: summary(nodes),
                    path: common_path(nodes),
                }
            };
            steps.push(Step { work, dead: Vec::new() });
        }
        let mut live: HashSet<ValueId> = graph.outputs().iter().map(|o| o.value).collect();
        for (step, part) in steps.iter_mut().zip(&parts).rev() {
            let touched =
                graph.nodes()[part.nodes.clone()].iter().flat_map(|n| n.inputs.iter().chain(&n.outputs));
            step.dead = touched.copied().filter(|v| live.insert(*v)).collect();
        }
        let inputs = graph.inputs().iter().map(|i| i.value);
        let unread = inputs.filter(|v| !live.contains(v)).collect();
        let programs: Vec<&E::Program> = steps.iter().filter_map(|s| s.work.program()).collect();
        let fallbacks = programs.iter().flat_map(|p| shared.emitter.fallbacks(p));
        let report = CompileReport {
            placed: lowered.placed.into_iter().chain(fallbacks).collect(),
            launches: programs.len(),
            compile_ms: start.elapsed().as_secs_f64() * 1e3,
            ..CompileReport::default()
        };
        Ok(Self { shared, graph, steps, unread, report })
    }

    fn execute(&self, args: Vec<Arg>, mut timings: Option<&mut Vec<OpTiming>>) -> Result<Vec<Buffer>> {
        let start = Instant::now();
        check_args(&self.graph, &args, self.shared.key, self.shared.id())?;
        let _stream = self.shared.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let mut run = Run { program: self, values: (0..self.graph.values().len()).map(|_| None).collect() };
        for (input, arg) in self.graph.inputs().iter().zip(args) {
            let (Arg::Borrow(buffer) | Arg::Donate(buffer)) = arg;
            run.values[input.value.index()] = Some(Held::Argument(buffer));
        }
        run.drop_values(&self.unread);
        for step in &self.steps {
            let at = start.elapsed();
            match &step.work {
                Work::Program { program, inputs, outputs, .. } => run.program(program, inputs, outputs)?,
                Work::Host(call) => run.host(call)?,
            }
            run.drop_values(&step.dead);
            if let Some(timings) = timings.as_deref_mut() {
                self.shared.emitter.synchronize()?;
                let duration = start.elapsed() - at;
                timings.push(match &step.work {
                    Work::Host(call) => call.timing(at, duration),
                    Work::Program { name, path, .. } => OpTiming {
                        name: name.as_str().into(),
                        path: path.as_str().into(),
                        place: self.shared.id().into(),
                        start_us: at.as_secs_f64() * 1e6,
                        duration_us: duration.as_secs_f64() * 1e6,
                        waiting_us: 0.0,
                        cost: None,
                    },
                });
            }
        }
        run.outputs()
    }
}

/// What a program is called in a trace: its operation, or the first and the last of them and their number.
fn summary(nodes: &[Node]) -> String {
    let names: Vec<String> = nodes.iter().filter(|n| !is_structural(&n.op)).map(|n| n.op.name()).collect();
    match &names[..] {
        [] => "copy".into(),
        [one] => one.clone(),
        [first, .., last] => format!("{first} .. {last} ({} operations)", names.len()),
    }
}

/// The module path that all nodes with one have in common.
fn common_path(nodes: &[Node]) -> String {
    let mut paths = nodes.iter().map(|n| n.path.as_ref()).filter(|p| !p.is_empty());
    let mut common: Vec<&str> = paths.next().map(|p| p.split('.').collect()).unwrap_or_default();
    for path in paths {
        let same = common.iter().zip(path.split('.')).take_while(|(a, b)| **a == *b).count();
        common.truncate(same);
    }
    common.join(".")
}

/// A value during a run.
enum Held<M> {
    Argument(Buffer),
    Made(M),
}

/// The values of one run, by their ids.
struct Run<'a, E: GraphEmitter> {
    program: &'a EmitterExecutable<E>,
    values: Vec<Option<Held<E::Memory>>>,
}

impl<E: GraphEmitter> Run<'_, E> {
    fn memory(&self, v: ValueId) -> Result<&E::Memory> {
        match &self.values[v.index()] {
            Some(Held::Argument(buffer)) => self.program.shared.memory(buffer),
            Some(Held::Made(memory)) => Ok(memory),
            None => Err(self.program.shared.failed(format!("value %{} is gone", v.0))),
        }
    }

    /// Take an argument out of its buffer.
    fn donated(&mut self, v: ValueId) -> Result<E::Memory> {
        let inputs = self.program.graph.inputs();
        let name = || inputs.iter().find(|i| i.value == v).map(|i| i.name.clone()).unwrap_or_default();
        match self.values[v.index()].take() {
            Some(Held::Made(memory)) => Ok(memory),
            Some(Held::Argument(buffer)) => {
                buffer.into_storage().map_err(|_| Error::DonatedButHeld { name: name() })
            }
            None => Err(Error::DonatedButHeld { name: name() }),
        }
    }

    fn program(
        &mut self,
        program: &E::Program,
        inputs: &[(ValueId, bool)],
        outputs: &[ValueId],
    ) -> Result<()> {
        let mut given = Vec::new();
        for (v, _) in inputs.iter().filter(|(_, donated)| *donated) {
            given.push(self.donated(*v)?);
        }
        let mut given = given.into_iter();
        let operands = inputs.iter().map(|(v, donated)| match if *donated { given.next() } else { None } {
            Some(memory) => Ok(Operand::Donated(memory)),
            None => self.memory(*v).map(Operand::Borrowed),
        });
        let operands = operands.collect::<Result<Vec<_>>>()?;
        let shared = &self.program.shared;
        let results = shared.emitter.run(program, operands)?;
        if results.len() != outputs.len() {
            let (n, m) = (results.len(), outputs.len());
            return Err(shared.failed(format!("a program with {m} outputs gave {n} values")));
        }
        for (v, memory) in outputs.iter().zip(results) {
            self.values[v.index()] = Some(Held::Made(memory));
        }
        Ok(())
    }

    fn host(&mut self, call: &HostCall) -> Result<()> {
        let (graph, emitter) = (&self.program.graph, &self.program.shared.emitter);
        let made = RefCell::new(Vec::new());
        let read = |v: ValueId| match graph.producer(v).map(|n| &n.op) {
            Some(Op::Constant(literal)) => Ok(literal.to_bytes()),
            _ => emitter.read(self.memory(v)?, graph.ty(v)),
        };
        let write = |v: ValueId, bytes: &[u8]| {
            made.borrow_mut().push((v, emitter.upload(graph.ty(v), bytes)?));
            Ok(())
        };
        call.run(&read, &write)?;
        for (v, memory) in made.into_inner() {
            self.values[v.index()] = Some(Held::Made(memory));
        }
        Ok(())
    }

    fn drop_values(&mut self, dead: &[ValueId]) {
        for v in dead {
            self.values[v.index()] = None;
        }
    }

    /// The outputs as buffers; one that is the very input it replaces is that argument.
    fn outputs(mut self) -> Result<Vec<Buffer>> {
        let graph = &self.program.graph;
        let shared = &self.program.shared;
        let output = |o: &percept_graph::Output| match self.values[o.value.index()].take() {
            Some(Held::Made(memory)) => Ok(shared.buffer(graph.ty(o.value), memory)),
            Some(Held::Argument(buffer)) => Ok(buffer),
            None => Err(shared.failed(format!("output '{}' was not made", o.name))),
        };
        graph.outputs().iter().map(output).collect()
    }
}

impl<E: GraphEmitter> Executable for EmitterExecutable<E> {
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
