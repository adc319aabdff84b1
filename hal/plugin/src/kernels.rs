//! The kernel device of a plug-in: our kernels, in the language that it takes.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, c_void};
use std::ptr::null_mut;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use percept_graph::{DType, Op, OpDesc, TensorType};
use percept_hal::{
    DeviceInfo, Dispatch, Error, KernelDevice, KernelLimits, MemoryUse, Pending, Result, Window,
};
use percept_kernels::{Caps, MAX_PARAM_WORDS, Module, Target, export, lower, validate};

use crate::abi::{self, Handle, Kernels, Span};
use crate::describe::c_text;
use crate::opened::{Calls, Memory, Opened};

/// Bytes that are written at once where memory is cleared.
const CHUNK: usize = 1 << 20;

/// A [`KernelDevice`] whose modules a plug-in compiles and dispatches.
pub struct PluginKernels {
    opened: Arc<Opened>,
    table: Kernels,
    language: u32,
    limits: KernelLimits,
    copies: HashSet<String>,
    /// What the plug-in said of modules, by their keys: it is asked once.
    kernels: Mutex<HashMap<String, Result<Arc<Kernel>, String>>>,
}

/// A compiled module.
struct Kernel {
    opened: Arc<Opened>,
    table: Kernels,
    handle: Handle,
}

// SAFETY: the handle is used under the device's lock.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Drop for Kernel {
    fn drop(&mut self) {
        let mut calls = self.opened.lock();
        self.opened.settle(&mut calls);
        // SAFETY: the kernel is the device's, nothing of it runs, and it is freed here alone.
        unsafe { (self.table.kernel_free)(self.opened.device, self.handle) };
    }
}

/// Dispatches with their compiled modules.
pub struct Batch(Vec<Prepared>);

struct Prepared {
    /// None: the first window is copied to the second.
    kernel: Option<Arc<Kernel>>,
    groups: [u32; 3],
    parameters: Vec<u32>,
    windows: Vec<Window>,
    op: String,
    path: CString,
}

impl PluginKernels {
    /// The kernels of an opened device, if its plug-in has them.
    ///
    /// # Errors
    /// When the plug-in's limits cannot be.
    pub fn new(opened: Arc<Opened>) -> Result<Option<Self>> {
        let Some(table) = opened.plugin.kernels else { return Ok(None) };
        let mut raw = abi::Limits { struct_size: abi::Limits::SIZE, ..abi::Limits::zeroed() };
        let mut calls = opened.lock();
        // SAFETY: the struct is what the header says.
        opened.call(&mut calls, "limits", "", |m| unsafe { (table.limits)(opened.device, &mut raw, m) })?;
        drop(calls);
        let limits = limits(&raw, &opened.info).map_err(|why| opened.failed("", format!("limits: {why}")))?;
        let (copies, kernels) = (copies(&limits.caps), Mutex::default());
        Ok(Some(Self { opened, table, language: raw.language, limits, copies, kernels }))
    }

    fn kernel(&self, module: &Module) -> Result<Arc<Kernel>, String> {
        let mut kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kernels.get(&module.key) {
            return known.clone();
        }
        let answer = self.compile(module);
        kernels.insert(module.key.clone(), answer.clone());
        answer
    }

    fn compile(&self, module: &Module) -> Result<Arc<Kernel>, String> {
        let source = source(module, self.language)?;
        let parsed = validate(&module.source).map_err(|e| format!("{}: {e}", module.key))?;
        let entry =
            parsed.entry_points.first().ok_or_else(|| format!("{} has no entry point", module.key))?;
        let buffers = parsed.global_variables.iter().filter_map(|(_, v)| v.binding);
        let binding_count = buffers.filter(|b| b.group == 0).count() as u32;
        let key = c_text(&module.key);
        // Names that a language reserves are changed by those who write it.
        let name = match self.language {
            abi::MSL => c"main_",
            _ => c"main",
        };
        let raw = abi::Module {
            struct_size: abi::Module::SIZE,
            key: key.as_ptr(),
            source: source.as_ptr().cast::<c_void>(),
            source_bytes: source.len() as u64 - u64::from(self.language != abi::SPIRV),
            entry: name.as_ptr(),
            language: self.language,
            workgroup_size: entry.workgroup_size,
            binding_count,
            parameter_words: MAX_PARAM_WORDS as u32,
        };
        let opened = &self.opened;
        let mut calls = opened.lock();
        let mut handle = null_mut();
        // SAFETY: the module and what it points to live until the call returns.
        let status = Opened::with_message(&mut calls, |m| unsafe {
            (self.table.kernel_new)(opened.device, &raw, &mut handle, m)
        });
        let why = match status {
            abi::OK if !handle.is_null() => {
                return Ok(Arc::new(Kernel { opened: opened.clone(), table: self.table, handle }));
            }
            abi::OK => "kernel_new says that it succeeded and gives null".to_string(),
            abi::UNSUPPORTED => return Err(Opened::reason(&calls, status)),
            _ => format!("kernel_new: {}", Opened::reason(&calls, status)),
        };
        // Not a matter of support: whoever runs next is told.
        calls.defer(opened.failed(&module.key, &why));
        Err(why)
    }

    /// Put dispatches and copies into the queue, in order.
    fn put(&self, prepared: &[Prepared], memories: &[&Memory]) -> Result<()> {
        let mut calls = self.opened.lock();
        calls.surface()?;
        let mut rest = prepared;
        while let Some(first) = rest.first() {
            let kernels = rest.iter().take_while(|p| p.kernel.is_some()).count();
            match kernels {
                0 => self.copy(&mut calls, first, memories)?,
                _ => self.dispatch(&mut calls, &rest[..kernels], memories)?,
            }
            rest = &rest[kernels.max(1)..];
        }
        Ok(())
    }

    fn copy(&self, calls: &mut Calls, prepared: &Prepared, memories: &[&Memory]) -> Result<()> {
        let spans = self.spans(std::slice::from_ref(prepared), memories)?;
        let [from, to] = spans[..] else {
            return Err(self.opened.failed(&prepared.op, "a copy has one operand and one result"));
        };
        let bytes = from.bytes.min(to.bytes);
        self.opened.copy(calls, &Span { bytes, ..from }, &Span { bytes, ..to })
    }

    fn spans(&self, prepared: &[Prepared], memories: &[&Memory]) -> Result<Vec<Span>> {
        let mut spans = Vec::with_capacity(prepared.iter().map(|p| p.windows.len()).sum());
        for window in prepared.iter().flat_map(|p| &p.windows) {
            let none = || self.opened.failed("", "a window has no memory");
            let memory = memories.get(window.memory).ok_or_else(none)?;
            spans.push(memory.span(window.offset as usize, window.bytes as usize)?);
        }
        Ok(spans)
    }

    fn dispatch(&self, calls: &mut Calls, prepared: &[Prepared], memories: &[&Memory]) -> Result<()> {
        let opened = &self.opened;
        let spans = self.spans(prepared, memories)?;
        let mut rest = spans.as_slice();
        let list: Vec<abi::Dispatch> = prepared
            .iter()
            .map(|p| {
                let (bindings, behind) = rest.split_at(p.windows.len());
                rest = behind;
                abi::Dispatch {
                    struct_size: abi::Dispatch::SIZE,
                    kernel: p.kernel.as_ref().map_or(null_mut(), |k| k.handle),
                    bindings: bindings.as_ptr(),
                    binding_count: bindings.len() as u64,
                    parameters: p.parameters.as_ptr(),
                    parameter_words: p.parameters.len() as u64,
                    groups: p.groups,
                    reserved: 0,
                    path: p.path.as_ptr(),
                }
            })
            .collect();
        let pointers: Vec<*const abi::Dispatch> = list.iter().map(|d| d as *const abi::Dispatch).collect();
        let mut failed = u64::MAX;
        // SAFETY: the dispatches and what they point to live until the call returns.
        let dispatched = opened.call(calls, "dispatch", "", |m| unsafe {
            (self.table.dispatch)(opened.queue, pointers.as_ptr(), pointers.len() as u64, &mut failed, m)
        });
        let step = usize::try_from(failed).ok().and_then(|at| prepared.get(at));
        dispatched.map_err(|error| match (error, step) {
            (Error::Failed { device, why, .. }, Some(p)) => Error::Failed { device, op: p.op.clone(), why },
            (error, _) => error,
        })?;
        if !opened.guarded {
            return Ok(());
        }
        opened.wait(calls)?;
        for p in prepared {
            for memory in p.windows.iter().filter_map(|w| memories.get(w.memory)) {
                if !memory.guard_holds(calls, None)? {
                    memory.put_guard_behind(calls)?;
                    return Err(opened.failed(&p.op, "it wrote past the end of a buffer"));
                }
            }
        }
        Ok(())
    }
}

/// The keys of the modules that copy words: the device does that itself.
fn copies(caps: &Caps) -> HashSet<String> {
    let key = |n: usize| {
        let (from, to) = (TensorType::new(DType::U32, [n]), TensorType::new(DType::I32, [n]));
        let op = Op::Bitcast { to: DType::I32 };
        let desc = OpDesc { op: &op, inputs: &[from], outputs: &[to] };
        let program = lower(&desc, caps).ok()?;
        program.launches.first().map(|l| l.module.key.clone())
    };
    // Modules depend on whether the words can be taken four at a time, not on how many there are.
    [1, 2, 3, 4, 1024, 1 << 20].into_iter().filter_map(key).collect()
}

/// What a plug-in says of its kernels, held to what can be.
fn limits(raw: &abi::Limits, info: &DeviceInfo) -> Result<KernelLimits, String> {
    if !(abi::WGSL..=abi::GLSL).contains(&raw.language) {
        let asked = if raw.language == abi::OPENCL_C {
            "OpenCL C, which the translator of the kernels does not write".to_string()
        } else {
            format!("language {}", raw.language)
        };
        let why = "this host writes WGSL, SPIR-V, MSL, HLSL and GLSL; on OpenCL write an op library instead";
        return Err(format!("it asks for {asked}; {why}"));
    }
    let base = Caps::default();
    let or = |given: u32, least: u32| if given == 0 { least } else { given };
    let alignment = u64::from(or(raw.alignment, 256));
    if !alignment.is_power_of_two() || !(4..=1 << 20).contains(&alignment) {
        return Err(format!("its alignment is {alignment}; it must be a power of two from 4 to {}", 1 << 20));
    }
    if raw.subgroup_size > 0 && (!raw.subgroup_size.is_power_of_two() || raw.subgroup_size > 128) {
        return Err(format!(
            "its subgroups have {} invocations; a power of two up to 128 can be",
            raw.subgroup_size
        ));
    }
    let max_window = if raw.max_window == 0 { base.max_window } else { raw.max_window };
    let caps = Caps {
        f16: raw.f16 != 0,
        subgroup_size: (raw.subgroup_size > 0).then_some(raw.subgroup_size),
        cooperative_matrix: None,
        software: info.software,
        max_workgroup_storage: or(raw.max_workgroup_storage, base.max_workgroup_storage),
        max_invocations: or(raw.max_invocations, base.max_invocations),
        max_groups: or(raw.max_groups, base.max_groups),
        max_bindings: or(raw.max_bindings, base.max_bindings),
        ..base
    };
    let least = Caps::default();
    if caps.max_workgroup_storage < least.max_workgroup_storage
        || caps.max_invocations < least.max_invocations
        || caps.max_groups < least.max_groups
        || caps.max_bindings < least.max_bindings
    {
        return Err("it allows kernels less than WebGPU promises, which they need".into());
    }
    let max_window = max_window.min(info.max_buffer_bytes) / 4 * 4;
    Ok(KernelLimits { caps, alignment, max_window, max_memory: info.max_buffer_bytes })
}

/// The bytes of a module in a language; text has a zero byte behind it.
fn source(module: &Module, language: u32) -> Result<Cow<'_, [u8]>, String> {
    let target = match language {
        abi::SPIRV => Target::Spirv,
        abi::MSL => Target::Msl,
        abi::HLSL => Target::Hlsl,
        abi::GLSL => Target::Glsl,
        _ => return Ok([module.source.as_bytes(), b"\0"].concat().into()),
    };
    let mut bytes = export(module, target).map_err(|e| e.to_string())?;
    if target != Target::Spirv {
        bytes.push(0);
    }
    Ok(bytes.into())
}

impl KernelDevice for PluginKernels {
    type Memory = Memory;
    type Batch = Batch;

    fn info(&self) -> &DeviceInfo {
        &self.opened.info
    }

    fn limits(&self) -> &KernelLimits {
        &self.limits
    }

    fn accepts(&self, module: &Module) -> Result<(), String> {
        if self.copies.contains(&module.key) { Ok(()) } else { self.kernel(module).map(drop) }
    }

    fn allocate(&self, bytes: u64, what: &str) -> Result<Memory> {
        let limit = self.limits.max_memory;
        if bytes > limit {
            return Err(Error::OutOfMemory {
                device: self.opened.info.id.clone(),
                what: what.to_string(),
                bytes,
                why: format!("a buffer holds at most {limit}"),
            });
        }
        Memory::new(&self.opened, bytes.next_multiple_of(64).max(64) as usize, what)
    }

    fn zeros(&self, bytes: u64, what: &str) -> Result<Memory> {
        let memory = self.allocate(bytes, what)?;
        let chunk = vec![0u8; memory.bytes().min(CHUNK)];
        let mut calls = self.opened.lock();
        for at in (0..memory.bytes()).step_by(CHUNK) {
            let n = chunk.len().min(memory.bytes() - at);
            self.opened.write(&mut calls, &memory.span(at, n)?, &chunk[..n])?;
        }
        drop(calls);
        Ok(memory)
    }

    fn upload(&self, bytes: &[u8], what: &str) -> Result<Memory> {
        let memory = self.allocate(bytes.len() as u64, what)?;
        self.write(&memory, 0, bytes)?;
        Ok(memory)
    }

    fn write(&self, memory: &Memory, offset: u64, bytes: &[u8]) -> Result<()> {
        let padded = bytes.len().next_multiple_of(4);
        let mut whole = Cow::Borrowed(bytes);
        if padded > bytes.len() {
            whole.to_mut().resize(padded, 0);
        }
        let span = memory.span(offset as usize, padded)?;
        self.opened.write(&mut self.opened.lock(), &span, &whole)
    }

    fn read(&self, memory: &Memory, offset: u64, bytes: u64) -> Result<Pending> {
        let span = memory.span(offset as usize, bytes as usize)?;
        let mut out = vec![0; bytes as usize];
        self.opened.read(&mut self.opened.lock(), &span, &mut out)?;
        Ok(Pending::ready(out))
    }

    fn record(&self, dispatches: Vec<Dispatch>) -> Result<Batch> {
        let prepare = |d: Dispatch| {
            let kernel = match self.copies.contains(&d.module.key) {
                true => None,
                false => Some(self.kernel(&d.module).map_err(|why| self.opened.failed(&d.op, why))?),
            };
            let path = c_text(&d.op);
            let Dispatch { groups, params, bindings, op, .. } = d;
            Ok(Prepared { kernel, groups, parameters: params, windows: bindings, op, path })
        };
        Ok(Batch(dispatches.into_iter().map(prepare).collect::<Result<_>>()?))
    }

    fn submit(&self, batch: &Batch, memories: &[&Memory]) -> Result<()> {
        if batch.0.is_empty() {
            return Ok(());
        }
        if self.opened.guarded {
            return batch.0.iter().try_for_each(|p| self.put(std::slice::from_ref(p), memories));
        }
        self.put(&batch.0, memories)
    }

    fn submit_timed(&self, batch: &Batch, memories: &[&Memory]) -> Result<Vec<(f64, f64)>> {
        self.synchronize()?;
        let first = Instant::now();
        let timed = |p: &Prepared| {
            let start = first.elapsed();
            self.put(std::slice::from_ref(p), memories)?;
            self.synchronize()?;
            Ok((start.as_secs_f64() * 1e6, (first.elapsed() - start).as_secs_f64() * 1e6))
        };
        batch.0.iter().map(timed).collect()
    }

    fn synchronize(&self) -> Result<()> {
        self.opened.wait(&mut self.opened.lock())
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse { buffers: self.opened.live.load(Ordering::Relaxed), scratch: 0 }
    }

    fn pipelines(&self) -> usize {
        let kernels = self.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        kernels.values().filter(|k| k.is_ok()).count()
    }

    /// The interface has no place to keep measurements in, so each process measures anew.
    fn recall(&self, _key: &str) -> Option<u32> {
        None
    }

    fn remember(&self, _measured: &[(String, u32)]) {}
}
