//! The kernel device: one adapter, opened, and reopened after the driver lost it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use percept_graph::DType;
use percept_hal::{DeviceInfo, Dispatch, KernelDevice, KernelLimits, MemoryUse, Pending, Result};
use percept_kernels::Caps;

use crate::adapter::{self, AdapterDescription};
use crate::batch::Batch;
use crate::connection::Connection;
use crate::memory::{self, Memory};
use crate::{disk, verify};

/// An adapter opened for computing.
///
/// When the driver loses the device, calls that use its memory give [`Lost`](percept_hal::Error::Lost). The
/// next allocation opens the adapter again: executables go on working, buffers have to be uploaded again.
pub struct WgpuDevice {
    adapter: wgpu::Adapter,
    info: DeviceInfo,
    limits: KernelLimits,
    current: RwLock<Arc<Connection>>,
    measured: Mutex<Measured>,
}

/// Autotuning results of this adapter and driver.
struct Measured {
    file: Option<PathBuf>,
    by_key: BTreeMap<String, u32>,
}

impl WgpuDevice {
    /// Open the adapter at a position of [`adapters`](crate::adapters).
    ///
    /// # Errors
    /// When there is none, or the driver refuses.
    pub fn open(index: usize) -> Result<Self> {
        let adapter = adapter::adapter(index)?;
        let description = adapter::describe(index, &adapter);
        let connection = Connection::open(&description.id(), &adapter)?;
        let caps = caps(&connection, &adapter, &description);
        let limits = KernelLimits {
            alignment: (description.limits.min_storage_buffer_offset_alignment as u64).max(256),
            max_window: description.limits.max_storage_buffer_binding_size / 4 * 4,
            max_memory: description.limits.max_buffer_size,
            caps,
        };
        let file = disk::folder(&adapter.get_info()).map(|f| f.join("tuning.json"));
        let by_key = file
            .as_deref()
            .and_then(disk::load)
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Ok(Self {
            info: device_info(&description, &limits.caps),
            limits,
            current: RwLock::new(connection),
            measured: Mutex::new(Measured { file, by_key }),
            adapter,
        })
    }

    /// Choose kernels as for hardware, for tests of those kernels on a software adapter.
    pub fn as_hardware(mut self) -> Self {
        self.limits.caps.software = false;
        self
    }

    /// Close the connection to the driver, as a driver reset would: all memory on the device is gone, and the
    /// next allocation opens it again.
    pub fn close(&self) {
        self.current.read().unwrap_or_else(PoisonError::into_inner).destroy();
    }

    /// The connection; `Error::Lost` when it is gone.
    fn connection(&self) -> Arc<Connection> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection, opened again if it was lost.
    fn reopened(&self) -> Result<Arc<Connection>> {
        let connection = self.connection();
        if connection.alive().is_ok() {
            return Ok(connection);
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.alive().is_err() {
            *current = Connection::open(&self.info.id, &self.adapter)?;
        }
        Ok(current.clone())
    }
}

impl KernelDevice for WgpuDevice {
    type Memory = Memory;
    type Batch = Batch;

    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn limits(&self) -> &KernelLimits {
        &self.limits
    }

    fn allocate(&self, bytes: u64, what: &str) -> Result<Memory> {
        memory::allocate(&self.reopened()?, bytes, what)
    }

    fn zeros(&self, bytes: u64, what: &str) -> Result<Memory> {
        memory::zeros(&self.reopened()?, bytes, what)
    }

    fn upload(&self, bytes: &[u8], what: &str) -> Result<Memory> {
        memory::upload(&self.reopened()?, bytes, what)
    }

    fn write(&self, memory: &Memory, offset: u64, bytes: &[u8]) -> Result<()> {
        memory::write(&self.connection(), memory, offset, bytes)
    }

    fn read(&self, memory: &Memory, offset: u64, bytes: u64) -> Result<Pending> {
        memory::read(&self.connection(), memory, offset, bytes)
    }

    fn record(&self, dispatches: Vec<Dispatch>) -> Result<Batch> {
        let connection = self.reopened()?;
        Batch::record(&connection, dispatches)
    }

    fn submit(&self, batch: &Batch, memories: &[&Memory]) -> Result<()> {
        batch.submit(&self.connection(), memories)
    }

    fn submit_timed(&self, batch: &Batch, memories: &[&Memory]) -> Result<Vec<(f64, f64)>> {
        batch.submit_timed(&self.connection(), memories)
    }

    fn synchronize(&self) -> Result<()> {
        let connection = self.connection();
        connection.wait(None)?;
        connection.check()
    }

    fn memory(&self) -> MemoryUse {
        self.connection().pool.memory()
    }

    fn pipelines(&self) -> usize {
        self.connection().pipelines.count()
    }

    fn recall(&self, key: &str) -> Option<u32> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).by_key.get(key).copied()
    }

    fn remember(&self, measured: &[(String, u32)]) {
        let mut all = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        all.by_key.extend(measured.iter().cloned());
        let Some(file) = &all.file else { return };
        let written = serde_json::to_vec_pretty(&all.by_key)
            .map_err(|e| e.to_string())
            .and_then(|json| disk::store(file, &json).map_err(|e| e.to_string()));
        if let Err(e) = written {
            tracing::warn!("tuning results were not written to {}: {e}", file.display());
        }
    }
}

/// What lowering may use on this adapter.
fn caps(connection: &Arc<Connection>, adapter: &wgpu::Adapter, description: &AdapterDescription) -> Caps {
    let limits = &description.limits;
    let caps = Caps {
        f16: verify::f16(connection),
        subgroup_size: verify::subgroup_size(connection, &adapter.get_info()),
        cooperative_matrix: None,
        software: description.software,
        max_workgroup_storage: limits.max_compute_workgroup_storage_size,
        max_invocations: limits
            .max_compute_invocations_per_workgroup
            .min(limits.max_compute_workgroup_size_x),
        max_groups: limits.max_compute_workgroups_per_dimension,
        max_bindings: limits.max_storage_buffers_per_shader_stage,
        ..Caps::default()
    };
    Caps { cooperative_matrix: verify::cooperative_matrix(connection, adapter, &caps), ..caps }
}

pub(crate) fn device_info(description: &AdapterDescription, caps: &Caps) -> DeviceInfo {
    let mut features: Vec<String> = description
        .features
        .iter()
        .filter(|f| match **f {
            "f16" => caps.f16,
            "subgroup" => caps.subgroup_size.is_some(),
            "cooperative-matrix" => caps.cooperative_matrix.is_some(),
            _ => true,
        })
        .map(|f| f.to_string())
        .collect();
    features.push(description.backend.clone());
    DeviceInfo {
        id: description.id(),
        name: description.name.clone(),
        vendor: description.vendor.clone(),
        driver: description.driver.clone(),
        software: description.software,
        dtypes: DType::ALL.to_vec(),
        features,
        max_buffer_bytes: description.limits.max_buffer_size,
        memory_bytes: None,
        computes_in: DType::F32,
    }
}

impl Drop for WgpuDevice {
    fn drop(&mut self) {
        self.connection().pipelines.save();
    }
}
