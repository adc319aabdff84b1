//! Elementary functions on sixteen lanes, each within 4 ULP of the true value (most within 2).
//!
//! Every function reduces its argument to a short interval and evaluates a minimax polynomial there; the
//! coefficients come from Remez's exchange on the relative error over the interval named beside them. Infinities,
//! NaN, signed zeros and denormals are those of IEEE 754.

use crate::lanes::{Lanes, WIDTH};

const LN2_HIGH: f32 = f32::from_bits(0x3f31_7200);
const LN2_LOW: f32 = 1.428_606_8e-6;

/// Horner's rule, highest coefficient last.
#[inline(always)]
fn polynomial<L: Lanes, const N: usize>(l: L, x: L::F, coefficients: [f32; N]) -> L::F {
    let mut sum = l.splat(coefficients[N - 1]);
    for c in coefficients[..N - 1].iter().rev() {
        sum = l.fma(sum, x, l.splat(*c));
    }
    sum
}

/// Splits `x` into `n ln 2 + r` with `|r| <= ln 2 / 2`.
#[inline(always)]
fn reduce_by_ln2<L: Lanes>(l: L, x: L::F) -> (L::F, L::F) {
    let n = l.round(l.mul(x, l.splat(std::f32::consts::LOG2_E)));
    let r = l.fma(n, l.splat(-LN2_HIGH), x);
    (n, l.fma(n, l.splat(-LN2_LOW), r))
}

/// `e^r` for `|r| <= ln 2 / 2`.
#[inline(always)]
fn exp_reduced<L: Lanes>(l: L, r: L::F) -> L::F {
    let q = polynomial(l, r, [0.499_999_93, 0.166_665_15, 0.041_668_457, 0.008_369_419, 0.001_381_314_5]);
    l.fma(l.mul(r, r), q, l.add(r, l.splat(1.0)))
}

/// `e^x`.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(l: L, x: L::F) -> L::F {
    // NaN passes through both bounds, since they return their second operand for it.
    let x = l.max(l.splat(-104.0), l.min(l.splat(89.0), x));
    let (n, r) = reduce_by_ln2(l, x);
    l.scale(exp_reduced(l, r), n)
}

/// `e^x` for `x <= 0`, with zero for results below the least normal number: two thirds of [`exp`]'s instructions.
#[inline(always)]
pub(crate) fn exp_negative<L: Lanes>(l: L, x: L::F) -> L::F {
    // So large that the unit of the last place is one: the sum holds n plus an exponent's bias in its lowest bits.
    let large = l.splat((3 << 22) as f32 + 127.0);
    // NaN passes through the bound, whose own n of -127 gives a power of zero.
    let x = l.max(l.splat(-88.0), x);
    let sum = l.fma(x, l.splat(std::f32::consts::LOG2_E), large);
    let n = l.sub(sum, large);
    let r = l.fma(n, l.splat(-LN2_LOW), l.fma(n, l.splat(-LN2_HIGH), x));
    l.mul(exp_reduced(l, r), l.float_of_bits(l.shift_left::<23>(l.bits(sum))))
}

/// `2^x`, for erf.
#[inline(always)]
fn exp2<L: Lanes>(l: L, x: L::F) -> L::F {
    let n = l.round(x);
    let r = l.mul(l.sub(x, n), l.splat(std::f32::consts::LN_2));
    l.scale(exp_reduced(l, r), n)
}

/// `e^x - 1`, accurate near zero.
#[inline(always)]
pub(crate) fn expm1<L: Lanes>(l: L, x: L::F) -> L::F {
    let bounded = l.max(l.splat(-20.0), l.min(l.splat(89.0), x));
    let (n, r) = reduce_by_ln2(l, bounded);
    let q = polynomial(
        l,
        r,
        [0.5, 0.166_666_67, 0.041_666_224, 0.008_333_284, 0.001_394_978_3, 0.000_199_089_06],
    );
    let p = l.fma(l.mul(r, r), q, r);
    // e^x - 1 = 2^n (p + 1 - 2^-n): exact for n = 0, and free of overflow.
    let power = l.scale(l.splat(1.0), l.sub(l.splat(0.0), n));
    let result = l.scale(l.add(p, l.sub(l.splat(1.0), power)), n);
    // A polynomial in a denormal or zero would lose the sign of zero.
    l.select(l.less(l.abs(x), l.splat(1e-30)), x, result)
}

/// `log((1 + f) 2^e)` for `1 + f` between about `sqrt(1/2)` and `sqrt(2)`.
#[inline(always)]
fn log_reduced<L: Lanes>(l: L, f: L::F, e: L::F) -> L::F {
    // log(1 + f) = 2 atanh(s), s = f / (2 + f); the arrangement keeps f's own digits out of the rounding.
    let s = l.div(f, l.add(f, l.splat(2.0)));
    let z = l.mul(s, s);
    let r = l.mul(z, polynomial(l, z, [0.666_666_7, 0.400_003_5, 0.285_353_2, 0.236_319_4]));
    let half_square = l.mul(l.mul(f, f), l.splat(0.5));
    let low = l.fma(e, l.splat(LN2_LOW), l.mul(s, l.add(half_square, r)));
    l.fma(e, l.splat(LN2_HIGH), l.sub(f, l.sub(half_square, low)))
}

/// Splits a positive normal `x` into a significand between `sqrt(1/2)` and `sqrt(2)` and an exponent.
#[inline(always)]
fn split<L: Lanes>(l: L, x: L::F) -> (L::F, L::I) {
    let offset = l.splat_int(0x3f35_04f3);
    let shifted = l.add_int(l.bits(x), l.splat_int(0x3f35_04f3i32.wrapping_neg()));
    let exponent = l.shift_right_signed::<23>(shifted);
    let significand = l.add_int(l.and(shifted, l.splat_int(0x007f_ffff)), offset);
    (l.float_of_bits(significand), exponent)
}

/// The values of a logarithm where the formula does not hold: zero, infinity, negative, NaN.
#[inline(always)]
fn log_edges<L: Lanes>(l: L, argument: L::F, result: L::F) -> L::F {
    let infinity = l.splat(f32::INFINITY);
    let result = l.select(l.equal(argument, infinity), infinity, result);
    let result = l.select(l.equal(argument, l.splat(0.0)), l.splat(f32::NEG_INFINITY), result);
    let result = l.select(l.less(argument, l.splat(0.0)), l.splat(f32::NAN), result);
    l.select(l.equal(argument, argument), result, argument)
}

/// Natural logarithm.
#[inline(always)]
pub(crate) fn log<L: Lanes>(l: L, x: L::F) -> L::F {
    let denormal = l.less(x, l.splat(f32::MIN_POSITIVE));
    let normal = l.select(denormal, l.mul(x, l.splat(8_388_608.0)), x);
    let (m, e) = split(l, normal);
    let e = l.add(l.to_float(e), l.select(denormal, l.splat(-23.0), l.splat(0.0)));
    log_edges(l, x, log_reduced(l, l.sub(m, l.splat(1.0)), e))
}

/// `log(1 + x)`, accurate near zero.
#[inline(always)]
pub(crate) fn log1p<L: Lanes>(l: L, x: L::F) -> L::F {
    let one = l.splat(1.0);
    let u = l.add(one, x);
    // What the rounding of 1 + x lost, exactly.
    let lost = l.select(l.less(one, x), l.sub(one, l.sub(u, x)), l.sub(x, l.sub(u, one)));
    let (m, e) = split(l, u);
    let e = l.to_float(e);
    let f = l.add(l.sub(m, one), l.scale(lost, l.sub(l.splat(0.0), e)));
    let result = log_edges(l, u, log_reduced(l, f, e));
    l.select(l.less(l.abs(x), l.splat(1e-30)), x, result)
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh<L: Lanes>(l: L, x: L::F) -> L::F {
    // With NaN as the second operand the bound returns it.
    let bounded = l.min(l.splat(10.0), l.abs(x));
    let t = expm1(l, l.add(bounded, bounded));
    l.copysign(l.div(t, l.add(t, l.splat(2.0))), x)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn logistic<L: Lanes>(l: L, x: L::F) -> L::F {
    let one = l.splat(1.0);
    let z = exp(l, l.neg(l.abs(x)));
    let numerator = l.select(l.less(x, l.splat(0.0)), z, one);
    l.div(numerator, l.add(one, z))
}

/// The error function `2/sqrt(pi) * integral of e^(-t^2) from 0 to x`.
#[inline(always)]
pub(crate) fn erf<L: Lanes>(l: L, x: L::F) -> L::F {
    let t = l.min(l.splat(4.0), l.abs(x));
    // Below 0.9: x + x P(x^2), fitted on [0, 0.9].
    let near = polynomial(
        l,
        l.mul(t, t),
        [0.128_379_15, -0.376_125_23, 0.112_821_41, -0.026_778_91, 0.005_011_962_7, -0.000_609_035_95],
    );
    let near = l.fma(t, near, t);
    // Above: 1 - 2^Q(x), Q fitted to log2(erfc) on [0.9, 4]; erf(4) rounds to one.
    let far = polynomial(
        l,
        t,
        [
            -0.000_107_557_09,
            -1.627_945_5,
            -0.916_664_4,
            -0.153_333_15,
            0.034_608_692,
            -0.005_484_687,
            0.000_533_598_7,
            -0.000_023_691_912,
        ],
    );
    let far = l.sub(l.splat(1.0), exp2(l, far));
    l.copysign(l.select(l.less(t, l.splat(0.9)), near, far), x)
}

/// `1 / sqrt(x)`.
#[inline(always)]
pub(crate) fn rsqrt<L: Lanes>(l: L, x: L::F) -> L::F {
    l.div(l.splat(1.0), l.sqrt(x))
}

/// Beyond this the three-part reduction by pi/2 loses digits, and the scalar function takes over.
const TRIGONOMETRIC_LIMIT: f32 = 30_000.0;

/// Sine and cosine share all but the choice of polynomial: `quarter` is 0 for sine, 1 for cosine.
#[inline(always)]
fn sine_of<L: Lanes>(l: L, x: L::F, quarter: i32) -> L::F {
    let n = l.round(l.mul(x, l.splat(std::f32::consts::FRAC_2_PI)));
    // pi/2 in three parts.
    let r = l.fma(n, l.splat(-1.570_796_4), x);
    let r = l.fma(n, l.splat(4.371_139e-8), r);
    let r = l.fma(n, l.splat(1.715_1e-15), r);
    let z = l.mul(r, r);
    let sine = polynomial(l, z, [-0.166_666_67, 0.008_333_329, -0.000_198_391_8, 2.716_583_2e-6]);
    let sine = l.fma(l.mul(z, r), sine, r);
    let cosine = polynomial(l, z, [0.041_666_653, -0.001_388_760_4, 2.445_709_4e-5]);
    let cosine = l.add(l.fma(z, l.splat(-0.5), l.splat(1.0)), l.mul(l.mul(z, z), cosine));
    let quadrant = l.add_int(l.to_int(n), l.splat_int(quarter));
    let odd = l.equal_int(l.and(quadrant, l.splat_int(1)), l.splat_int(1));
    let sign = l.shift_left::<30>(l.and(quadrant, l.splat_int(2)));
    l.float_of_bits(l.xor(l.bits(l.select(odd, cosine, sine)), sign))
}

/// Replaces the lanes whose argument is too large (or not finite) by the scalar function's.
#[inline(always)]
fn large_arguments<L: Lanes>(l: L, x: L::F, result: L::F, f: impl Fn(f64) -> f64) -> L::F {
    if !l.any(l.less(l.splat(TRIGONOMETRIC_LIMIT), l.abs(x))) {
        return result;
    }
    let (mut xs, mut out) = ([0.0; WIDTH], [0.0; WIDTH]);
    l.store(x, &mut xs);
    l.store(result, &mut out);
    for (x, out) in xs.iter().zip(&mut out) {
        if x.abs() > TRIGONOMETRIC_LIMIT {
            *out = f(f64::from(*x)) as f32;
        }
    }
    l.load(&out)
}

/// Sine of an angle in radians.
#[inline(always)]
pub(crate) fn sin<L: Lanes>(l: L, x: L::F) -> L::F {
    let result = l.select(l.equal(x, l.splat(0.0)), x, sine_of(l, x, 0));
    large_arguments(l, x, result, f64::sin)
}

/// Cosine of an angle in radians.
#[inline(always)]
pub(crate) fn cos<L: Lanes>(l: L, x: L::F) -> L::F {
    large_arguments(l, x, sine_of(l, x, 1), f64::cos)
}

/// Applies a two-operand scalar function lane by lane, where no vector formula keeps its accuracy.
#[inline(always)]
pub(crate) fn lanewise<L: Lanes>(l: L, a: L::F, b: L::F, f: impl Fn(f32, f32) -> f32) -> L::F {
    let (mut xs, mut ys) = ([0.0; WIDTH], [0.0; WIDTH]);
    l.store(a, &mut xs);
    l.store(b, &mut ys);
    for (x, y) in xs.iter_mut().zip(ys) {
        *x = f(*x, y);
    }
    l.load(&xs)
}

/// `a^b`: the scalar function, whose logarithm carries the extra digits a large exponent needs.
#[inline(always)]
pub(crate) fn pow<L: Lanes>(l: L, a: L::F, b: L::F) -> L::F {
    lanewise(l, a, b, f32::powf)
}

/// The remainder of truncated division, with the sign of `a`.
#[inline(always)]
pub(crate) fn rem<L: Lanes>(l: L, a: L::F, b: L::F) -> L::F {
    lanewise(l, a, b, |a, b| a % b)
}

/// The greater operand; NaN if either is NaN.
#[inline(always)]
pub(crate) fn max<L: Lanes>(l: L, a: L::F, b: L::F) -> L::F {
    // The lane maximum returns `b` for a NaN in either, so only a NaN in `a` needs care.
    l.select(l.equal(a, a), l.max(a, b), a)
}

/// The lesser operand; NaN if either is NaN.
#[inline(always)]
pub(crate) fn min<L: Lanes>(l: L, a: L::F, b: L::F) -> L::F {
    l.select(l.equal(a, a), l.min(a, b), a)
}

#[cfg(test)]
#[path = "vector_math_test.rs"]
mod tests;
