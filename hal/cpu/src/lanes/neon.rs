use std::arch::aarch64::*;

use super::{Lanes, WIDTH};

/// Proof that the machine has NEON. Sixteen lanes are four registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neon(());

impl Neon {
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Neon(()))
    }
}

/// Methods that do the same to all registers of their operands.
macro_rules! all {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty { $f:expr })*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $ret {
            // SAFETY: the token proves the feature.
            std::array::from_fn(|i| unsafe { $f($($arg[i]),*) })
        })*
    };
}

/// Methods that are one expression of intrinsics.
macro_rules! intrinsics {
    ($(fn $name:ident $(<const $n:ident: u32>)? ($($arg:ident: $ty:ty),*) -> $ret:ty { $e:expr })*) => {
        $(#[inline(always)]
        fn $name $(<const $n: u32>)? (self, $($arg: $ty),*) -> $ret {
            // SAFETY: the token proves the feature; pointers come from references to sixteen values.
            unsafe { $e }
        })*
    };
}

type F = [float32x4_t; 4];
type I = [int32x4_t; 4];
type M = [uint32x4_t; 4];

/// A function of the register number.
#[inline(always)]
fn each<T>(f: impl FnMut(usize) -> T) -> [T; 4] {
    std::array::from_fn(f)
}

#[inline(always)]
fn greater(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: only called with the token's proof at hand.
    unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) }
}

impl Lanes for Neon {
    type F = F;
    type I = I;
    type M = M;
    const TILE: (usize, usize) = (6, 1);

    all! {
        fn add(a: F, b: F) -> F { vaddq_f32 }
        fn sub(a: F, b: F) -> F { vsubq_f32 }
        fn mul(a: F, b: F) -> F { vmulq_f32 }
        fn div(a: F, b: F) -> F { vdivq_f32 }
        fn fma(a: F, b: F, c: F) -> F { |a, b, c| vfmaq_f32(c, a, b) }
        fn sqrt(a: F) -> F { vsqrtq_f32 }
        fn min(a: F, b: F) -> F { |a, b| vbslq_f32(vcltq_f32(a, b), a, b) }
        fn max(a: F, b: F) -> F { |a, b| greater(a, b) }
        fn round(a: F) -> F { vrndnq_f32 }
        fn floor(a: F) -> F { vrndmq_f32 }
        fn ceil(a: F) -> F { vrndpq_f32 }
        fn less(a: F, b: F) -> M { vcltq_f32 }
        fn equal(a: F, b: F) -> M { vceqq_f32 }
        fn select(mask: M, a: F, b: F) -> F { vbslq_f32 }
        fn bits(a: F) -> I { vreinterpretq_s32_f32 }
        fn float_of_bits(a: I) -> F { vreinterpretq_f32_s32 }
        fn to_int(a: F) -> I { vcvtnq_s32_f32 }
        fn to_float(a: I) -> F { vcvtq_f32_s32 }
        fn add_int(a: I, b: I) -> I { vaddq_s32 }
        fn and(a: I, b: I) -> I { vandq_s32 }
        fn or(a: I, b: I) -> I { vorrq_s32 }
        fn xor(a: I, b: I) -> I { veorq_s32 }
        fn equal_int(a: I, b: I) -> M { vceqq_s32 }
    }

    intrinsics! {
        fn splat(x: f32) -> F { [vdupq_n_f32(x); 4] }
        fn load(x: &[f32; WIDTH]) -> F { each(|i| vld1q_f32(x.as_ptr().add(4 * i))) }
        fn store(x: F, to: &mut [f32; WIDTH]) -> () {
            for i in 0..4 {
                vst1q_f32(to.as_mut_ptr().add(4 * i), x[i]);
            }
        }
        fn load_f16(x: &[u16; WIDTH]) -> F {
            each(|i| vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x.as_ptr().add(4 * i)))))
        }
        fn store_f16(x: F, to: &mut [u16; WIDTH]) -> () {
            for i in 0..4 {
                vst1_u16(to.as_mut_ptr().add(4 * i), vreinterpret_u16_f16(vcvt_f16_f32(x[i])));
            }
        }
        fn any(mask: M) -> bool {
            vmaxvq_u32(vorrq_u32(vorrq_u32(mask[0], mask[1]), vorrq_u32(mask[2], mask[3]))) != 0
        }
        fn splat_int(x: i32) -> I { [vdupq_n_s32(x); 4] }
        fn load_int(x: &[i32; WIDTH]) -> I { each(|i| vld1q_s32(x.as_ptr().add(4 * i))) }
        fn shift_left<const N: u32>(a: I) -> I { each(|i| vshlq_s32(a[i], vdupq_n_s32(N as i32))) }
        fn shift_right<const N: u32>(a: I) -> I {
            each(|i| {
                let shifted = vshlq_u32(vreinterpretq_u32_s32(a[i]), vdupq_n_s32(-(N as i32)));
                vreinterpretq_s32_u32(shifted)
            })
        }
        fn shift_right_signed<const N: u32>(a: I) -> I { each(|i| vshlq_s32(a[i], vdupq_n_s32(-(N as i32)))) }
        fn store_low_halves(a: I, to: &mut [u16; WIDTH]) -> () {
            for i in 0..4 {
                vst1_u16(to.as_mut_ptr().add(4 * i), vmovn_u32(vreinterpretq_u32_s32(a[i])));
            }
        }
        fn load_halves(x: &[u16; WIDTH]) -> I {
            each(|i| vreinterpretq_s32_u32(vmovl_u16(vld1_u16(x.as_ptr().add(4 * i)))))
        }
        fn sum(a: F) -> f32 {{
            let four = vaddq_f32(vaddq_f32(a[0], a[2]), vaddq_f32(a[1], a[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }}
        fn greatest(a: F) -> f32 {{
            let four = greater(greater(a[0], a[2]), greater(a[1], a[3]));
            let two = greater(four, vextq_f32::<2>(four, four));
            vgetq_lane_f32::<0>(greater(two, vextq_f32::<1>(two, two)))
        }}
    }

    #[inline(always)]
    fn stream(self, x: F, to: &mut [f32; WIDTH]) {
        self.store(x, to);
    }

    /// Two multiplications by powers of two, so that a denormal result is rounded once.
    #[inline(always)]
    fn scale(self, a: F, n: F) -> F {
        let n = self.to_int(n);
        let half = self.shift_right_signed::<1>(n);
        // SAFETY: the token proves the feature.
        let rest = each(|i| unsafe { vsubq_s32(n[i], half[i]) });
        let power = |n| self.float_of_bits(self.shift_left::<23>(self.add_int(n, self.splat_int(127))));
        self.mul(self.mul(a, power(half)), power(rest))
    }
}
