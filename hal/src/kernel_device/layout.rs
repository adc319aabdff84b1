//! Host bytes to device words and back: booleans and bytes take a word each on the device, everything else
//! lies as on the host, padded to whole words.

use std::borrow::Cow;

use percept_graph::{DType, TensorType};
use percept_kernels::storage_bytes;

/// Bytes a tensor takes on the device; at least one word.
pub(super) fn device_bytes(ty: &TensorType) -> u64 {
    storage_bytes(ty.dtype, ty.numel()).max(4)
}

fn widens(dtype: DType) -> bool {
    matches!(dtype, DType::Bool | DType::U8)
}

/// Dense host bytes as the device stores them, less the padding.
pub(super) fn to_device<'a>(dtype: DType, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    if !widens(dtype) {
        return Cow::Borrowed(bytes);
    }
    // A bool is 0 or 1 on the device whatever byte the host had for true.
    let word = |&b: &u8| [if dtype == DType::Bool { (b != 0) as u8 } else { b }, 0, 0, 0];
    Cow::Owned(bytes.iter().flat_map(word).collect())
}

/// Bytes of a tensor to read from the device for [`to_host`].
pub(super) fn read_bytes(ty: &TensorType) -> u64 {
    if widens(ty.dtype) { ty.numel() as u64 * 4 } else { ty.bytes() as u64 }
}

/// Dense host bytes from what the device stores.
pub(super) fn to_host(dtype: DType, bytes: Vec<u8>) -> Vec<u8> {
    if widens(dtype) { bytes.into_iter().step_by(4).collect() } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_round_trip() {
        for dtype in DType::ALL {
            let n = 3 * dtype.block_len();
            let ty = TensorType::new(dtype, [n]);
            let host: Vec<u8> = (0..ty.bytes()).map(|i| (i % 2) as u8).collect();
            let device = to_device(dtype, &host).into_owned();
            assert_eq!(device.len() as u64, read_bytes(&ty), "{dtype}");
            assert!(device_bytes(&ty) >= read_bytes(&ty) && device_bytes(&ty).is_multiple_of(4));
            assert_eq!(to_host(dtype, device), host, "{dtype}");
        }
        assert_eq!(to_device(DType::Bool, &[0, 1, 255]).as_ref(), [0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(device_bytes(&TensorType::new(DType::F32, [0])), 4);
    }
}
