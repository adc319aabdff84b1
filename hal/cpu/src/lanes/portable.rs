use half::f16;

use super::{Lanes, WIDTH};

/// Arrays of sixteen, in plain Rust; where the compiler has vectors of its own, it uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portable;

type F = [f32; WIDTH];
type I = [i32; WIDTH];
type M = [bool; WIDTH];

#[inline(always)]
fn zip<A: Copy, B: Copy, C: Copy + Default>(
    a: [A; WIDTH],
    b: [B; WIDTH],
    f: impl Fn(A, B) -> C,
) -> [C; WIDTH] {
    let mut out = [C::default(); WIDTH];
    for i in 0..WIDTH {
        out[i] = f(a[i], b[i]);
    }
    out
}

/// Folds sixteen lanes in halves: `i` with `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
#[inline(always)]
fn fold(mut a: F, f: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            a[i] = f(a[i], a[i + half]);
        }
    }
    a[0]
}

/// `a * b + c` rounded once, or nearly: without a fused instruction the sum is taken in f64, where the product is
/// exact, which is far faster than the emulation behind `mul_add`.
#[inline(always)]
fn fused(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(target_arch = "aarch64") {
        a.mul_add(b, c)
    } else {
        (f64::from(a) * f64::from(b) + f64::from(c)) as f32
    }
}

impl Lanes for Portable {
    type F = F;
    type I = I;
    type M = M;
    const TILE: (usize, usize) = (4, 1);

    #[inline(always)]
    fn splat(self, x: f32) -> F {
        [x; WIDTH]
    }
    #[inline(always)]
    fn load(self, x: &F) -> F {
        *x
    }
    #[inline(always)]
    fn store(self, x: F, to: &mut F) {
        *to = x;
    }
    #[inline(always)]
    fn stream(self, x: F, to: &mut F) {
        *to = x;
    }
    #[inline(always)]
    fn load_f16(self, x: &[u16; WIDTH]) -> F {
        x.map(|x| f16::from_bits(x).to_f32())
    }
    #[inline(always)]
    fn store_f16(self, x: F, to: &mut [u16; WIDTH]) {
        *to = x.map(|x| f16::from_f32(x).to_bits());
    }
    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        let mut out = c;
        for i in 0..WIDTH {
            out[i] = fused(a[i], b[i], c[i]);
        }
        out
    }
    #[inline(always)]
    fn sqrt(self, a: F) -> F {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn round(self, a: F) -> F {
        a.map(f32::round_ties_even)
    }
    #[inline(always)]
    fn floor(self, a: F) -> F {
        a.map(f32::floor)
    }
    #[inline(always)]
    fn ceil(self, a: F) -> F {
        a.map(f32::ceil)
    }
    /// Two multiplications by powers of two, so that a denormal result is rounded once.
    #[inline(always)]
    fn scale(self, a: F, n: F) -> F {
        zip(a, n, |a, n| {
            let n = n as i32;
            let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
            a * power(n >> 1) * power(n - (n >> 1))
        })
    }
    #[inline(always)]
    fn less(self, a: F, b: F) -> M {
        zip(a, b, |a, b| a < b)
    }
    #[inline(always)]
    fn equal(self, a: F, b: F) -> M {
        zip(a, b, |a, b| a == b)
    }
    #[inline(always)]
    fn select(self, mask: M, a: F, b: F) -> F {
        let mut out = b;
        for i in 0..WIDTH {
            out[i] = if mask[i] { a[i] } else { b[i] };
        }
        out
    }
    #[inline(always)]
    fn any(self, mask: M) -> bool {
        mask.contains(&true)
    }
    #[inline(always)]
    fn splat_int(self, x: i32) -> I {
        [x; WIDTH]
    }
    #[inline(always)]
    fn load_int(self, x: &I) -> I {
        *x
    }
    #[inline(always)]
    fn bits(self, a: F) -> I {
        a.map(|x| x.to_bits() as i32)
    }
    #[inline(always)]
    fn float_of_bits(self, a: I) -> F {
        a.map(|x| f32::from_bits(x as u32))
    }
    #[inline(always)]
    fn to_int(self, a: F) -> I {
        a.map(|x| x.round_ties_even() as i32)
    }
    #[inline(always)]
    fn to_float(self, a: I) -> F {
        a.map(|x| x as f32)
    }
    #[inline(always)]
    fn add_int(self, a: I, b: I) -> I {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn and(self, a: I, b: I) -> I {
        zip(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or(self, a: I, b: I) -> I {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn xor(self, a: I, b: I) -> I {
        zip(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, a: I) -> I {
        a.map(|x| x << N)
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, a: I) -> I {
        a.map(|x| ((x as u32) >> N) as i32)
    }
    #[inline(always)]
    fn shift_right_signed<const N: u32>(self, a: I) -> I {
        a.map(|x| x >> N)
    }
    #[inline(always)]
    fn equal_int(self, a: I, b: I) -> M {
        zip(a, b, |a, b| a == b)
    }
    #[inline(always)]
    fn store_low_halves(self, a: I, to: &mut [u16; WIDTH]) {
        *to = a.map(|x| x as u16);
    }
    #[inline(always)]
    fn load_halves(self, x: &[u16; WIDTH]) -> I {
        x.map(i32::from)
    }
    #[inline(always)]
    fn sum(self, a: F) -> f32 {
        fold(a, |a, b| a + b)
    }
    #[inline(always)]
    fn greatest(self, a: F) -> f32 {
        fold(a, |a, b| if a > b { a } else { b })
    }
}
