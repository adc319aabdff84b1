//! Comparison of a device's output with the reference.

use percept_graph::{DType, round_to};

use super::tolerance::{Tolerance, format_of};

/// How well an output agrees.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// Largest error of a finite element in ULP.
    pub ulp: f64,
    /// Sum of squared errors over the sum of squares of the reference, over finite elements.
    pub nmse: f64,
    /// The first element outside the tolerance, in words.
    pub fault: Option<String>,
}

/// Compare values with the reference before rounding, errors in units of a dtype. An element may agree with one of `others` as well: the
/// references of inputs whose subnormals are zero, or that are held in the dtype.
pub fn compare(dtype: DType, got: &[f64], want: &[f64], others: &[&[f64]], t: &Tolerance) -> Agreement {
    if got.len() != want.len() {
        let fault = format!("{} elements, expected {}", got.len(), want.len());
        return Agreement { ulp: f64::INFINITY, nmse: f64::INFINITY, fault: Some(fault) };
    }
    let finite = || want.iter().filter(|w| w.is_finite());
    let rms = (finite().map(|w| w * w).sum::<f64>() / finite().count().max(1) as f64).sqrt();
    let floor = if t.relative_to_rms && rms.is_finite() { t.floor.max(rms) } else { t.floor };
    let (mut worst, mut error, mut power) = (0.0f64, 0.0, 0.0);
    let mut fault = None;
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        let mut ulp = element(dtype, g, w, floor, t.ulp);
        let mut w = w;
        for other in others {
            if ulp <= t.ulp {
                break;
            }
            let found = element(dtype, g, other[i], floor, t.ulp);
            if found < ulp {
                (ulp, w) = (found, other[i]);
            }
        }
        worst = worst.max(ulp);
        if g.is_finite() && w.is_finite() {
            error += (g - w) * (g - w);
            power += w * w;
        }
        if ulp > t.ulp && fault.is_none() {
            let rounded = round_to(dtype, w);
            fault = Some(format!(
                "element {i} of {} is {g:e}, expected {rounded:e} ({ulp:.3} ULP off, {} allowed)",
                got.len(),
                t.ulp
            ));
        }
    }
    let nmse = if error == 0.0 || !power.is_finite() { 0.0 } else { error / power.max(f64::MIN_POSITIVE) };
    // Where units are absolute, below the floor or the least normal value, the error is no share of the
    // output.
    let tiny = rms < t.floor.max(2f64.powi(format_of(dtype).1 + 1));
    if fault.is_none() && nmse > t.nmse && !tiny {
        fault = Some(format!("the normalized mean square error is {nmse:e}, {:e} allowed", t.nmse));
    }
    Agreement { ulp: worst, nmse, fault }
}

/// The error of one element in ULP; infinite where one side is NaN or infinite and the other is not.
fn element(dtype: DType, got: f64, want: f64, floor: f64, allowed: f64) -> f64 {
    if !dtype.is_float() {
        return if got == want { 0.0 } else { f64::INFINITY };
    }
    let rounded = round_to(dtype, want);
    if got == rounded || got.is_nan() && rounded.is_nan() {
        // A correctly rounded element is off by what rounding costs.
        let finite = got.is_finite() && want.is_finite();
        return if finite { (got - want).abs() / unit(dtype, want.abs().max(floor)) } else { 0.0 };
    }
    if got.is_nan() || rounded.is_nan() {
        return f64::INFINITY;
    }
    let greatest = round_to(dtype, greatest(dtype));
    // Infinity stands one unit above the greatest value.
    let beyond = |v: f64| if v.is_infinite() { (greatest + unit(dtype, greatest)).copysign(v) } else { v };
    let (g, w) =
        (beyond(got), if got.is_infinite() || rounded.is_infinite() { beyond(rounded) } else { want });
    let least = 2f64.powi(format_of(dtype).1);
    if got == 0.0 && want.abs() < least && allowed > 0.0 {
        return 0.0; // Subnormal results may be flushed.
    }
    (g - w).abs() / unit(dtype, w.abs().max(floor))
}

fn greatest(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 65504.0,
        DType::BF16 => 3.3895313892515355e38,
        _ => f32::MAX as f64,
    }
}

/// The unit in the last place at a magnitude.
fn unit(dtype: DType, magnitude: f64) -> f64 {
    let (fraction, least) = format_of(dtype);
    let exponent = if magnitude == 0.0 { least } else { (magnitude.to_bits() >> 52 & 0x7ff) as i32 - 1023 };
    2f64.powi(exponent.max(least) - fraction)
}

#[cfg(test)]
mod tests {
    use super::super::tolerance::Class;
    use super::*;

    fn of(dtype: DType, class: Class, got: &[f64], want: &[f64]) -> Agreement {
        compare(dtype, got, want, &[], &class.tolerance(dtype))
    }

    #[test]
    fn units_are_those_of_the_format() {
        assert_eq!(unit(DType::F32, 1.0), 2f64.powi(-23));
        assert_eq!(unit(DType::BF16, 3.0), 2f64.powi(-6));
        assert_eq!(unit(DType::F16, 0.0), 2f64.powi(-24));
    }

    #[test]
    fn special_values_must_be_where_they_belong() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let ok = |g: &[f64], w: &[f64]| of(DType::F32, Class::Rounded, g, w).fault.is_none();
        assert!(ok(&[nan, inf, -inf, 1.0], &[nan, inf, -inf, 1.0]));
        for (g, w) in [(nan, 1.0), (1.0, nan), (inf, 1.0), (1.0, inf), (inf, -inf), (inf, nan)] {
            assert!(!ok(&[g], &[w]), "{g} for {w}");
        }
        // Overflow is a matter of rounding: a sum just beyond the greatest value may still be it.
        assert!(ok(&[f32::MAX as f64], &[f32::MAX as f64 * (1.0 + 1e-9)]));
        assert!(ok(&[inf], &[f32::MAX as f64 * 1.001]));
        assert!(!ok(&[f32::MAX as f64 * 0.9], &[1e39]));
    }

    #[test]
    fn truncated_bf16_is_caught() {
        let want = [1.0 + 0.9 / 128.0];
        assert!(of(DType::BF16, Class::Rounded, &[1.0078125], &want).fault.is_none());
        let fault = of(DType::BF16, Class::Rounded, &[1.0], &want).fault.unwrap();
        assert!(fault.contains("element 0"), "{fault}");
    }

    #[test]
    fn sums_are_judged_at_the_scale_of_their_output() {
        let want = [1.0, -1.0, 1e-9];
        let got = [1.0, -1.0, 3e-8];
        assert!(of(DType::F32, Class::Sum { terms: 4 }, &got, &want).fault.is_none());
        assert!(of(DType::F32, Class::Rounded, &got, &want).fault.is_some());
        assert!(of(DType::F32, Class::Sum { terms: 4 }, &[1.0, -1.0, 1e-3], &want).fault.is_some());
    }

    #[test]
    fn subnormals_may_be_flushed_but_not_moved() {
        let tiny = 1e-40;
        let t = Class::Rounded.tolerance(DType::F32);
        assert!(compare(DType::F32, &[0.0], &[tiny], &[], &t).fault.is_none());
        let exact = Class::Exact.tolerance(DType::F32);
        assert!(compare(DType::F32, &[0.0], &[round_to(DType::F32, tiny)], &[], &exact).fault.is_some());
        assert!(
            compare(DType::F32, &[f64::INFINITY], &[1.0 / tiny], &[&[f64::INFINITY]], &t).fault.is_none()
        );
    }

    #[test]
    fn counts_must_agree() {
        assert!(of(DType::I32, Class::Exact, &[1.0], &[1.0, 2.0]).fault.unwrap().contains("1 elements"));
    }
}
