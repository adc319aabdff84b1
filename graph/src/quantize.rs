//! Encoding of ggml's quantized blocks: bit for bit ggml's reference encoder for Q8_0, Q4_0 and Q4_1, and
//! plain nearest rounding to each group's own range for Q4_K and Q6_K.

use half::f16;

use crate::dtype::DType;

/// Encode `values`, whole blocks row-major, in a quantized dtype. Gives `None` when the dtype is dense or the
/// length is not a multiple of its block.
#[must_use]
pub fn quantize(dtype: DType, values: &[f32]) -> Option<Vec<u8>> {
    let encode: fn(&[f32], &mut Vec<u8>) = match dtype {
        DType::Q8_0 => q8_0,
        DType::Q4_0 => q4_0,
        DType::Q4_1 => q4_1,
        DType::Q4K => q4_k,
        DType::Q6K => q6_k,
        DType::Q8X => q8_x,
        _ => return None,
    };
    let len = dtype.block_len();
    if !values.len().is_multiple_of(len) {
        return None;
    }
    let mut blocks = Vec::with_capacity(values.len() / len * dtype.block_bytes());
    values.chunks_exact(len).for_each(|block| encode(block, &mut blocks));
    Some(blocks)
}

/// 1 / x, or 0 where a block is all zeros.
fn inverse(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

fn push_half(out: &mut Vec<u8>, x: f32) {
    out.extend(f16::from_f32(x).to_le_bytes());
}

/// Nibbles of 32 values: the first 16 low, the last 16 high.
fn push_nibbles(out: &mut Vec<u8>, q: impl Fn(f32) -> u8, values: &[f32]) {
    let (low, high) = values.split_at(values.len() / 2);
    out.extend(low.iter().zip(high).map(|(&l, &h)| q(l) | q(h) << 4));
}

/// The value of greatest magnitude, with its sign; the first of equals.
fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, &x| if x.abs() > most.abs() { x } else { most })
}

fn q8_0(values: &[f32], out: &mut Vec<u8>) {
    let scale = extreme(values).abs() / 127.0;
    let inverse = inverse(scale);
    push_half(out, scale);
    out.extend(values.iter().map(|x| (x * inverse).round() as i8 as u8));
}

/// Each half to its own greatest magnitude, without minima.
fn q8_x(values: &[f32], out: &mut Vec<u8>) {
    let scales: Vec<f32> = values.chunks(16).map(|half| extreme(half).abs() / 127.0).collect();
    out.extend(scales.iter().chain(&[0.0; 2]).flat_map(|scale| scale.to_le_bytes()));
    for (half, scale) in values.chunks(16).zip(scales) {
        let inverse = inverse(scale);
        out.extend(half.iter().map(|x| (x * inverse).round() as i8 as u8));
    }
}

fn q4_0(values: &[f32], out: &mut Vec<u8>) {
    let scale = extreme(values) / -8.0;
    let inverse = inverse(scale);
    push_half(out, scale);
    push_nibbles(out, |x| ((x * inverse + 8.5) as u8).min(15), values);
}

fn q4_1(values: &[f32], out: &mut Vec<u8>) {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let scale = (max - min) / 15.0;
    let inverse = inverse(scale);
    push_half(out, scale);
    push_half(out, min);
    push_nibbles(out, |x| (((x - min) * inverse + 0.5) as u8).min(15), values);
}

/// Each group of 32 spans from its minimum (at most 0) to its maximum; scales and minima are rounded to 6
/// bits of the block's greatest, weights to the nearest step of the rounded scale.
fn q4_k(values: &[f32], out: &mut Vec<u8>) {
    let mut scales = [0.0f32; 8];
    let mut minima = [0.0f32; 8];
    for (g, group) in values.chunks_exact(32).enumerate() {
        let min = group.iter().copied().fold(0.0, f32::min);
        let max = group.iter().copied().fold(f32::NEG_INFINITY, f32::max).max(min);
        (scales[g], minima[g]) = ((max - min) / 15.0, -min);
    }
    let sixth = |all: &[f32; 8]| f16::from_f32(all.iter().copied().fold(0.0, f32::max) / 63.0);
    let (d, dmin) = (sixth(&scales), sixth(&minima));
    out.extend(d.to_le_bytes());
    out.extend(dmin.to_le_bytes());
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    let six = |x: f32, unit: f32| (x * inverse(unit)).round().min(63.0) as u8;
    let (s, m) = (scales.map(|x| six(x, d)), minima.map(|x| six(x, dmin)));
    out.extend((0..4).map(|j| s[j] | s[j + 4] >> 4 << 6));
    out.extend((0..4).map(|j| m[j] | m[j + 4] >> 4 << 6));
    out.extend((4..8).map(|j| s[j] & 15 | m[j] << 4));
    for pair in 0..4 {
        let nibble = |g: usize, i: usize| {
            let inverse = inverse(d * f32::from(s[g]));
            ((values[32 * g + i] + dmin * f32::from(m[g])) * inverse).round().clamp(0.0, 15.0) as u8
        };
        out.extend((0..32).map(|i| nibble(2 * pair, i) | nibble(2 * pair + 1, i) << 4));
    }
}

/// Each group of 16 spans 32 steps down from its value of greatest magnitude; scales are rounded to 8 bits of
/// the block's greatest, weights to the nearest step of the rounded scale.
fn q6_k(values: &[f32], out: &mut Vec<u8>) {
    let mut scales = [0.0f32; 16];
    for (scale, group) in scales.iter_mut().zip(values.chunks_exact(16)) {
        *scale = extreme(group) / -32.0;
    }
    let d = f16::from_f32(extreme(&scales) / -128.0);
    let unit = inverse(d.to_f32());
    let s = scales.map(|x| (x * unit).round().clamp(-128.0, 127.0));
    let q = |i: usize| {
        let step = d.to_f32() * s[i / 16];
        ((values[i] * inverse(step)).round().clamp(-32.0, 31.0) + 32.0) as u8
    };
    for half in [0, 128] {
        let run = |r: usize, l: usize| q(half + 32 * r + l);
        out.extend((0..64).map(|l| run(l / 32, l % 32) & 15 | run(l / 32 + 2, l % 32) << 4));
    }
    for half in [0, 128] {
        out.extend((0..32).map(|l| (0..4).fold(0, |bits, r| bits | q(half + 32 * r + l) >> 4 << (2 * r))));
    }
    out.extend(s.map(|x| x as i8 as u8));
    out.extend(d.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dequantize;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks_exact(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    fn floats(hex: &str) -> Vec<f32> {
        bytes(hex).chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    #[test]
    fn blocks_are_those_of_the_gguf_package() {
        let lines = include_str!("quant_golden.txt").lines().filter(|line| !line.starts_with('#'));
        let mut cases = 0;
        for line in lines {
            let [way, dtype, from, to] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let dtype: DType = dtype.parse().unwrap();
            if way == "decode" {
                let wanted = floats(to);
                let mut found = vec![0.0; wanted.len()];
                assert!(dequantize(dtype, &bytes(from), &mut found));
                assert_eq!(found, wanted, "{dtype}");
            } else {
                assert_eq!(quantize(dtype, &floats(from)).unwrap(), bytes(to), "{dtype}");
            }
            cases += 1;
        }
        assert_eq!(cases, 30);
    }

    #[test]
    fn k_quants_stay_within_a_step_of_their_groups_range() {
        let mut seed = 9u32;
        let mut values: Vec<f32> = (0..1024)
            .map(|i| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / (1 << 23) as f32 - 1.0 + (i / 32) as f32 * 0.01
            })
            .collect();
        values[256..512].fill(0.0);
        // The step of a group, and what rounding scales to a fraction of the block's greatest adds.
        for (dtype, group, bound) in [
            (DType::Q4K, 32, 1.0 / 30.0 + 2.0 / 126.0),
            (DType::Q6K, 16, 1.0 / 32.0),
            (DType::Q8X, 16, 1.0 / 254.0),
        ] {
            let blocks = quantize(dtype, &values).unwrap();
            let mut found = vec![0.0; values.len()];
            assert!(dequantize(dtype, &blocks, &mut found));
            for (g, (f, v)) in found.chunks(group).zip(values.chunks(group)).enumerate() {
                let range = values.iter().fold(0.0f32, |m, x| m.max(x.abs())) * 2.0;
                for (f, v) in f.iter().zip(v) {
                    assert!((f - v).abs() <= bound * range, "{dtype} group {g}: {v} became {f}");
                }
            }
            assert!(found[256..512].iter().all(|&x| x == 0.0), "{dtype}: zeros stay zeros");
        }
    }

    #[test]
    fn dense_types_and_partial_blocks_are_refused() {
        assert!(quantize(DType::F32, &[0.0; 32]).is_none());
        assert!(quantize(DType::Q8_0, &[0.0; 33]).is_none());
        assert!(quantize(DType::Q4K, &[0.0; 32]).is_none());
    }
}
