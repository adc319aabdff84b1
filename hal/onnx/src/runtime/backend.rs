//! The backend that the registry knows.

use std::sync::Arc;

use percept_hal::{Backend, Device, DeviceInfo, EmitterDevice, Result};

use super::emitter::OnnxEmitter;

/// ONNX Runtime, found by the path in the id.
pub struct OnnxBackend;

impl Backend for OnnxBackend {
    fn prefix(&self) -> &'static str {
        "onnx"
    }

    /// None: a library is opened by its path alone.
    fn list(&self) -> Vec<DeviceInfo> {
        Vec::new()
    }

    fn open(&self, id: &str) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(EmitterDevice::new(OnnxEmitter::open(id)?)))
    }
}
