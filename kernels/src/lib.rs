//! WGSL kernels: sources, launch geometry, validation and export. Knows no GPU API.
//!
//! [`lower`] turns one operation with its types into a [`KernelProgram`]: modules to load and dispatches to
//! make in order. Sources are keyed by kernel, dtypes and tile; shapes, strides and scalars travel as uniform
//! parameters, so that another shape needs no new pipeline.

mod adamw;
mod attention;
mod caps;
mod catalog;
mod conv1d;
mod cross_entropy;
mod cumsum;
mod elementwise;
mod embedding;
mod export;
mod gather;
mod geometry;
mod kernel;
mod kv_append;
mod lower;
mod math;
mod matmul;
mod movement;
mod norm;
mod pool;
mod program;
mod quant;
mod ragged;
mod random;
mod recurrent;
mod reduce;
mod rope;
mod row;
mod scatter;
mod softmax;
mod sort;
mod storage;
mod upsample;
mod validate;

pub use caps::{Caps, Cooperative};
pub use catalog::{Case, Entry, catalog, entry};
pub use export::{ExportError, Target, export};
pub use lower::{lower, variants};
pub use program::{KernelProgram, Launch, MAX_PARAM_WORDS, Module, Needs, Slot, Unsupported};
pub use storage::storage_bytes;
pub use validate::{WgslError, validate};
