//! Graph compilers: the trait they implement, the device made of it, and how a graph is cut into programs.

mod cut;
mod device;
mod emitter;
mod program;
#[cfg(test)]
mod tests;

pub use device::EmitterDevice;
pub use emitter::{GraphEmitter, Operand};
