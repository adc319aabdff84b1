//! Weights: graph inputs that are constants of the model, dense or in the parts of their blocks.

use std::borrow::Cow;

use percept_graph::{DType, Node, TensorType, dequantize as decode_blocks};

use super::Values;
use super::builder::{Builder, Elem, Place};
use crate::blocks::{Scheme, scheme, take_apart, transposed};

/// What of a weight a tensor of the model holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Its own bytes; of a dense weight.
    Dense,
    /// All of it as f32; of a quantized weight, as are the rest.
    Floats,
    /// A byte for each weight, [n, k / group, group].
    Codes,
    /// The low 4 bits of the codes as MatMulNBits packs them, [n, k / group, group / 2].
    Low,
    /// The high 4 bits.
    High,
    /// A scale for each group, [n, k / group].
    Scales,
    /// 16 times that.
    HighScales,
    /// An offset for each group, [n, k / group].
    Offsets,
    /// Offsets for codes counted from the middle, transposed: [k / group, n].
    CentredOffsets,
}

impl Part {
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Part::Dense => "",
            Part::Floats => ".floats",
            Part::Codes => ".codes",
            Part::Low => ".low",
            Part::High => ".high",
            Part::Scales => ".scales",
            Part::HighScales => ".high_scales",
            Part::Offsets => ".offsets",
            Part::CentredOffsets => ".centred",
        }
    }
}

/// A tensor that is made of a weight's bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightTensor {
    /// Name in the model.
    pub name: String,
    /// Index among the graph's inputs.
    pub input: usize,
    /// What of it is held.
    pub part: Part,
    /// The weight's type.
    pub ty: TensorType,
}

impl WeightTensor {
    /// Element type in the model.
    pub fn elem(&self) -> Elem {
        match self.part {
            Part::Dense => Elem::of(self.ty.dtype),
            Part::Codes | Part::Low | Part::High => Elem::U8,
            _ => Elem::F32,
        }
    }

    /// Shape in the model.
    pub fn dims(&self) -> Vec<usize> {
        let Some(scheme) = scheme(self.ty.dtype) else { return self.ty.dims.clone() };
        let (lead, k) = rows(&self.ty);
        let groups = k / scheme.group;
        match self.part {
            Part::Dense | Part::Floats => self.ty.dims.clone(),
            Part::Codes => vec![lead, groups, scheme.group],
            Part::Low | Part::High => vec![lead, groups, scheme.group / 2],
            Part::Scales | Part::HighScales | Part::Offsets => vec![lead, groups],
            Part::CentredOffsets => vec![groups, lead],
        }
    }

    /// The tensor's bytes, from the weight's own.
    pub fn bytes<'a>(&self, weight: &'a [u8]) -> Cow<'a, [u8]> {
        let floats = |v: Vec<f32>| Cow::Owned(bytemuck::cast_slice(&v).to_vec());
        let Some(scheme) = scheme(self.ty.dtype) else { return Cow::Borrowed(weight) };
        if matches!(self.part, Part::Dense | Part::Floats) {
            let mut values = vec![0.0; self.ty.numel()];
            // The types were checked when the weight was given: the lengths belong together.
            let _whole = decode_blocks(self.ty.dtype, weight, &mut values);
            debug_assert!(_whole);
            return floats(values);
        }
        let parts = take_apart(self.ty.dtype, weight);
        match self.part {
            Part::Low => Cow::Owned(parts.packed(false)),
            Part::High => Cow::Owned(parts.packed(true)),
            Part::Codes => Cow::Owned(parts.codes),
            Part::Scales => floats(parts.scales),
            Part::HighScales => floats(parts.scales.iter().map(|s| 16.0 * s).collect()),
            Part::Offsets => floats(parts.offsets),
            _ => {
                let (_, k) = rows(&self.ty);
                floats(transposed(&parts.centred(scheme), k / scheme.group))
            }
        }
    }
}

/// Rows of the last dimension, and its extent.
pub(super) fn rows(ty: &TensorType) -> (usize, usize) {
    let k = ty.dims.last().copied().unwrap_or(1);
    (ty.numel().checked_div(k).unwrap_or(0), k)
}

/// The input that a quantized operand is, with its scheme.
pub(super) fn quantized(values: &Values<'_>, node: &Node, operand: usize) -> Option<(usize, Scheme)> {
    let v = node.inputs[operand];
    match values.place(v) {
        Place::Weight(input) => Some((*input, scheme(values.graph.ty(v).dtype)?)),
        _ => None,
    }
}

/// A whole weight as floats. It is decoded when the model is made, since few runtimes keep it packed.
pub(super) fn dequantize(b: &mut Builder, values: &Values<'_>, node: &Node, to: DType) -> Place {
    let ty = values.graph.ty(node.inputs[0]);
    let Some((input, _)) = quantized(values, node, 0) else { return Place::Missing };
    let floats = b.weight(input, Part::Floats, ty);
    Place::Whole(b.cast(&floats, Elem::F32, Elem::of(to)))
}
