//! Operand rows as sixteen-unit vectors: dense elements as they are stored, quantized blocks decoded on the way.

use percept_graph::DType;

use super::unit::DotLanes;
use crate::lanes::WIDTH;

/// How the elements of a row are stored, in blocks of whole vectors.
///
/// Decoded weights are those of ggml's scalar code to the bit: a product of a scale and an integer is exact, and a
/// minimum is added with one rounding.
pub(crate) trait Row: Copy + Send + Sync + 'static {
    /// Vectors of sixteen units in a block.
    const VECTORS: usize;
    /// Vectors after which the pattern of decoding repeats: they are unrolled together.
    const PERIOD: usize;
    /// Elements in a unit.
    const ELEMENTS: usize;
    /// The dtype as stored.
    const STORED: DType;
    /// Bytes of a block.
    const BYTES: usize;
    /// What a block's vectors share.
    type Scale<L: DotLanes>: Copy;

    /// Reads what the vectors of the block at `p` share.
    ///
    /// # Safety
    /// The block must be readable.
    unsafe fn open<L: DotLanes>(l: L, p: *const u8) -> Self::Scale<L>;
    /// Vector `j` of the block at `p`.
    ///
    /// # Safety
    /// The block must be readable and `j < VECTORS`.
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, scale: &Self::Scale<L>, j: usize) -> L::I;
}

/// Units in a block of `R`.
pub(crate) const fn block_units<R: Row>() -> usize {
    R::VECTORS * WIDTH
}

/// The `bytes` bytes at `p` (part of a dense block) as a vector; the rest is zero.
///
/// # Safety
/// The bytes must be readable and at most a block.
#[inline(always)]
pub(crate) unsafe fn part<L: DotLanes, R: Row>(l: L, p: *const u8, bytes: usize) -> L::I {
    let mut block = [0u8; 64];
    // SAFETY: the caller promises the bytes; a dense block is at most 64.
    unsafe {
        std::ptr::copy_nonoverlapping(p, block.as_mut_ptr(), bytes);
        R::vector(l, block.as_ptr(), &R::open(l, block.as_ptr()), 0)
    }
}

/// Sixteen values of type `T` at an unaligned address.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn sixteen<T: Copy>(p: *const u8) -> [T; WIDTH] {
    // SAFETY: the caller promises them.
    unsafe { p.cast::<[T; WIDTH]>().read_unaligned() }
}

/// f32, one a unit.
#[derive(Clone, Copy)]
pub(crate) struct Floats;

impl Row for Floats {
    const VECTORS: usize = 1;
    const PERIOD: usize = 1;
    const ELEMENTS: usize = 1;
    const STORED: DType = DType::F32;
    const BYTES: usize = 64;
    type Scale<L: DotLanes> = ();
    #[inline(always)]
    unsafe fn open<L: DotLanes>(_: L, _: *const u8) {}
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, _: &(), _: usize) -> L::I {
        // SAFETY: the caller promises 64 bytes.
        unsafe { l.load_units(p) }
    }
}

/// f16 widened to f32, one a unit.
#[derive(Clone, Copy)]
pub(crate) struct Halves;

impl Row for Halves {
    const VECTORS: usize = 1;
    const PERIOD: usize = 1;
    const ELEMENTS: usize = 1;
    const STORED: DType = DType::F16;
    const BYTES: usize = 32;
    type Scale<L: DotLanes> = ();
    #[inline(always)]
    unsafe fn open<L: DotLanes>(_: L, _: *const u8) {}
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, _: &(), _: usize) -> L::I {
        // SAFETY: the caller promises 32 bytes.
        l.bits(l.load_f16(&unsafe { sixteen(p) }))
    }
}

/// bf16 widened to f32, one a unit.
#[derive(Clone, Copy)]
pub(crate) struct Brains;

impl Row for Brains {
    const VECTORS: usize = 1;
    const PERIOD: usize = 1;
    const ELEMENTS: usize = 1;
    const STORED: DType = DType::BF16;
    const BYTES: usize = 32;
    type Scale<L: DotLanes> = ();
    #[inline(always)]
    unsafe fn open<L: DotLanes>(_: L, _: *const u8) {}
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, _: &(), _: usize) -> L::I {
        // SAFETY: the caller promises 32 bytes.
        l.bits(l.load_bf16(&unsafe { sixteen(p) }))
    }
}

/// bf16, two a unit.
#[derive(Clone, Copy)]
pub(crate) struct BrainPairs;

impl Row for BrainPairs {
    const VECTORS: usize = 1;
    const PERIOD: usize = 1;
    const ELEMENTS: usize = 2;
    const STORED: DType = DType::BF16;
    const BYTES: usize = 64;
    type Scale<L: DotLanes> = ();
    #[inline(always)]
    unsafe fn open<L: DotLanes>(_: L, _: *const u8) {}
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, _: &(), _: usize) -> L::I {
        // SAFETY: the caller promises 64 bytes.
        unsafe { l.load_units(p) }
    }
}

/// The integers 0 to 15.
#[inline(always)]
fn iota<L: DotLanes>(l: L) -> L::F {
    l.load(&std::array::from_fn(|i| i as f32))
}

/// The f16 at `p` in every lane.
///
/// # Safety
/// Two bytes at `p` must be readable.
#[inline(always)]
unsafe fn splat_f16<L: DotLanes>(l: L, p: *const u8) -> L::F {
    // SAFETY: the caller promises the bytes.
    l.splat_f16(unsafe { p.cast::<u16>().read_unaligned() })
}

/// 32 weights: f16 scale, 32 signed bytes.
#[derive(Clone, Copy)]
pub(crate) struct Q8_0;

impl Row for Q8_0 {
    const VECTORS: usize = 2;
    const PERIOD: usize = 2;
    const ELEMENTS: usize = 1;
    const STORED: DType = DType::Q8_0;
    const BYTES: usize = Self::STORED.block_bytes();
    type Scale<L: DotLanes> = L::F;
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8) -> L::F {
        // SAFETY: the caller promises the block.
        unsafe { splat_f16(l, p) }
    }
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, &scale: &L::F, j: usize) -> L::I {
        // SAFETY: the caller promises the block.
        let q = l.load_i8(&unsafe { sixteen(p.add(2 + 16 * j)) });
        l.bits(l.mul(scale, l.to_float(q)))
    }
}

/// The weights of sixteen low (`high` false) or high nibbles, by a table of the block's sixteen possible weights.
///
/// # Safety
/// Sixteen bytes at `p` must be readable.
#[inline(always)]
unsafe fn nibbles<L: DotLanes>(l: L, p: *const u8, table: L::F, high: bool) -> L::I {
    // SAFETY: the caller promises the bytes.
    let q = l.load_u8(&unsafe { sixteen(p) });
    // The look-up ignores all but the low four bits.
    l.bits(l.lookup(table, if high { l.shift_right::<4>(q) } else { q }))
}

/// 32 weights: f16 scale, 32 nibbles offset by 8.
#[derive(Clone, Copy)]
pub(crate) struct Q4_0;

impl Row for Q4_0 {
    const VECTORS: usize = 2;
    const PERIOD: usize = 2;
    const ELEMENTS: usize = 1;
    const STORED: DType = DType::Q4_0;
    const BYTES: usize = Self::STORED.block_bytes();
    type Scale<L: DotLanes> = L::F;
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8) -> L::F {
        // SAFETY: the caller promises the block.
        l.mul(unsafe { splat_f16(l, p) }, l.sub(iota(l), l.splat(8.0)))
    }
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, &table: &L::F, j: usize) -> L::I {
        // SAFETY: the caller promises the block.
        unsafe { nibbles(l, p.add(2), table, j == 1) }
    }
}

/// 32 weights: f16 scale, f16 minimum, 32 nibbles.
#[derive(Clone, Copy)]
pub(crate) struct Q4_1;

impl Row for Q4_1 {
    const VECTORS: usize = 2;
    const PERIOD: usize = 2;
    const ELEMENTS: usize = 1;
    const STORED: DType = DType::Q4_1;
    const BYTES: usize = Self::STORED.block_bytes();
    type Scale<L: DotLanes> = L::F;
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8) -> L::F {
        // SAFETY: the caller promises the block.
        let [scale, min] = l.splat_f16_pair(unsafe { p.cast::<u32>().read_unaligned() });
        l.fma(scale, iota(l), min)
    }
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, &table: &L::F, j: usize) -> L::I {
        // SAFETY: the caller promises the block.
        unsafe { nibbles(l, p.add(4), table, j == 1) }
    }
}

/// 256 weights in 8 groups: two f16 super-scales, 6-bit scales and minima, 256 nibbles.
#[derive(Clone, Copy)]
pub(crate) struct Q4K;

impl Row for Q4K {
    const VECTORS: usize = 16;
    const PERIOD: usize = 4;
    const ELEMENTS: usize = 1;
    const STORED: DType = DType::Q4K;
    const BYTES: usize = Self::STORED.block_bytes();
    /// Eight scales, then eight minima.
    type Scale<L: DotLanes> = [f32; WIDTH];
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8) -> [f32; WIDTH] {
        // SAFETY: the caller promises the block.
        let ([scale, min], [a, b, c]) =
            unsafe { (p.cast::<[u16; 2]>().read_unaligned(), p.add(4).cast::<[u32; 3]>().read_unaligned()) };
        // Four 6-bit numbers to a word; the last four of each kind keep their upper two bits in the first words.
        let words = [
            a & 0x3f3f_3f3f,
            (c & 0x0f0f_0f0f) | ((a >> 2) & 0x3030_3030),
            b & 0x3f3f_3f3f,
            ((c >> 4) & 0x0f0f_0f0f) | ((b >> 2) & 0x3030_3030),
        ];
        let mut bytes = [0u8; WIDTH];
        for (four, word) in bytes.chunks_exact_mut(4).zip(words) {
            four.copy_from_slice(&word.to_le_bytes());
        }
        let supers = std::array::from_fn(|i| if i < 8 { scale } else { min });
        let mut scales = [0.0; WIDTH];
        l.store(l.mul(l.load_f16(&supers), l.to_float(l.load_u8(&bytes))), &mut scales);
        // Kept in memory, where a broadcast costs a load and no shuffle.
        *std::hint::black_box(&mut scales)
    }
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, scales: &[f32; WIDTH], j: usize) -> L::I {
        let group = j / 2;
        let table = l.fma(l.splat(scales[group]), iota(l), l.neg(l.splat(scales[8 + group])));
        // SAFETY: the caller promises the block.
        unsafe { nibbles(l, p.add(16 + 32 * (group / 2) + 16 * (j % 2)), table, group % 2 == 1) }
    }
}

/// 256 weights in 16 groups: 6-bit weights, signed 8-bit scales, f16 super-scale.
#[derive(Clone, Copy)]
pub(crate) struct Q6K;

impl Row for Q6K {
    const VECTORS: usize = 16;
    const PERIOD: usize = 8;
    const ELEMENTS: usize = 1;
    const STORED: DType = DType::Q6K;
    const BYTES: usize = Self::STORED.block_bytes();
    type Scale<L: DotLanes> = [f32; WIDTH];
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8) -> [f32; WIDTH] {
        let mut scales = [0.0; WIDTH];
        // SAFETY: the caller promises the block.
        let (scale, each) = unsafe { (splat_f16(l, p.add(208)), l.load_i8(&sixteen(p.add(192)))) };
        l.store(l.mul(scale, l.to_float(each)), &mut scales);
        // Kept in memory, where a broadcast costs a load and no shuffle.
        *std::hint::black_box(&mut scales)
    }
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, scales: &[f32; WIDTH], j: usize) -> L::I {
        let (half, quarter, side) = (j / 8, j % 8 / 2, j % 2);
        // SAFETY: the caller promises the block.
        let (low, high) = unsafe {
            let low = l.load_u8(&sixteen(p.add(64 * half + 32 * (quarter % 2) + 16 * side)));
            (low, l.load_u8(&sixteen(p.add(128 + 32 * half + 16 * side))))
        };
        let low = if quarter < 2 { l.and(low, l.splat_int(15)) } else { l.shift_right::<4>(low) };
        let high = match quarter {
            0 => l.shift_left::<4>(high),
            1 => l.shift_left::<2>(high),
            2 => high,
            _ => l.shift_right::<2>(high),
        };
        let q = l.or(low, l.and(high, l.splat_int(0x30)));
        l.bits(l.mul(l.splat(scales[j]), l.to_float(l.add_int(q, l.splat_int(-32)))))
    }
}

/// Calls `$body` with `$R` standing for the [`Row`] that reads `$dtype`; bf16 is widened.
macro_rules! with_row {
    ($dtype:expr, $R:ident => $body:expr) => {
        match $dtype {
            percept_graph::DType::F16 => {
                type $R = $crate::matmul::row::Halves;
                $body
            }
            percept_graph::DType::BF16 => {
                type $R = $crate::matmul::row::Brains;
                $body
            }
            percept_graph::DType::Q8_0 => {
                type $R = $crate::matmul::row::Q8_0;
                $body
            }
            percept_graph::DType::Q4_0 => {
                type $R = $crate::matmul::row::Q4_0;
                $body
            }
            percept_graph::DType::Q4_1 => {
                type $R = $crate::matmul::row::Q4_1;
                $body
            }
            percept_graph::DType::Q4K => {
                type $R = $crate::matmul::row::Q4K;
                $body
            }
            percept_graph::DType::Q6K => {
                type $R = $crate::matmul::row::Q6K;
                $body
            }
            _ => {
                type $R = $crate::matmul::row::Floats;
                $body
            }
        }
    };
}
pub(crate) use with_row;
