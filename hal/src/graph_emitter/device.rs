//! A [`Device`] made of a [`GraphEmitter`].

use std::sync::{Arc, Mutex};

use percept_graph::{Graph, Op, OpDesc, TensorType};

use super::emitter::GraphEmitter;
use super::program::EmitterExecutable;
use crate::buffer::{Buffer, DeviceKey};
use crate::device::{CompileOptions, Device, DeviceInfo, Executable, MemoryUse, Pending, Support, Weight};
use crate::error::{Error, Result};

/// A device that compiles graphs with an emitter.
pub struct EmitterDevice<E: GraphEmitter>(Arc<Shared<E>>);

/// What a device and its executables share.
pub(super) struct Shared<E: GraphEmitter> {
    pub emitter: E,
    pub key: DeviceKey,
    /// Held during a run: the device is one stream.
    pub stream: Mutex<()>,
}

impl<E: GraphEmitter> EmitterDevice<E> {
    /// A device that runs what this emitter compiles.
    pub fn new(emitter: E) -> Self {
        Self(Arc::new(Shared { emitter, key: DeviceKey::fresh(), stream: Mutex::new(()) }))
    }

    /// The emitter that the device is made of.
    pub fn emitter(&self) -> &E {
        &self.0.emitter
    }
}

impl<E: GraphEmitter> Shared<E> {
    pub fn id(&self) -> &str {
        &self.emitter.info().id
    }

    /// Native when it can be emitted, decomposed when its parts may be.
    pub fn support(&self, op: &OpDesc<'_>) -> Support {
        match self.emitter.supports(op) {
            Ok(()) => Support::Native,
            Err(_) if matches!(op.op, Op::Composite(_) | Op::Fused(_)) => Support::Decompose,
            Err(why) => Support::No(why),
        }
    }

    pub fn buffer(&self, ty: &TensorType, memory: E::Memory) -> Buffer {
        Buffer::new(self.key, ty.clone(), memory)
    }

    /// The value in a buffer.
    pub fn memory<'a>(&self, buffer: &'a Buffer) -> Result<&'a E::Memory> {
        buffer.storage().ok_or_else(|| self.failed("a buffer's memory is gone"))
    }

    pub fn failed(&self, why: impl Into<String>) -> Error {
        Error::Failed { device: self.id().to_string(), op: String::new(), why: why.into() }
    }

    /// An error when no buffer can hold this many bytes.
    pub fn check_size(&self, ty: &TensorType) -> Result<()> {
        let (bytes, limit) = (ty.bytes() as u64, self.emitter.info().max_buffer_bytes);
        if bytes <= limit {
            return Ok(());
        }
        let why = format!("a buffer holds at most {limit}");
        Err(Error::OutOfMemory { device: self.id().to_string(), what: ty.to_string(), bytes, why })
    }
}

impl<E: GraphEmitter> Device for EmitterDevice<E> {
    fn info(&self) -> &DeviceInfo {
        self.0.emitter.info()
    }

    fn supports(&self, op: &OpDesc<'_>) -> Support {
        self.0.support(op)
    }

    fn upload(&self, ty: &TensorType, bytes: &[u8]) -> Result<Buffer> {
        if bytes.len() != ty.bytes() {
            return Err(Error::ByteCount { ty: ty.clone(), given: bytes.len() });
        }
        self.0.check_size(ty)?;
        Ok(self.0.buffer(ty, self.0.emitter.upload(ty, bytes)?))
    }

    fn zeros(&self, ty: &TensorType) -> Result<Buffer> {
        self.0.check_size(ty)?;
        self.upload(ty, &vec![0; ty.bytes()])
    }

    fn load_weight(&self, weight: &Weight) -> Result<Buffer> {
        self.0.check_size(&weight.ty)?;
        Ok(self.0.buffer(&weight.ty, self.0.emitter.load_weight(weight)?))
    }

    fn read_async(&self, src: &Buffer) -> Result<Pending> {
        src.check_device(self.0.key, self.0.id())?;
        Ok(Pending::ready(self.0.emitter.read(self.0.memory(src)?, src.ty())?))
    }

    fn compile(&self, graph: &Graph, options: &CompileOptions) -> Result<Box<dyn Executable>> {
        Ok(Box::new(EmitterExecutable::compile(self.0.clone(), graph, options)?))
    }

    fn synchronize(&self) -> Result<()> {
        self.0.emitter.synchronize()
    }

    fn memory(&self) -> MemoryUse {
        self.0.emitter.memory()
    }
}
