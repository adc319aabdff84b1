//! Values that tests feed to operations, the same on every machine.

use percept_graph::{DType, HostTensor, TensorType, round_to};

use super::tolerance::{coarser, format_of};

/// What a tensor is filled with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// Around 0 with deviation 1; integers from -1000 to 1000; 0 and 1 for bool; any byte for u8.
    Normal,
    /// From 0.1 to 3.
    Positive,
    /// Normally distributed values, times this factor.
    Scaled(f64),
    /// Normal with infinities, NaN and both zeros among it.
    Special,
    /// Both signs of every magnitude up to the dtype's greatest; integers at their limits.
    Huge,
    /// Subnormal and the least normal values.
    Denormal,
    /// Whole numbers from `low` to below `high`.
    Between(i64, i64),
    /// The same value everywhere.
    All(f64),
}

/// SplitMix64 (Steele, Lea and Flood 2014).
pub struct Random(u64);

impl Random {
    /// A sequence for a name: the seed is its FNV-1a hash.
    pub fn named(name: &str) -> Self {
        Self(name.bytes().fold(0xcbf29ce484222325, |h, b| (h ^ b as u64).wrapping_mul(0x100000001b3)))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d049bb133111eb);
        z ^ z >> 31
    }

    /// A uniformly distributed number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * 2f64.powi(-53)
    }

    /// Mean 0, deviation 1, within 3.5: the sum of four uniforms, scaled.
    pub fn normal(&mut self) -> f64 {
        let sum: f64 = (0..4).map(|_| self.uniform()).sum();
        (sum - 2.0) * 3f64.sqrt()
    }

    fn below(&mut self, n: u64) -> u64 {
        self.bits() % n.max(1)
    }

    fn one(&mut self, dtype: DType, fill: Fill, i: usize) -> f64 {
        let (low, high) = limits(dtype);
        match fill {
            Fill::All(v) => v,
            Fill::Between(a, b) => (a + self.below((b - a).max(1) as u64) as i64) as f64,
            _ if dtype == DType::Bool => self.below(2) as f64,
            _ if dtype == DType::U8 => self.below(256) as f64,
            Fill::Huge if dtype.is_int() => match i % 7 {
                0 => low,
                1 => high,
                2 => high - 1.0,
                3 => low.min(-1.0).max(low),
                4 => 0.0,
                5 => 1.0,
                _ => low + self.below((high - low) as u64) as f64,
            },
            _ if dtype == DType::I32 => self.below(2001) as f64 - 1000.0,
            _ if dtype == DType::U32 => self.below(2001) as f64,
            Fill::Normal => self.normal(),
            Fill::Positive => 0.1 + 2.9 * self.uniform(),
            Fill::Scaled(s) => s * self.normal(),
            Fill::Special => match i % 11 {
                3 => f64::NAN,
                5 => f64::NEG_INFINITY,
                7 => f64::INFINITY,
                8 => -0.0,
                9 => 0.0,
                _ => self.normal(),
            },
            Fill::Huge => {
                let exponents = if dtype == DType::F16 { 15.0 } else { 127.0 };
                let sign = if self.below(2) == 0 { 1.0 } else { -1.0 };
                sign * 2f64.powf(exponents * (1.0 - self.uniform() * self.uniform()))
            }
            Fill::Denormal => {
                let (fraction, least) = format_of(dtype);
                let steps = self.below(1 << (fraction + 1)) as f64 - 2f64.powi(fraction);
                steps * 2f64.powi(least - fraction)
            }
        }
    }

    /// A tensor of a dense dtype, or blocks of a quantized one.
    pub fn tensor(&mut self, ty: &TensorType, fill: Fill) -> HostTensor {
        if ty.dtype.is_quantized() {
            return self.blocks(ty);
        }
        let values: Vec<f64> = (0..ty.numel()).map(|i| self.one(ty.dtype, fill, i)).collect();
        HostTensor::from_f64(ty.clone(), &values).unwrap_or_else(|_| empty(ty.dtype))
    }

    /// Random blocks: any bits for the integers, scales of ordinary size with the digits of an f16.
    fn blocks(&mut self, ty: &TensorType) -> HostTensor {
        let scales: &[usize] = match ty.dtype {
            DType::Q4_1 | DType::Q4K => &[0, 2],
            DType::Q6K => &[208],
            DType::Q8X => &[0, 4, 8, 12],
            _ => &[0],
        };
        let mut bytes: Vec<u8> = (0..ty.bytes()).map(|_| self.bits() as u8).collect();
        for block in bytes.chunks_exact_mut(ty.dtype.block_bytes()) {
            for &at in scales {
                let scale = half::f16::from_f64(round_to(DType::F16, 0.02 * self.normal()));
                match ty.dtype {
                    DType::Q8X => block[at..at + 4].copy_from_slice(&scale.to_f32().to_le_bytes()),
                    _ => block[at..at + 2].copy_from_slice(&scale.to_le_bytes()),
                }
            }
        }
        HostTensor::new(ty.clone(), bytes).unwrap_or_else(|_| empty(DType::F32))
    }
}

/// A tensor without elements, which always exists.
fn empty(dtype: DType) -> HostTensor {
    match HostTensor::from_f64(TensorType::new(dtype, [0]), &[]) {
        Ok(t) => t,
        Err(e) => unreachable!("no values fill no elements: {e}"),
    }
}

fn limits(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::I32 => (i32::MIN as f64, i32::MAX as f64),
        DType::U32 => (0.0, u32::MAX as f64),
        _ => (0.0, 0.0),
    }
}

/// The tensor as a device holds it that computes in a dtype.
pub fn held_in(t: &HostTensor, computes_in: DType) -> HostTensor {
    let ty = t.ty();
    if coarser(ty.dtype, computes_in).is_none() {
        return t.clone();
    }
    let values: Vec<f64> = t.values().into_iter().map(|v| round_to(computes_in, v)).collect();
    HostTensor::from_f64(ty.clone(), &values).unwrap_or_else(|_| t.clone())
}

/// The tensor with subnormals replaced by zeros of their sign.
pub fn flushed(t: &HostTensor) -> HostTensor {
    let ty = t.ty();
    if !ty.dtype.is_float() {
        return t.clone();
    }
    let least = 2f64.powi(format_of(ty.dtype).1);
    let values: Vec<f64> =
        t.values().into_iter().map(|v| if v.abs() < least { 0f64.copysign(v) } else { v }).collect();
    HostTensor::from_f64(ty.clone(), &values).unwrap_or_else(|_| t.clone())
}
