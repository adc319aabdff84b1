//! The adapters of this machine and what they can do.

use std::sync::OnceLock;

use percept_hal::{Error, Result};

/// Features requested from every adapter that has them.
const WANTED: [(wgpu::Features, &str); 7] = [
    (wgpu::Features::SHADER_F16, "f16"),
    (wgpu::Features::SUBGROUP, "subgroup"),
    (wgpu::Features::PIPELINE_CACHE, "pipeline-cache"),
    (wgpu::Features::MAPPABLE_PRIMARY_BUFFERS, "mappable-primary-buffers"),
    (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
    (wgpu::Features::SUBGROUP_BARRIER, "subgroup-barrier"),
    (wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, "cooperative-matrix"),
];

/// What enumeration knows about an adapter without opening it.
#[derive(Debug, Clone)]
pub struct AdapterDescription {
    /// Position in the enumeration; the device id is `wgpu:INDEX`.
    pub index: usize,
    /// The adapter's name.
    pub name: String,
    /// The PCI vendor, by name where it is known.
    pub vendor: String,
    /// Driver and its version.
    pub driver: String,
    /// `vulkan`, `metal`, `dx12` or `gl`.
    pub backend: String,
    /// A CPU that poses as a GPU, such as lavapipe.
    pub software: bool,
    /// The adapter's own limits, not WebGPU's defaults.
    pub limits: wgpu::Limits,
    /// Names of the features that this crate would use.
    pub features: Vec<&'static str>,
}

impl AdapterDescription {
    /// `wgpu:INDEX`.
    pub fn id(&self) -> String {
        format!("wgpu:{}", self.index)
    }
}

/// The wgpu instance and its adapters' backends, made once: loaders of graphics drivers do not like being
/// loaded and unloaded. OpenGL is tried only where nothing better is found, because its loaders open displays
/// and complain.
fn instance(backends: wgpu::Backends) -> &'static wgpu::Instance {
    static BEST: OnceLock<wgpu::Instance> = OnceLock::new();
    static OPENGL: OnceLock<wgpu::Instance> = OnceLock::new();
    let cell = if backends == wgpu::Backends::GL { &OPENGL } else { &BEST };
    cell.get_or_init(|| {
        let mut desc = wgpu::InstanceDescriptor::new_without_display_handle();
        desc.backends = backends;
        desc.flags = wgpu::InstanceFlags::empty();
        // Refuse an allocation that would fill the heap, while there still is memory to say so.
        desc.memory_budget_thresholds =
            wgpu::MemoryBudgetThresholds { for_resource_creation: Some(95), for_device_loss: None };
        wgpu::Instance::new(desc)
    })
}

/// Adapters that can compute, hardware before software; each physical device once, by its best backend.
fn usable() -> Vec<wgpu::Adapter> {
    let mut adapters = computing(wgpu::Backends::PRIMARY);
    if adapters.is_empty() {
        adapters = computing(wgpu::Backends::GL);
    }
    adapters.sort_by_key(|a| {
        let info = a.get_info();
        (device_rank(info.device_type), backend_rank(info.backend))
    });
    let mut kept: Vec<wgpu::Adapter> = Vec::new();
    for a in adapters {
        let info = a.get_info();
        let same = |k: wgpu::AdapterInfo| {
            k.backend != info.backend
                && info.device != 0
                && (k.vendor, k.device) == (info.vendor, info.device)
        };
        if !kept.iter().map(wgpu::Adapter::get_info).any(same) {
            kept.push(a);
        }
    }
    kept
}

fn computing(backends: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let all = pollster::block_on(instance(backends).enumerate_adapters(backends));
    let computes = |a: &wgpu::Adapter| {
        let flags = a.get_downlevel_capabilities().flags;
        flags.contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
            && a.limits().max_storage_buffers_per_shader_stage >= 4
    };
    all.into_iter().filter(computes).collect()
}

fn device_rank(t: wgpu::DeviceType) -> u8 {
    match t {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

fn backend_rank(b: wgpu::Backend) -> u8 {
    match b {
        wgpu::Backend::Vulkan | wgpu::Backend::Metal => 0,
        wgpu::Backend::Dx12 => 1,
        _ => 2,
    }
}

/// Every adapter of this machine that can compute. Empty when there is no driver.
pub fn adapters() -> Vec<AdapterDescription> {
    usable().iter().enumerate().map(|(i, a)| describe(i, a)).collect()
}

pub(crate) fn describe(index: usize, adapter: &wgpu::Adapter) -> AdapterDescription {
    let info = adapter.get_info();
    let has = adapter.features();
    AdapterDescription {
        index,
        vendor: vendor_name(info.vendor),
        driver: [info.driver.as_str(), info.driver_info.as_str()].join(" ").trim().to_string(),
        backend: info.backend.to_str().to_string(),
        software: info.device_type == wgpu::DeviceType::Cpu,
        limits: adapter.limits(),
        features: WANTED.iter().filter(|(f, _)| has.contains(*f)).map(|(_, n)| *n).collect(),
        name: info.name,
    }
}

/// The adapter at a position of [`adapters`].
pub(crate) fn adapter(index: usize) -> Result<wgpu::Adapter> {
    let mut all = usable();
    if index < all.len() {
        return Ok(all.swap_remove(index));
    }
    let found = if all.is_empty() {
        "this machine has no graphics driver that computes; on Linux, mesa-vulkan-drivers brings a software one".into()
    } else {
        let names: Vec<String> =
            all.iter().enumerate().map(|(i, a)| format!("wgpu:{i} is {}", a.get_info().name)).collect();
        names.join(", ")
    };
    Err(Error::Open { id: format!("wgpu:{index}"), why: format!("no such adapter: {found}") })
}

/// The features to open an adapter with.
pub(crate) fn wanted_features(adapter: &wgpu::Adapter) -> wgpu::Features {
    WANTED.iter().fold(wgpu::Features::empty(), |all, (f, _)| all | *f) & adapter.features()
}

fn vendor_name(id: u32) -> String {
    match id {
        0x1002 => "AMD".into(),
        0x106b => "Apple".into(),
        0x10de => "NVIDIA".into(),
        0x13b5 => "Arm".into(),
        0x1414 => "Microsoft".into(),
        0x14e4 => "Broadcom".into(),
        0x1ed5 => "Moore Threads".into(),
        0x5143 => "Qualcomm".into(),
        0x8086 => "Intel".into(),
        0x10005 => "Mesa".into(),
        other => format!("vendor {other:#06x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_that_is_not_there_is_named() {
        let e = adapter(9_999).unwrap_err();
        assert!(e.to_string().contains("wgpu:9999"), "{e}");
    }
}
