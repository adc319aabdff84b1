//! The elementwise functions of one operand, a row each: what the graph, its reference, its gradients and the
//! cases that hold devices to it need of a function is in its row and nowhere else.

use std::f64::consts;

use serde::{Deserialize, Serialize};

use crate::dtype::DType;
use crate::trace::Tensor;

/// What a function of one operand is.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// The dtypes it takes. The result has the operand's, or is bool where `to_bool` says so.
    pub dtypes: &'static [DType],
    /// Whether the result is bool.
    pub to_bool: bool,
    /// The value in f64 of an element of a dtype.
    pub meaning: fn(DType, f64) -> f64,
    /// The gradient of the operand, from that of the result, the operand and the result. `None` where no
    /// gradient can come: not on floats, or not to floats.
    pub derivative: Option<fn(&Tensor, &Tensor, &Tensor) -> Tensor>,
    /// Operands that it is meant for.
    pub domain: Domain,
    /// How near a device's result must be.
    pub accuracy: Accuracy,
    /// Operands and results on floats that the reference is held to: worked out by hand, or published in
    /// Abramowitz and Stegun, Handbook of Mathematical Functions, tables 4.1, 4.4, 4.6 and 7.1.
    pub values: &'static [(f64, f64)],
}

/// Operands that a function is meant for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Domain {
    /// Every number.
    All,
    /// Numbers above this one.
    Above(f64),
    /// Angles: every number, but nothing is promised of huge ones.
    Angles,
}

/// How near a device's result must be to the real value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Accuracy {
    /// Equal.
    Exact,
    /// Within so many units in the last place of f32, the unit being taken at no less than the magnitude
    /// `floor`.
    Units {
        /// Units in the last place.
        ulp: f64,
        /// The least magnitude that the unit is taken at.
        floor: f64,
    },
}

const FLOATS: &[DType] = &[DType::F32, DType::F16, DType::BF16];
const FLOATS_AND_I32: &[DType] = &[DType::F32, DType::F16, DType::BF16, DType::I32];
const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

/// A function of floats that is computed exactly, and has no gradient. Rows say what they have otherwise.
const EXACT: Definition = Definition {
    dtypes: FLOATS,
    to_bool: false,
    meaning: |_, v| v,
    derivative: None,
    domain: Domain::All,
    accuracy: Accuracy::Exact,
    values: &[],
};
/// A function of floats that is computed to a few units in the last place.
const NEAR: Definition = Definition { accuracy: Accuracy::Units { ulp: 8.0, floor: 0.0 }, ..EXACT };
/// The same with roots, which hardware computes better.
const ROOT: Definition =
    Definition { accuracy: Accuracy::Units { ulp: 4.0, floor: 0.0 }, domain: Domain::Above(0.0), ..EXACT };
/// A function of angles. Their reduction costs units of the period, not of the result.
const OF_ANGLE: Definition =
    Definition { accuracy: Accuracy::Units { ulp: 8.0, floor: 1.0 }, domain: Domain::Angles, ..EXACT };

/// The gradient of a function that is flat wherever it is smooth.
const FLAT: Option<fn(&Tensor, &Tensor, &Tensor) -> Tensor> =
    Some(|_, x, _| x.trace().full(x.dtype(), x.dims(), 0.0));

/// The enum of the functions, the list of all, their definitions, and their methods on tensors.
macro_rules! functions {
    ($($(#[$doc:meta])* $kind:ident, $method:ident: $definition:expr;)*) => {
        /// Elementwise functions of one operand.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Unary {
            $($(#[$doc])* $kind,)*
        }

        impl Unary {
            /// Every kind.
            pub const ALL: [Unary; [$(stringify!($kind)),*].len()] = [$(Unary::$kind),*];

            /// What the function is.
            pub fn definition(self) -> Definition {
                match self {
                    $(Unary::$kind => $definition,)*
                }
            }
        }

        impl Tensor {
            $($(#[$doc])* pub fn $method(&self) -> Tensor { self.unary(Unary::$kind) })*
        }
    };
}

// g is the gradient of the result y, and x the operand.
functions! {
    /// -x. Also of i32, where the least number stays itself.
    Neg, neg: Definition {
        dtypes: FLOATS_AND_I32,
        meaning: |dtype, v| if dtype == DType::I32 { (v as i32).wrapping_neg() as f64 } else { -v },
        derivative: Some(|g, _, _| g.neg()),
        values: &[(1.0, -1.0), (-0.0, 0.0), (INF, -INF)],
        ..EXACT
    };
    /// |x|. Also of i32, where the least number stays itself.
    Abs, abs: Definition {
        dtypes: FLOATS_AND_I32,
        meaning: |dtype, v| if dtype == DType::I32 { (v as i32).wrapping_abs() as f64 } else { v.abs() },
        derivative: Some(|g, x, _| g * x.sign()),
        values: &[(-2.0, 2.0), (-INF, INF), (NAN, NAN)],
        ..EXACT
    };
    /// -1, 0 (of the operand's sign) or 1; NaN stays NaN. Also of i32.
    Sign, sign: Definition {
        dtypes: FLOATS_AND_I32,
        meaning: |_, v| if v.is_nan() || v == 0.0 { v } else { v.signum() },
        derivative: FLAT,
        values: &[(-2.0, -1.0), (-0.0, -0.0), (0.0, 0.0), (7.0, 1.0), (NAN, NAN)],
        ..EXACT
    };
    /// e^x.
    Exp, exp: Definition {
        meaning: |_, v| v.exp(),
        derivative: Some(|g, _, y| g * y),
        values: &[(1.0, consts::E), (-INF, 0.0), (0.0, 1.0)],
        ..NEAR
    };
    /// e^x - 1 without cancellation.
    Expm1, expm1: Definition {
        meaning: |_, v| libm::expm1(v),
        derivative: Some(|g, _, y| g * (y + 1.0)),
        values: &[(1e-12, 1.000_000_000_000_5e-12), (-INF, -1.0)],
        ..NEAR
    };
    /// Natural logarithm.
    Log, log: Definition {
        meaning: |_, v| v.ln(),
        derivative: Some(|g, x, _| g / x),
        domain: Domain::Above(0.0),
        values: &[(2.0, consts::LN_2), (0.0, -INF), (-1.0, NAN)],
        ..NEAR
    };
    /// log(1 + x) without cancellation.
    Log1p, log1p: Definition {
        meaning: |_, v| libm::log1p(v),
        derivative: Some(|g, x, _| g / (x + 1.0)),
        domain: Domain::Above(-1.0),
        values: &[(1e-12, 9.999_999_999_995e-13), (-1.0, -INF), (-2.0, NAN)],
        ..NEAR
    };
    /// Square root.
    Sqrt, sqrt: Definition {
        meaning: |_, v| v.sqrt(),
        derivative: Some(|g, _, y| g * 0.5 / y),
        values: &[(2.0, consts::SQRT_2), (-1.0, NAN)],
        ..ROOT
    };
    /// 1 / sqrt(x).
    Rsqrt, rsqrt: Definition {
        meaning: |_, v| 1.0 / v.sqrt(),
        derivative: Some(|g, _, y| g * -0.5 * (y * y * y)),
        values: &[(4.0, 0.5), (0.0, INF), (INF, 0.0), (-1.0, NAN)],
        ..ROOT
    };
    /// Sine.
    Sin, sin: Definition {
        meaning: |_, v| v.sin(),
        derivative: Some(|g, x, _| g * x.cos()),
        values: &[(0.5, 0.479_425_538_604_203), (INF, NAN)],
        ..OF_ANGLE
    };
    /// Cosine.
    Cos, cos: Definition {
        meaning: |_, v| v.cos(),
        derivative: Some(|g, x, _| g * x.sin().neg()),
        values: &[(0.5, 0.877_582_561_890_372_8), (0.0, 1.0)],
        ..OF_ANGLE
    };
    /// Hyperbolic tangent.
    Tanh, tanh: Definition {
        meaning: |_, v| v.tanh(),
        derivative: Some(|g, _, y| g * (y.like(1.0) - y * y)),
        values: &[(0.5, 0.462_117_157_260_009_75), (INF, 1.0), (-INF, -1.0)],
        ..NEAR
    };
    /// Error function.
    Erf, erf: Definition {
        meaning: |_, v| libm::erf(v),
        derivative: Some(|g, x, _| g * (x * x).neg().exp() * consts::FRAC_2_SQRT_PI),
        values: &[(0.5, 0.520_499_877_813_046_5), (INF, 1.0), (-1.0, -0.842_700_792_949_714_9)],
        ..NEAR
    };
    /// 1 / (1 + e^-x).
    Logistic, logistic: Definition {
        meaning: |_, v| 1.0 / (1.0 + (-v).exp()),
        derivative: Some(|g, _, y| g * y * (y.like(1.0) - y)),
        values: &[(0.0, 0.5), (-INF, 0.0), (800.0, 1.0), (-1.0, 0.268_941_421_369_995_1)],
        ..NEAR
    };
    /// Largest integer not above x.
    Floor, floor: Definition {
        meaning: |_, v| v.floor(),
        derivative: FLAT,
        values: &[(-0.5, -1.0), (1.5, 1.0), (-INF, -INF)],
        ..EXACT
    };
    /// Smallest integer not below x.
    Ceil, ceil: Definition {
        meaning: |_, v| v.ceil(),
        derivative: FLAT,
        values: &[(-0.5, -0.0), (1.5, 2.0), (INF, INF)],
        ..EXACT
    };
    /// Nearest integer, ties to even.
    Round, round: Definition {
        meaning: |_, v| v.round_ties_even(),
        derivative: FLAT,
        values: &[(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-0.5, -0.0), (-1.6, -2.0)],
        ..EXACT
    };
    /// Complement: logical for bool, bitwise for integers. Not of floats.
    Not, not: Definition {
        dtypes: &[DType::Bool, DType::I32, DType::U32],
        meaning: |dtype, v| match dtype {
            DType::Bool => (v == 0.0) as u8 as f64,
            DType::I32 => !(v as i32) as f64,
            _ => !(v as u32) as f64,
        },
        ..EXACT
    };
    /// Neither infinite nor NaN, as bool.
    IsFinite, is_finite: Definition {
        to_bool: true,
        meaning: |_, v| v.is_finite() as u8 as f64,
        values: &[(1.0, 1.0), (INF, 0.0), (NAN, 0.0)],
        ..EXACT
    };
}
