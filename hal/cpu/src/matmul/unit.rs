//! What the dot kernels need of an instruction set beyond [`Lanes`], and the two units of multiplication.
//!
//! A unit is the 32 bits that one lane holds of an operand: one f32, or two neighbouring bf16 of the reduced axis.

#[cfg(target_arch = "x86_64")]
use std::arch::{asm, x86_64::*};

#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2, Avx512};
use crate::lanes::{Isa, Lanes, Portable, WIDTH};

use super::bytes::{ByteIsa, Plain};

/// Loads and the decoding of weights that only dot products use.
pub(crate) trait DotLanes: Lanes {
    /// Sixteen units from unaligned memory.
    ///
    /// # Safety
    /// 64 bytes at `p` must be readable.
    #[inline(always)]
    unsafe fn load_units(self, p: *const u8) -> Self::I {
        // SAFETY: the caller promises 64 readable bytes.
        self.load_int(&unsafe { p.cast::<[i32; WIDTH]>().read_unaligned() })
    }
    /// Sixteen bytes, zero-extended.
    fn load_u8(self, x: &[u8; WIDTH]) -> Self::I;
    /// Sixteen bytes, sign-extended.
    fn load_i8(self, x: &[u8; WIDTH]) -> Self::I;
    /// `scale * q + min`, rounded once, where q is the low (`high` false) or the high four bits of each byte; `scale` and
    /// `min` are the same in every lane.
    #[inline(always)]
    fn nibbles(self, bytes: &[u8; WIDTH], high: bool, [scale, min]: [Self::F; 2]) -> Self::F {
        let bytes = self.load_u8(bytes);
        let q = if high { self.shift_right::<4>(bytes) } else { self.and(bytes, self.splat_int(15)) };
        self.fma(scale, self.to_float(q), min)
    }
    /// The value of an f16 in every lane.
    #[inline(always)]
    fn splat_f16(self, bits: u16) -> Self::F {
        self.load_f16(&[bits; WIDTH])
    }
    /// Reads the `N` f16 at the beginning of each of `blocks` blocks of `STEP` halves from `p` on, where that pays: number
    /// `b` of kind `n` goes to `to[n * 32 + b]`. `N` is 1 or 2, `STEP / N` odd, and there are at most 32 blocks. What lies
    /// past the last block's in `to` may be overwritten.
    ///
    /// # Safety
    /// `readable` bytes at `p`, among them the blocks, must be readable.
    #[inline(always)]
    unsafe fn open_scales<const STEP: usize, const N: usize>(
        self,
        p: *const u8,
        blocks: usize,
        readable: usize,
        to: &mut [f32; 64],
    ) {
        let _ = (p, blocks, readable, to);
    }
    /// The `N` f16 at the beginning of the block at `p`, number `b` of those opened, each in every lane.
    ///
    /// # Safety
    /// The block must be readable, longer than eight bytes, and opened to `opened`.
    #[inline(always)]
    unsafe fn scales<const N: usize>(self, p: *const u8, opened: *const f32, b: usize) -> [Self::F; N] {
        let _ = (opened, b);
        // SAFETY: the caller promises the block.
        std::array::from_fn(|n| self.splat_f16(unsafe { p.cast::<u16>().add(n).read_unaligned() }))
    }
    /// [`Lanes::sum`] of four vectors.
    #[inline(always)]
    fn sum_four(self, a: [Self::F; 4]) -> [f32; 4] {
        [self.sum(a[0]), self.sum(a[1]), self.sum(a[2]), self.sum(a[3])]
    }
    /// The products of `M` rows of units at `x` and `W` at `w`, each row `vectors` long and `x_row` or `w_row` bytes
    /// after the last, summed lane by lane.
    ///
    /// # Safety
    /// The rows must be readable.
    #[inline(always)]
    unsafe fn dots<U: Unit<Self>, const M: usize, const W: usize>(
        self,
        unit: U,
        (x, x_row): (*const u8, usize),
        (w, w_row): (*const u8, usize),
        vectors: usize,
    ) -> [[Self::F; W]; M] {
        // SAFETY: the caller promises the rows.
        unsafe { dots(self, unit, (x, x_row), (w, w_row), vectors) }
    }
    /// Asks for the cache line at `p`, which may be any address, to be brought near.
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        let _ = p;
    }
}

/// [`DotLanes::dots`], one whole vector after the other.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn dots<L: DotLanes, U: Unit<L>, const M: usize, const W: usize>(
    l: L,
    unit: U,
    (x, x_row): (*const u8, usize),
    (w, w_row): (*const u8, usize),
    vectors: usize,
) -> [[L::F; W]; M] {
    let mut rows = [x; M];
    for r in 1..M {
        rows[r] = rows[r - 1].wrapping_add(x_row);
    }
    // Seen through, the addresses would be added up anew for every vector, on ports that products need.
    let rows = std::hint::black_box(rows);
    let mut acc = [[l.splat(0.0); W]; M];
    for v in 0..vectors {
        for c in 0..W {
            // SAFETY: the caller promises the rows.
            let wv = unsafe { l.load_units(w.add(c * w_row + v * 64)) };
            for r in 0..M {
                // SAFETY: as above.
                let xv = unsafe { l.load_units(rows[r].add(v * 64)) };
                acc[r][c] = unit.mac(l, acc[r][c], xv, wv);
            }
        }
    }
    acc
}

impl DotLanes for Portable {
    #[inline(always)]
    fn load_u8(self, x: &[u8; WIDTH]) -> [i32; WIDTH] {
        x.map(i32::from)
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; WIDTH]) -> [i32; WIDTH] {
        x.map(|x| i32::from(x as i8))
    }
    #[inline(always)]
    fn splat_f16(self, bits: u16) -> [f32; WIDTH] {
        [half::f16::from_bits(bits).to_f32(); WIDTH]
    }
}

#[cfg(target_arch = "x86_64")]
impl DotLanes for Avx2 {
    #[inline(always)]
    fn load_u8(self, x: &[u8; WIDTH]) -> [__m256i; 2] {
        let p: *const u8 = x.as_ptr();
        // SAFETY: the token proves the features; sixteen bytes are read.
        unsafe {
            [
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())),
                _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.add(8).cast())),
            ]
        }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; WIDTH]) -> [__m256i; 2] {
        let p: *const u8 = x.as_ptr();
        // SAFETY: the token proves the features; sixteen bytes are read.
        unsafe {
            [
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())),
                _mm256_cvtepi8_epi32(_mm_loadl_epi64(p.add(8).cast())),
            ]
        }
    }
    #[inline(always)]
    fn nibbles(self, bytes: &[u8; WIDTH], high: bool, [scale, min]: [[__m256; 2]; 2]) -> [__m256; 2] {
        let bytes = self.load_u8(bytes);
        // SAFETY: the token proves the features.
        let q = bytes.map(|b| unsafe { if high { high_nibbles_256(b) } else { low_nibbles_256(b) } });
        self.fma(scale, self.to_float(q), min)
    }
    /// From the block itself: a broadcast costs less than to put all scales aside and to read them again.
    #[inline(always)]
    unsafe fn scales<const N: usize>(self, p: *const u8, _: *const f32, _: usize) -> [[__m256; 2]; N] {
        // SAFETY: the token proves the features; the caller promises eight bytes.
        unsafe {
            let floats = _mm_cvtph_ps(_mm_loadl_epi64(p.cast()));
            let second = _mm_movehdup_ps(floats);
            std::array::from_fn(|n| [_mm256_broadcastss_ps(if n == 0 { floats } else { second }); 2])
        }
    }
    #[inline(always)]
    fn splat_f16(self, bits: u16) -> [__m256; 2] {
        // SAFETY: the token proves the features.
        unsafe { [_mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))); 2] }
    }
    #[inline(always)]
    fn sum_four(self, a: [[__m256; 2]; 4]) -> [f32; 4] {
        // SAFETY: the token proves the features.
        unsafe { crate::lanes::sum8_of_four(a.map(|[low, high]| _mm256_add_ps(low, high))) }
    }
    #[inline(always)]
    unsafe fn dots<U: Unit<Self>, const M: usize, const W: usize>(
        self,
        unit: U,
        (x, x_row): (*const u8, usize),
        (w, w_row): (*const u8, usize),
        vectors: usize,
    ) -> [[[__m256; 2]; W]; M] {
        if U::ELEMENTS > 1 {
            // SAFETY: the caller promises the rows.
            return unsafe { dots(self, unit, (x, x_row), (w, w_row), vectors) };
        }
        // First all lower halves, then all upper ones: a tile of halves is twice as large, so it loads less to multiply
        // as much.
        let mut acc = [[self.splat(0.0); W]; M];
        for half in 0..2 {
            // SAFETY: the token proves the features; the caller promises the rows.
            unsafe {
                let mut sums = [[_mm256_setzero_ps(); W]; M];
                for v in 0..vectors {
                    let at = v * 64 + half * 32;
                    let wv: [__m256; W] =
                        std::array::from_fn(|c| _mm256_loadu_ps(w.add(c * w_row + at).cast()));
                    for r in 0..M {
                        let xv = _mm256_loadu_ps(x.add(r * x_row + at).cast());
                        for c in 0..W {
                            sums[r][c] = _mm256_fmadd_ps(xv, wv[c], sums[r][c]);
                        }
                    }
                }
                for r in 0..M {
                    for c in 0..W {
                        acc[r][c][half] = sums[r][c];
                    }
                }
            }
        }
        acc
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}

#[cfg(target_arch = "x86_64")]
impl DotLanes for Avx512 {
    #[inline(always)]
    fn load_u8(self, x: &[u8; WIDTH]) -> __m512i {
        // SAFETY: the token proves the features; sixteen bytes are read.
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; WIDTH]) -> __m512i {
        // SAFETY: the token proves the features; sixteen bytes are read.
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn splat_f16(self, bits: u16) -> __m512 {
        // SAFETY: the token proves the features.
        unsafe { _mm512_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits)))) }
    }
    #[inline(always)]
    fn nibbles(self, bytes: &[u8; WIDTH], high: bool, [scale, min]: [__m512; 2]) -> __m512 {
        // Both vectors of a block look their weights up in one table of the sixteen possible ones.
        let table = self.fma(scale, self.load(&std::array::from_fn(|i| i as f32)), min);
        let q = self.load_u8(bytes);
        // SAFETY: the token proves the features. The look-up ignores all but the low four bits.
        unsafe { _mm512_permutexvar_ps(if high { high_nibbles_512(q) } else { q }, table) }
    }
    #[inline(always)]
    unsafe fn scales<const N: usize>(self, _: *const u8, opened: *const f32, b: usize) -> [__m512; N] {
        // SAFETY: the caller promises the opened scales.
        std::array::from_fn(|n| self.splat(unsafe { opened.add(32 * n + b).read() }))
    }
    #[inline(always)]
    unsafe fn open_scales<const STEP: usize, const N: usize>(
        self,
        p: *const u8,
        blocks: usize,
        readable: usize,
        to: &mut [f32; 64],
    ) {
        // Scales of 32 / N neighbouring blocks fall on different lanes of the vectors they lie in, because STEP / N is
        // odd. So these vectors are laid over one another, and a permutation puts the scales in order.
        let together = 32 / N;
        let (order, masks) = const { (scale_lanes(STEP, N), scale_masks::<32>(STEP, N)) };
        for first in (0..blocks).step_by(together) {
            let skipped = 2 * first * STEP;
            // SAFETY: the token proves the features. All vectors are read where they are readable, else only lanes of
            // blocks.
            unsafe {
                let p = p.add(skipped);
                let mut laid = _mm512_setzero_si512();
                if readable - skipped >= 64 * (STEP / N) {
                    for v in 0..STEP / N {
                        laid = _mm512_mask_loadu_epi16(laid, masks[v], p.add(64 * v).cast());
                    }
                } else {
                    let halves = together.min(blocks - first) * STEP;
                    for v in 0..halves.div_ceil(32) {
                        let left = (halves - 32 * v).min(32);
                        let mask = masks[v] & ((1u64 << left) - 1) as u32;
                        laid = _mm512_mask_loadu_epi16(laid, mask, p.add(64 * v).cast());
                    }
                }
                let scales = _mm512_permutexvar_epi16(_mm512_loadu_si512(order.as_ptr().cast()), laid);
                let low = _mm512_cvtph_ps(_mm512_castsi512_si256(scales));
                let high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64::<1>(scales));
                let to = to.as_mut_ptr().add(first);
                _mm512_storeu_ps(to, low);
                _mm512_storeu_ps(to.add(if N == 1 { WIDTH } else { 32 }), high);
            }
        }
    }
    #[inline(always)]
    fn sum_four(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // SAFETY: the token proves the features.
        unsafe {
            // Lanes i and i + 8 of two vectors, then i and i + 4 of all four, one vector to a quarter.
            let halves = |a, b| {
                _mm512_add_ps(
                    _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b),
                    _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b),
                )
            };
            let (ab, cd) = (halves(a, b), halves(c, d));
            let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd);
            let quarters = _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd));
            let two = _mm512_add_ps(quarters, _mm512_permute_ps::<0b01_00_11_10>(quarters));
            let one = _mm512_add_ps(two, _mm512_permute_ps::<0b10_11_00_01>(two));
            let firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
            let mut sums = [0.0; 4];
            _mm_storeu_ps(sums.as_mut_ptr(), _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, one)));
            sums
        }
    }
    #[inline(always)]
    fn prefetch(self, p: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
}

// The compiler would apply shifts and masks before bytes are widened, and then widen twice, or not as part of a load. What
// it cannot see through stays where it is.

/// Each of sixteen numbers shifted to the right by four bits.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn high_nibbles_512(x: __m512i) -> __m512i {
    let high;
    // SAFETY: an instruction of AVX-512 F that does nothing but this.
    unsafe {
        asm!("vpsrld {}, {}, 4", lateout(zmm_reg) high, in(zmm_reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    high
}

/// Each of eight numbers shifted to the right by four bits.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn high_nibbles_256(x: __m256i) -> __m256i {
    let high;
    // SAFETY: an instruction of AVX2 that does nothing but this.
    unsafe {
        asm!("vpsrld {}, {}, 4", lateout(ymm_reg) high, in(ymm_reg) x, options(pure, nomem, nostack, preserves_flags));
    }
    high
}

/// The low four bits of each of eight numbers.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2")]
fn low_nibbles_256(x: __m256i) -> __m256i {
    let mask = _mm256_set1_epi32(15);
    let low;
    // SAFETY: an instruction of AVX2 that does nothing but this.
    unsafe {
        asm!("vpand {}, {}, {}", lateout(ymm_reg) low, in(ymm_reg) x, in(ymm_reg) mask, options(pure, nomem, nostack, preserves_flags));
    }
    low
}

/// Lanes in which [`DotLanes::open_scales`] finds half `n` of block `b` of `32 / N`: first all of the first kind.
#[cfg(target_arch = "x86_64")]
const fn scale_lanes(step: usize, n: usize) -> [u16; 32] {
    let mut lanes = [0; 32];
    let mut i = 0;
    while i < 32 {
        let (kind, block) = (i / (32 / n), i % (32 / n));
        lanes[i] = ((block * step + kind) % 32) as u16;
        i += 1;
    }
    lanes
}

/// The lanes of each vector of halves in which a scale lies.
#[cfg(target_arch = "x86_64")]
const fn scale_masks<const VECTORS: usize>(step: usize, n: usize) -> [u32; VECTORS] {
    let mut masks = [0; VECTORS];
    let mut i = 0;
    while i < 32 {
        let at = i % (32 / n) * step + i / (32 / n);
        masks[at / 32] |= 1 << (at % 32);
        i += 1;
    }
    masks
}

/// How two units are multiplied and added.
pub(crate) trait Unit<L: Lanes>: Copy + Send + Sync + 'static {
    /// Elements of the reduced axis in a unit.
    const ELEMENTS: usize;
    /// Adds the products of the lanes of `a` and `b` to the lanes of `acc`.
    fn mac(self, l: L, acc: L::F, a: L::I, b: L::I) -> L::F;
}

/// A unit is one f32.
#[derive(Clone, Copy)]
pub(crate) struct Single;

impl<L: Lanes> Unit<L> for Single {
    const ELEMENTS: usize = 1;
    #[inline(always)]
    fn mac(self, l: L, acc: L::F, a: L::I, b: L::I) -> L::F {
        l.fma(l.float_of_bits(a), l.float_of_bits(b), acc)
    }
}

/// A unit is two bf16, multiplied in f32: first the odd element, then the even.
#[derive(Clone, Copy)]
pub(crate) struct Pair;

impl<L: Lanes> Unit<L> for Pair {
    const ELEMENTS: usize = 2;
    #[inline(always)]
    fn mac(self, l: L, acc: L::F, a: L::I, b: L::I) -> L::F {
        let high = l.splat_int(0xffff_0000u32 as i32);
        let acc = l.fma(l.float_of_bits(l.and(a, high)), l.float_of_bits(l.and(b, high)), acc);
        l.fma(l.float_of_bits(l.shift_left::<16>(a)), l.float_of_bits(l.shift_left::<16>(b)), acc)
    }
}

/// A unit is two bf16, multiplied by the CPU's own instruction.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct NativePair(());

#[cfg(target_arch = "x86_64")]
impl Unit<Avx512> for NativePair {
    const ELEMENTS: usize = 2;
    #[inline(always)]
    fn mac(self, _: Avx512, acc: __m512, a: __m512i, b: __m512i) -> __m512 {
        use std::mem::transmute;
        // SAFETY: a value proves the instruction; the vector types are bit patterns of one size.
        unsafe { _mm512_dpbf16_ps(acc, transmute::<__m512i, __m512bh>(a), transmute::<__m512i, __m512bh>(b)) }
    }
}

/// The instruction set of the dot kernels: [`Isa`], and what else multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DotIsa {
    lanes: Isa,
    /// Whether bf16 pairs have an instruction of their own.
    bf16: bool,
    /// What multiplies bytes.
    bytes: Option<ByteIsa>,
}

impl DotIsa {
    /// The one to use on this machine.
    pub fn best() -> DotIsa {
        DotIsa::whole(crate::lanes::isa())
    }

    /// Every one this machine has.
    pub fn available() -> Vec<DotIsa> {
        let lanes = Isa::available();
        let mut all: Vec<DotIsa> =
            lanes.iter().map(|&lanes| DotIsa { lanes, bf16: false, bytes: None }).collect();
        let plain = Some(ByteIsa::Plain(Portable, Plain));
        all.push(DotIsa { lanes: Isa::Portable(Portable), bf16: false, bytes: plain });
        all.extend(lanes.into_iter().map(DotIsa::whole).filter(|isa| isa.bf16 || isa.bytes.is_some()));
        all
    }

    /// What multiplies bytes, where that is faster than to multiply floats.
    pub(super) fn bytes(self) -> Option<ByteIsa> {
        self.bytes
    }

    fn whole(lanes: Isa) -> DotIsa {
        #[cfg(target_arch = "x86_64")]
        let bf16 = matches!(lanes, Isa::Avx512(_)) && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        let bf16 = false;
        DotIsa { lanes, bf16, bytes: ByteIsa::of(lanes) }
    }
}

/// A computation over any instruction set and unit; mark `run` and what it calls `#[inline(always)]`.
///
/// `MR` rows by `NR` vectors is the register tile of outer products, `XR` rows by `WR` rows that of inner products.
pub(crate) trait Kernel {
    /// Computes.
    fn run<L: DotLanes, U: Unit<L>, const MR: usize, const NR: usize, const XR: usize, const WR: usize>(
        self,
        l: L,
        unit: U,
    );
}

/// Runs `kernel` on f32 units.
pub(crate) fn singles<K: Kernel>(isa: DotIsa, kernel: K) {
    match isa.lanes {
        Isa::Portable(l) => kernel.run::<_, _, 4, 1, 2, 2>(l, Single),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(l) => kernel.run::<_, _, 6, 1, 2, 2>(l, Single),
        // SAFETY: the token was made after the machine's features were detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(l) => unsafe { avx2::<_, _, 6>(kernel, l, Single) },
        // SAFETY: the token was made after the machine's features were detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(l) => unsafe { avx512(kernel, l, Single) },
    }
}

/// Runs `kernel` on pairs of bf16.
pub(crate) fn pairs<K: Kernel>(isa: DotIsa, kernel: K) {
    match isa.lanes {
        Isa::Portable(l) => kernel.run::<_, _, 4, 1, 2, 2>(l, Pair),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(l) => kernel.run::<_, _, 6, 1, 2, 2>(l, Pair),
        // SAFETY: the token was made after the machine's features were detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(l) => unsafe { avx2::<_, _, 2>(kernel, l, Pair) },
        // SAFETY: as above; `bf16` is set only where the feature was detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(l) if isa.bf16 => unsafe { avx512_bf16(kernel, l, NativePair(())) },
        // SAFETY: the token was made after the machine's features were detected.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(l) => unsafe { avx512(kernel, l, Pair) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2<K: Kernel, U: Unit<Avx2>, const XR: usize>(kernel: K, l: Avx2, unit: U) {
    kernel.run::<_, _, 6, 1, XR, 2>(l, unit);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn avx512<K: Kernel, U: Unit<Avx512>>(kernel: K, l: Avx512, unit: U) {
    kernel.run::<_, _, 12, 2, 6, 4>(l, unit);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn avx512_bf16<K: Kernel>(kernel: K, l: Avx512, unit: NativePair) {
    kernel.run::<_, _, 12, 2, 6, 4>(l, unit);
}
