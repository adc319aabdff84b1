//! Moving operands and results between memory and units.

use std::marker::PhantomData;
use std::ops::Range;

use half::{bf16, f16};
use percept_graph::DType;

use super::LINE;
use super::row::{BrainPairs, Brains, Floats, Halves, Opened, Row, block_units, part, with_row};
use super::unit::{self, DotIsa, DotLanes, Kernel, Unit};
use crate::lanes::WIDTH;

/// A left operand: rows of dense elements, with strides in bytes.
#[derive(Clone, Copy)]
pub(super) struct Lhs {
    pub(super) start: *const u8,
    pub(super) dtype: DType,
    pub(super) row: usize,
    pub(super) k: usize,
}

/// Units that hold `elements`, rounded up to whole vectors.
pub(super) fn padded_units(elements: usize, per_unit: usize) -> usize {
    elements.div_ceil(per_unit).next_multiple_of(WIDTH)
}

impl Lhs {
    /// Whether a row of `k` elements already is whole vectors of units on cache lines.
    pub(super) fn is_units(&self, k: usize, per_unit: usize) -> bool {
        let stored = if per_unit == 2 { DType::BF16 } else { DType::F32 };
        self.dtype == stored
            && self.k == self.dtype.block_bytes()
            && k.is_multiple_of(per_unit * WIDTH)
            && self.start.addr().is_multiple_of(LINE)
    }

    /// Writes the elements `k` of `rows` as units, each row `stride` bytes after the last and padded with zeros to
    /// whole vectors. `k` starts at a whole unit.
    ///
    /// # Safety
    /// The elements must be readable, `to` writable, and `to` and `stride` multiples of 4.
    #[inline(always)]
    pub(super) unsafe fn pack<L: DotLanes, U: Unit<L>>(
        &self,
        l: L,
        rows: Range<usize>,
        k: Range<usize>,
        to: *mut u8,
        stride: usize,
    ) {
        let contiguous = self.k == self.dtype.block_bytes();
        for (i, row) in rows.clone().enumerate() {
            // SAFETY: the caller promises both sides.
            unsafe {
                let from = self.start.add(row * self.row + k.start * self.k);
                let to = to.add(i * stride);
                match self.dtype {
                    _ if !contiguous => {}
                    DType::F32 => decode::<L, Floats>(l, from, k.len(), to),
                    DType::F16 => decode::<L, Halves>(l, from, k.len(), to),
                    _ if U::ELEMENTS == 2 => decode::<L, BrainPairs>(l, from, k.len(), to),
                    _ => decode::<L, Brains>(l, from, k.len(), to),
                }
            }
        }
        if contiguous {
            return;
        }
        let turns = self.dtype == DType::F32 && U::ELEMENTS == 1 && self.row == DType::F32.block_bytes();
        let done = if turns {
            // SAFETY: the caller promises both sides.
            unsafe { self.turn(l, &rows, &k, to, stride) }
        } else {
            0
        };
        // SAFETY: the caller promises both sides.
        unsafe { self.gather(rows.start + done..rows.end, k, to.add(done * stride), stride, U::ELEMENTS) }
    }

    /// As [`Lhs::pack`], for f32 whose rows are neighbours, as in a transposed matrix: squares of [`WIDTH`] rows and units
    /// are turned in registers. Gives the rows that it packed; fewer than a vector of them may be left.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn turn<L: DotLanes>(
        &self,
        l: L,
        rows: &Range<usize>,
        k: &Range<usize>,
        to: *mut u8,
        stride: usize,
    ) -> usize {
        let (whole, units) = (rows.len() / WIDTH * WIDTH, k.len() / WIDTH * WIDTH);
        for group in (0..whole).step_by(WIDTH) {
            for unit in (0..units).step_by(WIDTH) {
                // SAFETY: the square's elements lie in `rows` and `k`, and its units in the packed rows.
                unsafe {
                    let from = self.start.add((rows.start + group) * self.row + (k.start + unit) * self.k);
                    let to = to.add(group * stride + unit * 4);
                    l.transpose(from.cast(), self.k / 4, to.cast(), stride / 4);
                }
            }
        }
        if units < k.len() {
            // SAFETY: the caller promises both sides.
            unsafe {
                let rows = rows.start..rows.start + whole;
                self.gather(rows, k.start + units..k.end, to.add(units * 4), stride, 1);
            }
        }
        whole
    }

    /// As [`Lhs::pack`], for elements that are not neighbours; a cache line of rows at a time.
    unsafe fn gather(
        &self,
        rows: Range<usize>,
        k: Range<usize>,
        to: *mut u8,
        stride: usize,
        per_unit: usize,
    ) {
        let units = padded_units(k.len(), per_unit);
        for group in (0..rows.len()).step_by(WIDTH) {
            let count = WIDTH.min(rows.len() - group);
            for unit in 0..units {
                for i in group..group + count {
                    // SAFETY: only elements of `rows` and `k` are read, and units below `units` written.
                    unsafe {
                        let mut bits = 0;
                        for e in 0..per_unit {
                            let at = k.start + unit * per_unit + e;
                            if at < k.end {
                                let p = self.start.add((rows.start + i) * self.row + at * self.k);
                                bits |= self.element(p, per_unit) << (16 * e);
                            }
                        }
                        to.add(i * stride + unit * 4).cast::<u32>().write_unaligned(bits);
                    }
                }
            }
        }
    }

    /// The element at `p`: f32 bits, or those of the bf16 itself in a unit of two.
    unsafe fn element(&self, p: *const u8, per_unit: usize) -> u32 {
        // SAFETY: the caller promises an element.
        unsafe {
            let half = || p.cast::<u16>().read_unaligned();
            match self.dtype {
                DType::F32 => p.cast::<u32>().read_unaligned(),
                DType::F16 => f16::from_bits(half()).to_f32().to_bits(),
                _ if per_unit == 2 => u32::from(half()),
                _ => bf16::from_bits(half()).to_f32().to_bits(),
            }
        }
    }
}

/// The longest [`Row::PERIOD`].
const MOST: usize = 4;

/// Decodes `elements` of a row of `R` into units at `to`, padded with zeros to whole vectors.
///
/// # Safety
/// The row must be readable and the units writable; quantized rows are whole blocks; `to` is a multiple of 4.
#[inline(always)]
pub(super) unsafe fn decode<L: DotLanes, R: Row>(l: L, from: *const u8, elements: usize, to: *mut u8) {
    let readable = elements / (block_units::<R>() * R::ELEMENTS) * R::BYTES;
    let mut opened = Opened::NEW;
    // SAFETY: the caller promises both sides.
    unsafe { decode_opened::<L, R>(l, from, readable, elements, to, &mut opened) }
}

/// As [`decode`], with memory for what is opened of the row.
///
/// # Safety
/// As there, and `readable` bytes at `from`, among them the row's blocks, must be readable.
#[inline(always)]
unsafe fn decode_opened<L: DotLanes, R: Row>(
    l: L,
    from: *const u8,
    readable: usize,
    elements: usize,
    to: *mut u8,
    opened: &mut Opened,
) {
    let per_block = block_units::<R>() * R::ELEMENTS;
    let blocks = elements / per_block;
    // SAFETY: the caller promises both sides.
    unsafe {
        let together = if R::OPEN == 0 { blocks.max(1) } else { R::OPEN };
        for first in (0..blocks).step_by(together) {
            let count = together.min(blocks - first);
            let (from, to) = (from.add(first * R::BYTES), to.add(first * R::VECTORS * 64));
            R::open(l, from, count, readable - first * R::BYTES, opened);
            let opened = std::hint::black_box(&raw const *opened);
            for b in 0..count {
                let p = from.add(b * R::BYTES);
                for first in (0..R::VECTORS).step_by(R::PERIOD) {
                    // All are decoded before one is stored: what they share would be read again after a store.
                    let mut vectors = [l.splat_int(0); MOST];
                    for (i, vector) in vectors.iter_mut().enumerate().take(R::PERIOD) {
                        *vector = R::vector(l, p, opened, b, first + i);
                    }
                    for (i, vector) in vectors.iter().enumerate().take(R::PERIOD) {
                        store_units(l, *vector, to.add((b * R::VECTORS + first + i) * 64));
                    }
                }
            }
        }
        let rest = elements % per_block;
        if rest > 0 && R::VECTORS == 1 {
            let v = part::<L, R>(l, from.add(blocks * R::BYTES), rest * R::BYTES / per_block);
            store_units(l, v, to.add(blocks * 64));
        }
    }
}

/// Rows in memory, by address.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) from: *const u8,
    /// Bytes from one row to the next.
    pub(super) row: usize,
    pub(super) count: usize,
    /// Up to where memory is readable: not before the end of the last row.
    pub(super) end: *const u8,
}

/// Decodes `elements` of each of some rows of `dtype` into units of f32, or of bf16 pairs, `stride` bytes apart at `to`,
/// with memory for what is opened of a row. As many rows after them are brought near meanwhile, if there are any.
///
/// # Safety
/// As [`decode`], for every row, and memory up to `rows.end` must be readable.
pub(super) unsafe fn decode_rows(
    isa: DotIsa,
    dtype: DType,
    pairs: bool,
    rows: Rows,
    elements: usize,
    (to, stride): (*mut u8, usize),
    opened: &mut Opened,
) {
    struct Decode<'a, R> {
        rows: Rows,
        elements: usize,
        to: *mut u8,
        stride: usize,
        opened: &'a mut Opened,
        row: PhantomData<R>,
    }
    impl<R: Row> Kernel for Decode<'_, R> {
        #[inline(always)]
        fn run<
            L: DotLanes,
            U: Unit<L>,
            const MR: usize,
            const NR: usize,
            const XR: usize,
            const WR: usize,
        >(
            self,
            l: L,
            _: U,
        ) {
            let Decode { rows, elements, to, stride, opened, .. } = self;
            let bytes = elements.div_ceil(block_units::<R>() * R::ELEMENTS) * R::BYTES;
            for i in 0..rows.count {
                let later = rows.from.wrapping_add((rows.count + i) * rows.row);
                (0..bytes).step_by(LINE).for_each(|at| l.prefetch(later.wrapping_add(at)));
                // SAFETY: the caller of `decode_rows` promises both sides.
                unsafe {
                    let from = rows.from.add(i * rows.row);
                    let readable = rows.end.addr() - from.addr();
                    decode_opened::<L, R>(l, from, readable, elements, to.add(i * stride), opened);
                }
            }
        }
    }
    if pairs {
        unit::pairs(isa, Decode::<BrainPairs> { rows, elements, to, stride, opened, row: PhantomData });
    } else {
        with_row!(dtype, R => {
            unit::singles(isa, Decode::<R> { rows, elements, to, stride, opened, row: PhantomData });
        });
    }
}

/// Decodes `elements` of the row of `dtype` at `from` into units of f32 at `to`.
///
/// # Safety
/// As [`decode`].
pub(super) unsafe fn decode_units(isa: DotIsa, dtype: DType, from: *const u8, elements: usize, to: *mut u8) {
    let end = from.wrapping_add(elements.div_ceil(dtype.block_len()) * dtype.block_bytes());
    let rows = Rows { from, row: 0, count: 1, end };
    let mut opened = Opened::NEW;
    // SAFETY: the caller promises both sides.
    unsafe { decode_rows(isa, dtype, false, rows, elements, (to, 0), &mut opened) }
}

/// Writes sixteen units.
///
/// # Safety
/// 64 bytes at `to` must be writable, and `to` a multiple of 4.
#[inline(always)]
pub(super) unsafe fn store_units<L: DotLanes>(l: L, v: L::I, to: *mut u8) {
    // SAFETY: the caller promises the bytes and their alignment.
    l.store(l.float_of_bits(v), unsafe { &mut *to.cast::<[f32; WIDTH]>() });
}

/// Writes `row` to `to` as `dtype`, rounding to nearest even.
///
/// # Safety
/// `row.len()` elements at `to` must be writable, initialized and aligned.
#[inline(always)]
pub(super) unsafe fn store_row<L: DotLanes>(l: L, row: &[f32], dtype: DType, to: *mut u8) {
    if dtype == DType::F32 {
        // SAFETY: the caller promises the elements, which are aligned.
        let to = unsafe { std::slice::from_raw_parts_mut(to.cast::<f32>(), row.len()) };
        // By vectors: the rows of a small task are too short for the call of a copy.
        for (to, from) in to.chunks_mut(WIDTH).zip(row.chunks(WIDTH)) {
            l.store_first(l.load_first(from, 0.0), to);
        }
        return;
    }
    for (at, sixteen) in row.chunks(WIDTH).enumerate() {
        let v = l.load_first(sixteen, 0.0);
        let mut halves = [0u16; WIDTH];
        if dtype == DType::F16 {
            l.store_f16(v, &mut halves);
        } else {
            l.store_bf16(v, &mut halves);
        }
        // SAFETY: the caller promises the elements.
        unsafe { std::ptr::copy_nonoverlapping(halves.as_ptr().cast(), to.add(32 * at), 2 * sixteen.len()) };
    }
}
