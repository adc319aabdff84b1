//! Block formats of ggml's that no dtype of the graph has. Their weights become those of a dtype that holds
//! each value to the bit: the products and sums are the ones that gguf-py computes, in the same order.

use half::f16;
use percept_graph::DType;

/// A block format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub(crate) enum Packing {
    Q5_0,
    Q5_1,
    Q2_K,
    Q3_K,
    Q5_K,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
}

/// The four-bit values of IQ4_NL and IQ4_XS.
const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// The four-bit floats of MXFP4 and NVFP4, twice their value.
const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

impl Packing {
    /// Every format with ggml's number of it.
    pub const ALL: [(Packing, u32); 11] = [
        (Packing::Q5_0, 6),
        (Packing::Q5_1, 7),
        (Packing::Q2_K, 10),
        (Packing::Q3_K, 11),
        (Packing::Q5_K, 13),
        (Packing::IQ4_NL, 20),
        (Packing::IQ4_XS, 23),
        (Packing::TQ1_0, 34),
        (Packing::TQ2_0, 35),
        (Packing::MXFP4, 39),
        (Packing::NVFP4, 40),
    ];

    /// Weights of a block.
    pub fn block_len(self) -> usize {
        match self {
            Packing::Q5_0 | Packing::Q5_1 | Packing::IQ4_NL | Packing::MXFP4 => 32,
            Packing::NVFP4 => 64,
            _ => 256,
        }
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Packing::Q5_0 => 22,
            Packing::Q5_1 => 24,
            Packing::Q2_K => 84,
            Packing::Q3_K => 110,
            Packing::Q5_K => 176,
            Packing::IQ4_NL => 18,
            Packing::IQ4_XS => 136,
            Packing::TQ1_0 => 54,
            Packing::TQ2_0 => 66,
            Packing::MXFP4 => 17,
            Packing::NVFP4 => 36,
        }
    }

    /// The dtype that holds the weights.
    pub fn held_in(self) -> DType {
        match self {
            Packing::Q5_0 | Packing::IQ4_NL => DType::Q8_0,
            Packing::Q3_K => DType::Q6K,
            _ => DType::Q8X,
        }
    }

    /// Appends the blocks of [`Packing::held_in`] that hold the weights of one block.
    pub fn hold(self, block: &[u8], out: &mut Vec<u8>) {
        match self {
            Packing::Q5_0 => {
                out.extend(&block[..2]);
                out.extend(fives(&block[2..]).map(|q| q.wrapping_sub(16)));
            }
            Packing::Q5_1 => {
                let (d, m) = (half(block, 0), half(block, 2));
                let q: [u8; 32] = std::array::from_fn(|i| five(&block[4..], i));
                push(out, [(d, m); 2], &q.map(|q| q as i8));
            }
            Packing::Q2_K => {
                let (d, least) = (half(block, 80), half(block, 82));
                for g in 0..8 {
                    let line = |s: u8| (d * f32::from(s & 15), -(least * f32::from(s >> 4)));
                    // A pair of groups of sixteen is two bits of 32 bytes; four pairs share the bytes.
                    let bytes = &block[16 + g / 4 * 32..][..32];
                    let q: [i8; 32] = std::array::from_fn(|i| (bytes[i] >> (g % 4 * 2) & 3) as i8);
                    push(out, [line(block[2 * g]), line(block[2 * g + 1])], &q);
                }
            }
            Packing::Q3_K => q3_k(block, out),
            Packing::Q5_K => {
                let (d, least) = (half(block, 0), half(block, 2));
                let packed = &block[4..16];
                for g in 0..8 {
                    // As in Q4_K.
                    let (s, m) = match g {
                        0..4 => (packed[g] & 63, packed[g + 4] & 63),
                        _ => (
                            packed[g + 4] & 15 | packed[g - 4] >> 6 << 4,
                            packed[g + 4] >> 4 | packed[g] >> 6 << 4,
                        ),
                    };
                    let (high, low) = (&block[16..48], &block[48 + g / 2 * 32..][..32]);
                    let q: [i8; 32] =
                        std::array::from_fn(|i| (low[i] >> (g % 2 * 4) & 15 | (high[i] >> g & 1) << 4) as i8);
                    push(out, [(d * f32::from(s), -(least * f32::from(m))); 2], &q);
                }
            }
            Packing::IQ4_NL => {
                out.extend(&block[..2]);
                out.extend((0..32).map(|i| IQ4[nibble(&block[2..], i)] as u8));
            }
            Packing::IQ4_XS => {
                let d = half(block, 0);
                let high = u16::from_le_bytes([block[2], block[3]]);
                for g in 0..8 {
                    let scale = block[4 + g / 2] >> (g % 2 * 4) & 15 | ((high >> (2 * g) & 3) as u8) << 4;
                    let q = std::array::from_fn(|i| IQ4[nibble(&block[8 + 16 * g..], i)]);
                    push(out, [(d * (f32::from(scale) - 32.0), NONE); 2], &q);
                }
            }
            Packing::TQ1_0 => {
                let d = half(block, 52);
                // Five digits of base three to a byte, and four in the last four.
                let digit =
                    |byte: u8, n: u32| (((u16::from(byte.wrapping_mul(3u8.pow(n))) * 3) >> 8) as i8) - 1;
                let q: [i8; 256] = std::array::from_fn(|i| match i {
                    0..160 => digit(block[i % 32], i as u32 / 32),
                    160..240 => digit(block[32 + (i - 160) % 16], (i as u32 - 160) / 16),
                    _ => digit(block[48 + (i - 240) % 4], (i as u32 - 240) / 4),
                });
                q.as_chunks::<32>().0.iter().for_each(|q| push(out, [(d, NONE); 2], q));
            }
            Packing::TQ2_0 => {
                let d = half(block, 64);
                for g in 0..8 {
                    let bytes = &block[g / 4 * 32..][..32];
                    let q = std::array::from_fn(|i| (bytes[i] >> (g % 4 * 2) & 3) as i8 - 1);
                    push(out, [(d, NONE); 2], &q);
                }
            }
            Packing::MXFP4 => {
                // Half a power of two: the values are twice theirs.
                let bits = if block[0] < 2 { 0x20_0000 << block[0] } else { u32::from(block[0] - 1) << 23 };
                let q = std::array::from_fn(|i| FP4[nibble(&block[1..], i)]);
                push(out, [(f32::from_bits(bits), NONE); 2], &q);
            }
            Packing::NVFP4 => {
                for pair in 0..2 {
                    let at = |g: usize| &block[4 + 8 * (2 * pair + g)..][..8];
                    let scale = |g: usize| (e4m3_half(block[2 * pair + g]), NONE);
                    let value = |i: usize| at(i / 16)[i % 8] >> (i % 16 / 8 * 4) & 15;
                    push(out, [scale(0), scale(1)], &std::array::from_fn(|i| FP4[usize::from(value(i))]));
                }
            }
        }
    }
}

/// No minimum: added to either zero this leaves its sign.
const NONE: f32 = -0.0;

fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// One block of Q8X: a scale and a minimum for each half.
fn push(out: &mut Vec<u8>, [a, b]: [(f32, f32); 2], q: &[i8; 32]) {
    out.extend([a.0, b.0, a.1, b.1].iter().flat_map(|v| v.to_le_bytes()));
    out.extend(q.iter().map(|q| *q as u8));
}

/// Number `i` of 32 nibbles: the low ones of sixteen bytes come first.
fn nibble(bytes: &[u8], i: usize) -> usize {
    usize::from(bytes[i % 16] >> (i / 16 * 4) & 15)
}

/// Number `i` of 32 weights of five bits: a word of upper bits, then nibbles.
fn five(bytes: &[u8], i: usize) -> u8 {
    nibble(&bytes[4..], i) as u8 | (bytes[i / 8] >> (i % 8) & 1) << 4
}

fn fives(bytes: &[u8]) -> impl Iterator<Item = u8> {
    (0..32).map(|i| five(bytes, i))
}

/// An unsigned E4M3 float, halved as the values that it scales are doubled.
fn e4m3_half(x: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(x >> 3 & 15), f32::from(x & 7));
    match (x, exponent) {
        (0 | 0x7f, _) => 0.0,
        (_, 0) => mantissa * 2f32.powi(-10),
        _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent - 8),
    }
}

/// 32 bytes of upper bits, 64 of lower pairs, 12 of 6-bit scales and an f16, as a block of Q6_K: three bits
/// and six-bit scales have room in its six and eight.
fn q3_k(block: &[u8], out: &mut Vec<u8>) {
    let (masks, pairs, scales) = (&block[..32], &block[32..96], &block[96..108]);
    let weight = |i: usize| {
        let (half, run, l) = (i / 128, i % 128 / 32, i % 32);
        let low = pairs[32 * half + l] >> (2 * run) & 3;
        let minus = if masks[l] >> (4 * half + run) & 1 == 1 { 0 } else { 4 };
        // Q6_K's own offset.
        low + 32 - minus
    };
    let (mut low, mut high) = ([0u8; 128], [0u8; 64]);
    for i in 0..256 {
        let (half, run, l, q) = (i / 128, i % 128 / 32, i % 32, weight(i));
        low[64 * half + l + 32 * (run % 2)] |= (q & 15) << (4 * (run / 2));
        high[32 * half + l] |= q >> 4 << (2 * run);
    }
    out.extend(low);
    out.extend(high);
    for g in 0..16 {
        let (low, high) = (scales[g % 8] >> (g / 8 * 4) & 15, scales[8 + g % 4] >> (g / 4 * 2) & 3);
        out.push((low | high << 4).wrapping_sub(32));
    }
    out.extend(&block[108..110]);
}
