//! The CPU device: SIMD kernels behind the op-library adapter.

mod attention;
mod element;
mod fused;
mod kernel;
mod lanes;
mod norm;
mod plan;
pub mod pool;
mod rows;
mod scratch;
mod softmax;
mod tile;
mod vector_math;

#[cfg(test)]
mod launch_test;
