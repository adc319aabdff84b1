//! Values of the device, and weights as constants of sessions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use percept_graph::TensorType;
use percept_hal::Weight;

use super::library::{Library, Place, Value};
use super::session::Constant;
use crate::emit::{Elem, Emitted, Part, WeightTensor};
use crate::proto::TensorProto;

/// A tensor of the device. Clones share it.
#[derive(Clone)]
pub struct Memory(Arc<Stored>);

struct Stored {
    content: Content,
    /// Tells contents apart: a value that is written in place is another one afterwards.
    token: u64,
    counter: Arc<AtomicU64>,
    bytes: u64,
}

enum Content {
    /// A value of the library.
    Value(Arc<Value>),
    /// Bytes of the caller's, as they were given; the value is made where a run takes it as an operand.
    Weight(Weight, OnceLock<Arc<Value>>),
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.counter.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Memory {
    fn new(content: Content, bytes: usize, counter: &Arc<AtomicU64>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
        let token = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Arc::new(Stored { content, token, counter: counter.clone(), bytes: bytes as u64 }))
    }

    /// A value; `counter` holds the bytes of all.
    pub(super) fn of_value(value: Arc<Value>, counter: &Arc<AtomicU64>) -> Self {
        let bytes = value.bytes();
        Self::new(Content::Value(value), bytes, counter)
    }

    /// A weight, kept as it was given.
    pub(super) fn of_weight(weight: Weight, counter: &Arc<AtomicU64>) -> Self {
        let bytes = weight.bytes().len();
        Self::new(Content::Weight(weight, OnceLock::new()), bytes, counter)
    }

    /// Tells contents apart.
    pub(super) fn token(&self) -> u64 {
        self.0.token
    }

    /// The value as an operand of a run.
    pub(super) fn value(
        &self,
        library: &Arc<Library>,
        place: Place,
        ty: &TensorType,
    ) -> Result<Arc<Value>, String> {
        match &self.0.content {
            Content::Value(value) => Ok(value.clone()),
            Content::Weight(weight, made) => {
                if let Some(value) = made.get() {
                    return Ok(value.clone());
                }
                let value = Arc::new(upload(library, place, ty, weight.bytes())?);
                Ok(made.get_or_init(|| value).clone())
            }
        }
    }

    /// The bytes, from wherever they are.
    pub(super) fn read(&self, library: &Arc<Library>, ty: &TensorType) -> Result<Vec<u8>, String> {
        match &self.0.content {
            Content::Weight(weight, _) => Ok(weight.bytes().to_vec()),
            Content::Value(value) if value.is_on_device() => {
                let mut host = library.allocate(library.place(None), Elem::of(ty.dtype), &shape(ty))?;
                host.copy_from(value)?;
                Ok(host.as_bytes()?.to_vec())
            }
            Content::Value(value) => Ok(value.as_bytes()?.to_vec()),
        }
    }

    /// Call with the bytes, without a copy where they are on the host.
    fn with_bytes<R>(
        &self,
        library: &Arc<Library>,
        ty: &TensorType,
        f: impl FnOnce(&[u8]) -> Result<R, String>,
    ) -> Result<R, String> {
        match &self.0.content {
            Content::Weight(weight, _) => f(weight.bytes()),
            Content::Value(value) if !value.is_on_device() => f(value.as_bytes()?),
            Content::Value(_) => f(&self.read(library, ty)?),
        }
    }

    fn is_on_host(&self) -> bool {
        match &self.0.content {
            Content::Weight(..) => true,
            Content::Value(value) => !value.is_on_device(),
        }
    }
}

/// Quantized tensors are bytes to the library.
pub(super) fn shape(ty: &TensorType) -> Vec<usize> {
    if ty.dtype.is_quantized() { vec![ty.bytes()] } else { ty.dims.clone() }
}

/// A value with these bytes.
pub(super) fn upload(
    library: &Arc<Library>,
    place: Place,
    ty: &TensorType,
    bytes: &[u8],
) -> Result<Value, String> {
    let (elem, dims) = (Elem::of(ty.dtype), shape(ty));
    let mut value = library.allocate(place, elem, &dims)?;
    if !value.is_on_device() {
        value.fill(bytes)?;
        return Ok(value);
    }
    let mut host = library.allocate(library.place(None), elem, &dims)?;
    host.fill(bytes)?;
    value.copy_from(&host)?;
    Ok(value)
}

/// Constants below this are copied into the model: the library looks into small ones when it compiles.
const SMALL: usize = 1024;

/// The constants of a session: the model's own, and those made of its weights. Dense weights on the host are
/// shared, not copied; they are given by `keep`, which must outlive the session.
pub(super) fn constants(
    library: &Arc<Library>,
    emitted: &Emitted,
    weight: impl Fn(usize) -> Option<Memory>,
    keep: &mut Vec<Memory>,
) -> Result<Vec<Constant>, String> {
    let host = library.place(None);
    let mut all = Vec::with_capacity(emitted.constants.len() + emitted.weights.len());
    for TensorProto { name, dims, data_type, raw_data, .. } in &emitted.constants {
        let dims: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
        let elem = Elem::numbered(*data_type).ok_or_else(|| format!("'{name}' is of type {data_type}"))?;
        let mut value = library.allocate(host, elem, &dims)?;
        value.fill(raw_data)?;
        all.push(Constant { name: name.clone(), value, external: false });
    }
    for tensor in &emitted.weights {
        let memory = weight(tensor.input).ok_or_else(|| format!("weight {} was not given", tensor.input))?;
        all.push(constant(library, host, tensor, &memory, keep)?);
    }
    Ok(all)
}

fn constant(
    library: &Arc<Library>,
    host: Place,
    tensor: &WeightTensor,
    memory: &Memory,
    keep: &mut Vec<Memory>,
) -> Result<Constant, String> {
    let name = tensor.name.clone();
    let (elem, dims) = (tensor.elem(), tensor.dims());
    let shared = tensor.part == Part::Dense && memory.is_on_host() && tensor.ty.bytes() >= SMALL;
    memory.with_bytes(library, &tensor.ty, |bytes| {
        if shared {
            // SAFETY: `keep` outlives the session. Values are changed by donation alone, and the session of a
            // donated weight is never run again, since what comes of it has another token.
            let value = unsafe { library.borrow(bytes, elem, &dims) }?;
            keep.push(memory.clone());
            return Ok(Constant { name, value, external: true });
        }
        let mut value = library.allocate(host, elem, &dims)?;
        value.fill(&tensor.bytes(bytes))?;
        Ok(Constant { name, value, external: false })
    })
}
