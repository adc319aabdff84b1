//! Functions from graph to graph, and the plan of a graph's memory.

mod cse;
mod dce;
mod fuse;
mod memory;
mod rewrite;
#[cfg(test)]
mod testing;

pub use cse::eliminate_common_subexpressions;
pub use dce::eliminate_dead_code;
pub use fuse::{FuseOptions, fuse};
pub use memory::{Memory, MemoryOptions, Slot, plan_memory};
