//! The devices that tests open by their ids.

use std::sync::Arc;

use percept::hal::Device;

use crate::needs;

/// A device that every machine has, or that the caller names: it opens. The cpu has one thread: tests run side by side,
/// and several threads wait for each other for most of the time that the operations of a small model take. Their number
/// changes no bit, which those tests see that compare with [`whole_cpu`].
pub fn device(id: &str) -> Arc<dyn Device> {
    match id {
        "cpu" => Arc::new(percept_cpu::open(1).unwrap()),
        _ => percept::registry().open(id).unwrap_or_else(|e| panic!("{e}")),
    }
}

/// The cpu with a thread for each core.
pub fn whole_cpu() -> Arc<dyn Device> {
    percept::registry().open("cpu").unwrap()
}

/// The first GPU adapter. `None`, and the test is recorded as skipped, where the machine has no adapter at all.
#[track_caller]
pub fn gpu() -> Option<Arc<dyn Device>> {
    let registry = percept::registry();
    if registry.list().iter().all(|d| d.id != "wgpu:0") {
        needs::skip("this machine has no wgpu:0: `cargo xtask setup` installs a software Vulkan driver");
        return None;
    }
    Some(registry.open("wgpu:0").unwrap_or_else(|e| panic!("{e}")))
}
