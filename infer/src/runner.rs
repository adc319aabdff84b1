//! Compiled graphs over one model's weights on a device.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use percept_graph::passes::int8_dots;
use percept_graph::{Composite, Graph, Op, Role, TensorType};
use percept_hal::{Arg, Buffer, CompileOptions, CompileReport, Device, Executable, OpTiming, Weight};
use percept_model::Weights;

use crate::error::{Error, Result};
use crate::shared_weights::SharedWeights;

/// A compiled graph. Whoever runs it gives every input by name.
pub struct Program {
    graph: Graph,
    executable: Box<dyn Executable>,
    donated: Vec<bool>,
}

impl Program {
    /// Compile a graph for a device.
    ///
    /// # Errors
    /// When an operation does not run on the device.
    pub fn compile(device: &dyn Device, graph: Graph, options: &CompileOptions) -> Result<Self> {
        let executable = device.compile(&graph, options)?;
        let replaced = graph.donated();
        let donated = (0..graph.inputs().len()).map(|i| replaced.contains(&i)).collect();
        Ok(Self { graph, executable, donated })
    }

    /// The graph that was compiled.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the compilation decided.
    pub fn report(&self) -> &CompileReport {
        self.executable.report()
    }

    /// Whether the buffer of an input, by its number, becomes an output's.
    pub fn is_donated(&self, input: usize) -> bool {
        self.donated.get(input).copied().unwrap_or(false)
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
        let mut arguments = Vec::with_capacity(self.donated.len());
        for (i, (input, donated)) in self.graph.inputs().iter().zip(&self.donated).enumerate() {
            let buffer = argument(i, &input.name, self.graph.ty(input.value))?;
            arguments.push(if *donated { Arg::Donate(buffer) } else { Arg::Borrow(buffer) });
        }
        let Some(timeline) = timeline else { return Ok(self.executable.run(arguments)?) };
        let (outputs, events) = self.executable.run_timed(arguments)?;
        let after = timeline.iter().map(|e| e.start_us + e.duration_us).fold(0.0, f64::max);
        timeline.extend(events.into_iter().map(|e| OpTiming { start_us: e.start_us + after, ..e }));
        Ok(outputs)
    }
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
}

/// A program and its parameters, by the number of the input.
struct Loaded {
    program: Program,
    parameters: Vec<Option<Buffer>>,
    /// When it was used last.
    used: u64,
}

/// Programs that are kept: of more, those that were not used for longest are forgotten, so that memory stays bounded whatever
/// shapes come.
const PROGRAMS: usize = 128;

impl<K: Hash + Eq + Clone> Runner<K> {
    /// Nothing loaded or compiled yet. With `int8`, what is multiplied by quantized weights is rounded to int8, as llama.cpp
    /// does: faster, and less exact.
    pub fn new(device: Arc<dyn Device>, options: CompileOptions, int8: bool) -> Self {
        let (weights, programs) = (HashMap::new(), HashMap::new());
        Self { device, options, int8, weights, shared: None, programs, clock: 0, timeline: None }
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

    /// The graph of a key, compiled when it is new, with its weights loaded where they are not yet.
    ///
    /// # Errors
    /// When the graph cannot be made or does not run on the device, or a weight cannot be loaded.
    pub fn prepare(
        &mut self,
        key: &K,
        weights: &Weights,
        graph: impl FnOnce() -> Result<Graph>,
    ) -> Result<&Graph> {
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
        Ok(loaded.program.graph())
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
        let Some(Loaded { program, parameters, .. }) = self.programs.get(key) else {
            return Err(Error::Setting("a program was run before it was compiled".into()));
        };
        let device = &*self.device;
        let outputs = program.run(self.timeline.as_mut(), |i, name, ty| match &parameters[i] {
            Some(parameter) => Ok(parameter.clone()),
            None => argument(device, name, ty),
        })?;
        Ok(program.graph().outputs().iter().map(|o| o.name.clone()).zip(outputs).collect())
    }

    fn compile(&mut self, weights: &Weights, graph: Graph) -> Result<Loaded> {
        let quantized = |op: &Op| matches!(op, Op::Composite(Composite::QuantizedDot { .. }));
        let rounds = self.int8 && graph.nodes().iter().any(|node| quantized(&node.op));
        let graph = if rounds { int8_dots(&graph)? } else { graph };
        let program = Program::compile(&*self.device, graph, &self.options)?;
        let graph = program.graph();
        let mut parameters = Vec::with_capacity(graph.inputs().len());
        for input in graph.inputs() {
            if input.role != Role::Parameter {
                parameters.push(None);
                continue;
            }
            let ty = graph.ty(input.value);
            let key = (input.name.clone(), ty.clone());
            let buffer = match self.weights.get(&key) {
                Some(loaded) => loaded.clone(),
                None => self.load(&weights.fetch(&input.name, ty)?)?,
            };
            parameters.push(Some(Buffer::clone(&buffer)));
            self.weights.insert(key, buffer);
        }
        Ok(Loaded { program, parameters, used: 0 })
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
