//! Decoding of ggml's quantized blocks. Every product of a scale and an integer is exact in f32; where a
//! minimum is added or subtracted, the sum is rounded once, to f32.

use half::f16;

use crate::dtype::DType;

/// Decode whole blocks of a quantized dtype into `out`, row-major as stored. Gives `false`, and leaves `out`
/// as it is, when the dtype is dense or the lengths do not belong together.
#[must_use]
pub fn dequantize(dtype: DType, blocks: &[u8], out: &mut [f32]) -> bool {
    let decode: fn(&[u8], &mut [f32]) = match dtype {
        DType::Q8_0 => q8_0,
        DType::Q4_0 => q4_0,
        DType::Q4_1 => q4_1,
        DType::Q4K => q4_k,
        DType::Q6K => q6_k,
        DType::Q8X => q8_x,
        _ => return false,
    };
    let (bytes, len) = (dtype.block_bytes(), dtype.block_len());
    if !blocks.len().is_multiple_of(bytes) || blocks.len() / bytes * len != out.len() {
        return false;
    }
    for (block, out) in blocks.chunks_exact(bytes).zip(out.chunks_exact_mut(len)) {
        decode(block, out);
    }
    true
}

fn scale(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// f16 scale, 32 signed bytes.
fn q8_0(block: &[u8], out: &mut [f32]) {
    let d = scale(block, 0);
    for (y, &q) in out.iter_mut().zip(&block[2..]) {
        *y = d * q as i8 as f32;
    }
}

/// f16 scale, 16 bytes: low nibbles are weights 0..16, high nibbles 16..32, each offset by 8.
fn q4_0(block: &[u8], out: &mut [f32]) {
    let d = scale(block, 0);
    for (i, &q) in block[2..].iter().enumerate() {
        out[i] = d * ((q & 15) as f32 - 8.0);
        out[i + 16] = d * ((q >> 4) as f32 - 8.0);
    }
}

/// f16 scale, f16 minimum, nibbles as in Q4_0 without the offset.
fn q4_1(block: &[u8], out: &mut [f32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    for (i, &q) in block[4..].iter().enumerate() {
        out[i] = d * (q & 15) as f32 + m;
        out[i + 16] = d * (q >> 4) as f32 + m;
    }
}

/// The 6-bit scale and minimum of group `j` of a Q4_K block, from its 12 packed bytes: groups 0..4 keep
/// theirs in the low 6 bits of bytes j and j + 4; groups 4..8 have low nibbles in byte j + 4 and their upper
/// 2 bits in the spare bits.
fn q4_k_group(packed: &[u8], j: usize) -> (f32, f32) {
    let (s, m) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    };
    (s as f32, m as f32)
}

/// f16 scale of scales, f16 scale of minima, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles: each
/// run of 32 bytes holds group 2i in its low and group 2i + 1 in its high nibbles.
fn q4_k(block: &[u8], out: &mut [f32]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    let packed = &block[4..16];
    for (i, (bytes, out)) in block[16..].chunks_exact(32).zip(out.chunks_exact_mut(64)).enumerate() {
        let (low, high) = (q4_k_group(packed, 2 * i), q4_k_group(packed, 2 * i + 1));
        for (l, &q) in bytes.iter().enumerate() {
            out[l] = d * low.0 * (q & 15) as f32 - dmin * low.1;
            out[l + 32] = d * high.0 * (q >> 4) as f32 - dmin * high.1;
        }
    }
}

/// 128 bytes of low nibbles, 64 bytes of upper 2 bits, 16 signed scales, f16 scale of scales. Each half of
/// 128 weights is four runs of 32; run r takes nibbles from byte l (r even) or l + 32 (r odd), the high ones
/// for r >= 2.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let d = scale(block, 208);
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        let (ql, qh) = (&block[64 * half..], &block[128 + 32 * half..]);
        let scales = &block[192 + 8 * half..];
        for (i, y) in out.iter_mut().enumerate() {
            let (r, l) = (i / 32, i % 32);
            let low = ql[l + 32 * (r % 2)] >> (4 * (r / 2)) & 15;
            let q = (low | (qh[l] >> (2 * r) & 3) << 4) as f32 - 32.0;
            *y = d * scales[i / 16] as i8 as f32 * q;
        }
    }
}

/// Two f32 scales, two f32 minima, 32 signed bytes, of which the first sixteen go with the first scale and
/// minimum.
fn q8_x(block: &[u8], out: &mut [f32]) {
    let float = |i: usize| f32::from_le_bytes([block[i], block[i + 1], block[i + 2], block[i + 3]]);
    for (i, (y, &q)) in out.iter_mut().zip(&block[16..]).enumerate() {
        *y = float(i / 16 * 4) * q as i8 as f32 + float(8 + i / 16 * 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(dtype: DType, block: &[u8]) -> Vec<f32> {
        let mut out = vec![0.0; dtype.block_len()];
        assert!(dequantize(dtype, block, &mut out));
        out
    }

    fn half(v: f32) -> [u8; 2] {
        f16::from_f32(v).to_le_bytes()
    }

    #[test]
    fn blocks_of_32_by_hand() {
        let mut b = half(0.5).to_vec();
        b.extend((0..32u8).map(|i| (i as i8 - 16) as u8));
        let y = decoded(DType::Q8_0, &b);
        assert_eq!((y[0], y[16], y[31]), (-8.0, 0.0, 7.5));

        let mut b = half(2.0).to_vec();
        b.extend((0..16u8).map(|i| i | (15 - i) << 4));
        let y = decoded(DType::Q4_0, &b);
        assert_eq!((y[0], y[15], y[16], y[31]), (-16.0, 14.0, 14.0, -16.0));

        let mut b = [half(2.0), half(-1.0)].concat();
        b.extend((0..16u8).map(|i| i | (15 - i) << 4));
        let y = decoded(DType::Q4_1, &b);
        assert_eq!((y[0], y[15], y[16], y[31]), (-1.0, 29.0, 29.0, -1.0));
    }

    #[test]
    fn q4_k_by_hand() {
        let mut b = [half(1.0), half(0.5)].concat();
        // Group 1: scale 3, minimum 2. Group 5: scale 0b11_0101 = 53, minimum 0b10_0110 = 38.
        let mut packed = [0u8; 12];
        packed[1] = 3 | 0b11 << 6;
        packed[5] = 2 | 0b10 << 6;
        packed[9] = 0b0101 | 0b0110 << 4;
        b.extend(packed);
        let mut q = [0u8; 128];
        q[7] = 0x9 << 4; // group 1, weight 7
        q[64 + 30] = 0x4 << 4; // group 5, weight 30
        b.extend(q);
        let y = decoded(DType::Q4K, &b);
        assert_eq!(y[32 + 7], 3.0 * 9.0 - 0.5 * 2.0);
        assert_eq!(y[160 + 30], 53.0 * 4.0 - 0.5 * 38.0);
        assert_eq!((y[0], y[32], y[160]), (0.0, -1.0, -19.0));
    }

    #[test]
    fn q6_k_by_hand() {
        let mut b = [0u8; 210];
        b[208..].copy_from_slice(&half(0.25));
        for i in 0..16 {
            b[192 + i] = (i as i8 - 8) as u8;
        }
        // Weight 128 + 96 + 5: second half, run 3: high nibble of ql[64 + 5 + 32], bits 6..8 of qh[32 + 5].
        b[64 + 5 + 32] = 0xA << 4;
        b[128 + 32 + 5] = 0b10 << 6;
        let y = decoded(DType::Q6K, &b);
        let scale = (8 + (96 + 5) / 16) as f32 - 8.0;
        assert_eq!(y[128 + 96 + 5], 0.25 * scale * (0x2A as f32 - 32.0));
        assert_eq!(y[0], 0.25 * -8.0 * -32.0);
        assert_eq!(y[17], 0.25 * -7.0 * -32.0);
    }

    #[test]
    fn q8_x_by_hand() {
        let mut b: Vec<u8> = [0.5f32, 3.0, -1.0, 0.25].into_iter().flat_map(f32::to_le_bytes).collect();
        b.extend((0..32u8).map(|i| (i as i8 - 16) as u8));
        let y = decoded(DType::Q8X, &b);
        assert_eq!((y[0], y[15], y[16], y[31]), (-9.0, -1.5, 0.25, 45.25));
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let mut out = vec![7.0; 32];
        assert!(!dequantize(DType::Q8_0, &[0; 33], &mut out));
        assert!(!dequantize(DType::Q8_0, &[0; 68], &mut out));
        assert!(!dequantize(DType::F32, &[0; 128], &mut out));
        assert!(out.iter().all(|&v| v == 7.0));
    }
}
