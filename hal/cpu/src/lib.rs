//! The CPU device: SIMD kernels behind the `OpLibrary` trait.

mod adamw;
mod attention;
mod contraction;
mod convolution;
mod device;
mod element;
mod fused;
mod indexing;
mod int8;
mod kernel;
mod lanes;
pub mod matmul;
mod memory;
mod movement;
mod norm;
mod plan;
pub mod pool;
mod ragged;
mod random;
mod recurrent;
mod reduce;
mod rope;
mod rows;
mod scratch;
mod softmax;
mod sort;
mod spatial;
mod tile;
mod vector_math;

pub use device::{CpuBackend, CpuDevice, CpuLibrary, open};
pub use memory::Memory;

#[cfg(test)]
mod launch_test;
