//! A plug-in's runtime: devices, buffers and programs, each freed with its handle.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use percept_graph::{DType, TensorType};

use crate::api::{self, NamedValue, ProgramText, RawBuffer, RawClient, RawDevice, RawEvent, RawLoaded};
use crate::options::{OptionValue, Replicas};
use crate::plugin::{Failure, Plugin, list, text};
use crate::stablehlo::storage_dims;

/// A runtime with its devices.
pub struct Client {
    plugin: &'static Plugin,
    raw: *mut RawClient,
    devices: Vec<Addressable>,
    /// Bytes in buffers that someone holds.
    live: AtomicU64,
    /// The ends of runs that nobody has waited for.
    running: Mutex<VecDeque<*mut RawEvent>>,
}

/// A device of this process.
struct Addressable {
    raw: *mut RawDevice,
    id: i32,
    kind: String,
}

// SAFETY: PJRT's clients, devices and events may be used from any thread.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

/// Clients in use by plug-in: a runtime may hold its hardware alone, so that devices share one.
static CLIENTS: Mutex<Option<HashMap<PathBuf, Weak<Client>>>> = Mutex::new(None);

/// The number in C of the elements that hold a dtype: quantized blocks are bytes.
fn element_of(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => api::element::F32,
        DType::F16 => api::element::F16,
        DType::BF16 => api::element::BF16,
        DType::I32 => api::element::S32,
        DType::U32 => api::element::U32,
        DType::Bool => api::element::PRED,
        _ => api::element::U8,
    }
}

impl Client {
    /// The plug-in's client, shared by all who ask while one of them holds it.
    ///
    /// # Errors
    /// When the plug-in finds no hardware or does not start.
    pub fn shared(plugin: &'static Plugin) -> Result<Arc<Self>, Failure> {
        let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let clients = clients.get_or_insert_default();
        if let Some(client) = clients.get(plugin.path()).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let client = Self::create(plugin, &[])?;
        clients.insert(plugin.path().to_path_buf(), Arc::downgrade(&client));
        Ok(client)
    }

    /// A client of one's own with the plug-in's options.
    ///
    /// # Errors
    /// When the plug-in does not know an option or does not start.
    pub fn create(plugin: &'static Plugin, options: &[(&str, OptionValue)]) -> Result<Arc<Self>, Failure> {
        let values: Vec<NamedValue> =
            options.iter().map(|(name, value)| NamedValue::new(name, value)).collect();
        let mut create = api::ClientCreate {
            create_options: values.as_ptr(),
            num_options: values.len(),
            ..Default::default()
        };
        plugin.call(&mut create)?;
        let mut client = Self {
            plugin,
            raw: create.client,
            devices: Vec::new(),
            live: AtomicU64::new(0),
            running: Mutex::default(),
        };
        let mut found = api::ClientAddressableDevices { client: client.raw, ..Default::default() };
        plugin.call(&mut found)?;
        // SAFETY: the plug-in gave the list and its length.
        for raw in unsafe { list(found.devices, found.num_devices) } {
            let mut about = api::DeviceGetDescription { device: raw, ..Default::default() };
            plugin.call(&mut about)?;
            let mut id = api::DescriptionId { description: about.description, ..Default::default() };
            plugin.call(&mut id)?;
            let mut kind = api::DescriptionKind { description: about.description, ..Default::default() };
            plugin.call(&mut kind)?;
            // SAFETY: the plug-in gave the text and its length.
            let kind = unsafe { text(kind.kind, kind.kind_size) };
            client.devices.push(Addressable { raw, id: id.id, kind });
        }
        Ok(Arc::new(client))
    }

    /// The plug-in.
    pub fn plugin(&self) -> &'static Plugin {
        self.plugin
    }

    /// The platform's name and version: `cpu`, `tpu`.
    pub fn platform(&self) -> Result<(String, String), Failure> {
        let mut name = api::ClientPlatformName { client: self.raw, ..Default::default() };
        self.plugin.call(&mut name)?;
        let mut version = api::ClientPlatformVersion { client: self.raw, ..Default::default() };
        self.plugin.call(&mut version)?;
        // SAFETY: the plug-in gave the texts and their lengths.
        Ok(unsafe { (text(name.name, name.name_size), text(version.version, version.version_size)) })
    }

    /// Number of devices that this process can use.
    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    /// The id that the runtime gave a device.
    pub fn device_id(&self, device: usize) -> i32 {
        self.devices[device].id
    }

    /// The hardware's name of a device.
    pub fn device_kind(&self, device: usize) -> &str {
        &self.devices[device].kind
    }

    /// Bytes of memory that a device has, when the plug-in says so.
    pub fn memory_limit(&self, device: usize) -> Option<u64> {
        let mut stats = api::DeviceMemoryStats { device: self.devices[device].raw, ..Default::default() };
        self.plugin.call(&mut stats).ok()?;
        stats.limit.known.then_some(stats.limit.value as u64).filter(|bytes| *bytes > 0)
    }

    /// Bytes in buffers that someone holds.
    pub fn live_bytes(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// Copy the dense row-major bytes of a type to a device.
    ///
    /// # Errors
    /// When they are not as many as the type takes, or the device has no memory for them.
    pub fn upload(
        self: &Arc<Self>,
        device: usize,
        ty: &TensorType,
        bytes: &[u8],
    ) -> Result<DeviceBuffer, Failure> {
        if bytes.len() != ty.bytes() {
            let message = format!("{ty} takes {} bytes, {} are given", ty.bytes(), bytes.len());
            return Err(Failure { function: "PJRT_Client_BufferFromHostBuffer", code: 3, message });
        }
        let dims: Vec<i64> = storage_dims(ty).iter().map(|d| *d as i64).collect();
        let mut copy = api::BufferFromHost {
            client: self.raw,
            data: bytes.as_ptr().cast(),
            element: element_of(ty.dtype),
            dims: dims.as_ptr(),
            num_dims: dims.len(),
            semantics: api::IMMUTABLE_ONLY_DURING_CALL,
            device: self.devices[device].raw,
            ..Default::default()
        };
        self.plugin.call(&mut copy)?;
        let buffer = DeviceBuffer::new(self, copy.buffer, bytes.len());
        // With these semantics the event has happened; what may still fail surfaces when the buffer is used.
        if !copy.done.is_null() {
            self.plugin.release(&mut api::EventDestroy { event: copy.done, ..Default::default() });
        }
        Ok(buffer)
    }

    /// Copy f32 values to a device as a vector.
    ///
    /// # Errors
    /// When the device has no memory for them.
    pub fn upload_f32(self: &Arc<Self>, device: usize, values: &[f32]) -> Result<DeviceBuffer, Failure> {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.upload(device, &TensorType::new(DType::F32, [values.len()]), &bytes)
    }

    /// Compile a StableHLO module for these devices.
    ///
    /// # Errors
    /// When the compiler refuses it.
    pub fn compile(self: &Arc<Self>, module: &str, devices: &[usize]) -> Result<Program, Failure> {
        let replicas = Replicas(devices.iter().map(|d| self.devices[*d].id).collect());
        let options = replicas.compile_options();
        let program = ProgramText::mlir(module);
        let mut compile = api::ClientCompile {
            client: self.raw,
            program: &program,
            options: options.as_ptr().cast(),
            options_size: options.len(),
            ..Default::default()
        };
        self.plugin.call(&mut compile)?;
        // The handle frees it if what follows fails.
        let mut loaded =
            Program { client: self.clone(), raw: compile.executable, outputs: 0, devices: devices.len() };
        let mut get = api::LoadedGetExecutable { loaded: loaded.raw, ..Default::default() };
        self.plugin.call(&mut get)?;
        let mut count = api::ExecutableNumOutputs { executable: get.executable, ..Default::default() };
        let counted = self.plugin.call(&mut count);
        self.plugin.release(&mut api::ExecutableDestroy { executable: get.executable, ..Default::default() });
        counted?;
        loaded.outputs = count.num_outputs;
        Ok(loaded)
    }

    /// Wait for every run.
    ///
    /// # Errors
    /// The first error of a run since the last call.
    pub fn synchronize(&self) -> Result<(), Failure> {
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        running.into_iter().map(|event| self.wait(event)).fold(Ok(()), Result::and)
    }

    /// Wait for an event and free it.
    fn wait(&self, event: *mut RawEvent) -> Result<(), Failure> {
        let waited = self.plugin.call(&mut api::EventAwait { event, ..Default::default() });
        self.plugin.release(&mut api::EventDestroy { event, ..Default::default() });
        waited
    }

    /// Keep the ends of a run, and forget those at the front that have come.
    fn remember(&self, events: impl Iterator<Item = *mut RawEvent>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.extend(events.filter(|e| !e.is_null()));
        while let Some(&event) = running.front() {
            let mut asked = api::EventIsReady { event, ..Default::default() };
            if self.plugin.call(&mut asked).is_ok() && !asked.is_ready {
                return;
            }
            // An error of the run is also that of its outputs, and surfaces when they are read.
            self.plugin.release(&mut api::EventDestroy { event, ..Default::default() });
            running.pop_front();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Errors have nobody left to go to.
        let _ = self.synchronize();
        self.plugin.release(&mut api::ClientDestroy { client: self.raw, ..Default::default() });
    }
}

/// An array in a device's memory.
pub struct DeviceBuffer {
    client: Arc<Client>,
    raw: *mut RawBuffer,
    bytes: u64,
}

// SAFETY: PJRT's buffers are immutable and may be used from any thread.
unsafe impl Send for DeviceBuffer {}
// SAFETY: as above.
unsafe impl Sync for DeviceBuffer {}

impl DeviceBuffer {
    fn new(client: &Arc<Client>, raw: *mut RawBuffer, bytes: usize) -> Self {
        client.live.fetch_add(bytes as u64, Ordering::Relaxed);
        Self { client: client.clone(), raw, bytes: bytes as u64 }
    }

    /// Copy the array to the host, dense and row-major, when everything it is made from has run.
    ///
    /// # Errors
    /// When the run that makes it failed, or the array does not have `out`'s size.
    pub fn read(&self, rank: usize, out: &mut [u8]) -> Result<(), Failure> {
        let order: Vec<i64> = (0..rank as i64).rev().collect();
        let mut layout = api::HostLayout::new(&order);
        let mut copy = api::BufferToHost {
            buffer: self.raw,
            layout: &mut layout,
            dst: out.as_mut_ptr().cast(),
            dst_size: out.len(),
            ..Default::default()
        };
        self.client.plugin.call(&mut copy)?;
        self.client.wait(copy.event)
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        self.client.live.fetch_sub(self.bytes, Ordering::Relaxed);
        self.client.plugin.release(&mut api::BufferDestroy { buffer: self.raw, ..Default::default() });
    }
}

/// A program that the runtime can run.
pub struct Program {
    client: Arc<Client>,
    raw: *mut RawLoaded,
    outputs: usize,
    devices: usize,
}

// SAFETY: PJRT's programs may be run from any thread.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

impl Program {
    /// Number of outputs of one device.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Run on a list of operands for each device; gives each device's outputs, which have these sizes in bytes.
    ///
    /// Operands that the module's `tf.aliasing_output` names are consumed.
    ///
    /// # Errors
    /// When the number of lists, operands or sizes is not the program's, or the runtime refuses the operands. An error
    /// while it runs may surface only when an output is read.
    pub fn run(
        &self,
        operands: &[Vec<&DeviceBuffer>],
        output_bytes: &[usize],
    ) -> Result<Vec<Vec<DeviceBuffer>>, Failure> {
        let count = operands.first().map_or(0, Vec::len);
        let alike = operands.iter().all(|list| list.len() == count);
        let ours = operands.iter().flatten().all(|b| Arc::ptr_eq(&b.client, &self.client));
        if operands.len() != self.devices || !alike || !ours || output_bytes.len() != self.outputs {
            let message = format!(
                "a program of {} devices with {} outputs was given {} lists of operands and {} sizes, or buffers of \
                 another client",
                self.devices,
                self.outputs,
                operands.len(),
                output_bytes.len()
            );
            return Err(Failure { function: "PJRT_LoadedExecutable_Execute", code: 3, message });
        }
        let plugin = self.client.plugin;
        let pointers: Vec<Vec<*mut RawBuffer>> =
            operands.iter().map(|list| list.iter().map(|b| b.raw).collect()).collect();
        let arguments: Vec<*const *mut RawBuffer> = pointers.iter().map(|list| list.as_ptr()).collect();
        let mut made: Vec<Vec<*mut RawBuffer>> = vec![vec![null_mut(); self.outputs]; self.devices];
        let outputs: Vec<*mut *mut RawBuffer> = made.iter_mut().map(|list| list.as_mut_ptr()).collect();
        let mut complete: Vec<*mut RawEvent> = vec![null_mut(); self.devices];
        let mut options = api::ExecuteOptions::default();
        plugin.call(&mut api::LoadedExecute {
            executable: self.raw,
            options: &mut options,
            arguments: arguments.as_ptr(),
            num_devices: self.devices,
            num_args: count,
            outputs: outputs.as_ptr(),
            complete: complete.as_mut_ptr(),
            ..Default::default()
        })?;
        self.client.remember(complete.into_iter());
        let buffers = |list: Vec<*mut RawBuffer>| {
            list.into_iter()
                .zip(output_bytes)
                .map(|(raw, n)| DeviceBuffer::new(&self.client, raw, *n))
                .collect()
        };
        Ok(made.into_iter().map(buffers).collect())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.client.plugin.release(&mut api::LoadedDestroy { executable: self.raw, ..Default::default() });
    }
}

/// Devices that need not be there, to compile for.
pub(crate) struct Topology {
    plugin: &'static Plugin,
    raw: *mut api::RawTopology,
    ids: Vec<i32>,
    kind: String,
}

// SAFETY: a description is constant and may be read from any thread.
unsafe impl Send for Topology {}
// SAFETY: as above.
unsafe impl Sync for Topology {}

impl Topology {
    /// The devices of a name such as `v5e:2x2`.
    pub(crate) fn create(plugin: &'static Plugin, name: &str) -> Result<Self, Failure> {
        let mut create = api::TopologyCreate {
            name: name.as_ptr().cast(),
            name_size: name.len(),
            create_options: null(),
            ..Default::default()
        };
        plugin.call(&mut create)?;
        let mut topology = Self { plugin, raw: create.topology, ids: Vec::new(), kind: String::new() };
        let mut found = api::TopologyDescriptions { topology: topology.raw, ..Default::default() };
        plugin.call(&mut found)?;
        // SAFETY: the plug-in gave the list and its length.
        for description in unsafe { list(found.descriptions, found.num_descriptions) } {
            let mut id = api::DescriptionId { description, ..Default::default() };
            plugin.call(&mut id)?;
            topology.ids.push(id.id);
            let mut kind = api::DescriptionKind { description, ..Default::default() };
            plugin.call(&mut kind)?;
            // SAFETY: the plug-in gave the text and its length.
            topology.kind = unsafe { text(kind.kind, kind.kind_size) };
        }
        Ok(topology)
    }

    /// The hardware's name.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// Number of devices.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Compile a module for the first device, and throw the program away.
    pub(crate) fn compile(&self, module: &str) -> Result<(), Failure> {
        let options = Replicas(self.ids.iter().take(1).copied().collect()).compile_options();
        let program = ProgramText::mlir(module);
        let mut compile = api::Compile {
            topology: self.raw,
            program: &program,
            options: options.as_ptr().cast(),
            options_size: options.len(),
            ..Default::default()
        };
        self.plugin.call(&mut compile)?;
        self.plugin
            .release(&mut api::ExecutableDestroy { executable: compile.executable, ..Default::default() });
        Ok(())
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        self.plugin.release(&mut api::TopologyDestroy { topology: self.raw, ..Default::default() });
    }
}
