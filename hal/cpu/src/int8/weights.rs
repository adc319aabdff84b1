//! Quantized rows in groups of 32 weights: whole numbers, and what they are scaled by.

use percept_graph::DType;

use super::lanes::ByteLanes;

/// 32 weights: number i is `scale[i / 4] * numbers[i] + min[i / 4]`.
pub(super) struct Group<L: ByteLanes> {
    pub(super) numbers: L::B,
    pub(super) scale: L::F,
    pub(super) min: L::F,
}

/// How the groups of a row are stored.
pub(super) trait GroupFormat {
    /// The dtype as stored.
    const STORED: DType;
    /// Groups in a block.
    const GROUPS: usize = Self::STORED.block_len() / 32;
    /// Bytes of a block.
    const BYTES: usize = Self::STORED.block_bytes();
    /// Whether the numbers are signed bytes; else they have four bits.
    const SIGNED: bool;
    /// Whether minima differ from 0.
    const MIN: bool;

    /// Group `g` of the block at `p`.
    ///
    /// # Safety
    /// The block must be readable.
    unsafe fn group<L: ByteLanes>(l: L, p: *const u8, g: usize) -> Group<L>;
}

pub(super) struct Q8_0;

impl GroupFormat for Q8_0 {
    const STORED: DType = DType::Q8_0;
    const SIGNED: bool = true;
    const MIN: bool = false;
    #[inline(always)]
    unsafe fn group<L: ByteLanes>(l: L, p: *const u8, _: usize) -> Group<L> {
        // SAFETY: the caller promises the block.
        let ([scale], numbers) = unsafe { (l.halves_at(p), l.load(p.add(2))) };
        Group { numbers, scale: l.splat(scale), min: l.splat(0.0) }
    }
}

pub(super) struct Q4_0;

impl GroupFormat for Q4_0 {
    const STORED: DType = DType::Q4_0;
    const SIGNED: bool = false;
    const MIN: bool = true;
    #[inline(always)]
    unsafe fn group<L: ByteLanes>(l: L, p: *const u8, _: usize) -> Group<L> {
        // SAFETY: the caller promises the block.
        let ([scale], numbers) = unsafe { (l.halves_at(p), l.nibbles(p.add(2))) };
        Group { numbers, scale: l.splat(scale), min: l.splat(-8.0 * scale) }
    }
}

pub(super) struct Q4_1;

impl GroupFormat for Q4_1 {
    const STORED: DType = DType::Q4_1;
    const SIGNED: bool = false;
    const MIN: bool = true;
    #[inline(always)]
    unsafe fn group<L: ByteLanes>(l: L, p: *const u8, _: usize) -> Group<L> {
        // SAFETY: the caller promises the block.
        let ([scale, min], numbers) = unsafe { (l.halves_at(p), l.nibbles(p.add(4))) };
        Group { numbers, scale: l.splat(scale), min: l.splat(min) }
    }
}

pub(super) struct Q4K;

impl GroupFormat for Q4K {
    const STORED: DType = DType::Q4K;
    const SIGNED: bool = false;
    const MIN: bool = true;
    /// Six bits of scale and minimum for each group; the last four keep their upper two bits with the first ones.
    #[inline(always)]
    unsafe fn group<L: ByteLanes>(l: L, p: *const u8, g: usize) -> Group<L> {
        // SAFETY: the caller promises the block.
        let ([scale, min], numbers, bits) = unsafe {
            let two = l.load(p.add(16 + 32 * (g / 2)));
            let numbers = if g.is_multiple_of(2) { l.bits::<0>(two, 15) } else { l.bits::<4>(two, 15) };
            (l.halves_at(p), numbers, &*p.add(4).cast::<[u8; 12]>())
        };
        let (s, m) = if g < 4 {
            (bits[g] & 63, bits[g + 4] & 63)
        } else {
            (bits[g + 4] & 15 | bits[g - 4] >> 6 << 4, bits[g + 4] >> 4 | bits[g] >> 6 << 4)
        };
        let scale = scale * f32::from(s);
        Group { numbers, scale: l.splat(scale), min: l.splat(-min * f32::from(m)) }
    }
}

pub(super) struct Q6K;

impl GroupFormat for Q6K {
    const STORED: DType = DType::Q6K;
    const SIGNED: bool = true;
    const MIN: bool = false;
    #[inline(always)]
    unsafe fn group<L: ByteLanes>(l: L, p: *const u8, g: usize) -> Group<L> {
        let (half, quarter) = (g / 4, g % 4);
        // SAFETY: the caller promises the block, which the scale ends.
        let (low, high, each, scale) = unsafe {
            (
                l.load(p.add(64 * half + 32 * (quarter % 2))),
                l.load(p.add(128 + 32 * half)),
                p.add(192 + 2 * g).cast::<[i8; 2]>().read(),
                half::f16::from_bits(p.add(208).cast::<u16>().read_unaligned()).to_f32(),
            )
        };
        let low = if quarter < 2 { l.bits::<0>(low, 15) } else { l.bits::<4>(low, 15) };
        let high = match quarter {
            0 => l.bits::<0>(high, 3),
            1 => l.bits::<2>(high, 3),
            2 => l.bits::<4>(high, 3),
            _ => l.bits::<6>(high, 3),
        };
        let (first, second) = (scale * f32::from(each[0]), scale * f32::from(each[1]));
        Group { numbers: l.six(low, high), scale: l.halves(first, second), min: l.splat(0.0) }
    }
}
