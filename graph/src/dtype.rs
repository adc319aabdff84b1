//! Element types, dense and block-quantized.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The element type of a tensor.
///
/// The quantized types use ggml's block layouts, all but the last: a row of the last dimension is a whole
/// number of blocks, and each block holds its scales beside its packed integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// Two's complement, wrapping.
    I32,
    /// Unsigned, wrapping.
    U32,
    /// A byte; stored, cast, compared and moved, not computed with.
    U8,
    /// One byte, 0 or 1.
    Bool,
    /// 32 weights: f16 scale, 32 signed bytes.
    Q8_0,
    /// 32 weights: f16 scale, 32 nibbles offset by 8.
    Q4_0,
    /// 32 weights: f16 scale, f16 minimum, 32 nibbles.
    Q4_1,
    /// 256 weights in 8 groups: two f16 super-scales, 6-bit scales and minima, 256 nibbles.
    #[serde(rename = "q4_k")]
    Q4K,
    /// 256 weights in 16 groups: 6-bit weights, signed 8-bit scales, f16 super-scale.
    #[serde(rename = "q6_k")]
    Q6K,
    /// 32 weights in 2 groups: f32 scales, f32 minima, 32 signed bytes. None of ggml's formats: what weights
    /// of formats without a type of their own are held in, to the bit.
    #[serde(rename = "q8_x")]
    Q8X,
}

impl DType {
    /// Every element type.
    pub const ALL: [DType; 13] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::I32,
        DType::U32,
        DType::U8,
        DType::Bool,
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q4K,
        DType::Q6K,
        DType::Q8X,
    ];

    /// The name used in text graphs and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::U8 => "u8",
            DType::Bool => "bool",
            DType::Q8_0 => "q8_0",
            DType::Q4_0 => "q4_0",
            DType::Q4_1 => "q4_1",
            DType::Q4K => "q4_k",
            DType::Q6K => "q6_k",
            DType::Q8X => "q8_x",
        }
    }

    /// Elements in one storage block: 1 for dense types.
    pub const fn block_len(self) -> usize {
        match self {
            DType::Q8_0 | DType::Q4_0 | DType::Q4_1 | DType::Q8X => 32,
            DType::Q4K | DType::Q6K => 256,
            _ => 1,
        }
    }

    /// Bytes of one storage block; for dense types, of one element.
    pub const fn block_bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::U8 | DType::Bool => 1,
            DType::Q8_0 => 34,
            DType::Q4_0 => 18,
            DType::Q4_1 => 20,
            DType::Q4K => 144,
            DType::Q6K => 210,
            DType::Q8X => 48,
        }
    }

    /// f32, f16 or bf16.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16)
    }

    /// i32 or u32: the integers that arithmetic is defined on.
    pub const fn is_int(self) -> bool {
        matches!(self, DType::I32 | DType::U32)
    }

    /// One of the block-quantized types.
    pub const fn is_quantized(self) -> bool {
        self.block_len() > 1
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A dtype name that is not one of [`DType::ALL`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("unknown dtype '{0}'; known: f32 f16 bf16 i32 u32 u8 bool q8_0 q4_0 q4_1 q4_k q6_k q8_x")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    fn from_str(s: &str) -> Result<Self, UnknownDType> {
        DType::ALL.into_iter().find(|d| d.name() == s).ok_or_else(|| UnknownDType(s.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_agree_with_serde() {
        for d in DType::ALL {
            assert_eq!(d.name().parse::<DType>().unwrap(), d);
            assert_eq!(ron::to_string(&d).unwrap(), d.name());
        }
        assert!("f33".parse::<DType>().unwrap_err().to_string().contains("f33"));
    }
}
