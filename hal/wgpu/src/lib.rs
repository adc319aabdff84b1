//! The wgpu device: any GPU, or software that poses as one, behind Vulkan, Metal, DX12 or GL.
//!
//! [`WgpuDevice`] is a [`KernelDevice`](percept_hal::KernelDevice): it compiles WGSL and dispatches it.
//! Pipelines are keyed by kernel and live as long as the connection; a batch is one compute pass and one
//! submission. What drivers report is turned into errors that name the operation, and a lost device is opened
//! again on the next use.

mod adapter;
mod backend;

mod batch;
mod connection;
mod device;
mod disk;
mod memory;
mod pipeline;
mod verify;

pub use adapter::{AdapterDescription, adapters};

pub use backend::WgpuBackend;
pub use batch::Batch;
pub use device::WgpuDevice;
pub use memory::Memory;
