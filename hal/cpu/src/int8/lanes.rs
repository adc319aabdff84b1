//! Vectors of 32 bytes and eight floats, of which integer products are made.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::lanes::Isa;

/// 32 bytes and eight floats. All sets give the same bits.
pub(super) trait ByteLanes: Copy {
    /// 32 bytes.
    type B: Copy;
    /// Eight f32.
    type F: Copy;

    /// # Safety
    /// 32 bytes at `p` must be readable.
    unsafe fn load(self, p: *const u8) -> Self::B;
    /// The low four bits of sixteen bytes, then their high four.
    ///
    /// # Safety
    /// Sixteen bytes at `p` must be readable.
    unsafe fn nibbles(self, p: *const u8) -> Self::B;
    /// The bits of each byte from `AT` on that are in `mask`.
    fn bits<const AT: i32>(self, b: Self::B, mask: u8) -> Self::B;
    /// `low + 16 high - 32`, of four and two bits.
    fn six(self, low: Self::B, high: Self::B) -> Self::B;
    /// Lane i is the sum of the products of bytes 4i to 4i + 3: `w` is 0 to 15, `x` is signed and above -128.
    fn dot_nibbles(self, w: Self::B, x: Self::B) -> Self::F;
    /// The same for any signed `w`.
    fn dot_signed(self, w: Self::B, x: Self::B) -> Self::F;
    /// # Safety
    /// Eight floats at `p` must be readable.
    unsafe fn load_floats(self, p: *const f32) -> Self::F;
    fn splat(self, x: f32) -> Self::F;
    /// `low` in the first four lanes, `high` in the others.
    fn halves(self, low: f32, high: f32) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c` rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// Adds lane i and i + 4, then i + 2, i + 1.
    fn sum(self, a: Self::F) -> f32;
    /// The values of `N` neighbouring f16, one or two.
    ///
    /// # Safety
    /// Eight bytes at `p`, among them the halves, must be readable.
    unsafe fn halves_at<const N: usize>(self, p: *const u8) -> [f32; N];
    /// Asks for the cache line at `p`, which may be any address, to be brought near.
    fn prefetch(self, p: *const u8);
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Plain {
    fn dot(w: [i32; 32], x: [u8; 32]) -> [f32; 8] {
        std::array::from_fn(|i| {
            (4 * i..4 * i + 4).map(|at| w[at] * i32::from(x[at] as i8)).sum::<i32>() as f32
        })
    }
}

impl ByteLanes for Plain {
    type B = [u8; 32];
    type F = [f32; 8];

    #[inline(always)]
    unsafe fn load(self, p: *const u8) -> [u8; 32] {
        // SAFETY: the caller promises the bytes.
        unsafe { p.cast::<[u8; 32]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn nibbles(self, p: *const u8) -> [u8; 32] {
        // SAFETY: the caller promises the bytes.
        let bytes = unsafe { p.cast::<[u8; 16]>().read_unaligned() };
        std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
    }
    #[inline(always)]
    fn bits<const AT: i32>(self, b: [u8; 32], mask: u8) -> [u8; 32] {
        b.map(|b| b >> AT & mask)
    }
    #[inline(always)]
    fn six(self, low: [u8; 32], high: [u8; 32]) -> [u8; 32] {
        std::array::from_fn(|i| (low[i] | high[i] << 4).wrapping_sub(32))
    }
    #[inline(always)]
    fn dot_nibbles(self, w: [u8; 32], x: [u8; 32]) -> [f32; 8] {
        Plain::dot(w.map(i32::from), x)
    }
    #[inline(always)]
    fn dot_signed(self, w: [u8; 32], x: [u8; 32]) -> [f32; 8] {
        Plain::dot(w.map(|w| i32::from(w as i8)), x)
    }
    #[inline(always)]
    unsafe fn load_floats(self, p: *const f32) -> [f32; 8] {
        // SAFETY: the caller promises the floats.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn halves(self, low: f32, high: f32) -> [f32; 8] {
        std::array::from_fn(|i| if i < 4 { low } else { high })
    }
    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn fma(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    fn sum(self, a: [f32; 8]) -> f32 {
        let four: [f32; 4] = std::array::from_fn(|i| a[i] + a[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    unsafe fn halves_at<const N: usize>(self, p: *const u8) -> [f32; N] {
        // SAFETY: the caller promises the halves.
        std::array::from_fn(|i| unsafe {
            half::f16::from_bits(p.cast::<u16>().add(i).read_unaligned()).to_f32()
        })
    }
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}
}

/// AVX2, FMA and F16C; a value proves that the machine has them.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Bytes256(());

#[cfg(target_arch = "x86_64")]
impl Bytes256 {
    pub(super) fn of(isa: Isa) -> Option<Bytes256> {
        // AVX-512's token was made where AVX2 is, too.
        matches!(isa, Isa::Avx2(_) | Isa::Avx512(_)).then_some(Bytes256(()))
    }
}

#[cfg(target_arch = "x86_64")]
impl ByteLanes for Bytes256 {
    type B = __m256i;
    type F = __m256;

    #[inline(always)]
    unsafe fn load(self, p: *const u8) -> __m256i {
        // SAFETY: the token proves the features; the caller promises the bytes.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }
    #[inline(always)]
    unsafe fn nibbles(self, p: *const u8) -> __m256i {
        // SAFETY: the token proves the features; the caller promises the bytes.
        unsafe {
            let twice = _mm256_broadcastsi128_si256(_mm_loadu_si128(p.cast()));
            let shifted = _mm256_srlv_epi32(twice, _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4));
            _mm256_and_si256(shifted, _mm256_set1_epi8(15))
        }
    }
    #[inline(always)]
    fn bits<const AT: i32>(self, b: __m256i, mask: u8) -> __m256i {
        // SAFETY: the token proves the features.
        unsafe { _mm256_and_si256(_mm256_srli_epi16::<AT>(b), _mm256_set1_epi8((mask & (255 >> AT)) as i8)) }
    }
    #[inline(always)]
    fn six(self, low: __m256i, high: __m256i) -> __m256i {
        // SAFETY: the token proves the features.
        unsafe {
            let whole = _mm256_or_si256(low, _mm256_slli_epi16::<4>(high));
            _mm256_sub_epi8(whole, _mm256_set1_epi8(32))
        }
    }
    #[inline(always)]
    fn dot_nibbles(self, w: __m256i, x: __m256i) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe {
            let pairs = _mm256_maddubs_epi16(w, x);
            _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    fn dot_signed(self, w: __m256i, x: __m256i) -> __m256 {
        // Magnitudes, and what they are multiplied by with their signs: a pair is at most 2 * 128 * 127, which fits.
        // SAFETY: the token proves the features.
        unsafe {
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
            _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    unsafe fn load_floats(self, p: *const f32) -> __m256 {
        // SAFETY: the token proves the features; the caller promises the floats.
        unsafe { _mm256_loadu_ps(p) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn halves(self, low: f32, high: f32) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_set_m128(_mm_set1_ps(high), _mm_set1_ps(low)) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the token proves the features.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        // SAFETY: the token proves the features.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn halves_at<const N: usize>(self, p: *const u8) -> [f32; N] {
        // SAFETY: the token proves the features; the caller promises eight bytes.
        unsafe {
            let floats = _mm_cvtph_ps(_mm_loadl_epi64(p.cast()));
            let mut found = [_mm_cvtss_f32(floats); N];
            if N == 2 {
                found[1] = _mm_cvtss_f32(_mm_movehdup_ps(floats));
            }
            found
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}
