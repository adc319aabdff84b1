//! Compiled graphs over one model's weights on a device.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use percept_graph::passes::int8_dots;
use percept_graph::{Composite, Graph, Input, Op, Output, Role, TensorType};
use percept_hal::{Arg, Buffer, CompileOptions, CompileReport, Device, Executable, OpTiming, Weight};
use percept_model::Weights;

use crate::error::{Error, Result};
use crate::shared_weights::SharedWeights;

/// A compiled graph. Whoever runs it gives every input by name. Of the graph it keeps what a run asks for: a session has
/// many programs, and the graph of a large model is half a megabyte.
pub struct Program {
    inputs: Vec<ProgramInput>,
    outputs: Vec<ProgramOutput>,
    executable: Box<dyn Executable>,
}

struct ProgramInput {
    name: String,
    role: Role,
    ty: TensorType,
    donated: bool,
}

/// An output of a program.
pub struct ProgramOutput {
    /// The name, unique among the outputs.
    pub name: String,
    /// It is the donated buffer of an input, updated.
    pub in_place: bool,
}

impl Program {
    /// Compile a graph for a device.
    ///
    /// # Errors
    /// When an operation does not run on the device.
    pub fn compile(device: &dyn Device, graph: &Graph, options: &CompileOptions) -> Result<Self> {
        let executable = device.compile(graph, options)?;
        let replaced = graph.donated();
        let input = |(i, input): (usize, &Input)| ProgramInput {
            name: input.name.clone(),
            role: input.role,
            ty: graph.ty(input.value).clone(),
            donated: replaced.contains(&i),
        };
        let output = |o: &Output| ProgramOutput { name: o.name.clone(), in_place: o.alias.is_some() };
        Ok(Self {
            inputs: graph.inputs().iter().enumerate().map(input).collect(),
            outputs: graph.outputs().iter().map(output).collect(),
            executable,
        })
    }

    /// The outputs in the order of the graph.
    pub fn outputs(&self) -> &[ProgramOutput] {
        &self.outputs
    }

    /// What the compilation decided.
    pub fn report(&self) -> &CompileReport {
        self.executable.report()
    }

    /// Whether the buffer of an input, by its number, becomes an output's.
    pub fn is_donated(&self, input: usize) -> bool {
        self.inputs.get(input).is_some_and(|input| input.donated)
    }

    /// Run on inputs that `argument` gives by number, name and type; inputs that outputs replace are donated. Gives the
    /// outputs in the graph's order. With a timeline, operations are timed one by one, which is slower.
    ///
    /// # Errors
    /// When an input is not given or the device fails.
    pub fn run<E: From<percept_hal::Error>>(
        &self,
        timeline: Option<&mut Vec<OpTiming>>,
        mut argument: impl FnMut(usize, &str, &TensorType) -> Result<Buffer, E>,
    ) -> Result<Vec<Buffer>, E> {
        let mut arguments = Vec::with_capacity(self.inputs.len());
        for (i, input) in self.inputs.iter().enumerate() {
            let buffer = argument(i, &input.name, &input.ty)?;
            arguments.push(if input.donated { Arg::Donate(buffer) } else { Arg::Borrow(buffer) });
        }
        let Some(timeline) = timeline else { return Ok(self.executable.run(arguments)?) };
        let (outputs, events) = self.executable.run_timed(arguments)?;
        let after = timeline.last().map_or(0.0, OpTiming::end_us);
        timeline.extend(events.into_iter().map(|e| OpTiming { start_us: e.start_us + after, ..e }));
        Ok(outputs)
    }
}

/// A program that ran and the bytes of its inputs: what it takes to run the same graph elsewhere.
pub struct RecordedRun {
    /// The graph of the program.
    pub graph: Arc<Graph>,
    /// The bytes of each input, as `Device::upload` takes them; `None` for parameters, which are the model's weights.
    pub inputs: Vec<Option<Vec<u8>>>,
}

/// A device with a model's weights, each loaded once, and the programs compiled over them, found by their keys. All that
/// runs a model goes through it.
pub struct Runner<K> {
    device: Arc<dyn Device>,
    options: CompileOptions,
    int8: bool,
    weights: HashMap<(String, TensorType), Arc<Buffer>>,
    /// Where weights are looked for that other runners may hold.
    shared: Option<SharedWeights>,
    programs: HashMap<K, Loaded>,
    /// Counts the uses of programs.
    clock: u64,
    timeline: Option<Vec<OpTiming>>,
    recorded: Option<Vec<RecordedRun>>,
}

/// A program and its parameters, by the number of the input.
struct Loaded {
    program: Program,
    parameters: Vec<Option<Buffer>>,
    /// Its graph, where runs are recorded.
    graph: Option<Arc<Graph>>,
    /// When it was used last.
    used: u64,
}

/// Programs that are kept: of more, those that were not used for longest are forgotten, so that memory stays bounded whatever
/// shapes come. Compiling one again costs a fraction of a step of many rows.
const PROGRAMS: usize = 48;

impl<K: Hash + Eq + Clone> Runner<K> {
    /// Nothing loaded or compiled yet. With `int8`, what is multiplied by quantized weights is rounded to int8, as llama.cpp
    /// does: less exact, and faster on some processors.
    pub fn new(device: Arc<dyn Device>, options: CompileOptions, int8: bool) -> Self {
        let (weights, programs) = (HashMap::new(), HashMap::new());
        Self {
            device,
            options,
            int8,
            weights,
            shared: None,
            programs,
            clock: 0,
            timeline: None,
            recorded: None,
        }
    }

    /// Load no weight from now on that another runner of the store holds.
    pub fn share_weights(&mut self, store: SharedWeights) {
        self.shared = Some(store);
    }

    /// A weight that is no parameter of a program but what some run gives it, on the device.
    ///
    /// # Errors
    /// When the device cannot take it.
    pub fn load(&self, weight: &Weight) -> Result<Arc<Buffer>> {
        match &self.shared {
            Some(store) => store.load(&self.device, weight),
            None => Ok(Arc::new(self.device.load_weight(weight)?)),
        }
    }

    /// The device that the programs run on.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// What every compilation decided.
    pub fn reports(&self) -> impl Iterator<Item = &CompileReport> {
        self.programs.values().map(|loaded| loaded.program.report())
    }

    /// From now on time operations one by one, which is slower.
    pub fn record_timeline(&mut self) {
        self.timeline.get_or_insert_default();
    }

    /// The operations timed so far.
    pub fn take_timeline(&mut self) -> Vec<OpTiming> {
        self.timeline.take().unwrap_or_default()
    }

    /// From now on keep the graph and the inputs of every run. They are read back from the device, which is slow.
    pub fn record_runs(&mut self) {
        self.recorded.get_or_insert_default();
        // Programs so far have no graph to show.
        self.programs.clear();
    }

    /// The runs recorded so far.
    pub fn take_recorded_runs(&mut self) -> Vec<RecordedRun> {
        self.recorded.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Make sure that the graph of a key is compiled, and its weights loaded.
    ///
    /// # Errors
    /// When the graph cannot be made or does not run on the device, or a weight cannot be loaded.
    pub fn prepare(
        &mut self,
        key: &K,
        weights: &Weights,
        graph: impl FnOnce() -> Result<Graph>,
    ) -> Result<()> {
        self.clock += 1;
        if !self.programs.contains_key(key) {
            let loaded = self.compile(weights, graph()?)?;
            self.programs.insert(key.clone(), loaded);
            if self.programs.len() > PROGRAMS {
                let oldest = self.programs.values().map(|loaded| loaded.used).filter(|used| *used > 0).min();
                self.programs.retain(|_, loaded| Some(loaded.used) != oldest);
            }
        }
        // The key is there since the lines above, which forget no program that was not used yet.
        let Some(loaded) = self.programs.get_mut(key) else {
            return Err(Error::Setting("a program was forgotten before it ran".into()));
        };
        loaded.used = self.clock;
        Ok(())
    }

    /// Forget the programs whose keys are not kept. Weights stay.
    pub fn keep(&mut self, is_kept: impl Fn(&K) -> bool) {
        self.programs.retain(|key, _| is_kept(key));
    }

    /// Run the program of a key that was prepared: `argument` gives every input that is no parameter, by name. Outputs are
    /// in the graph's order.
    ///
    /// # Errors
    /// When the key was not prepared, an input was not given, or the device fails.
    pub fn run(
        &mut self,
        key: &K,
        mut argument: impl FnMut(&dyn Device, &str, &TensorType) -> Result<Buffer>,
    ) -> Result<Vec<(String, Buffer)>> {
        let Some(Loaded { program, parameters, graph, .. }) = self.programs.get(key) else {
            return Err(Error::Setting("a program was run before it was compiled".into()));
        };
        let device = &*self.device;
        let mut inputs = self.recorded.is_some().then(Vec::new);
        let outputs = program.run(self.timeline.as_mut(), |i, name, ty| {
            let (buffer, is_weight) = match &parameters[i] {
                Some(parameter) => (parameter.clone(), true),
                None => (argument(device, name, ty)?, false),
            };
            if let Some(inputs) = &mut inputs {
                inputs.push(if is_weight { None } else { Some(device.read(&buffer)?) });
            }
            Ok::<Buffer, Error>(buffer)
        })?;
        if let (Some(recorded), Some(inputs), Some(graph)) = (&mut self.recorded, inputs, graph) {
            recorded.push(RecordedRun { graph: graph.clone(), inputs });
        }
        Ok(program.outputs().iter().map(|o| o.name.clone()).zip(outputs).collect())
    }

    fn compile(&mut self, weights: &Weights, graph: Graph) -> Result<Loaded> {
        let quantized = |op: &Op| matches!(op, Op::Composite(Composite::QuantizedDot { .. }));
        let rounds = self.int8 && graph.nodes().iter().any(|node| quantized(&node.op));
        let graph = if rounds { int8_dots(&graph)? } else { graph };
        let program = Program::compile(&*self.device, &graph, &self.options)?;
        let mut parameters = Vec::with_capacity(program.inputs.len());
        for input in &program.inputs {
            if input.role != Role::Parameter {
                parameters.push(None);
                continue;
            }
            let ty = &input.ty;
            let key = (input.name.clone(), ty.clone());
            let buffer = match self.weights.get(&key) {
                Some(loaded) => loaded.clone(),
                None => self.load(&weights.fetch(&input.name, ty)?)?,
            };
            parameters.push(Some(Buffer::clone(&buffer)));
            self.weights.insert(key, buffer);
        }
        let graph = self.recorded.is_some().then(|| Arc::new(graph));
        Ok(Loaded { program, parameters, graph, used: 0 })
    }
}

/// The floats of a buffer.
///
/// # Errors
/// When the device fails.
pub(crate) fn read_floats(device: &dyn Device, buffer: &Buffer) -> Result<Vec<f32>> {
    let bytes = device.read(buffer)?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// The named array among those given for a run.
///
/// # Errors
/// When it is not there: nothing is padded with zeros.
pub(crate) fn upload_named(
    device: &dyn Device,
    given: &[(String, percept_graph::HostTensor)],
    name: &str,
) -> Result<Buffer> {
    let found = given.iter().find(|(given, _)| given == name);
    let (_, array) = found.ok_or_else(|| Error::NotGiven(name.to_string()))?;
    Ok(device.upload(array.ty(), array.bytes())?)
}
