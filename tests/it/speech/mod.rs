//! Word errors of what is transcribed, counted as transformers' normalizer for English counts them.

pub mod normalizer;
mod numbers;
