//! Columns of a right operand [k, n], read sixteen at a time.

use std::marker::PhantomData;
use std::ops::Range;

use percept_graph::DType;

use super::Product;
use super::pack::decode_units;
use super::row::{Row, part};
use super::unit::{DotIsa, DotLanes, Unit};
use crate::lanes::WIDTH;

/// Columns of a strip; a multiple of every panel and quantized block.
pub(super) const STRIP: usize = 256;
/// Units of a strip that are read together.
pub(super) const STEP: usize = 8;

/// Up to [`STRIP`] columns of b, read [`STEP`] units at a time. Dense ones are read where they lie, as `R`; quantized
/// ones are decoded to f32 first.
pub(super) struct Strip<'a, R> {
    product: &'a Product<'a>,
    isa: DotIsa,
    pub(super) columns: Range<usize>,
    first: usize,
    decoded: [[f32; STRIP]; STEP],
    row: PhantomData<R>,
}

impl<'a, R: Row> Strip<'a, R> {
    pub(super) fn new(product: &'a Product<'a>, isa: DotIsa) -> Self {
        Strip { product, isa, columns: 0..0, first: 0, decoded: [[0.0; STRIP]; STEP], row: PhantomData }
    }

    /// Makes the `count` units from `first` on ready to read.
    ///
    /// # Safety
    /// They must lie in b, as must the strip.
    #[inline(always)]
    pub(super) unsafe fn stage(&mut self, first: usize, count: usize) {
        self.first = first;
        let p = self.product;
        if p.rhs_dtype.is_quantized() {
            let skip = self.columns.start / p.rhs_dtype.block_len() * p.rhs_dtype.block_bytes();
            for (u, decoded) in self.decoded[..count].iter_mut().enumerate() {
                // SAFETY: strips are whole blocks of rows of b, and fit a decoded row.
                unsafe {
                    let from = p.rhs.add((first + u) * p.rhs_row + skip);
                    let to = decoded.as_mut_ptr().cast();
                    decode_units(self.isa, p.rhs_dtype, from, self.columns.len(), to);
                }
            }
        }
    }

    /// Adds the products of the `count` staged units with `M` rows of units at `x`, `x_row` bytes apart.
    ///
    /// # Safety
    /// The units must be staged and the rows readable.
    #[inline(always)]
    pub(super) unsafe fn add<L: DotLanes, U: Unit<L>, const M: usize>(
        &self,
        (l, unit): (L, U),
        count: usize,
        x: *const u8,
        x_row: usize,
        acc: &mut [[f32; STRIP]; M],
    ) {
        for v in 0..self.columns.len().div_ceil(WIDTH) {
            let mut at = [l.splat(0.0); M];
            // SAFETY: the vector lies in the strip; the caller promises the rest.
            unsafe {
                for r in 0..M {
                    at[r] = l.load(&*acc[r].as_ptr().add(v * WIDTH).cast());
                }
                for u in 0..count {
                    let b = self.vector(l, u, v);
                    self.fetch(l, u + 2 * STEP, v);
                    for r in 0..M {
                        let x = x.add(r * x_row + u * 4).cast::<i32>().read();
                        at[r] = unit.mac(l, at[r], l.splat_int(x), b);
                    }
                }
                for r in 0..M {
                    l.store(at[r], &mut *acc[r].as_mut_ptr().add(v * WIDTH).cast());
                }
            }
        }
    }

    /// Asks for the vector that [`Strip::vector`] will read of a unit further down.
    #[inline(always)]
    fn fetch<L: DotLanes>(&self, l: L, u: usize, v: usize) {
        let p = self.product;
        if !p.rhs_dtype.is_quantized() {
            for e in 0..R::ELEMENTS {
                let at = ((self.first + u) * R::ELEMENTS + e) * p.rhs_row;
                l.prefetch(
                    p.rhs.wrapping_add(at + (self.columns.start + v * WIDTH) * R::STORED.block_bytes()),
                );
            }
        }
    }

    /// Sixteen columns of staged unit `u`, from column `16 v` of the strip on; zero past the strip.
    ///
    /// # Safety
    /// The unit must be staged and the vector begin in the strip.
    #[inline(always)]
    pub(super) unsafe fn vector<L: DotLanes>(&self, l: L, u: usize, v: usize) -> L::I {
        let p = self.product;
        let column = v * WIDTH;
        let count = WIDTH.min(self.columns.len() - column);
        // SAFETY: at most `count` columns of the strip are read.
        unsafe {
            if R::STORED == DType::F32 && p.rhs_dtype.is_quantized() {
                return l.load_units(self.decoded[u].as_ptr().add(column).cast());
            }
            let size = R::STORED.block_bytes();
            let row = (self.first + u) * R::ELEMENTS;
            let from = p.rhs.add(row * p.rhs_row + (self.columns.start + column) * size);
            if R::ELEMENTS == 2 {
                let even = halves(l, from, count);
                if row + 1 == p.k {
                    return even;
                }
                return l.or(even, l.shift_left::<16>(halves(l, from.add(p.rhs_row), count)));
            }
            if count == WIDTH {
                R::vector(l, from, std::ptr::null(), 0, 0)
            } else {
                part::<L, R>(l, from, count * size)
            }
        }
    }
}

/// `count` 16-bit elements, zero-extended.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn halves<L: DotLanes>(l: L, p: *const u8, count: usize) -> L::I {
    let mut lanes = [0u16; WIDTH];
    // SAFETY: the caller promises the elements.
    unsafe {
        if count == WIDTH {
            lanes = p.cast::<[u16; WIDTH]>().read_unaligned();
        } else {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr().cast(), 2 * count);
        }
    }
    l.load_halves(&lanes)
}
