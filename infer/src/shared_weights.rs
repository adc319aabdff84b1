//! Weights that several sessions hold once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use percept_graph::TensorType;
use percept_hal::{Buffer, Device, Weight};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Weights on one device that sessions share: those of adapters to one base hold the base's once. What is shared is found by
/// its content, so it does not matter how the sessions' models came to it. A weight is freed with the last session that
/// holds it. Clones are the same store.
#[derive(Clone, Default)]
pub struct SharedWeights(Arc<Mutex<Store>>);

#[derive(Default)]
struct Store {
    device: Option<Weak<dyn Device>>,
    weights: HashMap<Key, Weak<Buffer>>,
}

/// The hash of the bytes, and what decides their layout on the device.
type Key = ([u8; 32], TensorType);

impl SharedWeights {
    /// The weight on the device, loaded when no session holds it.
    ///
    /// # Errors
    /// When the store has weights of another device, or the device cannot take the weight.
    pub(crate) fn load(&self, device: &Arc<dyn Device>, weight: &Weight) -> Result<Arc<Buffer>> {
        let mut store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = store.device.as_ref().and_then(Weak::upgrade);
        if before.is_some_and(|before| !Arc::ptr_eq(&before, device)) {
            let why = "weights are shared by sessions of one device; give sessions on another device a store of their own";
            return Err(Error::Setting(why.into()));
        }
        store.device = Some(Arc::downgrade(device));
        let hash = Sha256::digest(weight.bytes()).into();
        let key = (hash, weight.ty.clone());
        if let Some(held) = store.weights.get(&key).and_then(Weak::upgrade) {
            return Ok(held);
        }
        let buffer = Arc::new(device.load_weight(weight)?);
        store.weights.retain(|_, held| held.strong_count() > 0);
        store.weights.insert(key, Arc::downgrade(&buffer));
        Ok(buffer)
    }
}
