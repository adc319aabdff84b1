//! ggml's quantized blocks as plain arrays: codes, scales and offsets of groups.
//!
//! A weight is `scale * (code - zero) + offset`, with one scale and one offset for each group of neighbours.

use half::f16;
use percept_graph::DType;

/// How a quantized dtype is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// Bits of a code: 4 or 8.
    pub bits: usize,
    /// Weights with one scale.
    pub group: usize,
    /// The code that stands for 0 before the offset.
    pub zero: u8,
    /// There are offsets.
    pub offsets: bool,
}

/// The scheme of a quantized dtype; `None` for a dense one.
pub fn scheme(dtype: DType) -> Option<Scheme> {
    let of = |bits, group, zero, offsets| Some(Scheme { bits, group, zero, offsets });
    match dtype {
        DType::Q8_0 => of(8, 32, 128, false),
        DType::Q4_0 => of(4, 32, 8, false),
        DType::Q4_1 | DType::Q4K => of(4, 32, 0, true),
        DType::Q6K => of(8, 16, 128, false),
        DType::Q8X => of(8, 16, 128, true),
        _ => None,
    }
}

/// Blocks taken apart, in row-major order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Parts {
    /// A byte for each weight.
    pub codes: Vec<u8>,
    /// A scale for each group.
    pub scales: Vec<f32>,
    /// An offset for each group; empty when the scheme has none.
    pub offsets: Vec<f32>,
}

/// Take whole blocks apart; nothing when the dtype is dense.
pub fn take_apart(dtype: DType, blocks: &[u8]) -> Parts {
    let mut parts = Parts::default();
    let take: fn(&[u8], &mut Parts) = match dtype {
        DType::Q8_0 => q8_0,
        DType::Q4_0 => q4_0,
        DType::Q4_1 => q4_1,
        DType::Q4K => q4_k,
        DType::Q6K => q6_k,
        DType::Q8X => q8_x,
        _ => return parts,
    };
    blocks.chunks_exact(dtype.block_bytes()).for_each(|block| take(block, &mut parts));
    parts
}

impl Parts {
    /// The low or high 4 bits of every code as MatMulNBits packs them: two to a byte, the earlier one low.
    pub fn packed(&self, high: bool) -> Vec<u8> {
        let shift = if high { 4 } else { 0 };
        self.codes.chunks_exact(2).map(|c| c[0] >> shift & 15 | (c[1] >> shift & 15) << 4).collect()
    }

    /// Offsets for codes counted from the middle of their range, MatMulNBits' own zero.
    pub fn centred(&self, scheme: Scheme) -> Vec<f32> {
        let shift = (1 << (scheme.bits - 1)) as f32 - scheme.zero as f32;
        self.offsets.iter().zip(&self.scales).map(|(o, s)| o + shift * s).collect()
    }
}

/// The transpose of a row-major matrix with this many columns.
pub fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// 16 bytes: low nibbles are weights 0 to 15, high ones 16 to 31.
fn nibbles(bytes: &[u8], codes: &mut Vec<u8>) {
    codes.extend(bytes.iter().map(|b| b & 15));
    codes.extend(bytes.iter().map(|b| b >> 4));
}

fn q8_0(block: &[u8], parts: &mut Parts) {
    parts.scales.push(half(block, 0));
    parts.codes.extend(block[2..].iter().map(|q| q ^ 0x80));
}

fn q4_0(block: &[u8], parts: &mut Parts) {
    parts.scales.push(half(block, 0));
    nibbles(&block[2..], &mut parts.codes);
}

fn q4_1(block: &[u8], parts: &mut Parts) {
    parts.scales.push(half(block, 0));
    parts.offsets.push(half(block, 2));
    nibbles(&block[4..], &mut parts.codes);
}

/// Super-scales, then 12 bytes of 6-bit scales and minima, then nibbles: each run of 32 bytes holds group 2i
/// low and group 2i + 1 high.
fn q4_k(block: &[u8], parts: &mut Parts) {
    let (d, dmin) = (half(block, 0), half(block, 2));
    let packed = &block[4..16];
    for j in 0..8 {
        let (scale, minimum) = if j < 4 {
            (packed[j] & 63, packed[j + 4] & 63)
        } else {
            (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
        };
        parts.scales.push(d * scale as f32);
        parts.offsets.push(-(dmin * minimum as f32));
    }
    block[16..].chunks_exact(32).for_each(|bytes| nibbles(bytes, &mut parts.codes));
}

/// 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, the super-scale.
fn q6_k(block: &[u8], parts: &mut Parts) {
    let d = half(block, 208);
    parts.scales.extend(block[192..208].iter().map(|&s| d * s as i8 as f32));
    for part in 0..2 {
        let (low, high) = (&block[64 * part..], &block[128 + 32 * part..]);
        for i in 0..128 {
            let (run, l) = (i / 32, i % 32);
            let nibble = low[l + 32 * (run % 2)] >> (4 * (run / 2)) & 15;
            let pair = high[l] >> (2 * run) & 3;
            // Counted from 32 in the block, from 128 here.
            parts.codes.push((nibble | pair << 4) + 96);
        }
    }
}

fn q8_x(block: &[u8], parts: &mut Parts) {
    let float = |i: usize| f32::from_le_bytes([block[i], block[i + 1], block[i + 2], block[i + 3]]);
    parts.scales.extend([float(0), float(4)]);
    parts.offsets.extend([float(8), float(12)]);
    parts.codes.extend(block[16..].iter().map(|q| q ^ 0x80));
}

#[cfg(test)]
mod tests {
    use percept_graph::dequantize;

    use super::*;

    /// The decoder of the graph is the oracle: its own tests hold it to blocks worked out by hand.
    #[test]
    fn parts_give_the_weights_of_the_blocks() {
        for dtype in DType::ALL.into_iter().filter(|d| d.is_quantized()) {
            let scheme = scheme(dtype).unwrap();
            let mut bytes: Vec<u8> = (0..3 * dtype.block_bytes()).map(|i| (i * 89 + i / 7) as u8).collect();
            let scales: &[usize] = match dtype {
                DType::Q4_1 | DType::Q4K => &[0, 2],
                DType::Q6K => &[208],
                DType::Q8X => &[],
                _ => &[0],
            };
            for (i, block) in bytes.chunks_exact_mut(dtype.block_bytes()).enumerate() {
                for &at in scales {
                    let scale = f16::from_f32(0.01 * (i + at + 1) as f32);
                    block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
                }
                if dtype == DType::Q8X {
                    for at in 0..4 {
                        block[4 * at..4 * at + 4].copy_from_slice(&(0.03 * (at + i) as f32).to_le_bytes());
                    }
                }
            }
            let mut want = vec![0.0; 3 * dtype.block_len()];
            assert!(dequantize(dtype, &bytes, &mut want));
            let parts = take_apart(dtype, &bytes);
            let centre = (1 << (scheme.bits - 1)) as f32;
            let centred = parts.centred(scheme);
            let (low, high) = (parts.packed(false), parts.packed(true));
            for (i, w) in want.iter().enumerate() {
                let (g, code) = (i / scheme.group, parts.codes[i] as f32);
                let offset = parts.offsets.get(g).copied().unwrap_or(0.0);
                assert_eq!(parts.scales[g] * (code - scheme.zero as f32) + offset, *w, "{dtype} {i}");
                let offset = centred.get(g).copied().unwrap_or(0.0);
                let near = parts.scales[g] * (code - centre) + offset;
                let nibble = |packed: &[u8]| packed[i / 2] >> (4 * (i % 2)) & 15;
                assert_eq!(16 * nibble(&high) + nibble(&low), parts.codes[i], "{dtype} {i}");
                assert!((near - w).abs() <= 1e-5 * (1.0 + w.abs()), "{dtype} {i}: {near} for {w}");
            }
        }
    }
}
