//! Device memory behind a typed, shared, immutable handle.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use percept_graph::TensorType;

use crate::error::{Error, Result};

/// Tells one opened device from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceKey(u64);

impl DeviceKey {
    /// A key no other device of this process has.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A tensor in device memory. Clones share it; it is freed with the last one, and changed only by donation.
#[derive(Clone)]
pub struct Buffer(Arc<Inner>);

struct Inner {
    ty: TensorType,
    device: DeviceKey,
    storage: Box<dyn Any + Send + Sync>,
}

impl Buffer {
    /// Wrap a device's storage.
    pub fn new(device: DeviceKey, ty: TensorType, storage: impl Any + Send + Sync) -> Self {
        Self(Arc::new(Inner { ty, device, storage: Box::new(storage) }))
    }

    /// The dtype and shape of the tensor.
    pub fn ty(&self) -> &TensorType {
        &self.0.ty
    }

    /// The device it belongs to.
    pub fn device(&self) -> DeviceKey {
        self.0.device
    }

    /// Whether this is the only handle, so that it can be donated.
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// The device's own storage; `None` when the buffer is of another kind of device.
    pub fn storage<T: 'static>(&self) -> Option<&T> {
        self.0.storage.downcast_ref()
    }

    /// Take the storage out of the only handle; the buffer comes back unchanged when it is shared or of
    /// another kind.
    pub fn into_storage<T: 'static>(self) -> Result<T, Buffer> {
        if self.storage::<T>().is_none() {
            return Err(self);
        }
        let inner = Arc::try_unwrap(self.0).map_err(Buffer)?;
        let Inner { ty, device, storage } = inner;
        storage.downcast::<T>().map(|b| *b).map_err(|storage| Buffer(Arc::new(Inner { ty, device, storage })))
    }

    /// An error unless the buffer belongs to this device.
    pub fn check_device(&self, device: DeviceKey, name: &str) -> Result<()> {
        if self.0.device == device {
            return Ok(());
        }
        Err(Error::ForeignBuffer { what: format!("a buffer of {}", self.0.ty), device: name.to_string() })
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({})", self.0.ty)
    }
}

/// An argument of a run.
#[derive(Debug, Clone)]
pub enum Arg {
    /// The buffer is read and stays as it is.
    Borrow(Buffer),
    /// The buffer is given up: an output may replace its contents. No other handle may exist.
    Donate(Buffer),
}

impl Arg {
    /// The buffer, given up or not.
    pub fn buffer(&self) -> &Buffer {
        match self {
            Arg::Borrow(b) | Arg::Donate(b) => b,
        }
    }
}
