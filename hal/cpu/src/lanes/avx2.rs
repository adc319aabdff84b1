use std::arch::x86_64::*;

use super::{Lanes, WIDTH};

/// Proof that the machine has AVX2, FMA and F16C. Sixteen lanes are two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Avx2(()))
    }
}

/// Adds lanes `i` and `i + 4`, then `i + 2`, then `i + 1`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum8(a: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// [`sum8`] of four vectors, with the same additions.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn sum8_of_four(a: [__m256; 4]) -> [f32; 4] {
    let halves =
        |a, b| _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b));
    // Lanes i and i + 4 of two vectors, then i and i + 2 of all four: a and c in the low half, b and d in the high one.
    let (ab, cd) = (halves(a[0], a[1]), halves(a[2], a[3]));
    let two =
        _mm256_add_ps(_mm256_shuffle_ps::<0b01_00_01_00>(ab, cd), _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd));
    let one = _mm256_add_ps(two, _mm256_movehdup_ps(two));
    let mut lanes = [0.0; 8];
    // SAFETY: eight lanes are written.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), one) };
    [lanes[0], lanes[4], lanes[2], lanes[6]]
}

/// Row `i` of the result is lane `i` of every row.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose8(mut a: [__m256; 8]) -> [__m256; 8] {
    // Pairs of rows, then quadruples: each half holds a transposed 4x4 block.
    for i in (0..8).step_by(2) {
        (a[i], a[i + 1]) = (_mm256_unpacklo_ps(a[i], a[i + 1]), _mm256_unpackhi_ps(a[i], a[i + 1]));
    }
    for i in [0, 4] {
        let [p, q, r, s] = [a[i], a[i + 1], a[i + 2], a[i + 3]].map(|x| _mm256_castps_pd(x));
        a[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(p, r));
        a[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(p, r));
        a[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(q, s));
        a[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(q, s));
    }
    for i in 0..4 {
        (a[i], a[4 + i]) =
            (_mm256_permute2f128_ps::<0x20>(a[i], a[4 + i]), _mm256_permute2f128_ps::<0x31>(a[i], a[4 + i]));
    }
    a
}

/// `to[j][i] = from[i][j]` for eight rows of eight.
///
/// # Safety
/// The rows must be readable and writable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transpose_quarter(from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
    // SAFETY: the caller promises the rows.
    unsafe {
        let rows = std::array::from_fn(|r| _mm256_loadu_ps(from.add(r * from_row)));
        for (c, column) in transpose8(rows).into_iter().enumerate() {
            _mm256_storeu_ps(to.add(c * to_row), column);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn greatest8(a: __m256) -> f32 {
    let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
    let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
}

/// The low halves of eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn low_halves(a: __m256i) -> __m128i {
    let kept = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
    let packed = _mm256_packus_epi32(kept, kept);
    _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b1000>(packed))
}

/// Methods that are one expression of intrinsics.
macro_rules! intrinsics {
    ($(fn $name:ident $(<const $n:ident: u32>)? ($($arg:ident: $ty:ty),*) -> $ret:ty { $e:expr })*) => {
        $(#[inline(always)]
        fn $name $(<const $n: u32>)? (self, $($arg: $ty),*) -> $ret {
            // SAFETY: the token proves the features; pointers come from references to sixteen values.
            unsafe { $e }
        })*
    };
}

/// Methods that do the same to both registers of their operands.
macro_rules! both {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty { $f:expr })*) => {
        $(#[inline(always)]
        fn $name(self, $($arg: $ty),*) -> $ret {
            // SAFETY: the token proves the features.
            unsafe { [$f($($arg[0]),*), $f($($arg[1]),*)] }
        })*
    };
}

type F = [__m256; 2];
type I = [__m256i; 2];

impl Lanes for Avx2 {
    type F = F;
    type I = I;
    type M = F;
    const TILE: (usize, usize) = (6, 1);

    both! {
        fn add(a: F, b: F) -> F { _mm256_add_ps }
        fn sub(a: F, b: F) -> F { _mm256_sub_ps }
        fn mul(a: F, b: F) -> F { _mm256_mul_ps }
        fn div(a: F, b: F) -> F { _mm256_div_ps }
        fn fma(a: F, b: F, c: F) -> F { _mm256_fmadd_ps }
        fn sqrt(a: F) -> F { _mm256_sqrt_ps }
        fn min(a: F, b: F) -> F { _mm256_min_ps }
        fn max(a: F, b: F) -> F { _mm256_max_ps }
        fn round(a: F) -> F { _mm256_round_ps::<0x08> }
        fn floor(a: F) -> F { _mm256_round_ps::<0x09> }
        fn ceil(a: F) -> F { _mm256_round_ps::<0x0a> }
        fn less(a: F, b: F) -> F { _mm256_cmp_ps::<_CMP_LT_OQ> }
        fn equal(a: F, b: F) -> F { _mm256_cmp_ps::<_CMP_EQ_OQ> }
        fn bits(a: F) -> I { _mm256_castps_si256 }
        fn float_of_bits(a: I) -> F { _mm256_castsi256_ps }
        fn to_int(a: F) -> I { _mm256_cvtps_epi32 }
        fn to_float(a: I) -> F { _mm256_cvtepi32_ps }
        fn add_int(a: I, b: I) -> I { _mm256_add_epi32 }
        fn and(a: I, b: I) -> I { _mm256_and_si256 }
        fn or(a: I, b: I) -> I { _mm256_or_si256 }
        fn xor(a: I, b: I) -> I { _mm256_xor_si256 }
    }

    intrinsics! {
        fn splat(x: f32) -> F { [_mm256_set1_ps(x); 2] }
        fn load(x: &[f32; WIDTH]) -> F { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
        fn store(x: F, to: &mut [f32; WIDTH]) -> () {{
            _mm256_storeu_ps(to.as_mut_ptr(), x[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), x[1]);
        }}
        fn load_f16(x: &[u16; WIDTH]) -> F {{
            let half = |at: usize| _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().add(at).cast()));
            [half(0), half(8)]
        }}
        fn store_f16(x: F, to: &mut [u16; WIDTH]) -> () {{
            let to = to.as_mut_ptr();
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[0]));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x[1]));
        }}
        fn select(mask: F, a: F, b: F) -> F {
            [_mm256_blendv_ps(b[0], a[0], mask[0]), _mm256_blendv_ps(b[1], a[1], mask[1])]
        }
        fn any(mask: F) -> bool { _mm256_movemask_ps(_mm256_or_ps(mask[0], mask[1])) != 0 }
        fn splat_int(x: i32) -> I { [_mm256_set1_epi32(x); 2] }
        fn load_int(x: &[i32; WIDTH]) -> I {
            [_mm256_loadu_si256(x.as_ptr().cast()), _mm256_loadu_si256(x.as_ptr().add(8).cast())]
        }
        fn shift_left<const N: u32>(a: I) -> I {
            [_mm256_sll_epi32(a[0], _mm_cvtsi32_si128(N as i32)), _mm256_sll_epi32(a[1], _mm_cvtsi32_si128(N as i32))]
        }
        fn shift_right<const N: u32>(a: I) -> I {
            [_mm256_srl_epi32(a[0], _mm_cvtsi32_si128(N as i32)), _mm256_srl_epi32(a[1], _mm_cvtsi32_si128(N as i32))]
        }
        fn shift_right_signed<const N: u32>(a: I) -> I {
            [_mm256_sra_epi32(a[0], _mm_cvtsi32_si128(N as i32)), _mm256_sra_epi32(a[1], _mm_cvtsi32_si128(N as i32))]
        }
        fn equal_int(a: I, b: I) -> F {
            [_mm256_castsi256_ps(_mm256_cmpeq_epi32(a[0], b[0])), _mm256_castsi256_ps(_mm256_cmpeq_epi32(a[1], b[1]))]
        }
        fn store_low_halves(a: I, to: &mut [u16; WIDTH]) -> () {{
            _mm_storeu_si128(to.as_mut_ptr().cast(), low_halves(a[0]));
            _mm_storeu_si128(to.as_mut_ptr().add(8).cast(), low_halves(a[1]));
        }}
        fn load_halves(x: &[u16; WIDTH]) -> I {{
            let half = |at: usize| _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().add(at).cast()));
            [half(0), half(8)]
        }}
        fn sum(a: F) -> f32 { sum8(_mm256_add_ps(a[0], a[1])) }
        fn greatest(a: F) -> f32 { greatest8(_mm256_max_ps(a[0], a[1])) }
    }

    #[inline(always)]
    fn stream(self, x: F, to: &mut [f32; WIDTH]) {
        let to = to.as_mut_ptr();
        // SAFETY: the token proves the features; the aligned form is used on aligned memory only.
        unsafe {
            if to.addr().is_multiple_of(32) {
                _mm256_stream_ps(to, x[0]);
                _mm256_stream_ps(to.add(8), x[1]);
            } else {
                _mm256_storeu_ps(to, x[0]);
                _mm256_storeu_ps(to.add(8), x[1]);
            }
        }
    }

    /// By quarters: the registers hold eight rows of eight.
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        for (i, j) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
            // SAFETY: the token proves the features; the caller promises the rows.
            unsafe { transpose_quarter(from.add(i * from_row + j), from_row, to.add(j * to_row + i), to_row) }
        }
    }

    /// Two multiplications by powers of two, so that a denormal result is rounded once.
    #[inline(always)]
    fn scale(self, a: F, n: F) -> F {
        let n = self.to_int(n);
        let half = self.shift_right_signed::<1>(n);
        let rest = [0, 1].map(|i| {
            // SAFETY: the token proves the features.
            unsafe { _mm256_sub_epi32(n[i], half[i]) }
        });
        let power = |n| self.float_of_bits(self.shift_left::<23>(self.add_int(n, self.splat_int(127))));
        self.mul(self.mul(a, power(half)), power(rest))
    }
}
