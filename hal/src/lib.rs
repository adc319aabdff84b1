//! The device contract, its adapters, fallback and the conformance ladder.
//!
//! A [`Device`] compiles a graph and runs it. Most ports implement an adapter instead: [`OpLibrary`] for libraries of
//! operations, `KernelDevice` for GPUs that take kernel source.

mod buffer;
pub mod conformance;
mod device;
mod error;
mod fallback;
mod kernel_device;
mod lower;
mod op_library;
mod pool;
mod registry;
mod report;

pub use buffer::{Arg, Buffer, DeviceKey};
pub use device::{CompileOptions, Device, DeviceInfo, Executable, MemoryUse, Pending, Support, Uses, Weight};
pub use error::{Error, Result};
pub use fallback::HostCall;
pub use kernel_device::{Dispatch, KernelAdapter, KernelDevice, KernelLimits, Window};
pub use lower::{Lowered, describe, is_structural, lower};
pub use op_library::{LibraryDevice, OpLibrary, Planned, Region, Step};
pub use pool::{Block, Pool};
pub use registry::{Backend, Registry};
pub use report::{CompileReport, Placed, Placement, TraceEvent, chrome_trace};
