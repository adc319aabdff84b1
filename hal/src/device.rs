//! The contract between the framework and an accelerator.

use std::sync::Arc;

use percept_graph::{DType, Graph, OpDesc, TensorType};
use serde::Serialize;

use crate::buffer::{Arg, Buffer};
use crate::error::{Error, Result};
use crate::report::{CompileReport, OpTiming};

/// An accelerator, chosen at run time. One in-order stream: concurrent calls take some serial order.
pub trait Device: Send + Sync {
    /// What the device is and can do.
    fn info(&self) -> &DeviceInfo;

    /// Whether an operation with these types runs natively.
    fn supports(&self, op: &OpDesc<'_>) -> Support;

    /// Copy dense little-endian bytes (quantized: ggml blocks, row after row) to the device.
    ///
    /// # Errors
    /// When the byte count is not the type's, or memory runs out.
    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Buffer>;

    /// A tensor of zeros (quantized: zero bytes).
    fn zeros(&self, ty: &TensorType) -> Result<Buffer>;

    /// Copy a weight to the device in the layout its kernels read best. The layout depends on the device and on the
    /// weight's dtype and shape, never on an executable: every executable shares the buffer.
    fn load_weight(&self, weight: &Weight) -> Result<Buffer> {
        self.upload(&weight.ty, weight.bytes())
    }

    /// Start copying a buffer back. Everything submitted before is finished first; its errors surface in the wait.
    fn read_async(&self, src: &Buffer) -> Result<Pending>;

    /// The bytes of a buffer, as `upload` takes them.
    fn read(&self, src: &Buffer) -> Result<Vec<u8>> {
        self.read_async(src)?.wait()
    }

    /// Copy parts of a buffer, each from an offset in bytes on.
    ///
    /// # Errors
    /// When a part ends behind the buffer.
    fn read_parts(&self, src: &Buffer, parts: &mut [(usize, &mut [u8])]) -> Result<()> {
        let bytes = self.read(src)?;
        for (offset, part) in parts {
            let end = offset.saturating_add(part.len());
            let from = bytes.get(*offset..end);
            part.copy_from_slice(from.ok_or_else(|| Error::ByteCount { ty: src.ty().clone(), given: end })?);
        }
        Ok(())
    }

    /// Make a graph executable.
    ///
    /// # Errors
    /// When an operation runs neither natively nor decomposed nor on the options' host, naming it.
    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Box<dyn Executable>>;

    /// Wait for everything submitted; asynchronous errors surface here and at reads.
    fn synchronize(&self) -> Result<()>;

    /// Bytes held now, scratch and caches included.
    fn memory(&self) -> MemoryUse;
}

/// A compiled graph.
pub trait Executable: Send + Sync {
    /// Run on one argument per graph input, giving one buffer per graph output.
    ///
    /// Inputs whose buffers outputs replace must be donated. A failed run consumes its donations.
    fn run(&self, args: Vec<Arg>) -> Result<Vec<Buffer>>;

    /// Run and report what took how long. Slower than `run`: operations are timed one by one.
    fn run_timed(&self, args: Vec<Arg>) -> Result<(Vec<Buffer>, Vec<OpTiming>)>;

    /// Where every operation went.
    fn report(&self) -> &CompileReport;
}

/// What a device is.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceInfo {
    /// The id it is opened by: `cpu`, `wgpu:0`.
    pub id: String,
    /// The hardware's name.
    pub name: String,
    /// The hardware's vendor.
    pub vendor: String,
    /// Driver or runtime with its version.
    pub driver: String,
    /// Runs on a processor rather than on hardware of its own.
    pub software: bool,
    /// Dtypes that its kernels take.
    pub dtypes: Vec<DType>,
    /// Features by name, such as `f16`, `subgroups`, `avx512`.
    pub features: Vec<String>,
    /// Largest single buffer in bytes.
    pub max_buffer_bytes: u64,
    /// All of its memory in bytes, when known.
    pub memory_bytes: Option<u64>,
    /// The dtype in which it computes what a graph has in f32: f32 where it does as asked, f16 or bf16 on chips that have no more. The
    /// ladder counts errors in units of it.
    pub computes_in: DType,
}

/// Whether an operation runs natively.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Support {
    /// Whole, by a kernel of the device.
    Native,
    /// The operation runs as its decomposition.
    Decompose,
    /// Not at all, and why.
    No(String),
}

/// Options of compiling a graph.
#[derive(Clone)]
pub struct CompileOptions {
    /// Running anything on the host is an error rather than a line in the report.
    pub strict: bool,
    /// A row's result does not depend on the other rows or on how they are chunked (always so on the cpu).
    pub batch_invariant: bool,
    /// Join elementwise operations into one kernel.
    pub fuse: bool,
    /// Runs what the device cannot.
    pub host: Option<Arc<dyn Device>>,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self { strict: false, batch_invariant: false, fuse: true, host: None }
    }
}

/// A weight on the host. The bytes may be a part of a memory-mapped file.
#[derive(Clone)]
pub struct Weight {
    /// The dtype and shape of the weight.
    pub ty: TensorType,
    bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

impl Weight {
    /// A weight from bytes as `upload` takes them.
    ///
    /// # Errors
    /// When the byte count is not the type's.
    pub fn new(ty: TensorType, bytes: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Result<Self> {
        let given = (*bytes).as_ref().len();
        if given != ty.bytes() {
            return Err(Error::ByteCount { ty, given });
        }
        Ok(Self { ty, bytes })
    }

    /// The elements as bytes.
    pub fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }
}

/// Memory a device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct MemoryUse {
    /// Bytes in buffers someone holds.
    pub buffers: u64,
    /// Bytes in scratch arenas and recycled blocks.
    pub scratch: u64,
}

/// A read that may not have finished.
pub struct Pending(Box<dyn FnOnce() -> Result<Vec<u8>> + Send>);

impl Pending {
    /// Finish with this function, called once by `wait`.
    pub fn new(finish: impl FnOnce() -> Result<Vec<u8>> + Send + 'static) -> Self {
        Self(Box::new(finish))
    }

    /// Bytes that are there already.
    pub fn ready(bytes: Vec<u8>) -> Self {
        Self::new(move || Ok(bytes))
    }

    /// Wait for the bytes.
    pub fn wait(self) -> Result<Vec<u8>> {
        (self.0)()
    }
}
