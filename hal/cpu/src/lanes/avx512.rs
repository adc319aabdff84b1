use std::arch::x86_64::*;

use super::{Lanes, WIDTH};

/// Proof that the machine has AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Avx512(()))
    }
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

impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;
    type M = __mmask16;
    const TILE: (usize, usize) = (4, 4);

    intrinsics! {
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn load(x: &[f32; WIDTH]) -> __m512 { _mm512_loadu_ps(x.as_ptr()) }
        fn store(x: __m512, to: &mut [f32; WIDTH]) -> () { _mm512_storeu_ps(to.as_mut_ptr(), x) }
        fn load_f16(x: &[u16; WIDTH]) -> __m512 {
            _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast()))
        }
        fn store_f16(x: __m512, to: &mut [u16; WIDTH]) -> () {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x))
        }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn sqrt(a: __m512) -> __m512 { _mm512_sqrt_ps(a) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn round(a: __m512) -> __m512 { _mm512_roundscale_ps::<0x08>(a) }
        fn floor(a: __m512) -> __m512 { _mm512_roundscale_ps::<0x09>(a) }
        fn ceil(a: __m512) -> __m512 { _mm512_roundscale_ps::<0x0a>(a) }
        fn scale(a: __m512, n: __m512) -> __m512 { _mm512_scalef_ps(a, n) }
        fn less(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b) }
        fn equal(a: __m512, b: __m512) -> __mmask16 { _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b) }
        fn select(mask: __mmask16, a: __m512, b: __m512) -> __m512 { _mm512_mask_blend_ps(mask, b, a) }
        fn splat_int(x: i32) -> __m512i { _mm512_set1_epi32(x) }
        fn load_int(x: &[i32; WIDTH]) -> __m512i { _mm512_loadu_si512(x.as_ptr().cast()) }
        fn bits(a: __m512) -> __m512i { _mm512_castps_si512(a) }
        fn float_of_bits(a: __m512i) -> __m512 { _mm512_castsi512_ps(a) }
        fn to_int(a: __m512) -> __m512i { _mm512_cvtps_epi32(a) }
        fn to_float(a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        fn add_int(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn and(a: __m512i, b: __m512i) -> __m512i { _mm512_and_si512(a, b) }
        fn or(a: __m512i, b: __m512i) -> __m512i { _mm512_or_si512(a, b) }
        fn xor(a: __m512i, b: __m512i) -> __m512i { _mm512_xor_si512(a, b) }
        fn shift_left<const N: u32>(a: __m512i) -> __m512i { _mm512_slli_epi32::<N>(a) }
        fn shift_right<const N: u32>(a: __m512i) -> __m512i { _mm512_srli_epi32::<N>(a) }
        fn shift_right_signed<const N: u32>(a: __m512i) -> __m512i { _mm512_srai_epi32::<N>(a) }
        fn equal_int(a: __m512i, b: __m512i) -> __mmask16 { _mm512_cmpeq_epi32_mask(a, b) }
        fn store_low_halves(a: __m512i, to: &mut [u16; WIDTH]) -> () {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(a))
        }
        fn load_halves(x: &[u16; WIDTH]) -> __m512i {
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()))
        }
        fn sum(a: __m512) -> f32 {
            super::avx2::sum8(_mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a)))
        }
        fn greatest(a: __m512) -> f32 { _mm512_reduce_max_ps(a) }
    }

    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_row: usize, to: *mut f32, to_row: usize) {
        // SAFETY: the token proves the features; the caller promises the rows.
        unsafe {
            let mut a: [__m512; WIDTH] = std::array::from_fn(|i| _mm512_loadu_ps(from.add(i * from_row)));
            // Pairs of rows, then quadruples: each 128-bit part holds a transposed 4x4 block.
            for i in (0..WIDTH).step_by(2) {
                (a[i], a[i + 1]) = (_mm512_unpacklo_ps(a[i], a[i + 1]), _mm512_unpackhi_ps(a[i], a[i + 1]));
            }
            for i in (0..WIDTH).step_by(4) {
                let [p, q, r, s] = [a[i], a[i + 1], a[i + 2], a[i + 3]].map(|x| _mm512_castps_pd(x));
                a[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(p, r));
                a[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(p, r));
                a[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(q, s));
                a[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(q, s));
            }
            // The blocks themselves are transposed: row group g, part p goes to row group p, part g.
            for j in 0..4 {
                let [p, q, r, s] = [a[j], a[4 + j], a[8 + j], a[12 + j]];
                let (low_pq, high_pq) =
                    (_mm512_shuffle_f32x4::<0x44>(p, q), _mm512_shuffle_f32x4::<0xee>(p, q));
                let (low_rs, high_rs) =
                    (_mm512_shuffle_f32x4::<0x44>(r, s), _mm512_shuffle_f32x4::<0xee>(r, s));
                _mm512_storeu_ps(to.add(j * to_row), _mm512_shuffle_f32x4::<0x88>(low_pq, low_rs));
                _mm512_storeu_ps(to.add((4 + j) * to_row), _mm512_shuffle_f32x4::<0xdd>(low_pq, low_rs));
                _mm512_storeu_ps(to.add((8 + j) * to_row), _mm512_shuffle_f32x4::<0x88>(high_pq, high_rs));
                _mm512_storeu_ps(to.add((12 + j) * to_row), _mm512_shuffle_f32x4::<0xdd>(high_pq, high_rs));
            }
        }
    }
    #[inline(always)]
    fn any(self, mask: __mmask16) -> bool {
        mask != 0
    }
    #[inline(always)]
    fn stream(self, x: __m512, to: &mut [f32; WIDTH]) {
        let to = to.as_mut_ptr();
        // SAFETY: the token proves the features; the aligned form is used on aligned memory only.
        unsafe {
            if to.addr().is_multiple_of(64) {
                _mm512_stream_ps(to, x);
            } else {
                _mm512_storeu_ps(to, x);
            }
        }
    }
    #[inline(always)]
    fn load_first(self, x: &[f32], fill: f32) -> __m512 {
        let mask = first(x.len());
        // SAFETY: the token proves the features; masked lanes are not read.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask, x.as_ptr()) }
    }
    #[inline(always)]
    fn store_first(self, x: __m512, to: &mut [f32]) {
        let mask = first(to.len());
        // SAFETY: the token proves the features; masked lanes are not written.
        unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, x) }
    }
}

/// The mask of the first `n` lanes.
#[inline(always)]
fn first(n: usize) -> __mmask16 {
    if n >= WIDTH { u16::MAX } else { (1u16 << n) - 1 }
}
