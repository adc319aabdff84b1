//! The devices that tests open by their ids.

use std::sync::Arc;

use percept::hal::Device;

use crate::needs;

/// A device that every machine has, or that the caller names: it opens.
pub fn device(id: &str) -> Arc<dyn Device> {
    percept::registry().open(id).unwrap_or_else(|e| panic!("{e}"))
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
