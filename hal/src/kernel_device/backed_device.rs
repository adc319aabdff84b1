//! A [`Device`] made of a [`KernelDevice`]: what devices and executables share, and the device's buffers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use percept_graph::{Graph, OpDesc, TensorType};
use percept_kernels::Module;

use super::device::KernelDevice;
use super::layout::{device_bytes, read_bytes, to_device, to_host};
use super::lowering::Lowering;
use super::program::Compiled;
use crate::buffer::{Buffer, DeviceKey};
use crate::device::{CompileOptions, Device, DeviceInfo, Executable, MemoryUse, Pending, Support};
use crate::error::{Error, Result};

/// A [`Device`] that runs the kernels of `percept-kernels` on a [`KernelDevice`].
pub struct KernelBackedDevice<K: KernelDevice>(Arc<Shared<K>>);

/// What a device and its executables share.
pub(super) struct Shared<K: KernelDevice> {
    pub device: K,
    pub key: DeviceKey,
    /// Scratch of the runs, kept at the size of the largest; its lock is the device's one stream.
    pub arena: Mutex<Option<Arena<K>>>,
    /// Variants chosen by tuning in this process.
    pub tuned: Mutex<HashMap<String, u32>>,
}

/// Scratch memory and its size.
pub(super) struct Arena<K: KernelDevice> {
    pub memory: K::Memory,
    pub bytes: u64,
}

impl<K: KernelDevice> KernelBackedDevice<K> {
    /// A device that runs on this one.
    pub fn new(device: K) -> Self {
        Self(Arc::new(Shared {
            device,
            key: DeviceKey::fresh(),
            arena: Mutex::new(None),
            tuned: Mutex::default(),
        }))
    }

    /// The kernel device.
    pub fn kernel_device(&self) -> &K {
        &self.0.device
    }
}

impl<K: KernelDevice> Shared<K> {
    pub fn id(&self) -> &str {
        &self.device.info().id
    }

    /// The memory of a buffer of this device.
    pub fn memory<'a>(&self, buffer: &'a Buffer) -> Result<&'a K::Memory> {
        buffer.check_device(self.key, self.id())?;
        buffer.storage::<K::Memory>().ok_or_else(|| Error::ForeignBuffer {
            what: format!("a buffer of {}", buffer.ty()),
            device: self.id().to_string(),
        })
    }
}

impl<K: KernelDevice> Device for KernelBackedDevice<K> {
    fn info(&self) -> &DeviceInfo {
        self.0.device.info()
    }

    fn supports(&self, op: &OpDesc<'_>) -> Support {
        let accepts = |module: &Module| self.0.device.accepts(module);
        Lowering::new(self.0.device.limits(), false, &|_, _| None, &accepts).support(op)
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Buffer> {
        if bytes.len() != ty.bytes() {
            return Err(Error::ByteCount { ty: ty.clone(), given: bytes.len() });
        }
        let memory = self.0.device.upload(&to_device(ty.dtype, bytes), &ty.to_string())?;
        Ok(Buffer::new(self.0.key, ty.clone(), memory))
    }

    fn zeros(&self, ty: &TensorType) -> Result<Buffer> {
        let memory = self.0.device.zeros(device_bytes(ty), &ty.to_string())?;
        Ok(Buffer::new(self.0.key, ty.clone(), memory))
    }

    fn read_async(&self, src: &Buffer) -> Result<Pending> {
        let dtype = src.ty().dtype;
        let pending = self.0.device.read(self.0.memory(src)?, 0, read_bytes(src.ty()))?;
        Ok(Pending::new(move || Ok(to_host(dtype, pending.wait()?))))
    }

    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Box<dyn Executable>> {
        Ok(Box::new(Compiled::new(self.0.clone(), graph, options)?))
    }

    fn synchronize(&self) -> Result<()> {
        self.0.device.synchronize()
    }

    fn memory(&self) -> MemoryUse {
        let arena = self.0.arena.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = arena.as_ref().map_or(0, |a| a.bytes);
        let all = self.0.device.memory();
        MemoryUse { buffers: all.buffers.saturating_sub(scratch), scratch: all.scratch + scratch }
    }
}
