//! Tensor types and literal values.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use half::{bf16, f16};
use serde::{Deserialize, Serialize, de, ser};

use crate::dtype::DType;

/// The dtype and static shape of a value; dense row-major, the last dimension fastest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extent of each dimension; empty for a scalar.
    pub dims: Vec<usize>,
}

impl TensorType {
    /// A type from its parts.
    pub fn new(dtype: DType, dims: impl Into<Vec<usize>>) -> Self {
        Self { dtype, dims: dims.into() }
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Number of elements; saturates instead of overflowing, so that a hostile shape fails the size check
    /// after it.
    pub fn numel(&self) -> usize {
        if self.dims.contains(&0) { 0 } else { self.dims.iter().fold(1, |a, &d| a.saturating_mul(d)) }
    }

    /// Bytes of the dense row-major form.
    pub fn bytes(&self) -> usize {
        (self.numel() / self.dtype.block_len()).saturating_mul(self.dtype.block_bytes())
    }

    /// Row-major strides in elements.
    pub fn strides(&self) -> Vec<usize> {
        let mut s = vec![1usize; self.rank()];
        for i in (0..self.rank().saturating_sub(1)).rev() {
            s[i] = s[i + 1].saturating_mul(self.dims[i + 1]);
        }
        s
    }

    /// The same shape with another dtype.
    pub fn with_dtype(&self, dtype: DType) -> Self {
        Self { dtype, dims: self.dims.clone() }
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[", self.dtype)?;
        for (i, d) in self.dims.iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { "," } else { "" })?;
        }
        f.write_str("]")
    }
}

/// Text that is not a tensor type such as `f32[2,3]`.
#[derive(Debug, Clone, thiserror::Error)]
#[error("'{text}' is not a tensor type like f32[2,3]: {why}")]
pub struct BadTensorType {
    text: String,
    why: String,
}

impl FromStr for TensorType {
    type Err = BadTensorType;

    fn from_str(s: &str) -> Result<Self, BadTensorType> {
        let bad = |why: String| BadTensorType { text: s.to_string(), why };
        let (name, rest) = s.split_once('[').ok_or_else(|| bad("no '['".into()))?;
        let inner = rest.strip_suffix(']').ok_or_else(|| bad("no closing ']'".into()))?;
        let dtype = name.trim().parse::<DType>().map_err(|e| bad(e.to_string()))?;
        let dims = if inner.trim().is_empty() {
            Vec::new()
        } else {
            let parse = |d: &str| d.trim().parse::<usize>().map_err(|e| bad(format!("dimension '{d}': {e}")));
            inner.split(',').map(parse).collect::<Result<_, _>>()?
        };
        Ok(Self { dtype, dims })
    }
}

impl Serialize for TensorType {
    fn serialize<S: ser::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TensorType {
    fn deserialize<D: de::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// A constant: one value everywhere, or dense little-endian bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Literal {
    /// Type of the constant; never quantized.
    pub ty: TensorType,
    /// Its values.
    pub data: LiteralData,
}

/// The values of a [`Literal`].
#[derive(Debug, Clone, PartialEq)]
pub enum LiteralData {
    /// The same value in every element; every dtype's values are exact in f64.
    Splat(f64),
    /// Row-major little-endian elements, `ty.bytes()` long.
    Dense(Arc<[u8]>),
}

impl Literal {
    /// A constant whose elements all have `value`, rounded to the dtype.
    pub fn splat(ty: TensorType, value: f64) -> Self {
        let value = decode(ty.dtype, &encode(ty.dtype, value));
        Self { ty, data: LiteralData::Splat(value) }
    }

    /// A constant from values in row-major order, each rounded to the dtype; `None` when the count differs.
    pub fn dense(ty: TensorType, values: &[f64]) -> Option<Self> {
        if values.len() != ty.numel() || ty.dtype.is_quantized() {
            return None;
        }
        let bytes: Vec<u8> = values.iter().flat_map(|&v| encode(ty.dtype, v)).collect();
        Some(Self { ty, data: LiteralData::Dense(bytes.into()) })
    }

    /// Every element in row-major order.
    pub fn values(&self) -> Vec<f64> {
        match &self.data {
            LiteralData::Splat(v) => vec![*v; self.ty.numel()],
            LiteralData::Dense(b) => {
                b.chunks_exact(self.ty.dtype.block_bytes()).map(|c| decode(self.ty.dtype, c)).collect()
            }
        }
    }

    /// The dense little-endian bytes, `ty.bytes()` long.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.data {
            LiteralData::Splat(v) => encode(self.ty.dtype, *v).repeat(self.ty.numel()),
            LiteralData::Dense(b) => b.to_vec(),
        }
    }

    /// The one value of a constant whose elements are all the same.
    pub fn as_splat(&self) -> Option<f64> {
        match &self.data {
            LiteralData::Splat(v) => Some(*v),
            LiteralData::Dense(_) if self.ty.numel() == 1 => self.values().first().copied(),
            LiteralData::Dense(_) => None,
        }
    }
}

/// The value of a dense dtype nearest to `v`: floats round to nearest even, integers truncate and saturate
/// with NaN becoming 0, bool is `v != 0`. Quantized types leave it as it is.
pub fn round_to(dtype: DType, v: f64) -> f64 {
    match dtype {
        DType::F32 => v as f32 as f64,
        DType::F16 => round_float(v, 10, -14, 65504.0),
        DType::BF16 => round_float(v, 7, -126, bf16::MAX.to_f64()),
        DType::I32 => v as i32 as f64,
        DType::U32 => v as u32 as f64,
        DType::U8 => v as u8 as f64,
        DType::Bool => (v != 0.0) as u8 as f64,
        _ => v,
    }
}

/// Round to a binary format with this many fraction bits, least normal exponent and greatest finite value.
fn round_float(v: f64, fraction: i32, least: i32, greatest: f64) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return v;
    }
    let exponent = (v.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    let unit = 2f64.powi(exponent.max(least) - fraction);
    let rounded = (v / unit).round_ties_even() * unit;
    if rounded.abs() > greatest { f64::INFINITY.copysign(v) } else { rounded }
}

/// Encode one value as little-endian bytes of a dense dtype, rounded as [`round_to`] does. Quantized types
/// encode to nothing.
pub fn encode(dtype: DType, v: f64) -> Vec<u8> {
    // `half` looks at the upper 32 bits of an f64 only, so ties are found here and its conversion is then
    // exact.
    let v = round_to(dtype, v);
    match dtype {
        DType::F32 => (v as f32).to_le_bytes().to_vec(),
        DType::F16 => f16::from_f64(v).to_le_bytes().to_vec(),
        DType::BF16 => bf16::from_f64(v).to_le_bytes().to_vec(),
        DType::I32 => (v as i32).to_le_bytes().to_vec(),
        DType::U32 => (v as u32).to_le_bytes().to_vec(),
        DType::U8 => vec![v as u8],
        DType::Bool => vec![(v != 0.0) as u8],
        _ => Vec::new(),
    }
}

/// Decode one little-endian element of a dense dtype; NaN for a quantized dtype or a short slice.
pub fn decode(dtype: DType, b: &[u8]) -> f64 {
    match (dtype, b) {
        (DType::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]) as f64,
        (DType::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f64(),
        (DType::BF16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f64(),
        (DType::I32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]) as f64,
        (DType::U32, &[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]) as f64,
        (DType::U8, &[a]) => a as f64,
        (DType::Bool, &[a]) => (a != 0) as u8 as f64,
        _ => f64::NAN,
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LiteralText {
    ty: TensorType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    splat: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Vec<f64>>,
}

impl Serialize for Literal {
    fn serialize<S: ser::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let (splat, data) = match &self.data {
            LiteralData::Splat(v) => (Some(*v), None),
            LiteralData::Dense(_) => (None, Some(self.values())),
        };
        LiteralText { ty: self.ty.clone(), splat, data }.serialize(s)
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: de::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let t = LiteralText::deserialize(d)?;
        let n = t.ty.numel();
        match (t.splat, t.data) {
            (Some(v), None) => Ok(Literal::splat(t.ty, v)),
            (None, Some(data)) => Literal::dense(t.ty, &data).ok_or_else(|| {
                de::Error::custom(format!("the literal has {} values, its type {n}", data.len()))
            }),
            _ => Err(de::Error::custom("a literal has either splat or data")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_and_parse() {
        for text in ["f32[]", "bf16[2,3]", "q4_1[5,64]", "bool[0,7]"] {
            assert_eq!(text.parse::<TensorType>().unwrap().to_string(), text);
        }
        for text in ["f32", "f32[2", "x[2]", "f32[-1]", "f32[2,,3]"] {
            assert!(text.parse::<TensorType>().is_err(), "{text}");
        }
        assert_eq!("q4_1[5,64]".parse::<TensorType>().unwrap().bytes(), 5 * 2 * 20);
    }

    #[test]
    fn halves_round_to_nearest_even_by_every_bit() {
        let b = |v| round_to(DType::BF16, v);
        let tie = 1.0 + 2f64.powi(-8);
        assert_eq!((b(tie), b(tie + 2f64.powi(-23)), b(tie + 2f64.powi(-50))), (1.0, 1.0078125, 1.0078125));
        assert_eq!((b(1.01171875), b(3.4e38), b(-3.397e38)), (1.015625, f64::INFINITY, f64::NEG_INFINITY));
        let h = |v| round_to(DType::F16, v);
        assert_eq!(
            (h(65519.9), h(65520.0), h(2f64.powi(-24)), h(2f64.powi(-25))),
            (65504.0, f64::INFINITY, 2f64.powi(-24), 0.0)
        );
        assert_eq!(h(1.0 + 2f64.powi(-11) + 2f64.powi(-40)), 1.0009765625);
        for v in [tie + 2f64.powi(-23), 1e-40, -3.0e-5, 70000.0] {
            for d in [DType::F16, DType::BF16] {
                assert_eq!(decode(d, &encode(d, v)), round_to(d, v), "{d} {v}");
            }
        }
        for bits in 0..=u16::MAX {
            let (x, y) = (f16::from_bits(bits).to_f64(), bf16::from_bits(bits).to_f64());
            assert!(x.is_nan() || h(x) == x);
            assert!(y.is_nan() || b(y) == y);
        }
    }

    #[test]
    fn hostile_shapes_saturate() {
        let t = TensorType::new(DType::F32, [usize::MAX, usize::MAX]);
        assert_eq!((t.numel(), t.bytes()), (usize::MAX, usize::MAX));
        assert_eq!(TensorType::new(DType::F32, [usize::MAX, 0]).bytes(), 0);
    }

    #[test]
    fn literals_round_to_their_dtype() {
        let t = TensorType::new(DType::BF16, [2]);
        assert_eq!(Literal::splat(t.clone(), 1.00390625).as_splat(), Some(1.0));
        let l = Literal::dense(t.clone(), &[1.0, f64::NEG_INFINITY]).unwrap();
        assert_eq!(l.values(), [1.0, f64::NEG_INFINITY]);
        assert_eq!(l.to_bytes().len(), t.bytes());
        assert!(Literal::dense(t, &[1.0]).is_none());
    }
}
