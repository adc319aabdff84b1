//! Products of bytes, four to a lane, which are added without rounding.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2, Avx512};
use crate::lanes::{Isa, Lanes, Portable, WIDTH};

use super::unit::DotLanes;

/// What products of bytes need of an instruction set beyond [`DotLanes`]; a value proves that the machine has it.
pub(crate) trait Bytes<L: Lanes>: Copy {
    /// Adds to each lane of `acc` the products of the four bytes of `u`, which are unsigned, with those of `s`, which are
    /// signed.
    fn dot(self, l: L, acc: L::I, u: L::I, s: L::I) -> L::I;

    /// Word `j` of the sixteen bytes at `p + i * row` in lane `i` of vector `j`.
    ///
    /// # Safety
    /// The bytes of sixteen rows must be readable.
    unsafe fn words(self, l: L, p: *const u8, row: usize) -> [L::I; 4];

    /// The lowest byte of each lane.
    fn low_bytes(self, l: L, x: L::I) -> [u8; WIDTH];

    /// The values of the lower and of the upper half of each lane, which are f16.
    #[inline(always)]
    fn halves(self, l: L, x: L::I) -> [L::F; 2] {
        let mut low = [0; WIDTH];
        l.store_low_halves(x, &mut low);
        let mut high = [0; WIDTH];
        l.store_low_halves(l.shift_right::<16>(x), &mut high);
        [l.load_f16(&low), l.load_f16(&high)]
    }
}

/// Plain Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain;

impl Bytes<Portable> for Plain {
    #[inline(always)]
    fn dot(self, _: Portable, acc: [i32; WIDTH], u: [i32; WIDTH], s: [i32; WIDTH]) -> [i32; WIDTH] {
        std::array::from_fn(|i| {
            let (u, s) = (u[i].to_le_bytes(), s[i].to_le_bytes());
            acc[i] + (0..4).map(|at| i32::from(u[at]) * i32::from(s[at] as i8)).sum::<i32>()
        })
    }

    unsafe fn words(self, _: Portable, p: *const u8, row: usize) -> [[i32; WIDTH]; 4] {
        let mut lanes = [[0; WIDTH]; 4];
        for i in 0..WIDTH {
            // SAFETY: the caller promises the row.
            let words = unsafe { p.add(i * row).cast::<[i32; 4]>().read_unaligned() };
            for (lanes, word) in lanes.iter_mut().zip(words) {
                lanes[i] = word;
            }
        }
        lanes
    }

    #[inline(always)]
    fn low_bytes(self, _: Portable, x: [i32; WIDTH]) -> [u8; WIDTH] {
        x.map(|x| x as u8)
    }
}

/// AVX-VNNI.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vnni256(());

#[cfg(target_arch = "x86_64")]
impl Bytes<Avx2> for Vnni256 {
    #[inline(always)]
    fn dot(self, _: Avx2, acc: [__m256i; 2], u: [__m256i; 2], s: [__m256i; 2]) -> [__m256i; 2] {
        // SAFETY: a value proves the instruction.
        std::array::from_fn(|i| unsafe { _mm256_dpbusd_avx_epi32(acc[i], u[i], s[i]) })
    }

    #[inline(always)]
    unsafe fn words(self, _: Avx2, p: *const u8, row: usize) -> [[__m256i; 2]; 4] {
        // SAFETY: the token proves the features; the caller promises the rows.
        unsafe {
            let (low, high) = (words256(p, row), words256(p.add(8 * row), row));
            [[low[0], high[0]], [low[1], high[1]], [low[2], high[2]], [low[3], high[3]]]
        }
    }

    #[inline(always)]
    fn low_bytes(self, _: Avx2, [low, high]: [__m256i; 2]) -> [u8; WIDTH] {
        let mut bytes = [0; WIDTH];
        // SAFETY: the token proves the features; sixteen bytes are written.
        unsafe {
            let mask = _mm256_set1_epi32(255);
            let halves = _mm256_packus_epi32(_mm256_and_si256(low, mask), _mm256_and_si256(high, mask));
            let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(halves);
            let (low, high) = (_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm_packus_epi16(low, high));
        }
        bytes
    }
}

/// AVX-512 VNNI.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vnni512(());

#[cfg(target_arch = "x86_64")]
impl Bytes<Avx512> for Vnni512 {
    #[inline(always)]
    fn dot(self, _: Avx512, acc: __m512i, u: __m512i, s: __m512i) -> __m512i {
        // SAFETY: a value proves the instruction.
        unsafe { _mm512_dpbusd_epi32(acc, u, s) }
    }

    #[inline(always)]
    unsafe fn words(self, _: Avx512, p: *const u8, row: usize) -> [__m512i; 4] {
        // SAFETY: the token proves the features; the caller promises the rows.
        unsafe { words512(p, row) }
    }

    #[inline(always)]
    fn low_bytes(self, _: Avx512, x: __m512i) -> [u8; WIDTH] {
        let mut bytes = [0; WIDTH];
        // SAFETY: the token proves the features; sixteen bytes are written.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(x)) }
        bytes
    }

    #[inline(always)]
    fn halves(self, _: Avx512, x: __m512i) -> [__m512; 2] {
        // SAFETY: the token proves the features.
        unsafe {
            let low = _mm512_cvtepi32_epi16(x);
            let high = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(x));
            [_mm512_cvtph_ps(low), _mm512_cvtph_ps(high)]
        }
    }
}

/// Word `j` of the sixteen bytes at `p + i * row` in lane `i` of vector `j`, of eight rows. A function with its features and without
/// closures: one that is not inlined in time calls every instruction.
///
/// # Safety
/// The bytes of eight rows must be readable.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn words256(p: *const u8, row: usize) -> [__m256i; 4] {
    let mut rows = [_mm256_setzero_si256(); 4];
    for (i, four) in rows.iter_mut().enumerate() {
        // SAFETY: the caller promises the rows.
        unsafe {
            let v = _mm256_castsi128_si256(_mm_loadu_si128(p.add(i * row).cast()));
            *four = _mm256_inserti128_si256::<1>(v, _mm_loadu_si128(p.add((4 + i) * row).cast()));
        }
    }
    let (a, b) = (_mm256_unpacklo_epi32(rows[0], rows[1]), _mm256_unpacklo_epi32(rows[2], rows[3]));
    let (c, d) = (_mm256_unpackhi_epi32(rows[0], rows[1]), _mm256_unpackhi_epi32(rows[2], rows[3]));
    [
        _mm256_unpacklo_epi64(a, b),
        _mm256_unpackhi_epi64(a, b),
        _mm256_unpacklo_epi64(c, d),
        _mm256_unpackhi_epi64(c, d),
    ]
}

/// As [`words256`], of sixteen rows.
///
/// # Safety
/// The bytes of sixteen rows must be readable.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn words512(p: *const u8, row: usize) -> [__m512i; 4] {
    // Every fourth row to a vector: then a quarter of each word's vector is four neighbouring rows.
    let mut rows = [_mm512_setzero_si512(); 4];
    for (i, four) in rows.iter_mut().enumerate() {
        // SAFETY: the caller promises the rows.
        unsafe {
            let v = _mm512_castsi128_si512(_mm_loadu_si128(p.add(i * row).cast()));
            let v = _mm512_inserti32x4::<1>(v, _mm_loadu_si128(p.add((4 + i) * row).cast()));
            let v = _mm512_inserti32x4::<2>(v, _mm_loadu_si128(p.add((8 + i) * row).cast()));
            *four = _mm512_inserti32x4::<3>(v, _mm_loadu_si128(p.add((12 + i) * row).cast()));
        }
    }
    let (a, b) = (_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3]));
    let (c, d) = (_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3]));
    [
        _mm512_unpacklo_epi64(a, b),
        _mm512_unpackhi_epi64(a, b),
        _mm512_unpacklo_epi64(c, d),
        _mm512_unpackhi_epi64(c, d),
    ]
}

/// An instruction set that multiplies bytes four to a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteIsa {
    /// One by one: what the others are held to.
    Plain(Portable, Plain),
    #[cfg(target_arch = "x86_64")]
    Vnni256(Avx2, Vnni256),
    #[cfg(target_arch = "x86_64")]
    Vnni512(Avx512, Vnni512),
}

impl ByteIsa {
    /// The one with the lanes of `isa`, if this machine has an instruction for it.
    pub(crate) fn of(isa: Isa) -> Option<ByteIsa> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(l) => is_x86_feature_detected!("avxvnni").then_some(ByteIsa::Vnni256(l, Vnni256(()))),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(l) => {
                is_x86_feature_detected!("avx512vnni").then_some(ByteIsa::Vnni512(l, Vnni512(())))
            }
            _ => None,
        }
    }
}

/// A computation over products of bytes; mark `run` and what it calls `#[inline(always)]`. The registers hold
/// a tile of `M` rows by one vector, or of `W` rows by two.
pub(crate) trait ByteKernel {
    /// Computes.
    fn run<L: DotLanes, B: Bytes<L>, const M: usize, const W: usize>(self, l: L, b: B);
}

/// Runs `kernel`.
pub(crate) fn with_bytes<K: ByteKernel>(isa: ByteIsa, kernel: K) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avxvnni,avx2,fma,f16c")]
    fn vnni256<K: ByteKernel>(kernel: K, l: Avx2, b: Vnni256) {
        kernel.run::<_, _, 2, 1>(l, b);
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512vnni,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
    fn vnni512<K: ByteKernel>(kernel: K, l: Avx512, b: Vnni512) {
        kernel.run::<_, _, 6, 4>(l, b);
    }
    match isa {
        ByteIsa::Plain(l, b) => kernel.run::<_, _, 2, 1>(l, b),
        // SAFETY: the tokens were made after the machine's features were detected.
        #[cfg(target_arch = "x86_64")]
        ByteIsa::Vnni256(l, b) => unsafe { vnni256(kernel, l, b) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        ByteIsa::Vnni512(l, b) => unsafe { vnni512(kernel, l, b) },
    }
}
