//! Sixteen rows of 4-bit weights side by side: a group of 32 weights of every row is read from the blocks as they are
//! stored, and laid so that a lane is a row.

use percept_graph::DType;

use super::bytes::Bytes;
use super::unit::DotLanes;
use crate::lanes::WIDTH;

/// Neighbouring weights of a row that have one scale and one minimum.
pub(super) const GROUP: usize = 32;
/// What all whole numbers of a weight are seen from: with it subtracted they are around zero, and so are their sums.
pub(super) const CENTRE: i32 = 8;

/// A group of sixteen rows: weight `e` of row `i` is `scale[i] * (number - CENTRE) + offset[i]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Group {
    /// Numbers 0 to 15, four bytes to a lane: of `4 j` to `4 j + 3` in vector `j`.
    pub(super) numbers: [[i32; WIDTH]; GROUP / 4],
    pub(super) scale: [f32; WIDTH],
    pub(super) offset: [f32; WIDTH],
}

/// Where the sixteen rows of a panel lie.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) start: *const u8,
    /// Bytes from one row to the next.
    pub(super) row: usize,
    /// What is brought near meanwhile: as many bytes as are read, from here on.
    pub(super) next: *const u8,
}

impl Rows {
    #[inline(always)]
    fn skip(self, bytes: usize) -> Rows {
        let (start, next) = (self.start.wrapping_add(bytes), self.next.wrapping_add(WIDTH * bytes));
        Rows { start, next, ..self }
    }

    /// The first `N` words of each row, a vector for each.
    ///
    /// # Safety
    /// They must be readable, and `N` four or more.
    #[inline(always)]
    unsafe fn words<L: DotLanes, B: Bytes<L>, const N: usize>(&self, l: L, b: B) -> [L::I; N] {
        for at in (0..N * 4 * WIDTH).step_by(64) {
            l.prefetch(self.next.wrapping_add(at));
        }
        let mut words = [l.splat_int(0); N];
        for four in 0..N.div_ceil(4) {
            // The last four may have been read in part: nothing is read past the row.
            let first = (4 * four).min(N - 4);
            // SAFETY: the caller promises the words.
            let found = unsafe { b.words(l, self.start.add(4 * first), self.row) };
            words[first..first + 4].copy_from_slice(&found);
        }
        words
    }
}

/// How a format stores the groups of a row.
pub(super) trait Format {
    const STORED: DType;

    /// Reads as many groups of `rows` as `to` has, which are whole blocks.
    ///
    /// # Safety
    /// The groups must be readable.
    unsafe fn read<L: DotLanes, B: Bytes<L>>(l: L, b: B, rows: Rows, to: &mut [Group]);
}

/// Puts sixteen numbers of four bits of each row in their place: the low ones of `words` first, then the high ones.
#[inline(always)]
fn split<L: DotLanes>(l: L, word: L::I) -> [L::I; 2] {
    let mask = l.splat_int(0x0f0f_0f0f);
    [l.and(word, mask), l.and(l.shift_right::<4>(word), mask)]
}

#[inline(always)]
fn store<L: DotLanes>(l: L, x: L::I, to: &mut [i32; WIDTH]) {
    l.store(l.float_of_bits(x), bytemuck::cast_mut(to));
}

/// `minimum + CENTRE * scale`: what a weight of number [`CENTRE`] is.
#[inline(always)]
fn offset<L: DotLanes>(l: L, scale: L::F, minimum: L::F) -> L::F {
    l.fma(l.splat(CENTRE as f32), scale, minimum)
}

/// Stores the numbers of a group whose sixteen bytes have elements `i` and `i + 16`.
#[inline(always)]
fn store_halves<L: DotLanes>(l: L, words: [L::I; 4], to: &mut Group) {
    for (j, word) in words.into_iter().enumerate() {
        let [low, high] = split(l, word);
        store(l, low, &mut to.numbers[j]);
        store(l, high, &mut to.numbers[4 + j]);
    }
}

/// Blocks of eighteen bytes: scale, nibbles. Weights are `scale * (number - 8)`.
pub(super) struct Q4_0;

impl Format for Q4_0 {
    const STORED: DType = DType::Q4_0;

    #[inline(always)]
    unsafe fn read<L: DotLanes, B: Bytes<L>>(l: L, b: B, mut rows: Rows, to: &mut [Group]) {
        let zero = l.splat(0.0);
        let (twos, one) = to.as_chunks_mut::<2>();
        for [first, second] in twos {
            // SAFETY: the caller promises the blocks.
            let w = unsafe { rows.words::<L, B, 9>(l, b) };
            // The first block's nibbles begin with the second half of a word.
            let joined =
                std::array::from_fn(|j| l.or(l.shift_right::<16>(w[j]), l.shift_left::<16>(w[j + 1])));
            store_halves(l, joined, first);
            store_halves(l, [w[5], w[6], w[7], w[8]], second);
            l.store(b.halves(l, w[0])[0], &mut first.scale);
            l.store(b.halves(l, w[4])[1], &mut second.scale);
            l.store(zero, &mut first.offset);
            l.store(zero, &mut second.offset);
            rows = rows.skip(36);
        }
        for last in one {
            // SAFETY: the caller promises the block.
            let (w, nibbles) = unsafe { (rows.words::<L, B, 4>(l, b), rows.skip(2).words::<L, B, 4>(l, b)) };
            store_halves(l, nibbles, last);
            l.store(b.halves(l, w[0])[0], &mut last.scale);
            l.store(zero, &mut last.offset);
        }
    }
}

/// Blocks of twenty bytes: scale, minimum, nibbles.
pub(super) struct Q4_1;

impl Q4_1 {
    /// # Safety
    /// The blocks must be readable, and `N` five times as many.
    #[inline(always)]
    unsafe fn blocks<L: DotLanes, B: Bytes<L>, const N: usize>(l: L, b: B, rows: Rows, to: &mut [Group]) {
        // SAFETY: the caller promises the blocks.
        let words = unsafe { rows.words::<L, B, N>(l, b) };
        for (to, w) in to.iter_mut().zip(words.as_chunks::<5>().0) {
            let [scale, minimum] = b.halves(l, w[0]);
            l.store(scale, &mut to.scale);
            l.store(offset(l, scale, minimum), &mut to.offset);
            store_halves(l, [w[1], w[2], w[3], w[4]], to);
        }
    }
}

impl Format for Q4_1 {
    const STORED: DType = DType::Q4_1;

    #[inline(always)]
    unsafe fn read<L: DotLanes, B: Bytes<L>>(l: L, b: B, mut rows: Rows, to: &mut [Group]) {
        let (fours, rest) = to.as_chunks_mut::<4>();
        // SAFETY: the caller promises the blocks.
        unsafe {
            // Four blocks are five times sixteen bytes.
            for four in fours {
                Q4_1::blocks::<L, B, 20>(l, b, rows, four);
                rows = rows.skip(80);
            }
            match rest.len() {
                3 => Q4_1::blocks::<L, B, 15>(l, b, rows, rest),
                2 => Q4_1::blocks::<L, B, 10>(l, b, rows, rest),
                1 => Q4_1::blocks::<L, B, 5>(l, b, rows, rest),
                _ => {}
            }
        }
    }
}

/// Blocks of eight groups: two f16 that scale, six bits of scale and minimum for each group, nibbles of two groups together.
pub(super) struct Q4K;

impl Format for Q4K {
    const STORED: DType = DType::Q4K;

    #[inline(always)]
    unsafe fn read<L: DotLanes, B: Bytes<L>>(l: L, b: B, mut rows: Rows, to: &mut [Group]) {
        let all = |bits: i32| l.splat_int(bits);
        for block in to.as_chunks_mut::<8>().0 {
            // SAFETY: the caller promises the blocks.
            let [supers, x, y, z] = unsafe { rows.words::<L, B, 4>(l, b) };
            let [scale, minimum] = b.halves(l, supers);
            let minimum = l.neg(minimum);
            // Four groups to a word; the last four of each kind keep their upper two bits with the first ones.
            let upper = |w| l.and(l.shift_right::<2>(w), all(0x3030_3030));
            let scales = [l.and(x, all(0x3f3f_3f3f)), l.or(l.and(z, all(0x0f0f_0f0f)), upper(x))];
            let minima =
                [l.and(y, all(0x3f3f_3f3f)), l.or(l.and(l.shift_right::<4>(z), all(0x0f0f_0f0f)), upper(y))];
            for (i, group) in block.iter_mut().enumerate() {
                let byte = |w: L::I| {
                    let moved = match i % 4 {
                        0 => w,
                        1 => l.shift_right::<8>(w),
                        2 => l.shift_right::<16>(w),
                        _ => l.shift_right::<24>(w),
                    };
                    l.to_float(l.and(moved, all(255)))
                };
                let scale = l.mul(scale, byte(scales[i / 4]));
                l.store(scale, &mut group.scale);
                l.store(offset(l, scale, l.mul(minimum, byte(minima[i / 4]))), &mut group.offset);
            }
            rows = rows.skip(16);
            for two in block.as_chunks_mut::<2>().0 {
                for first in [0, 4] {
                    // SAFETY: the caller promises the blocks.
                    let words = unsafe { rows.words::<L, B, 4>(l, b) };
                    for (j, word) in words.into_iter().enumerate() {
                        let numbers = split(l, word);
                        for (group, numbers) in two.iter_mut().zip(numbers) {
                            store(l, numbers, &mut group.numbers[first + j]);
                        }
                    }
                    rows = rows.skip(16);
                }
            }
        }
    }
}
