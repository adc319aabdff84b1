use super::*;
use crate::lanes::{on_every_isa, simd};

macro_rules! over_slice {
    ($($name:ident),*) => { $(
        mod $name {
            use super::*;
            simd! {
                pub(super) fn map(l, x: &[f32; WIDTH]) -> [f32; WIDTH] {
                    let mut y = [0.0; WIDTH];
                    l.store(crate::vector_math::$name(l, l.load(x)), &mut y);
                    y
                }
            }
        }
    )* };
}
over_slice!(exp, exp_negative, expm1, log, log1p, tanh, logistic, erf, rsqrt, sin, cos);

/// Every 1,021st bit pattern of either sign (so all exponents, denormals and NaN), the specials, and a dense
/// sweep of the interval where the function bends.
fn arguments() -> Vec<f32> {
    let mut all: Vec<f32> = (0..u32::MAX / 1021).map(|i| f32::from_bits(i * 1021)).collect();
    all.extend((0..1_000_000).map(|i| (i as f32 - 500_000.0) * 2.3e-5));
    all.extend([
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        f32::MAX,
    ]);
    all.extend([88.722_84, 88.722_85, -87.336_55, -103.97, -104.0, 9.0, 0.9, 4.0, f32::from_bits(1)]);
    all
}

/// The distance in units of the last place of the true value.
fn ulp_error(got: f32, truth: f64) -> f64 {
    let nearest = truth as f32;
    if nearest.is_nan() || nearest.is_infinite() || got.is_nan() || got.is_infinite() {
        let same = nearest.is_nan() && got.is_nan() || nearest == got;
        return if same { 0.0 } else { f64::INFINITY };
    }
    let exponent = (truth.abs().max(f64::from(f32::MIN_POSITIVE))).log2().floor() as i32;
    (f64::from(got) - truth).abs() / 2f64.powi(exponent - 23)
}

fn check(name: &str, bound: f64, map: impl Fn(&[f32; WIDTH]) -> [f32; WIDTH], truth: impl Fn(f64) -> f64) {
    check_over(arguments(), name, bound, map, truth);
}

fn check_over(
    mut arguments: Vec<f32>,
    name: &str,
    bound: f64,
    map: impl Fn(&[f32; WIDTH]) -> [f32; WIDTH],
    truth: impl Fn(f64) -> f64,
) {
    let some = arguments[0];
    arguments.resize(arguments.len().next_multiple_of(WIDTH), some);
    on_every_isa(|isa| {
        let mut worst = (0.0, 0.0, 0.0);
        for xs in arguments.as_chunks::<WIDTH>().0 {
            for (x, y) in xs.iter().zip(map(xs)) {
                let error = ulp_error(y, truth(f64::from(*x)));
                if error > worst.0 {
                    worst = (error, *x, y);
                }
            }
        }
        let (error, x, y) = worst;
        assert!(error <= bound, "{name}({x:e}) = {y:e} is {error:.2} ULP off on {isa:?}");
    });
}

#[test]
fn exponentials() {
    check("exp", 1.5, exp::map, f64::exp);
    check("expm1", 2.5, expm1::map, f64::exp_m1);
    check("logistic", 2.5, logistic::map, |x| 1.0 / (1.0 + (-x).exp()));
    check("tanh", 4.0, tanh::map, f64::tanh);
}

#[test]
fn exponentials_of_negative_numbers_end_in_zero() {
    let mut normal = arguments();
    normal.retain(|x| x.is_nan() || (-87.3..=0.0).contains(x));
    check_over(normal, "exp_negative", 1.5, exp_negative::map, f64::exp);
    on_every_isa(|isa| {
        let y = exp_negative::map(&[f32::NEG_INFINITY; WIDTH]);
        assert_eq!(y, [0.0; WIDTH], "{isa:?}");
        for i in 0..4096u32 {
            let x = -87.3 - i as f32 * 1e-3;
            let y = exp_negative::map(&[x; WIDTH])[0];
            assert!((0.0..=1.3 * f32::MIN_POSITIVE).contains(&y), "{isa:?} {x} {y:e}");
        }
    });
}

#[test]
fn logarithms() {
    check("log", 1.5, log::map, f64::ln);
    check("log1p", 2.0, log1p::map, f64::ln_1p);
}

#[test]
fn error_function_and_roots() {
    check("erf", 2.0, erf::map, libm::erf);
    check("rsqrt", 1.5, rsqrt::map, |x| 1.0 / x.sqrt());
}

#[test]
fn trigonometry() {
    check("sin", 2.0, sin::map, f64::sin);
    check("cos", 2.0, cos::map, f64::cos);
}

simd! {
    fn extremes(l, a: &[f32; WIDTH], b: &[f32; WIDTH]) -> ([f32; WIDTH], [f32; WIDTH]) {
        let (mut least, mut greatest) = ([0.0; WIDTH], [0.0; WIDTH]);
        l.store(min(l, l.load(a), l.load(b)), &mut least);
        l.store(max(l, l.load(a), l.load(b)), &mut greatest);
        (least, greatest)
    }
}

#[test]
fn extremes_propagate_nan_from_either_side() {
    let mut a = [1.0; WIDTH];
    let mut b = [2.0; WIDTH];
    (a[3], b[5]) = (f32::NAN, f32::NAN);
    on_every_isa(|isa| {
        let (least, greatest) = extremes(&a, &b);
        for i in 0..WIDTH {
            let nan = i == 3 || i == 5;
            assert_eq!((least[i].is_nan(), greatest[i].is_nan()), (nan, nan), "{isa:?}");
            assert!(nan || (least[i], greatest[i]) == (1.0, 2.0));
        }
    });
}
