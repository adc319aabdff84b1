//! Devices behind PJRT plug-ins: any shared library that exports `GetPjrtApi`, such as Google's libtpu.
//!
//! A graph is emitted as the text of one StableHLO module ([`stablehlo`]), which the plug-in compiles and runs. The
//! C API of PJRT is declared anew in `api.rs`, as far as it is called.

mod api;
mod backend;
mod client;
mod collective;
mod emitter;
mod export;
mod options;
mod plugin;
pub mod stablehlo;
mod topology;

pub use backend::{PjrtBackend, open};
pub use client::{Client, DeviceBuffer, Program};
pub use collective::AllReduce;
pub use emitter::{PjrtDevice, PjrtEmitter};
pub use export::export;
pub use options::OptionValue;
pub use plugin::{Failure, Plugin};
pub use topology::{ENVIRONMENT as TOPOLOGY_ENVIRONMENT, TopologyDevice, TopologyEmitter};
