//! Devices that take kernel source: the trait they implement and the adapter that compiles graphs for them.

mod adapter;
mod device;
mod layout;
mod lowering;
mod program;
mod split;
mod tune;

pub use adapter::KernelAdapter;
pub use device::{Dispatch, KernelDevice, KernelLimits, Window};
