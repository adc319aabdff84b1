//! Inner products: x [m, k] times w [n, k], the reduced axis contiguous in both.
//!
//! Lane i of an accumulator takes the units i, i+16, i+32, ... of a block of [`BLOCK`] units; the sixteen lanes are
//! added by a fixed tree, and the blocks' sums in order. An element's rounding depends on k alone, so a row is the
//! same whether it is multiplied alone, from weights decoded in registers, or in a batch, from weights decoded once.

use std::marker::PhantomData;
use std::ops::Range;

use percept_graph::DType;

use super::Product;
use super::pack::{decode_units, padded_units, store_row};
use super::row::{BrainPairs, Floats, Row, block_units, part, with_row};
use super::unit::{self, DotIsa, DotLanes, Kernel, Unit};
use crate::lanes::WIDTH;
use crate::pool::Team;

/// Units of the reduced axis whose products share an accumulator.
const BLOCK: usize = 768;
/// Rows of x that are packed at a time.
const CHUNK: usize = 1024;
/// Rows of x in a task.
const ROWS: usize = 192;
/// Rows of w in a task.
const COLUMNS: usize = 64;
/// Rows of w that are decoded together, at least those of any register tile.
const GROUP: usize = 4;
/// Bytes of a thread's own memory: a task's sums and a group of decoded weights.
const OWN: usize = ROWS * COLUMNS * 4 + GROUP * BLOCK * 4;

/// Bytes of workspace for `m` rows of `k` elements, `per_unit` to a unit, on `threads` threads.
pub(super) fn workspace(m: usize, k: usize, per_unit: usize, threads: usize) -> usize {
    m.min(CHUNK) * padded_units(k, per_unit) * 4 + threads * OWN
}

/// The product of `product.lhs` and rows of any kind.
pub(super) struct Inner<'a> {
    pub(super) product: &'a Product<'a>,
    pub(super) team: &'a Team<'a>,
    pub(super) isa: DotIsa,
}

impl Kernel for Inner<'_> {
    #[inline(always)]
    fn run<L: DotLanes, U: Unit<L>, const MR: usize, const NR: usize, const XR: usize, const WR: usize>(
        self,
        l: L,
        unit: U,
    ) {
        let Inner { product: p, team, isa } = self;
        let stride = padded_units(p.k, U::ELEMENTS) * 4;
        let direct = p.lhs.is_units(p.k, U::ELEMENTS);
        let chunk = if direct { p.m } else { CHUNK.min(p.m) };
        let packed = p.work;
        // SAFETY: the workspace holds the packed chunk, then each thread's own memory.
        let own = unsafe { p.work.add(CHUNK.min(p.m) * stride + team.rank() * OWN) };
        for first in (0..p.m).step_by(chunk.max(1)) {
            let rows = first..p.m.min(first + chunk);
            let (x, x_row) = if direct {
                // SAFETY: row `first` lies in the left operand.
                (unsafe { p.lhs.start.add(first * p.lhs.row) }, p.lhs.row)
            } else {
                let mine = team.share(rows.len(), 1);
                let source = first + mine.start..first + mine.end;
                // SAFETY: shares are disjoint rows of the packed chunk.
                unsafe { p.lhs.pack::<L, U>(l, source, 0..p.k, packed.add(mine.start * stride), stride) };
                team.barrier();
                (packed.cast_const(), stride)
            };
            let by_rows = rows.len().div_ceil(ROWS);
            let height = rows.len().div_ceil(by_rows.max(1)).next_multiple_of(XR).min(ROWS);
            let by_rows = rows.len().div_ceil(height.max(1));
            for tile in team.claims(by_rows * p.n.div_ceil(COLUMNS)) {
                let (i, j) = (tile % by_rows * height, tile / by_rows * COLUMNS);
                let block = Block {
                    x: x.wrapping_add(i * x_row),
                    x_row,
                    rows: height.min(rows.len() - i),
                    columns: j..p.n.min(j + COLUMNS),
                };
                // SAFETY: the block lies in the product; tiles write disjoint parts of the output.
                unsafe { block.compute::<L, U, XR, WR>(l, unit, isa, p, first + i, own) }
            }
            if rows.end < p.m {
                team.barrier();
            }
        }
    }
}

/// A part of the output: consecutive rows of x against consecutive rows of w.
struct Block {
    x: *const u8,
    x_row: usize,
    rows: usize,
    columns: Range<usize>,
}

impl Block {
    /// Computes the block and stores it from row `first` on.
    ///
    /// # Safety
    /// The block must lie in the product, and nobody else use its output or `own`.
    #[inline(always)]
    unsafe fn compute<L: DotLanes, U: Unit<L>, const XR: usize, const WR: usize>(
        &self,
        l: L,
        unit: U,
        isa: DotIsa,
        p: &Product<'_>,
        first: usize,
        own: *mut u8,
    ) {
        // SAFETY: `own` begins with the sums and is a multiple of 4.
        let sums = unsafe { std::slice::from_raw_parts_mut(own.cast::<f32>(), self.rows * COLUMNS) };
        if p.k == 0 {
            sums.fill(0.0);
        } else if self.rows == 1 {
            // SAFETY: the caller promises the block.
            unsafe { one_row(isa, p, U::ELEMENTS == 2, self.x, self.columns.clone(), sums) }
        } else {
            // SAFETY: the decoded group follows the sums; the caller promises the block.
            unsafe { self.add_spans::<L, U, XR, WR>(l, unit, isa, p, own.add(ROWS * COLUMNS * 4), sums) }
        }
        let width = self.columns.len();
        for i in 0..self.rows {
            let row = &mut sums[i * COLUMNS..][..width];
            if let Some(finish) = p.finish {
                finish(first + i, self.columns.start, row);
            }
            // SAFETY: the row's columns lie in the output and belong to this block.
            unsafe {
                let size = p.out_dtype.block_bytes();
                store_row(l, row, p.out_dtype, p.out.add(((first + i) * p.n + self.columns.start) * size));
            }
        }
    }

    /// Computes the sums of all rows, one span of the reduced axis after the other.
    ///
    /// # Safety
    /// As [`Block::compute`]; `decoded` has room for a group of rows.
    #[inline(always)]
    unsafe fn add_spans<L: DotLanes, U: Unit<L>, const XR: usize, const WR: usize>(
        &self,
        l: L,
        unit: U,
        isa: DotIsa,
        p: &Product<'_>,
        decoded: *mut u8,
        sums: &mut [f32],
    ) {
        let stored_as_units = U::ELEMENTS == 2 || p.rhs_dtype == DType::F32;
        for start in (0..p.k).step_by(BLOCK * U::ELEMENTS) {
            let span = Span::new(start, p.k, U::ELEMENTS);
            let skip = start / p.rhs_dtype.block_len() * p.rhs_dtype.block_bytes();
            let whole = Span { vectors: span.vectors + usize::from(span.rest > 0), rest: 0, ..span };
            for group in self.columns.clone().step_by(WR) {
                let count = WR.min(self.columns.end - group);
                let sums = &mut sums[group - self.columns.start..];
                // SAFETY: the group's rows lie in w; the decoded rows are whole zero-padded vectors.
                unsafe {
                    let stored = p.rhs.add(group * p.rhs_row + skip);
                    if stored_as_units && span.rest == 0 {
                        self.add::<L, U, XR, WR>(l, unit, stored, p.rhs_row, count, &span, sums);
                    } else {
                        for c in 0..count {
                            let from = stored.add(c * p.rhs_row);
                            decode_units(
                                isa,
                                p.rhs_dtype,
                                U::ELEMENTS == 2,
                                from,
                                span.elements,
                                decoded.add(c * BLOCK * 4),
                            );
                        }
                        self.add::<L, U, XR, WR>(l, unit, decoded, BLOCK * 4, count, &whole, sums);
                    }
                }
            }
        }
    }

    /// Adds the products of a span of whole vectors with `count` rows of units to the sums of every row.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn add<L: DotLanes, U: Unit<L>, const XR: usize, const WR: usize>(
        &self,
        l: L,
        unit: U,
        w: *const u8,
        w_row: usize,
        count: usize,
        span: &Span,
        sums: &mut [f32],
    ) {
        let mut i = 0;
        // SAFETY: the caller promises the rows of both operands over the span.
        unsafe {
            while i + XR <= self.rows {
                self.add_tile::<L, U, XR, WR>(l, unit, i, w, w_row, count, span, sums);
                i += XR;
            }
            while i + 2 <= self.rows {
                self.add_tile::<L, U, 2, WR>(l, unit, i, w, w_row, count, span, sums);
                i += 2;
            }
            if i < self.rows {
                self.add_tile::<L, U, 1, WR>(l, unit, i, w, w_row, count, span, sums);
            }
        }
    }

    /// Adds the products of a span of `M` rows of x from row `i` with `count <= WR` rows of w to their sums.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    unsafe fn add_tile<L: DotLanes, U: Unit<L>, const M: usize, const WR: usize>(
        &self,
        l: L,
        unit: U,
        i: usize,
        w: *const u8,
        w_row: usize,
        count: usize,
        span: &Span,
        sums: &mut [f32],
    ) {
        // SAFETY: the caller promises the rows of both operands over the span.
        unsafe {
            let x = self.x.add(i * self.x_row + span.units * 4);
            if count == WR {
                let found = tile::<L, U, Floats, M, WR>(l, unit, x, self.x_row, w, w_row, span);
                add_sums(&found, span, &mut sums[i * COLUMNS..]);
            } else {
                for c in 0..count {
                    let found =
                        tile::<L, U, Floats, M, 1>(l, unit, x, self.x_row, w.add(c * w_row), w_row, span);
                    add_sums(&found, span, &mut sums[i * COLUMNS + c..]);
                }
            }
        }
    }
}

/// Adds a tile's sums over a span to the running ones, which the first span begins.
#[inline(always)]
fn add_sums<const M: usize, const W: usize>(found: &[[f32; W]; M], span: &Span, sums: &mut [f32]) {
    for (r, row) in found.iter().enumerate() {
        for (sum, &new) in sums[r * COLUMNS..].iter_mut().zip(row) {
            *sum = if span.units == 0 { new } else { *sum + new };
        }
    }
}

/// A block of the reduced axis.
struct Span {
    /// Where it starts, in units.
    units: usize,
    elements: usize,
    /// Whole vectors of units.
    vectors: usize,
    /// Elements past the whole vectors.
    rest: usize,
}

impl Span {
    #[inline(always)]
    fn new(start: usize, k: usize, per_unit: usize) -> Span {
        let elements = (BLOCK * per_unit).min(k - start);
        let per_vector = per_unit * WIDTH;
        Span {
            units: start / per_unit,
            elements,
            vectors: elements / per_vector,
            rest: elements % per_vector,
        }
    }
}

/// The products of one row of x with rows of w, decoded in registers.
struct OneRow<'a, R> {
    product: &'a Product<'a>,
    x: *const u8,
    columns: Range<usize>,
    sums: &'a mut [f32],
    row: PhantomData<R>,
}

impl<R: Row> Kernel for OneRow<'_, R> {
    #[inline(always)]
    fn run<L: DotLanes, U: Unit<L>, const MR: usize, const NR: usize, const XR: usize, const WR: usize>(
        self,
        l: L,
        unit: U,
    ) {
        let p = self.product;
        let per_block = block_units::<R>() * R::ELEMENTS;
        let mut group = self.columns.start;
        while group < self.columns.end {
            let sums = &mut self.sums[group - self.columns.start..];
            let whole = group + WR <= self.columns.end;
            for start in (0..p.k).step_by(BLOCK * U::ELEMENTS) {
                let span = Span::new(start, p.k, U::ELEMENTS);
                // SAFETY: the rows lie in w, and x is padded to whole vectors.
                unsafe {
                    let x = self.x.add(span.units * 4);
                    let w = p.rhs.add(group * p.rhs_row + start / per_block * R::BYTES);
                    if whole {
                        let found = tile::<L, U, R, 1, WR>(l, unit, x, 0, w, p.rhs_row, &span);
                        add_sums(&found, &span, sums);
                    } else {
                        let found = tile::<L, U, R, 1, 1>(l, unit, x, 0, w, p.rhs_row, &span);
                        add_sums(&found, &span, sums);
                    }
                }
            }
            group += if whole { WR } else { 1 };
        }
    }
}

/// Sets `sums` to the products of the row of units at `x` with rows `columns` of w.
///
/// # Safety
/// The rows must lie in the product, and x be padded to whole vectors.
#[inline(never)]
unsafe fn one_row(
    isa: DotIsa,
    product: &Product<'_>,
    pairs: bool,
    x: *const u8,
    columns: Range<usize>,
    sums: &mut [f32],
) {
    if pairs {
        unit::pairs(isa, OneRow::<BrainPairs> { product, x, columns, sums, row: PhantomData });
    } else {
        with_row!(product.rhs_dtype, R => {
            unit::singles(isa, OneRow::<R> { product, x, columns, sums, row: PhantomData });
        });
    }
}

/// The sums over a span of the products of `M` rows of x and `W` rows of w.
///
/// # Safety
/// The rows must be readable over the span; rows of x are padded with zeros to whole vectors.
#[inline(always)]
unsafe fn tile<L: DotLanes, U: Unit<L>, R: Row, const M: usize, const W: usize>(
    l: L,
    unit: U,
    x: *const u8,
    x_row: usize,
    w: *const u8,
    w_row: usize,
    span: &Span,
) -> [[f32; W]; M] {
    let mut acc = [[l.splat(0.0); W]; M];
    // SAFETY: the caller promises the rows.
    unsafe {
        for b in 0..span.vectors / R::VECTORS {
            for c in 0..W {
                let block = w.add(c * w_row + b * R::BYTES);
                let scale = R::open(l, block);
                for j in 0..R::VECTORS {
                    let v = R::vector(l, block, &scale, j);
                    for r in 0..M {
                        let xv = l.load_units(x.add(r * x_row + (b * R::VECTORS + j) * 64));
                        acc[r][c] = unit.mac(l, acc[r][c], xv, v);
                    }
                }
            }
        }
        if span.rest > 0 {
            let per_vector = WIDTH * R::ELEMENTS;
            for c in 0..W {
                let p = w.add(c * w_row + span.vectors * R::BYTES);
                let v = part::<L, R>(l, p, span.rest * R::BYTES / per_vector);
                for r in 0..M {
                    let xv = l.load_units(x.add(r * x_row + span.vectors * 64));
                    acc[r][c] = unit.mac(l, acc[r][c], xv, v);
                }
            }
        }
    }
    let mut sums = [[0.0; W]; M];
    for r in 0..M {
        for c in 0..W {
            sums[r][c] = l.sum(acc[r][c]);
        }
    }
    sums
}
