//! The entry in the device registry.

use std::sync::Arc;

use percept_hal::{Backend, Device, DeviceInfo, Error, KernelBackedDevice, Result};
use percept_kernels::Caps;

use crate::adapter::{self, AdapterDescription};
use crate::device::{WgpuDevice, device_info};

/// Devices `wgpu:0`, `wgpu:1` ...: every adapter of Vulkan, Metal, DX12 or GL that computes.
#[derive(Debug, Default, Clone, Copy)]
pub struct WgpuBackend;

impl Backend for WgpuBackend {
    fn prefix(&self) -> &'static str {
        "wgpu"
    }

    fn list(&self) -> Vec<DeviceInfo> {
        // Features are listed as the driver reports them; opening the device verifies them.
        let caps = Caps { f16: true, subgroup_size: Some(1), ..Caps::default() };
        adapter::adapters().iter().map(|a| device_info(a, &caps)).collect()
    }

    fn open(&self, id: &str) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(KernelBackedDevice::new(WgpuBackend::open_kernels(id)?)))
    }
}

impl WgpuBackend {
    /// Open a device for dispatching kernels one by one, without graphs.
    ///
    /// # Errors
    /// When no adapter has this id, or it cannot be opened.
    pub fn open_kernels(id: &str) -> Result<WgpuDevice> {
        WgpuDevice::open(index_of(id)?)
    }
}

/// The position in an id such as `wgpu:0`.
fn index_of(id: &str) -> Result<usize> {
    let parsed = id.strip_prefix("wgpu:").and_then(|n| n.parse().ok());
    parsed.ok_or_else(|| Error::UnknownDevice {
        id: id.to_string(),
        known: adapter::adapters().iter().map(AdapterDescription::id).collect::<Vec<_>>().join(", "),
    })
}
