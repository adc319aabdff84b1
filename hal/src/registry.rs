//! Devices by id.

use std::sync::Arc;

use crate::device::{Device, DeviceInfo};
use crate::error::{Error, Result};

/// A kind of device: what precedes the colon of an id.
pub trait Backend: Send + Sync {
    /// The id's prefix: `cpu`, `wgpu`.
    fn prefix(&self) -> &'static str;

    /// The devices of this kind that are here; empty when there are none.
    fn list(&self) -> Vec<DeviceInfo>;

    /// Open the device with this whole id.
    fn open(&self, id: &str) -> Result<Arc<dyn Device>>;
}

/// The backends a program was built with.
#[derive(Default)]
pub struct Registry(Vec<Box<dyn Backend>>);

impl Registry {
    /// A registry of these backends, in order of preference for `auto`.
    pub fn new(backends: Vec<Box<dyn Backend>>) -> Self {
        Self(backends)
    }

    /// Every device that is here.
    pub fn list(&self) -> Vec<DeviceInfo> {
        self.0.iter().flat_map(|b| b.list()).collect()
    }

    /// Open a device by id; `auto` is the first hardware device, or else `cpu`.
    ///
    /// # Errors
    /// When no backend has the prefix or the backend has no such device; the message lists the ids there are.
    pub fn open(&self, id: &str) -> Result<Arc<dyn Device>> {
        if id == "auto" {
            let hardware = self.list().into_iter().find(|d| !d.software);
            return self.open(&hardware.map_or("cpu".to_string(), |d| d.id));
        }
        let prefix = id.split(':').next().unwrap_or(id);
        let unknown = || {
            let ids: Vec<String> = self.list().into_iter().map(|d| d.id).collect();
            Error::UnknownDevice { id: id.to_string(), known: format!("auto, {}", ids.join(", ")) }
        };
        let backend = self.0.iter().find(|b| b.prefix() == prefix).ok_or_else(unknown)?;
        backend.open(id)
    }
}
