//! A checkpoint's parameters on their way to a device.

use std::sync::Arc;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use percept_graph::{DType, Graph, Op, Role, TensorType, dequantize};
use percept_hal::{Buffer, Device, Uses, Weight};

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::parameters::Stored;

/// The parameters of a checkpoint, in its own dtypes or in one that was asked for.
pub struct Weights {
    checkpoint: Arc<Checkpoint>,
    dtype: Option<DType>,
}

impl Weights {
    /// Parameters of `checkpoint`: matrices become `dtype`, or stay as they are when it is `None`.
    ///
    /// # Errors
    /// When `dtype` is not f32, f16 or bf16.
    pub fn new(checkpoint: Arc<Checkpoint>, dtype: Option<DType>) -> Result<Self> {
        match dtype {
            None | Some(DType::F32 | DType::F16 | DType::BF16) => Ok(Self { checkpoint, dtype }),
            Some(other) => Err(Error::Inputs(format!(
                "weights are loaded as f32, f16, bf16 or as the file has them, not as {other}; \
                 `percept convert` quantizes"
            ))),
        }
    }

    /// The file behind them.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Whether there is such a parameter.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.ty(name).is_some()
    }

    /// The first of several prefixes under which `name` exists; the first of all when it exists under none.
    pub fn prefix<'a>(&self, prefixes: &[&'a str], name: &str) -> &'a str {
        let found = prefixes.iter().find(|p| self.has(&format!("{p}{name}")));
        found.or(prefixes.first()).copied().unwrap_or("")
    }

    /// A parameter as a graph declares it, on the device. Its shape may be another one of the same elements.
    ///
    /// # Errors
    /// When the checkpoint lacks it or holds another number of elements, or the device cannot take it.
    pub fn load(&self, device: &dyn Device, name: &str, ty: &TensorType, uses: Uses) -> Result<Buffer> {
        let weight = self.checkpoint.weight(name)?;
        check_extent(name, &weight.ty, &ty.dims)?;
        let bytes: Arc<dyn AsRef<[u8]> + Send + Sync> = match convert(&weight, ty.dtype) {
            Some(converted) => Arc::new(converted),
            None => Arc::new(Borrowed(weight)),
        };
        Ok(device.load_weight(&Weight::new(ty.clone(), bytes)?, uses)?)
    }
}

impl Stored for Weights {
    fn dtype(&self, name: &str, dims: &[usize]) -> Result<DType> {
        let Some(ty) = self.checkpoint.ty(name) else {
            // The checkpoint's own error names what is near.
            return Err(match self.checkpoint.weight(name) {
                Err(e) => e.into(),
                Ok(_) => Error::MissingTensor { name: name.to_string(), nearest: Vec::new() },
            });
        };
        check_extent(name, ty, dims)?;
        Ok(self.dtype.unwrap_or(ty.dtype))
    }
}

/// The bytes of a weight under another shape, still in the mapped file.
struct Borrowed(Weight);

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

fn check_extent(name: &str, found: &TensorType, expected: &[usize]) -> Result<()> {
    let asked = TensorType::new(found.dtype, expected);
    // Blocks lie along the last dimension, which must then be the same.
    let same_rows = !found.dtype.is_quantized() || found.dims.last() == expected.last();
    if asked.numel() == found.numel() && same_rows {
        return Ok(());
    }
    Err(Error::TensorShape { name: name.to_string(), found: found.clone(), expected: expected.to_vec() })
}

/// The elements in another dtype; `None` when they have it.
fn convert(weight: &Weight, to: DType) -> Option<Vec<u8>> {
    if weight.ty.dtype == to {
        return None;
    }
    let bytes = weight.bytes();
    let mut wide = vec![0f32; weight.ty.numel()];
    match weight.ty.dtype {
        DType::F32 => {
            wide.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(w, b)| {
                *w = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            });
        }
        DType::F16 => halves(bytes, f16::from_bits).convert_to_f32_slice(&mut wide),
        DType::BF16 => halves(bytes, bf16::from_bits).convert_to_f32_slice(&mut wide),
        quantized => {
            let whole = dequantize(quantized, bytes, &mut wide);
            debug_assert!(whole, "a weight has as many bytes as its type says");
        }
    }
    Some(match to {
        DType::F16 => wide.iter().flat_map(|&w| f16::from_f32(w).to_le_bytes()).collect(),
        DType::BF16 => wide.iter().flat_map(|&w| bf16::from_f32(w).to_le_bytes()).collect(),
        _ => wide.iter().flat_map(|w| w.to_le_bytes()).collect(),
    })
}

fn halves<T>(bytes: &[u8], of: impl Fn(u16) -> T) -> Vec<T> {
    bytes.chunks_exact(2).map(|b| of(u16::from_le_bytes([b[0], b[1]]))).collect()
}

/// What a graph does with each of its parameters, for [`Device::load_weight`].
pub fn uses(graph: &Graph) -> Vec<Uses> {
    use percept_graph::Composite;
    let mut uses = vec![Uses::default(); graph.inputs().len()];
    let mut of_value = vec![None; graph.values().len()];
    for (i, input) in graph.inputs().iter().enumerate().filter(|(_, i)| i.role == Role::Parameter) {
        of_value[input.value.index()] = Some(i);
    }
    for node in graph.nodes() {
        for (operand, v) in node.inputs.iter().enumerate() {
            let Some(i) = of_value[v.index()] else { continue };
            match (&node.op, operand) {
                (Op::Composite(Composite::Linear { .. } | Composite::QuantizedDot { .. }), 1) => {
                    uses[i].linear = true;
                }
                (Op::Composite(Composite::Embedding { .. }), 0) => uses[i].embedding = true,
                _ => uses[i].other = true,
            }
        }
    }
    uses
}
