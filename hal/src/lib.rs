//! The device contract, the traits that backends implement, fallback and the conformance ladder.
//!
//! A [`Device`] compiles a graph and runs it. Most backends implement a smaller trait: [`OpLibrary`] for
//! libraries of operations, [`KernelDevice`] for GPUs that take kernel source, [`GraphEmitter`] for compilers of
//! whole graphs.

mod buffer;
pub mod conformance;
mod cost;
mod device;
mod error;
mod export_error;
mod fallback;
mod graph_emitter;
mod kernel_device;
mod lower;
mod op_library;
mod pool;
mod registry;
mod report;
mod walk;

pub use buffer::{Arg, Buffer, DeviceKey};
pub use cost::{OpCost, op_cost};
pub use device::{CompileOptions, Device, DeviceInfo, Executable, MemoryUse, Pending, Support, Weight};
pub use error::{Error, Result};
pub use export_error::ExportError;
pub use fallback::HostCall;
pub use graph_emitter::{EmitterDevice, GraphEmitter, Operand};
pub use kernel_device::{Dispatch, KernelBackedDevice, KernelDevice, KernelLimits, Window};
pub use lower::{Lowered, describe, is_structural, lower};
pub use op_library::{LaunchTime, LibraryDevice, OpLaunch, OpLibrary, Planned, Region};
pub use pool::{Block, Pool};
pub use registry::{Backend, Registry};
pub use report::{CompileReport, OpTiming, Placed, Placement, chrome_trace};
pub use walk::{Visit, numbers, walk};
