//! Input values for commands that run a graph nobody gave data for.

use percept::graph::{DType, Graph, TensorType, encode};
use percept::hal::{Device, Error};

/// An error when an input of a graph is larger than a buffer of the device, before its values are made.
pub fn check_sizes(graph: &Graph, device: &dyn Device) -> Result<(), Error> {
    let info = device.info();
    let bytes = |v: percept::graph::ValueId| graph.ty(v).bytes() as u64;
    match graph.inputs().iter().find(|i| bytes(i.value) > info.max_buffer_bytes) {
        None => Ok(()),
        Some(input) => Err(Error::OutOfMemory {
            device: info.id.clone(),
            what: format!("input '{}', {}", input.name, graph.ty(input.value)),
            bytes: bytes(input.value),
            why: format!("a buffer holds at most {}", info.max_buffer_bytes),
        }),
    }
}

/// Seeded values of a type: floats between -1 and 1, integers 0 to 3, quantized blocks with small scales.
pub fn example(ty: &TensorType, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let unit = |bits: u64| (bits >> 11) as f64 / (1u64 << 53) as f64;
    match ty.dtype {
        d if d.is_float() => (0..ty.numel()).flat_map(|_| encode(d, 2.0 * unit(next()) - 1.0)).collect(),
        d if d.is_quantized() => blocks(d, ty.bytes() / d.block_bytes(), &mut next),
        DType::Bool => (0..ty.numel()).map(|_| (next() >> 40) as u8 & 1).collect(),
        d => (0..ty.numel()).flat_map(|_| encode(d, (next() >> 40 & 3) as f64)).collect(),
    }
}

/// Quantized blocks of random integers under small scales; the scales stand at their places within a block.
fn blocks(dtype: DType, count: usize, next: &mut impl FnMut() -> u64) -> Vec<u8> {
    let scales: &[usize] = match dtype {
        DType::Q4_1 | DType::Q4K => &[0, 2],
        DType::Q6K => &[208],
        DType::Q8X => &[0, 4, 8, 12],
        _ => &[0],
    };
    let size = dtype.block_bytes();
    let mut bytes: Vec<u8> = (0..count * size).map(|_| (next() >> 40) as u8).collect();
    let small = half::f16::from_f32(1.0 / 256.0).to_le_bytes();
    for block in bytes.chunks_exact_mut(size) {
        for &at in scales {
            match dtype {
                DType::Q8X => block[at..at + 4].copy_from_slice(&(1f32 / 256.0).to_le_bytes()),
                _ => block[at..at + 2].copy_from_slice(&small),
            }
        }
    }
    bytes
}
