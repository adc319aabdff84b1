//! The graph compiler: graphs become models, models become sessions when their weights are known.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use percept_graph::{DType, Graph, OpDesc, Role, TensorType};
use percept_hal::{
    CompileOptions, DeviceInfo, Error, GraphEmitter, MemoryUse, Operand, Placed, Placement, Result, Weight,
};

use super::id::Id;
use super::library::{EpDevice, Library, Place, Value};
use super::session::{Session, Settings};
use super::weights::{Memory, constants, shape, upload};
use crate::emit::{self, Emitted, emit};
use crate::style::Style;

/// Sessions that a program keeps: one for each set of weights that it ran with lately.
const SESSIONS: usize = 2;

/// ONNX Runtime behind the adapter of graph compilers.
pub struct OnnxEmitter {
    info: DeviceInfo,
    library: Arc<Library>,
    style: Style,
    settings: Settings,
    place: Place,
    live: Arc<AtomicU64>,
    tried: Mutex<HashMap<String, Result<(), String>>>,
}

/// A graph as a model, and the sessions that were made of it.
pub struct Program {
    graph: Graph,
    /// The model with weights as constants.
    constant: Emitted,
    sessions: Mutex<Vec<Arc<Loaded>>>,
    /// What the provider left to the processor.
    fallbacks: Vec<Placed>,
}

struct Loaded {
    tokens: Vec<u64>,
    /// Dropped before what its constants lie in.
    session: Session,
    _weights: Vec<Memory>,
}

impl OnnxEmitter {
    /// Open the device of an id.
    ///
    /// # Errors
    /// When the id is wrong, or library, plug-in or device are not there.
    pub fn open(id: &str) -> Result<Self> {
        let failed = |why: String| Error::Open { id: id.to_string(), why };
        let parsed = Id::parse(id).map_err(|e| failed(e.to_string()))?;
        let library = Library::load(&parsed.library).map_err(failed)?;
        let device = match &parsed.plugin {
            None => None,
            Some(plugin) => Some(provider(&library, plugin, parsed.device).map_err(failed)?),
        };
        let memory = host_memory();
        let name = device.as_ref().map_or("CPUExecutionProvider", |d| d.provider.as_str());
        let info = DeviceInfo {
            id: id.to_string(),
            name: format!("ONNX Runtime, {name}"),
            vendor: device.as_ref().map_or("Microsoft".to_string(), |d| d.vendor.clone()),
            driver: format!("ONNX Runtime {}", library.version()),
            software: device.as_ref().is_none_or(|d| d.kind == 0),
            dtypes: DType::ALL.to_vec(),
            features: vec![format!("opset {}", parsed.style.opset), format!("style {}", parsed.style.family)],
            max_buffer_bytes: memory.unwrap_or(1 << 40),
            memory_bytes: memory.filter(|_| device.is_none()),
            computes_in: parsed.computes_in,
        };
        let place = library.place(device.as_ref());
        let settings = Settings {
            threads: parsed.threads,
            keep_layout: !parsed.prepack,
            device,
            options: parsed.options,
            fallback: parsed.fallback,
        };
        Ok(Self {
            info,
            library,
            style: parsed.style,
            settings,
            place,
            live: Arc::default(),
            tried: Mutex::default(),
        })
    }

    fn failed(&self, op: &str, why: String) -> Error {
        Error::Failed { device: self.info.id.clone(), op: op.to_string(), why }
    }

    fn no_memory(&self, ty: &TensorType, why: String) -> Error {
        Error::OutOfMemory {
            device: self.info.id.clone(),
            what: ty.to_string(),
            bytes: ty.bytes() as u64,
            why,
        }
    }

    /// Whether the provider takes a model of one operation. Only compiling it tells.
    fn try_out(&self, op: &OpDesc<'_>) -> Result<(), String> {
        let key = format!("{op:?}");
        if let Some(known) = self.tried.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return known.clone();
        }
        let answer = self.compile_alone(op);
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).insert(key, answer.clone());
        answer
    }

    fn compile_alone(&self, op: &OpDesc<'_>) -> Result<(), String> {
        let mut graph = Graph::new(op.op.name());
        let mut inputs = Vec::new();
        for (i, ty) in op.inputs.iter().enumerate() {
            let input =
                graph.add_input(format!("x{i}"), Role::Data, ty.clone()).map_err(|e| e.to_string())?;
            inputs.push(input);
        }
        let outputs = graph.add(op.op.clone(), &inputs, &"".into()).map_err(|e| e.to_string())?;
        for (i, &v) in outputs.iter().enumerate() {
            graph.add_output(format!("y{i}"), v, None).map_err(|e| e.to_string())?;
        }
        let emitted = emit(&graph, self.style, &HashSet::new()).map_err(|e| e.to_string())?;
        if emitted.nodes.is_empty() {
            return Ok(());
        }
        self.trial(&graph, &emitted).map(drop)
    }

    /// Compile a model with zeros for weights, and say what the provider left to the processor.
    fn trial(&self, graph: &Graph, emitted: &Emitted) -> Result<Vec<Placed>, String> {
        let zeros = |i: usize| {
            let ty: &TensorType = graph.ty(graph.inputs()[i].value);
            let weight = Weight::new(ty.clone(), Arc::new(vec![0u8; ty.bytes()])).ok()?;
            Some(Memory::of_weight(weight, &self.live))
        };
        let mut keep = Vec::new();
        let constants = constants(&self.library, emitted, zeros, &mut keep)?;
        let session = Session::new(&self.library, emitted, constants, &self.settings)?;
        let Some(device) = self.settings.device.as_ref().filter(|_| self.settings.fallback) else {
            return Ok(Vec::new());
        };
        let elsewhere = session.assigned()?.into_iter().filter(|a| a.provider != device.provider);
        // A node's name is the path and the name of the operation that it was written for, and a number.
        let placed = elsewhere.map(|a| Placed {
            op: a.op,
            path: a.node.split('#').next().unwrap_or_default().into(),
            placement: Placement::Host,
            reason: format!("{} does not take it; {} does", device.provider, a.provider),
        });
        Ok(placed.collect())
    }

    /// The session for these weights, made where there is none.
    fn session(&self, program: &Program, operands: &[Operand<'_, Memory>]) -> Result<Arc<Loaded>> {
        let mut wanted: Vec<usize> = program.constant.weights.iter().map(|w| w.input).collect();
        wanted.dedup();
        let tokens: Vec<u64> = wanted.iter().map(|&i| operands[i].memory().token()).collect();
        let mut sessions = program.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = sessions.iter().position(|s| s.tokens == tokens) {
            let found = sessions.remove(at);
            sessions.push(found.clone());
            return Ok(found);
        }
        let failed = |e| self.failed(program.graph.name(), e);
        let mut keep = Vec::new();
        let weight = |i: usize| Some(operands[i].memory().clone());
        let constants = constants(&self.library, &program.constant, weight, &mut keep).map_err(failed)?;
        // The oldest goes first, so that two are never held beyond the bound.
        if sessions.len() == SESSIONS {
            sessions.remove(0);
        }
        let session =
            Session::new(&self.library, &program.constant, constants, &self.settings).map_err(failed)?;
        let loaded = Arc::new(Loaded { tokens, session, _weights: keep });
        sessions.push(loaded.clone());
        Ok(loaded)
    }
}

/// The host's memory in bytes, where the system tells.
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// A device of a plug-in's provider, by its number.
fn provider(library: &Arc<Library>, plugin: &std::path::Path, number: usize) -> Result<EpDevice, String> {
    let before: Vec<_> = library.devices()?.iter().map(|d| d.device).collect();
    library.plugin(plugin)?;
    let devices = library.devices()?;
    let mut own: Vec<EpDevice> = devices.iter().filter(|d| !before.contains(&d.device)).cloned().collect();
    if own.is_empty() {
        // It was registered earlier in this process.
        own = devices.into_iter().filter(|d| d.provider != "CPUExecutionProvider").collect();
    }
    let names: Vec<String> = own.iter().map(|d| d.provider.clone()).collect();
    if number < own.len() {
        return Ok(own.swap_remove(number));
    }
    Err(match names.len() {
        0 => format!("{} offers no device on this machine", plugin.display()),
        n => format!("{} has no device {number}, but {n}: {}", plugin.display(), names.join(", ")),
    })
}

impl GraphEmitter for OnnxEmitter {
    type Memory = Memory;
    type Program = Program;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn supports(&self, op: &OpDesc<'_>) -> Result<(), String> {
        emit::supports(op, self.style)?;
        if self.settings.device.is_some() && !self.settings.fallback {
            return self.try_out(op);
        }
        Ok(())
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Memory> {
        // Blocks are never operands of a run, only what constants are made of.
        let place = if ty.dtype.is_quantized() { self.library.place(None) } else { self.place };
        let value = upload(&self.library, place, ty, bytes).map_err(|e| self.no_memory(ty, e))?;
        Ok(Memory::of_value(Arc::new(value), &self.live))
    }

    fn load_weight(&self, weight: &Weight) -> Result<Memory> {
        Ok(Memory::of_weight(weight.clone(), &self.live))
    }

    fn read(&self, memory: &Memory, ty: &TensorType) -> Result<Vec<u8>> {
        memory.read(&self.library, ty).map_err(|e| self.failed("", e))
    }

    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Program> {
        if options.batch_invariant {
            return Err(Error::Unsupported {
                device: self.info.id.clone(),
                op: "a batch-invariant program".into(),
                path: String::new(),
                why: "ONNX Runtime's kernels choose the order of sums by the number of rows; compile without batch \
                      invariance (`--batch-variant`), or use cpu or wgpu"
                    .into(),
            });
        }
        let donated = graph.donated();
        let constant = graph
            .inputs()
            .iter()
            .enumerate()
            .filter(|(i, input)| input.role == Role::Parameter && !donated.contains(i))
            .map(|(i, _)| i)
            .collect();
        let constant = emit(graph, self.style, &constant).map_err(|e| match e {
            emit::EmitError::Refused { op, path, why } => {
                Error::Unsupported { device: self.info.id.clone(), op, path, why }
            }
            emit::EmitError::Graph(e) => e.into(),
        })?;
        // What a provider takes, only compiling tells.
        let fallbacks = match self.settings.device {
            Some(_) => self.trial(graph, &constant).map_err(|e| self.failed(graph.name(), e))?,
            None => Vec::new(),
        };
        Ok(Program { graph: graph.clone(), constant, sessions: Mutex::default(), fallbacks })
    }

    fn fallbacks(&self, program: &Program) -> Vec<Placed> {
        program.fallbacks.clone()
    }

    fn run(&self, program: &Program, operands: Vec<Operand<'_, Memory>>) -> Result<Vec<Memory>> {
        let failed = |e| self.failed(program.graph.name(), e);
        let loaded = self.session(program, &operands)?;
        let model = &program.constant;
        let input_type = |i: usize| program.graph.ty(program.graph.inputs()[i].value);
        let mut inputs = Vec::with_capacity(model.inputs.len());
        for port in &model.inputs {
            let memory = operands[port.index].memory();
            inputs.push(memory.value(&self.library, self.place, input_type(port.index)).map_err(failed)?);
        }
        let mut outputs = Vec::with_capacity(model.outputs.len());
        for port in &model.outputs {
            let in_place = model.in_place.iter().find(|p| p.output == port.index);
            let at = in_place.and_then(|p| model.inputs.iter().position(|i| i.index == p.input));
            outputs.push(match at {
                Some(at) => inputs[at].clone(),
                None => {
                    let ty = program.graph.ty(program.graph.outputs()[port.index].value);
                    let value = self.library.allocate(self.place, port.elem, &shape(ty));
                    Arc::new(value.map_err(|e| self.no_memory(ty, e))?)
                }
            });
        }
        let given: Vec<&Value> = inputs.iter().map(Arc::as_ref).collect();
        let wanted: Vec<&Value> = outputs.iter().map(Arc::as_ref).collect();
        loaded.session.run(&given, &wanted).map_err(failed)?;
        Ok(outputs.into_iter().map(|value| Memory::of_value(value, &self.live)).collect())
    }

    fn synchronize(&self) -> Result<()> {
        // Runs and copies wait for their results.
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse { buffers: self.live.load(Ordering::Relaxed), scratch: 0 }
    }
}
