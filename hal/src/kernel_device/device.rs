//! What a GPU that takes kernel source implements.

use percept_kernels::{Caps, Module};

use crate::device::{DeviceInfo, MemoryUse, Pending};
use crate::error::Result;

/// A GPU behind an API that compiles WGSL kernels and dispatches them over buffers in one in-order stream.
///
/// [`KernelBackedDevice`](crate::KernelBackedDevice) makes a [`Device`](crate::Device) of it.
pub trait KernelDevice: Send + Sync + 'static {
    /// A block of device memory, freed on drop.
    type Memory: Send + Sync + 'static;
    /// Dispatches made ready to be submitted many times.
    type Batch: Send + Sync + 'static;

    /// What the device is.
    fn info(&self) -> &DeviceInfo;

    /// What kernels and bindings may be.
    fn limits(&self) -> &KernelLimits;

    /// Whether the device's compiler takes a module. An operation is decomposed or runs on the host, with this reason,
    /// when it does not take one of its modules. A device that compiles all of what its limits allow need not say.
    fn accepts(&self, _module: &Module) -> Result<(), String> {
        Ok(())
    }

    /// Memory of at least this many bytes with unspecified contents; `what` names it in errors.
    fn allocate(&self, bytes: u64, what: &str) -> Result<Self::Memory>;

    /// Memory of at least this many zero bytes.
    fn zeros(&self, bytes: u64, what: &str) -> Result<Self::Memory>;

    /// Memory holding these bytes, padded to whole words.
    fn upload(&self, bytes: &[u8], what: &str) -> Result<Self::Memory>;

    /// Overwrite a part of a block from `offset` on, which is a multiple of 4; the bytes are padded to whole
    /// words.
    fn write(&self, memory: &Self::Memory, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Start copying `bytes` of a block back, from `offset` on, which is a multiple of 4.
    fn read(&self, memory: &Self::Memory, offset: u64, bytes: u64) -> Result<Pending>;

    /// Compile the modules that are not compiled yet and make the dispatches ready.
    ///
    /// # Errors
    /// When a module does not compile; the error names the dispatch's operation.
    fn record(&self, dispatches: Vec<Dispatch>) -> Result<Self::Batch>;

    /// Run the dispatches of a batch in order, each seeing what the ones before it wrote. Windows name
    /// positions in `memories`.
    fn submit(&self, batch: &Self::Batch, memories: &[&Self::Memory]) -> Result<()>;

    /// The same, one by one, giving start and duration of each dispatch in microseconds since the first
    /// began.
    fn submit_timed(&self, batch: &Self::Batch, memories: &[&Self::Memory]) -> Result<Vec<(f64, f64)>>;

    /// Wait for everything submitted.
    fn synchronize(&self) -> Result<()>;

    /// Device memory in use.
    fn memory(&self) -> MemoryUse;

    /// How many pipelines have been compiled and are kept.
    fn pipelines(&self) -> usize;

    /// What an earlier process measured for this device and driver, by key.
    fn recall(&self, key: &str) -> Option<u32>;

    /// Keep measurements for later processes. A device that cannot keep them measures again.
    fn remember(&self, measured: &[(String, u32)]);
}

/// Limits of a [`KernelDevice`].
#[derive(Debug, Clone)]
pub struct KernelLimits {
    /// What kernels may use.
    pub caps: Caps,
    /// Offsets of windows are multiples of this many bytes.
    pub alignment: u64,
    /// The longest window that a kernel can be given.
    pub max_window: u64,
    /// The largest block of memory.
    pub max_memory: u64,
}

/// A part of a block of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Position among the memories of the submission.
    pub memory: usize,
    /// The first byte of the window.
    pub offset: u64,
    /// Length in bytes, a multiple of 4 and not 0.
    pub bytes: u64,
}

/// A kernel over windows of memory.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// The module of the kernel.
    pub module: Module,
    /// Keep accesses out of bounds and endless loops from harm: for WGSL that is not ours.
    pub checked: bool,
    /// Workgroups per dimension.
    pub groups: [u32; 3],
    /// The uniform struct, as words.
    pub params: Vec<u32>,
    /// The storage buffers of group 0, in binding order.
    pub bindings: Vec<Window>,
    /// The operation it belongs to, with its module path, for errors and traces.
    pub op: String,
}
