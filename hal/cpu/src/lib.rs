//! The CPU device: SIMD kernels behind the op-library adapter.

pub mod pool;
