//! Functions from graph to graph, and the plan of a graph's memory.

mod memory;

pub use memory::{Memory, MemoryOptions, Slot, plan_memory};
