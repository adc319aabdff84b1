//! The CPU device: SIMD kernels behind the op-library adapter.

mod lanes;
pub mod pool;
mod vector_math;
