//! How far a device may be from the f64 reference: the one place that says so, with the reasons.
//!
//! The error of an element is counted in units in the last place (ULP) of the output's dtype, against the
//! reference before it is rounded: rounding to nearest costs at most 0.5, truncation up to 1, so that a half
//! type's tolerance of 0.5 and a little tells them apart. Where a result is a sum, cancellation makes single
//! elements arbitrarily small while their error stays that of the terms: there the unit is taken no finer
//! than at the root mean square of the output. The normalized mean square error (NMSE) of a whole output
//! bounds what is systematic.
//!
//! A device may say that it computes f32 in a half type ([`DeviceInfo::computes_in`](crate::DeviceInfo)). Its errors are then counted in
//! units of that type, with the bounds that f32 has in units of f32: each operation rounds to it, and sums may be added in it. Operands are
//! held in it too, so that an output may also agree with the reference of rounded operands.

use percept_graph::DType;

/// What kind of arithmetic an output is the result of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Class {
    /// Nothing may differ: integers, comparisons, moved and selected elements, casts.
    Exact,
    /// One operation that hardware rounds: sum, difference, product. WGSL allows either neighbour in f32.
    Rounded,
    /// A function computed in f32 within `ulp`, counted no finer than at magnitude `floor`.
    Function {
        /// ULP of f32.
        ulp: f64,
        /// Least magnitude the unit is taken at: what argument reduction or subtraction inside costs.
        floor: f64,
    },
    /// A sum of this many products, accumulated in f32 in any order.
    Sum {
        /// Accumulated products.
        terms: usize,
    },
    /// A result that the graph itself casts to the output's dtype: where the device lies on the other side of
    /// a tie the neighbour comes out.
    Stored,
    /// Several functions and sums, the longest of this many terms.
    Composite {
        /// Terms of the longest sum.
        terms: usize,
    },
    /// A gradient: a composite of the forward and the backward pass.
    Gradient {
        /// Terms of the longest sum.
        terms: usize,
    },
}

/// The bounds an output is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// Largest error of one element in ULP.
    pub ulp: f64,
    /// Least magnitude the unit is taken at.
    pub floor: f64,
    /// The unit is also taken no finer than at the root mean square of the output.
    pub relative_to_rms: bool,
    /// Largest normalized mean square error.
    pub nmse: f64,
}

/// Bits of a float's fraction, and the exponent of its least normal value.
pub fn format_of(dtype: DType) -> (i32, i32) {
    match dtype {
        DType::F16 => (10, -14),
        DType::BF16 => (7, -126),
        _ => (23, -126),
    }
}

/// The dtype in whose units errors of an output are counted, where it is a coarser one than its own.
pub fn coarser(dtype: DType, computes_in: DType) -> Option<DType> {
    let is_half = |dtype| matches!(dtype, DType::F16 | DType::BF16);
    (is_half(computes_in) && dtype.is_float() && format_of(computes_in).0 < format_of(dtype).0)
        .then_some(computes_in)
}

impl Class {
    /// The bounds for outputs of a dtype that a device makes that computes in another, and the dtype of the units that they are in.
    pub fn computed_in(self, dtype: DType, computes_in: DType) -> (Tolerance, DType) {
        let Some(unit) = coarser(dtype, computes_in) else { return (self.tolerance(dtype), dtype) };
        let bounds = self.tolerance(DType::F32);
        let share = bounds.ulp * 2f64.powi(-format_of(unit).0);
        (Tolerance { nmse: share * share, ..bounds }, unit)
    }

    /// The bounds for outputs of a dtype.
    pub fn tolerance(self, dtype: DType) -> Tolerance {
        // ULP of f32 before the result is stored.
        let (single, floor, relative_to_rms) = match self {
            _ if !dtype.is_float() => (0.0, 0.0, false),
            Class::Exact => (0.0, 0.0, false),
            Class::Rounded | Class::Stored => (1.0, 0.0, false),
            Class::Function { ulp, floor } => (ulp, floor, false),
            // Rounding errors of n additions grow as sqrt(n), as does the root mean square of the sum itself;
            // the constant covers the largest of some thousand elements.
            Class::Sum { terms } => (4.0 + 4.0 * (terms as f64).sqrt(), 0.0, true),
            // Exponentials and roots of such sums, each within a few ULP of its own. Operands are of
            // magnitude 1: what cancels to less than 2^-6 carries the error of what cancelled.
            Class::Composite { terms } => (64.0 + 8.0 * (terms as f64).sqrt(), 2f64.powi(-6), true),
            // The backward pass uses rounded results of the forward.
            Class::Gradient { terms } => (512.0 + 32.0 * (terms as f64).sqrt(), 2f64.powi(-6), true),
        };
        let (fraction, _) = format_of(dtype);
        let ulp = match dtype {
            DType::F16 | DType::BF16 if self == Class::Stored => 1.0,
            DType::F16 | DType::BF16 if single > 0.0 => 0.5 + single * 2f64.powi(fraction - 23) + 1e-3,
            _ => single,
        };
        // Backward passes of half types store forward results in between, each with half a unit of its own.
        let ulp = if matches!(self, Class::Gradient { .. }) && fraction < 23 { ulp + 8.0 } else { ulp };
        let unit = ulp * 2f64.powi(-fraction);
        Tolerance { ulp, floor, relative_to_rms, nmse: unit * unit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_and_truncation_are_told_apart() {
        for d in [DType::F16, DType::BF16] {
            let t = Class::Rounded.tolerance(d);
            assert!(t.ulp >= 0.5 && t.ulp < 0.51, "{d}: {t:?}");
        }
        assert_eq!(Class::Rounded.tolerance(DType::F32).ulp, 1.0);
        assert_eq!(Class::Rounded.tolerance(DType::I32).ulp, 0.0);
        assert_eq!(Class::Exact.tolerance(DType::BF16).ulp, 0.0);
    }

    #[test]
    fn a_device_is_held_to_the_dtype_that_it_computes_in() {
        let sum = Class::Sum { terms: 64 };
        let (bounds, unit) = sum.computed_in(DType::F32, DType::F16);
        assert_eq!((bounds.ulp, unit), (sum.tolerance(DType::F32).ulp, DType::F16));
        assert!(bounds.nmse > 1e6 * sum.tolerance(DType::F32).nmse);
        // f16 is finer than bf16, coarser than f32, and integers are exact everywhere.
        for (dtype, computes_in, unit) in [
            (DType::F32, DType::F32, DType::F32),
            (DType::F16, DType::BF16, DType::BF16),
            (DType::BF16, DType::F16, DType::BF16),
            (DType::I32, DType::F16, DType::I32),
        ] {
            assert_eq!(sum.computed_in(dtype, computes_in).1, unit, "{dtype} in {computes_in}");
        }
        assert_eq!(Class::Exact.computed_in(DType::F32, DType::F16).0.ulp, 0.0);
    }

    #[test]
    fn longer_sums_may_err_more() {
        let t = |terms| Class::Sum { terms }.tolerance(DType::F32);
        assert!(t(4096).ulp > t(64).ulp && t(64).relative_to_rms);
        assert!(t(4096).nmse < 1e-8);
    }
}
