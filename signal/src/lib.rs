//! Fourier transforms and conversion between sample rates.
//!
//! Both libraries are generic over the element, so whoever calls them compiles them whole. This crate does so once, and
//! the many builds of `percept-modalities` do not.

mod fft;
mod resample;

pub use fft::{Complex, RealToComplex, real_fft_f32, real_fft_f64};
pub use resample::{ResampleError, Resampler};
