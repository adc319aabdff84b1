//! Functions of single elements.

use crate::dtype::DType;
use crate::op::{Binary, Compare};
use crate::tensor_type::{decode, encode, round_to};

/// Integers keep their low bits in an integer of another width; everything else converts as [`round_to`].
pub fn cast(from: DType, to: DType, v: f64) -> f64 {
    let integer = matches!(from, DType::I32 | DType::U32 | DType::U8 | DType::Bool);
    match to {
        // Every integer value fits an i64.
        DType::I32 if integer => v as i64 as i32 as f64,
        DType::U32 if integer => v as i64 as u32 as f64,
        DType::U8 if integer => v as i64 as u8 as f64,
        _ => round_to(to, v),
    }
}

/// The bits of `v` as its dtype, read as another.
pub fn bitcast(from: DType, to: DType, v: f64) -> f64 {
    decode(to, &encode(from, v))
}

pub fn binary(kind: Binary, dtype: DType, a: f64, b: f64) -> f64 {
    match dtype {
        DType::I32 => signed(kind, a as i32, b as i32) as f64,
        DType::U32 => unsigned(kind, a as u32, b as u32) as f64,
        DType::Bool => {
            let (a, b) = (a != 0.0, b != 0.0);
            let r = match kind {
                Binary::And => a && b,
                Binary::Or => a || b,
                _ => a != b,
            };
            r as u8 as f64
        }
        _ => match kind {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Rem => a % b,
            Binary::Pow => a.powf(b),
            Binary::Max => max(a, b),
            Binary::Min => min(a, b),
            // Inference gives floats no logic and no shifts.
            Binary::And | Binary::Or | Binary::Xor | Binary::Shl | Binary::Shr => f64::NAN,
        },
    }
}

fn signed(kind: Binary, a: i32, b: i32) -> i32 {
    match kind {
        Binary::Div if b == 0 => a,
        Binary::Rem if b == 0 => 0,
        Binary::Div => a.wrapping_div(b),
        Binary::Rem => a.wrapping_rem(b),
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        // The rest has the same bits with and without a sign.
        _ => unsigned(kind, a as u32, b as u32) as i32,
    }
}

fn unsigned(kind: Binary, a: u32, b: u32) -> u32 {
    match kind {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div => a.checked_div(b).unwrap_or(a),
        Binary::Rem => a.checked_rem(b).unwrap_or(0),
        Binary::Max => a.max(b),
        Binary::Min => a.min(b),
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Xor => a ^ b,
        Binary::Shl => a.checked_shl(b).unwrap_or(0),
        Binary::Shr => a.checked_shr(b).unwrap_or(0),
        // Inference gives integers no power.
        Binary::Pow => 0,
    }
}

/// NaN if either is.
pub fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// NaN if either is.
pub fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

pub fn compare(kind: Compare, a: f64, b: f64) -> bool {
    match kind {
        Compare::Eq => a == b,
        Compare::Ne => a != b,
        Compare::Lt => a < b,
        Compare::Le => a <= b,
        Compare::Gt => a > b,
        Compare::Ge => a >= b,
    }
}
