//! Tensors in host memory.

use std::sync::Arc;

use crate::dtype::DType;
use crate::quant::dequantize;
use crate::tensor_type::{TensorType, decode, encode};

/// A tensor in host memory: dense row-major little-endian elements, or ggml's blocks row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    ty: TensorType,
    bytes: Arc<[u8]>,
}

/// Data that does not fill its type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HostTensorError {
    /// A wrong number of bytes.
    #[error("{ty} takes {expected} bytes, was given {given}")]
    Bytes {
        /// The type of the tensor.
        ty: TensorType,
        /// The number that the type needs.
        expected: usize,
        /// The number that was given.
        given: usize,
    },
    /// A wrong number of values.
    #[error("{ty} takes {expected} values, was given {given}")]
    Values {
        /// The type of the tensor.
        ty: TensorType,
        /// The number that the type needs.
        expected: usize,
        /// The number that was given.
        given: usize,
    },
    /// Values for a quantized type, whose blocks only a quantizer can make.
    #[error("{0} cannot be made from values; give its blocks as bytes")]
    Quantized(TensorType),
}

impl HostTensor {
    /// A tensor from its bytes, which must be exactly `ty.bytes()`.
    pub fn new(ty: TensorType, bytes: impl Into<Arc<[u8]>>) -> Result<Self, HostTensorError> {
        let bytes = bytes.into();
        // A row that is not whole blocks has elements without storage.
        let whole =
            ty.dtype.block_len() == 1 || ty.dims.last().is_some_and(|d| d % ty.dtype.block_len() == 0);
        if bytes.len() != ty.bytes() || !whole {
            return Err(HostTensorError::Bytes { expected: ty.bytes(), given: bytes.len(), ty });
        }
        Ok(Self { ty, bytes })
    }

    /// A tensor of a dense dtype from row-major values, each rounded to the dtype.
    pub fn from_f64(ty: TensorType, values: &[f64]) -> Result<Self, HostTensorError> {
        if ty.dtype.is_quantized() {
            return Err(HostTensorError::Quantized(ty));
        }
        if values.len() != ty.numel() {
            return Err(HostTensorError::Values { expected: ty.numel(), given: values.len(), ty });
        }
        let bytes: Vec<u8> = values.iter().flat_map(|&v| encode(ty.dtype, v)).collect();
        Ok(Self { ty, bytes: bytes.into() })
    }

    /// A tensor of f32 values.
    pub fn from_f32(dims: impl Into<Vec<usize>>, values: &[f32]) -> Result<Self, HostTensorError> {
        let ty = TensorType::new(DType::F32, dims);
        if values.len() != ty.numel() {
            return Err(HostTensorError::Values { expected: ty.numel(), given: values.len(), ty });
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(Self { ty, bytes: bytes.into() })
    }

    /// A tensor of i32 values.
    pub fn from_i32(dims: impl Into<Vec<usize>>, values: &[i32]) -> Result<Self, HostTensorError> {
        let ty = TensorType::new(DType::I32, dims);
        if values.len() != ty.numel() {
            return Err(HostTensorError::Values { expected: ty.numel(), given: values.len(), ty });
        }
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(Self { ty, bytes: bytes.into() })
    }

    /// The dtype and shape.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// The elements as bytes, row-major.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its elements in row-major order, quantized ones decoded.
    pub fn values(&self) -> Vec<f64> {
        if self.ty.dtype.is_quantized() {
            let mut out = vec![0.0; self.ty.numel()];
            let whole = dequantize(self.ty.dtype, &self.bytes, &mut out);
            debug_assert!(whole, "the constructor checked the length");
            return out.into_iter().map(f64::from).collect();
        }
        self.bytes.chunks_exact(self.ty.dtype.block_bytes()).map(|b| decode(self.ty.dtype, b)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_bytes_agree() {
        let t = HostTensor::from_f64(TensorType::new(DType::BF16, [2]), &[1.5, -0.1]).unwrap();
        assert_eq!(t.bytes(), [0xC0, 0x3F, 0xCD, 0xBD]);
        assert_eq!(t.values()[0], 1.5);
        assert_eq!(
            HostTensor::from_i32([3], &[1, -2, i32::MIN]).unwrap().values(),
            [1.0, -2.0, -2147483648.0]
        );
        assert_eq!(HostTensor::from_f32([], &[2.5]).unwrap().values(), [2.5]);
        let mut block = vec![0x00, 0x3C];
        block.extend([3u8; 32]);
        let q = HostTensor::new(TensorType::new(DType::Q8_0, [1, 32]), block).unwrap();
        assert_eq!(q.values(), [3.0; 32]);
    }

    #[test]
    fn data_that_does_not_fit_is_refused() {
        let ty = TensorType::new(DType::F32, [2]);
        assert!(HostTensor::new(ty.clone(), vec![0; 7]).unwrap_err().to_string().contains("8 bytes"));
        assert!(HostTensor::from_f64(ty, &[0.0]).is_err());
        assert!(HostTensor::from_f32([usize::MAX, 3], &[0.0]).is_err());
        assert!(HostTensor::from_i32([1], &[]).is_err());
        let q = TensorType::new(DType::Q8_0, [1, 32]);
        assert_eq!(HostTensor::from_f64(q.clone(), &[0.0; 32]), Err(HostTensorError::Quantized(q)));
        assert!(HostTensor::new(TensorType::new(DType::Q8_0, [1, 33]), vec![0; 34]).is_err());
    }
}
