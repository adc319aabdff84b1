//! Devices that take kernel source: the trait they implement and the adapter that compiles graphs for them.

mod device;

pub use device::{Command, Dispatch, KernelDevice, KernelLimits, Window};
