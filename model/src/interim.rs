//! Safetensors in one file, until the checkpoint reader is here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use percept_graph::{DType, TensorType};
use percept_hal::Weight;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::error::{Error, Result};

/// A folder with `config.json` and `model.safetensors`.
pub struct Checkpoint {
    folder: PathBuf,
    config: Value,
    map: Arc<Mmap>,
    tensors: BTreeMap<String, (TensorType, std::ops::Range<usize>)>,
}

struct Part(Arc<Mmap>, std::ops::Range<usize>);

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.0[self.1.clone()]
    }
}

impl Checkpoint {
    /// Open a folder.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let read = |e: std::io::Error| Error::Read { file: path.display().to_string(), why: e.to_string() };
        let content = |why: String| Error::Content { file: path.display().to_string(), why };
        let config = std::fs::read(path.join("config.json")).map_err(read)?;
        let config = serde_json::from_slice(&config).map_err(|e| content(e.to_string()))?;
        let file = std::fs::File::open(path.join("model.safetensors")).map_err(read)?;
        // SAFETY: as with every mapped file, another process that truncates it can end this one.
        let map = Arc::new(unsafe { Mmap::map(&file) }.map_err(read)?);
        let parsed = SafeTensors::deserialize(&map).map_err(|e| content(e.to_string()))?;
        let mut tensors = BTreeMap::new();
        for (name, view) in parsed.iter() {
            let dtype = match view.dtype() {
                Dtype::F32 => DType::F32,
                Dtype::F16 => DType::F16,
                Dtype::BF16 => DType::BF16,
                _ => continue,
            };
            let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
            let ty = TensorType::new(dtype, view.shape());
            tensors.insert(name.to_string(), (ty, start..start + view.data().len()));
        }
        Ok(Self { folder: path.to_path_buf(), config, map, tensors })
    }

    /// Tensor names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor's type.
    pub fn ty(&self, name: &str) -> Option<&TensorType> {
        self.tensors.get(name).map(|t| &t.0)
    }

    /// A tensor.
    ///
    /// # Errors
    /// When there is none.
    pub fn weight(&self, name: &str) -> Result<Weight> {
        let missing = || Error::MissingTensor { name: name.to_string(), nearest: Vec::new() };
        let (ty, range) = self.tensors.get(name).ok_or_else(missing)?;
        Ok(Weight::new(ty.clone(), Arc::new(Part(self.map.clone(), range.clone())))?)
    }

    /// The configuration.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// A side file.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match std::fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::Read { file: name.to_string(), why: e.to_string() }),
        }
    }
}
