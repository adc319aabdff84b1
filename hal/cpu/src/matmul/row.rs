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
    /// Blocks that may be opened together; zero where blocks need no opening.
    const OPEN: usize;

    /// Prepares what the vectors of `blocks` neighbouring blocks from `p` on need beside their own bytes.
    ///
    /// # Safety
    /// `readable` bytes at `p`, among them the blocks, must be readable, and the blocks at most [`Row::OPEN`].
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8, blocks: usize, readable: usize, to: &mut Opened) {
        let _ = (l, p, blocks, readable, to);
    }
    /// Vector `j` of the block at `p`, number `b` of those that were opened.
    ///
    /// # Safety
    /// The block must be readable and opened, and `j < VECTORS`.
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, opened: *const Opened, b: usize, j: usize) -> L::I;
}

/// What the blocks of a span of a row share, decoded ahead of their vectors: a broadcast from memory costs a load,
/// from a register a shuffle, of which decoding has no more to spare.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Opened {
    /// Scales and minima. They come first: a pointer to what is opened is one to them.
    floats: [f32; 64],
    /// Weights as signed bytes, for types whose bits lie scattered.
    bytes: [i8; 768],
}

impl Opened {
    pub(crate) const NEW: Opened = Opened { floats: [0.0; 64], bytes: [0; 768] };

    /// `count` of them at the first fitting address from `memory` on; what they hold of blocks is old.
    ///
    /// # Safety
    /// The memory must be initialized, as long as `count + 1` of them, and nobody else's while they are used.
    pub(crate) unsafe fn over<'a>(memory: *mut u8, count: usize) -> &'a mut [Opened] {
        // SAFETY: any bytes are numbers; the rest is the caller's promise.
        unsafe {
            let first = memory.add(memory.align_offset(align_of::<Opened>()));
            std::slice::from_raw_parts_mut(first.cast::<Opened>(), count)
        }
    }
}

/// Blocks of 32 weights that are opened together.
const BLOCKS: usize = 24;

/// A number of an opened block in every lane.
///
/// # Safety
/// `opened` must be readable and `at` below 64.
#[inline(always)]
unsafe fn splat<L: DotLanes>(l: L, opened: *const Opened, at: usize) -> L::F {
    // SAFETY: the caller promises the number.
    l.splat(unsafe { opened.cast::<f32>().add(at).read() })
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
        R::vector(l, block.as_ptr(), std::ptr::null(), 0, 0)
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
    const OPEN: usize = 0;
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, _: *const Opened, _: usize, _: usize) -> L::I {
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
    const OPEN: usize = 0;
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, _: *const Opened, _: usize, _: usize) -> L::I {
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
    const OPEN: usize = 0;
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, _: *const Opened, _: usize, _: usize) -> L::I {
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
    const OPEN: usize = 0;
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, _: *const Opened, _: usize, _: usize) -> L::I {
        // SAFETY: the caller promises 64 bytes.
        unsafe { l.load_units(p) }
    }
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
    const OPEN: usize = BLOCKS;
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8, blocks: usize, readable: usize, to: &mut Opened) {
        // SAFETY: the caller promises the blocks.
        unsafe { l.open_scales::<{ Self::BYTES / 2 }, 1>(p, blocks, readable, &mut to.floats) }
    }
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, opened: *const Opened, b: usize, j: usize) -> L::I {
        // SAFETY: the caller promises the block.
        let ([scale], q) = unsafe { (l.scales(p, opened.cast(), b), l.load_i8(&sixteen(p.add(2 + 16 * j)))) };
        l.bits(l.mul(scale, l.to_float(q)))
    }
}

/// The weights of sixteen low (`high` false) or high nibbles.
///
/// # Safety
/// Sixteen bytes at `p` must be readable.
#[inline(always)]
unsafe fn nibbles<L: DotLanes>(l: L, p: *const u8, high: bool, line: [L::F; 2]) -> L::I {
    // SAFETY: the caller promises the bytes.
    l.bits(l.nibbles(&unsafe { sixteen(p) }, high, line))
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
    const OPEN: usize = BLOCKS;
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8, blocks: usize, readable: usize, to: &mut Opened) {
        // SAFETY: the caller promises the blocks.
        unsafe { l.open_scales::<{ Self::BYTES / 2 }, 1>(p, blocks, readable, &mut to.floats) }
    }
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, opened: *const Opened, b: usize, j: usize) -> L::I {
        // SAFETY: the caller promises the block.
        unsafe {
            // Eight scales are exact, so this too is the scale times an integer, rounded once.
            let [scale] = l.scales(p, opened.cast(), b);
            nibbles(l, p.add(2), j == 1, [scale, l.mul(scale, l.splat(-8.0))])
        }
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
    const OPEN: usize = BLOCKS;
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8, blocks: usize, readable: usize, to: &mut Opened) {
        // SAFETY: the caller promises the blocks.
        unsafe { l.open_scales::<{ Self::BYTES / 2 }, 2>(p, blocks, readable, &mut to.floats) }
    }
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, opened: *const Opened, b: usize, j: usize) -> L::I {
        // SAFETY: the caller promises the block.
        unsafe { nibbles(l, p.add(4), j == 1, l.scales(p, opened.cast(), b)) }
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
    const OPEN: usize = 3;
    /// Eight scales, then eight minima with their signs turned, for each block.
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8, blocks: usize, _: usize, to: &mut Opened) {
        for (at, to) in to.floats.as_chunks_mut::<WIDTH>().0[..blocks].iter_mut().enumerate() {
            // SAFETY: the caller promises the blocks.
            let ([scale, min], [a, b, c]) = unsafe {
                let p = p.add(at * Self::BYTES);
                (p.cast::<[u16; 2]>().read_unaligned(), p.add(4).cast::<[u32; 3]>().read_unaligned())
            };
            // Four 6-bit numbers to a word; the last four of each kind keep their upper two bits in the first words.
            let words = [
                a & 0x3f3f_3f3f,
                (c & 0x0f0f_0f0f) | ((a >> 2) & 0x3030_3030),
                b & 0x3f3f_3f3f,
                ((c >> 4) & 0x0f0f_0f0f) | ((b >> 2) & 0x3030_3030),
            ];
            // By eight bytes at a time: a load waits for memory where it takes what several stores wrote.
            let mut bytes = [0u8; WIDTH];
            for (eight, two) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words.as_chunks::<2>().0) {
                *eight = (u64::from(two[0]) | u64::from(two[1]) << 32).to_le_bytes();
            }
            let first = l.less(l.load(&std::array::from_fn(|i| i as f32)), l.splat(8.0));
            let supers = l.select(first, l.splat_f16(scale), l.splat_f16(min ^ 0x8000));
            l.store(l.mul(supers, l.to_float(l.load_u8(&bytes))), to);
        }
    }
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, opened: *const Opened, b: usize, j: usize) -> L::I {
        let group = j / 2;
        // SAFETY: the caller promises the block.
        unsafe {
            let (scale, min) = (WIDTH * b + group, WIDTH * b + 8 + group);
            let line = [splat(l, opened, scale), splat(l, opened, min)];
            nibbles(l, p.add(16 + 32 * (group / 2) + 16 * (j % 2)), group % 2 == 1, line)
        }
    }
}

/// 256 weights in 16 groups: 6-bit weights, signed 8-bit scales, f16 super-scale.
#[derive(Clone, Copy)]
pub(crate) struct Q6K;

impl Row for Q6K {
    const VECTORS: usize = 16;
    const PERIOD: usize = 4;
    const ELEMENTS: usize = 1;
    const STORED: DType = DType::Q6K;
    const BYTES: usize = Self::STORED.block_bytes();
    const OPEN: usize = 3;
    /// Sixteen scales and 256 weights for each block.
    #[inline(always)]
    unsafe fn open<L: DotLanes>(l: L, p: *const u8, blocks: usize, _: usize, to: &mut Opened) {
        let (floats, bytes) = (to.floats.as_chunks_mut().0, to.bytes.as_chunks_mut::<256>().0);
        for (at, (floats, bytes)) in floats.iter_mut().zip(bytes).take(blocks).enumerate() {
            // SAFETY: the caller promises the blocks.
            let (low, high, each, scale) = unsafe {
                let p = p.add(at * Self::BYTES);
                let scale = l.splat_f16(p.add(208).cast::<u16>().read_unaligned());
                (
                    &*p.cast::<[[u8; 64]; 2]>(),
                    &*p.add(128).cast::<[[u8; 32]; 2]>(),
                    sixteen(p.add(192)),
                    scale,
                )
            };
            l.store(l.mul(scale, l.to_float(l.load_i8(&each))), floats);
            for (half, quarters) in bytes.as_chunks_mut::<128>().0.iter_mut().enumerate() {
                let (low, high) = (&low[half], &high[half]);
                for i in 0..32 {
                    let whole = |low: u8, high: u8| (low | high & 0x30).wrapping_sub(32) as i8;
                    quarters[i] = whole(low[i] & 15, high[i] << 4);
                    quarters[32 + i] = whole(low[32 + i] & 15, high[i] << 2);
                    quarters[64 + i] = whole(low[i] >> 4, high[i]);
                    quarters[96 + i] = whole(low[32 + i] >> 4, high[i] >> 2);
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, _: *const u8, opened: *const Opened, b: usize, j: usize) -> L::I {
        // SAFETY: the caller promises the block.
        let (scale, q) = unsafe {
            let bytes = (&raw const (*opened).bytes).cast::<u8>();
            (splat(l, opened, WIDTH * b + j), l.load_i8(&sixteen(bytes.add(256 * b + 16 * j))))
        };
        l.bits(l.mul(scale, l.to_float(q)))
    }
}

/// 32 weights in 2 groups: f32 scales, f32 minima, 32 signed bytes.
#[derive(Clone, Copy)]
pub(crate) struct Q8X;

impl Row for Q8X {
    const VECTORS: usize = 2;
    const PERIOD: usize = 2;
    const ELEMENTS: usize = 1;
    const STORED: DType = DType::Q8X;
    const BYTES: usize = Self::STORED.block_bytes();
    const OPEN: usize = 0;
    #[inline(always)]
    unsafe fn vector<L: DotLanes>(l: L, p: *const u8, _: *const Opened, _: usize, j: usize) -> L::I {
        // SAFETY: the caller promises the block.
        let ([scales, minima], q) =
            unsafe { (p.cast::<[[f32; 2]; 2]>().read_unaligned(), l.load_i8(&sixteen(p.add(16 + 16 * j)))) };
        // The product is exact for weights of every format that is held so, so this is rounded once.
        l.bits(l.add(l.mul(l.splat(scales[j]), l.to_float(q)), l.splat(minima[j])))
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
            percept_graph::DType::Q8X => {
                type $R = $crate::matmul::row::Q8X;
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
