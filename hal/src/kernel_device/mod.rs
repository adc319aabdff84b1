//! Devices that take kernel source: the trait they implement and what compiles graphs for them.

mod backed_device;
mod device;
mod layout;
mod lowering;
mod program;
mod split;
mod tune;

pub use backed_device::KernelBackedDevice;
pub use device::{Dispatch, KernelDevice, KernelLimits, Window};
