//! Percept: one framework for the whole life of a multimodal model, on any accelerator.
//!
//! This crate is the facade: it re-exports the rooms and is the only place that names concrete backends.

mod graph_formats;

pub use percept_data as data;
pub use percept_eval as eval;
pub use percept_graph as graph;
pub use percept_hal as hal;
pub use percept_infer as infer;
pub use percept_kernels as kernels;
pub use percept_modalities as modalities;
pub use percept_model as model;
pub use percept_pull as pull;
pub use percept_serve as serve;
pub use percept_train as train;

/// The backends this build knows, in the order `auto` prefers them.
pub fn registry() -> hal::Registry {
    hal::Registry::new(vec![
        Box::new(percept_wgpu::WgpuBackend),
        Box::new(percept_pjrt::PjrtBackend),
        Box::new(percept_cpu::CpuBackend),
        Box::new(percept_onnx::OnnxBackend),
        Box::new(percept_plugin::PluginBackend::new(graph_formats::all())),
    ])
}

/// A device that compiles for hardware that need not be here, such as `v5e:2x2` with the plug-in of an id
/// `pjrt:/path/libtpu.so`, and runs nothing.
///
/// # Errors
/// When the id names no compiler that does this, or the compiler does not know the topology.
pub fn compiler_for(id: &str, topology: &str) -> hal::Result<std::sync::Arc<dyn hal::Device>> {
    Ok(std::sync::Arc::new(percept_pjrt::TopologyEmitter::open(id, topology)?))
}

/// What a child process that calls [`compiler_for`] should find in its environment.
pub const COMPILER_ENVIRONMENT: &[(&str, &str)] = &percept_pjrt::TOPOLOGY_ENVIRONMENT;
