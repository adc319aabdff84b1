//! The operations of the graph: primitives named and defined as in StableHLO where it has them, and
//! composites.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::composite::Composite;
use crate::dtype::DType;
use crate::graph::Graph;
use crate::tensor_type::{Literal, TensorType};
use crate::unary::Unary;

/// An enum of kinds with the list of them all.
macro_rules! every {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $kind:ident,)* }) => {
        $(#[$meta])*
        pub enum $name { $($(#[$doc])* $kind,)* }

        impl $name {
            /// All functions of this enum.
            pub const ALL: [$name; [$(stringify!($kind)),*].len()] = [$($name::$kind),*];
        }
    };
}

every! {
    /// Elementwise functions of two operands of one type.
    ///
    /// Integers wrap; x / 0 is x, x % 0 is 0, `i32::MIN / -1` is `i32::MIN`; shifts by 32 or more give 0.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[allow(missing_docs)]
    pub enum Binary {
        Add,
        Sub,
        Mul,
        Div,
        /// The sign follows the dividend, as C's fmod.
        Rem,
        /// `x^y`, on floats only.
        Pow,
        /// NaN if either operand is NaN.
        Max,
        /// NaN if either operand is NaN.
        Min,
        /// Logical for bool, bitwise for integers.
        And,
        Or,
        Xor,
        Shl,
        /// Logical: zeros come in from the left.
        Shr,
    }
}

every! {
    /// Comparisons; with NaN all are false except `Ne`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[allow(missing_docs)]
    pub enum Compare {
        Eq,
        Ne,
        Lt,
        Le,
        Gt,
        Ge,
    }
}

every! {
    /// Reductions. An empty one gives the identity; `Max` and `Min` propagate NaN; `And`, `Or` are for bool.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[allow(missing_docs)]
    pub enum ReduceKind {
        Sum,
        Prod,
        Max,
        Min,
        And,
        Or,
    }
}

/// Which position an arg-reduction reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArgKind {
    /// The largest; NaN counts as largest, ties take the lowest index.
    Max,
    /// The smallest; NaN counts as smallest, ties take the lowest index.
    Min,
}

/// How a scatter combines an update with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScatterKind {
    /// The last update of an index wins.
    Set,
    /// Updates of an index are added in their order.
    Add,
}

/// Dimension numbers and types of a [`Op::Dot`], as `stablehlo.dot_general`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DotSpec {
    /// Batch dimensions of the left operand, paired with `rhs_batch`.
    pub lhs_batch: Vec<usize>,
    /// Batch dimensions of the right operand.
    pub rhs_batch: Vec<usize>,
    /// Contracted dimensions of the left operand, paired with `rhs_contract`.
    pub lhs_contract: Vec<usize>,
    /// Contracted dimensions of the right operand.
    pub rhs_contract: Vec<usize>,
    /// Dtype the products are summed in.
    pub accum: DType,
    /// Dtype of the result.
    pub out: DType,
}

/// An operation. Elementwise operands have equal shapes: broadcasting is explicit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// A literal. No operands.
    Constant(Literal),
    /// 0, 1, 2 ... along `axis`. No operands; a dense integer or float type.
    Iota {
        /// Type of the result.
        ty: TensorType,
        /// The dimension that counts.
        axis: usize,
    },
    /// Convert: to float rounds to nearest even, float to integer truncates and saturates (NaN is 0),
    /// integer to integer keeps the low bits, to bool is `!= 0`.
    Cast {
        /// Dtype of the result.
        to: DType,
    },
    /// Reinterpret the bits of a 32-bit type as another.
    Bitcast {
        /// Dtype of the result.
        to: DType,
    },
    /// The same elements in row-major order under another shape.
    Reshape {
        /// Shape of the result.
        dims: Vec<usize>,
    },
    /// Result dimension i is operand dimension `perm[i]`.
    Transpose {
        /// A permutation of the dimensions.
        perm: Vec<usize>,
    },
    /// Operand dimension i becomes result dimension `axes[i]` (increasing); an extent of 1 is repeated.
    Broadcast {
        /// Shape of the result.
        dims: Vec<usize>,
        /// Where each operand dimension goes.
        axes: Vec<usize>,
    },
    /// Elements `start, start + stride ..` below `limit`, per dimension.
    Slice {
        /// The first index in each dimension.
        start: Vec<usize>,
        /// One past the last index.
        limit: Vec<usize>,
        /// Step, at least 1.
        stride: Vec<usize>,
    },
    /// (x, value[]): `low` before, `high` after and `interior` between elements, per dimension.
    Pad {
        /// Elements before the first.
        low: Vec<usize>,
        /// Elements after the last.
        high: Vec<usize>,
        /// Elements inserted between neighbours.
        interior: Vec<usize>,
    },
    /// One or more operands joined along `axis`.
    Concat {
        /// The joined dimension.
        axis: usize,
    },
    /// (x, start i32[] per dimension): a block of `sizes`; starts are clamped so that it fits.
    DynamicSlice {
        /// Shape of the result.
        sizes: Vec<usize>,
    },
    /// (x, update, start i32[] per dimension): x with the block replaced; starts are clamped so that it fits.
    DynamicUpdateSlice,
    /// Elementwise function of one operand.
    Unary(Unary),
    /// Elementwise function of two operands.
    Binary(Binary),
    /// Elementwise comparison to bool.
    Compare(Compare),
    /// (predicate bool, on true, on false).
    Select,
    /// (low, x, high): min(max(x, low), high).
    Clamp,
    /// Reduce over `axes`, which disappear from the shape.
    Reduce {
        /// How elements are combined.
        kind: ReduceKind,
        /// The reduced dimensions, increasing.
        axes: Vec<usize>,
        /// Dtype sums and products are accumulated in; the result keeps the operand's dtype.
        accum: DType,
    },
    /// Index (i32) of an extreme along `axis`, which disappears.
    ArgReduce {
        /// Whether the maximum or the minimum is looked for.
        kind: ArgKind,
        /// The dimension searched; not empty.
        axis: usize,
    },
    /// Batched general product; result dimensions are batch, left free, right free.
    Dot(DotSpec),
    /// (x, indices i32): slices of x along `axis`; result shape is x[..axis] + indices + x[axis+1..]; indices
    /// are clamped.
    Gather {
        /// The indexed dimension.
        axis: usize,
    },
    /// (x, indices i32, updates shaped as gather's result): x with slices along `axis` combined; indices out
    /// of range are dropped.
    Scatter {
        /// The indexed dimension.
        axis: usize,
        /// How updates combine.
        kind: ScatterKind,
    },
    /// Stable sort along `axis` -> (values, source indices i32), both cut to the first `limit`; NaN is the
    /// greatest value.
    Sort {
        /// The sorted dimension.
        axis: usize,
        /// Whether the greatest element comes first.
        descending: bool,
        /// Extent of the results along `axis`, at most the operand's.
        limit: usize,
    },
    /// A quantized tensor as floats, exact in f32.
    Dequantize {
        /// The float dtype of the result.
        to: DType,
    },
    /// Identity on every operand that folding, CSE and motion do not look through.
    Barrier,
    /// A named operation with a decomposition into primitives.
    Composite(Composite),
    /// A region of elementwise primitives made by the fusion pass. The body's inputs are the operands; every
    /// value of the body has the results' shape, except operands and constants, which broadcasts inside the
    /// body bring to it.
    Fused(Arc<Graph>),
}

/// An operation with the types around it: what a device is asked whether it supports.
#[derive(Debug, Clone, Copy)]
pub struct OpDesc<'a> {
    /// The operation itself.
    pub op: &'a Op,
    /// Types of the operands.
    pub inputs: &'a [TensorType],
    /// Types of the results.
    pub outputs: &'a [TensorType],
}

impl Op {
    /// The short name: `dot`, `rms_norm`, `exp`.
    pub fn name(&self) -> String {
        match self {
            Op::Unary(k) => tag(k),
            Op::Binary(k) => tag(k),
            Op::Composite(c) => tag(c),
            Op::Compare(k) => format!("compare_{}", tag(k)),
            Op::Reduce { kind, .. } => format!("reduce_{}", tag(kind)),
            Op::Fused(_) => "fused".into(),
            op => tag(op),
        }
    }

    /// Elementwise over one index space, so that the fusion pass may take it into a region.
    pub fn is_elementwise(&self) -> bool {
        matches!(
            self,
            Op::Unary(_)
                | Op::Binary(_)
                | Op::Compare(_)
                | Op::Select
                | Op::Clamp
                | Op::Cast { .. }
                | Op::Bitcast { .. }
        )
    }
}

/// The serialized name of an enum value. Its fields are not written: that would take longer than what most callers do with
/// the name.
fn tag<T: Serialize>(value: &T) -> String {
    let mut name = Name(String::new());
    // The error is that the fields begin.
    let _ = ron::Options::default().to_writer(&mut name, value);
    name.0
}

/// Takes what is written up to the first field.
struct Name(String);

impl fmt::Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = text.find(['(', ' ']);
        self.0.push_str(&text[..end.unwrap_or(text.len())]);
        end.map_or(Ok(()), |_| Err(fmt::Error))
    }
}
