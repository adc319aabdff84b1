//! Devices that shared libraries bring, behind the C interface of `hal/include/percept_plugin.h`.

pub mod abi;
mod attributes;
mod backend;
mod capture;
mod describe;
pub mod export;
mod graphs;
mod id;
mod kernels;
mod library;
mod message;
mod opened;
mod oplib;
pub mod skeleton;

pub use attributes::{Value, attributes};
pub use backend::PluginBackend;
pub use graphs::GraphFormat;
pub use id::SEARCH_PATH;

#[cfg(test)]
mod header_test;
#[cfg(test)]
#[path = "../../../tests/needs/mod.rs"]
mod needs;
