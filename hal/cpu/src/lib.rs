//! The CPU device: SIMD kernels behind the op-library adapter.

mod element;
mod fused;
mod kernel;
mod lanes;
mod plan;
pub mod pool;
mod scratch;
mod vector_math;

#[cfg(test)]
mod launch_test;
