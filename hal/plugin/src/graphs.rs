//! The graph compiler of a plug-in.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use percept_graph::{Graph, OpDesc, TensorType};
use percept_hal::{CompileOptions, DeviceInfo, GraphEmitter, MemoryUse, Operand, Result, describe};

use crate::abi::{self, GraphSource, Graphs, Handle, Span};
use crate::describe::{Described, Tensors};
use crate::opened::{Memory, Opened};

/// A form in which graphs can be handed to plug-ins.
#[derive(Clone, Copy)]
pub struct GraphFormat {
    /// Its number in the header, such as [`STABLEHLO`](crate::abi::STABLEHLO).
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// Whether it is text, which is handed over with a zero byte behind it.
    pub is_text: bool,
    /// Whether an operation can be written in it, or why not.
    pub supports: fn(&OpDesc<'_>) -> Result<(), String>,
    /// A graph in it.
    pub emit: fn(&Graph) -> Result<Vec<u8>, String>,
}

impl GraphFormat {
    /// Percept's own text form.
    pub const TEXT_FORM: Self = Self {
        number: abi::TEXT_FORM,
        name: "Percept's text form",
        is_text: true,
        supports: |_| Ok(()),
        emit: |graph| Ok(graph.to_string().into_bytes()),
    };
}

/// A [`GraphEmitter`] whose graphs a plug-in compiles.
pub struct PluginGraphs {
    opened: Arc<Opened>,
    table: Graphs,
    format: GraphFormat,
    /// What the plug-in said of operations, by their text and types: it is asked once.
    known: Mutex<HashMap<String, Result<(), String>>>,
}

/// A compiled graph.
pub struct Program {
    opened: Arc<Opened>,
    table: Graphs,
    handle: Handle,
    name: String,
    outputs: Vec<TensorType>,
    /// For each output the input that is given up for it.
    replaces: Vec<Option<usize>>,
}

// SAFETY: the handle is used under the device's lock.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

impl Drop for Program {
    fn drop(&mut self) {
        let mut calls = self.opened.lock();
        self.opened.settle(&mut calls);
        // SAFETY: the executable is the device's, no run of it is left, and it is freed here alone.
        unsafe { (self.table.executable_free)(self.opened.device, self.handle) };
    }
}

impl PluginGraphs {
    /// The graph compiler of an opened device, if its plug-in has one; `formats` are those that can be written.
    ///
    /// # Errors
    /// When the plug-in asks for another format.
    pub fn new(opened: Arc<Opened>, formats: &[GraphFormat]) -> Result<Option<Self>> {
        let Some(table) = opened.plugin.graphs else { return Ok(None) };
        let Some(format) = formats.iter().find(|f| f.number == table.format) else {
            let asked = match table.format {
                abi::STABLEHLO => "StableHLO".to_string(),
                abi::ONNX => "ONNX".to_string(),
                number => format!("format {number}"),
            };
            let names: Vec<&str> = formats.iter().map(|f| f.name).collect();
            let why = format!("it asks for graphs in {asked}; this host writes {}", names.join(", "));
            return Err(opened.failed("", why));
        };
        let (format, known) = (*format, Mutex::default());
        Ok(Some(Self { opened, table, format, known }))
    }

    fn ask(&self, op: &OpDesc<'_>) -> Result<(), String> {
        (self.format.supports)(op)?;
        let described = Described::new(op);
        let mut calls = self.opened.lock();
        // SAFETY: the description and what it points to live until the call returns.
        let status = Opened::with_message(&mut calls, |m| unsafe {
            (self.table.supports)(self.opened.device, described.op(), m)
        });
        let why = Opened::reason(&calls, status);
        match status {
            abi::OK => Ok(()),
            abi::UNSUPPORTED => Err(why),
            _ => {
                // Not a matter of support: whoever runs next is told.
                calls.defer(self.opened.failed(&describe(op), format!("supports: {why}")));
                Err(why)
            }
        }
    }

    fn memory(&self, ty: &TensorType) -> Result<Memory> {
        Memory::new(&self.opened, ty.bytes().next_multiple_of(64).max(64), &ty.to_string())
    }
}

impl GraphEmitter for PluginGraphs {
    type Memory = Memory;
    type Program = Program;

    fn info(&self) -> &DeviceInfo {
        &self.opened.info
    }

    fn supports(&self, op: &OpDesc<'_>) -> Result<(), String> {
        let key = format!("{} {:?} {:?}", ron::to_string(op.op).unwrap_or_default(), op.inputs, op.outputs);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(key).or_insert_with(|| self.ask(op)).clone()
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Memory> {
        let memory = self.memory(ty)?;
        self.opened.write(&mut self.opened.lock(), &memory.span(0, bytes.len())?, bytes)?;
        Ok(memory)
    }

    fn read(&self, memory: &Memory, ty: &TensorType) -> Result<Vec<u8>> {
        let mut out = vec![0; ty.bytes()];
        self.opened.read(&mut self.opened.lock(), &memory.span(0, out.len())?, &mut out)?;
        Ok(out)
    }

    fn compile(&self, graph: &Graph, _options: &CompileOptions) -> Result<Program> {
        let opened = &self.opened;
        let during = format!("compiling '{}'", graph.name());
        let mut source = (self.format.emit)(graph).map_err(|why| opened.failed(&during, why))?;
        let source_bytes = source.len() as u64;
        if self.format.is_text {
            source.push(0);
        }
        let types = |values: Vec<_>| graph.types(&values);
        let inputs = types(graph.inputs().iter().map(|i| i.value).collect());
        let outputs = types(graph.outputs().iter().map(|o| o.value).collect());
        let (input_tensors, output_tensors) = (Tensors::new(&inputs), Tensors::new(&outputs));
        let replaces: Vec<Option<usize>> = graph.outputs().iter().map(|o| o.alias).collect();
        let numbers: Vec<i32> = replaces.iter().map(|r| r.map_or(-1, |i| i as i32)).collect();
        let raw = GraphSource {
            struct_size: GraphSource::SIZE,
            source: source.as_ptr().cast::<c_void>(),
            source_bytes,
            format: self.format.number,
            reserved: 0,
            inputs: input_tensors.as_slice().as_ptr(),
            input_count: inputs.len() as u64,
            outputs: output_tensors.as_slice().as_ptr(),
            output_count: outputs.len() as u64,
            replaces: numbers.as_ptr(),
        };
        let mut calls = opened.lock();
        calls.surface()?;
        // SAFETY: the graph and what it points to live until the call returns.
        let handle = opened.make(&mut calls, "compile", &during, |handle, m| unsafe {
            (self.table.compile)(opened.device, &raw, handle, m)
        })?;
        let (opened, table, name) = (opened.clone(), self.table, graph.name().to_string());
        Ok(Program { opened, table, handle, name, outputs, replaces })
    }

    fn run(&self, program: &Program, operands: Vec<Operand<'_, Memory>>) -> Result<Vec<Memory>> {
        let opened = &self.opened;
        let whole = |memory: &Memory, bytes: usize| memory.span(0, bytes.min(memory.bytes()));
        let inputs: Vec<Span> =
            operands.iter().map(|o| whole(o.memory(), o.memory().bytes())).collect::<Result<_>>()?;
        // Outputs of their own, where no input is given up for them.
        let mut results: Vec<Option<Memory>> = Vec::with_capacity(program.outputs.len());
        let mut spans = Vec::with_capacity(program.outputs.len());
        for (ty, replaces) in program.outputs.iter().zip(&program.replaces) {
            let memory = if replaces.is_none() { Some(self.memory(ty)?) } else { None };
            let place =
                memory.as_ref().or_else(|| replaces.and_then(|i| operands.get(i)).map(Operand::memory));
            let place = place.ok_or_else(|| opened.failed(&program.name, "an output replaces no operand"))?;
            spans.push(whole(place, ty.bytes())?);
            results.push(memory);
        }
        let mut calls = opened.lock();
        calls.surface()?;
        // SAFETY: the spans live until the call returns; their memory lives until the queue was waited for.
        opened.call(&mut calls, "run", &program.name, |m| unsafe {
            (self.table.run)(
                opened.queue,
                program.handle,
                inputs.as_ptr(),
                inputs.len() as u64,
                spans.as_ptr(),
                spans.len() as u64,
                m,
            )
        })?;
        if opened.guarded {
            opened.wait(&mut calls)?;
        }
        // Memory is freed under the lock too.
        drop(calls);
        let mut operands: Vec<Option<Operand<'_, Memory>>> = operands.into_iter().map(Some).collect();
        let mut made = Vec::with_capacity(results.len());
        for (i, (memory, replaces)) in results.into_iter().zip(&program.replaces).enumerate() {
            let given_up = replaces.and_then(|at| operands.get_mut(at)).and_then(Option::take);
            let memory = match (memory, given_up) {
                (Some(memory), _) | (None, Some(Operand::Donated(memory))) => memory,
                _ => {
                    return Err(
                        opened.failed(&program.name, format!("output {i} replaces what was not given up"))
                    );
                }
            };
            if memory.is_watched() && !memory.guard_holds(&mut opened.lock(), None)? {
                memory.put_guard_behind(&mut opened.lock())?;
                let why = format!("it wrote past the end of output {i}, {}", program.outputs[i]);
                return Err(opened.failed(&program.name, why));
            }
            made.push(memory);
        }
        Ok(made)
    }

    fn synchronize(&self) -> Result<()> {
        self.opened.wait(&mut self.opened.lock())
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse { buffers: self.opened.live.load(Ordering::Relaxed), scratch: 0 }
    }
}
