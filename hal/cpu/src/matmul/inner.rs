//! Inner products: x [m, k] times w [n, k], the reduced axis contiguous in both.
//!
//! Lane i of an accumulator takes the units i, i+16, i+32, ... of a block of [`BLOCK`] units; the sixteen lanes are
//! added by a fixed tree, and the blocks' sums in order. An element's rounding depends on k alone, so a row is the
//! same whether it is multiplied alone, from weights decoded in registers, or in a batch, from weights decoded once.

use std::marker::PhantomData;
use std::ops::Range;

use super::Product;
use super::pack::{decode_units, store_row};
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
/// Bytes of a row's units in a block: packed and decoded rows lie this far apart, spread over the cache's sets.
const SPAN: usize = BLOCK * 4;
/// Bytes of a thread's own memory: a task's sums and a block of its rows of w.
const OWN: usize = ROWS * COLUMNS * 4 + COLUMNS * SPAN;

/// Bytes of workspace for `m` rows of `k` elements, `per_unit` to a unit, on `threads` threads.
pub(super) fn workspace(m: usize, k: usize, per_unit: usize, threads: usize) -> usize {
    m.min(CHUNK) * k.div_ceil(per_unit).div_ceil(BLOCK) * SPAN + threads * OWN
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
        let spans = p.k.div_ceil(U::ELEMENTS).div_ceil(BLOCK);
        let chunk = CHUNK.min(p.m);
        // SAFETY: the workspace holds the packed chunk, then each thread's own memory.
        let own = unsafe { p.work.add(chunk * spans * SPAN + team.rank() * OWN) };
        for first in (0..p.m).step_by(chunk.max(1)) {
            let rows = first..p.m.min(first + chunk);
            let x = if p.m == 1 && p.lhs.is_units(p.k, U::ELEMENTS) {
                p.lhs.start
            } else {
                let mine = team.share(rows.len(), 1);
                for span in 0..spans {
                    let k = span * BLOCK * U::ELEMENTS..p.k.min((span + 1) * BLOCK * U::ELEMENTS);
                    let source = first + mine.start..first + mine.end;
                    // SAFETY: shares are disjoint rows of the packed chunk.
                    unsafe {
                        let to = p.work.add((span * rows.len() + mine.start) * SPAN);
                        p.lhs.pack::<L, U>(l, source, k, to, SPAN);
                    }
                }
                team.barrier();
                p.work.cast_const()
            };
            let by_rows = rows.len().div_ceil(ROWS);
            let height = rows.len().div_ceil(by_rows.max(1)).next_multiple_of(XR).min(ROWS);
            let by_rows = rows.len().div_ceil(height.max(1));
            for tile in team.claims(by_rows * p.n.div_ceil(COLUMNS)) {
                let (i, j) = (tile % by_rows * height, tile / by_rows * COLUMNS);
                let block = Block {
                    x: x.wrapping_add(i * SPAN),
                    x_span: rows.len() * SPAN,
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
    /// Bytes from one span of x to the next.
    x_span: usize,
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
            unsafe { one_row(isa, p, U::ELEMENTS == 2, self, sums) }
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
    /// As [`Block::compute`]; `decoded` has room for a span of the block's rows of w.
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
        let pairs = U::ELEMENTS == 2;
        let stored_as_units = pairs || p.rhs_dtype == percept_graph::DType::F32;
        for (index, start) in (0..p.k).step_by(BLOCK * U::ELEMENTS).enumerate() {
            let span = Span::new(start, p.k, U::ELEMENTS);
            let skip = start / p.rhs_dtype.block_len() * p.rhs_dtype.block_bytes();
            // A copy of rows that already are units pays when many rows of x read it.
            let (w, w_row) = if stored_as_units && span.rest == 0 && self.rows <= 2 * XR {
                (p.rhs.wrapping_add(self.columns.start * p.rhs_row + skip), p.rhs_row)
            } else {
                for (at, column) in self.columns.clone().enumerate() {
                    // SAFETY: the row lies in w, and a span of it fits its place.
                    unsafe {
                        let from = p.rhs.add(column * p.rhs_row + skip);
                        decode_units(isa, p.rhs_dtype, pairs, from, span.elements, decoded.add(at * SPAN));
                    }
                }
                (decoded.cast_const(), SPAN)
            };
            let whole = Span { vectors: span.vectors + usize::from(span.rest > 0), rest: 0, ..span };
            let x = self.x.wrapping_add(index * self.x_span);
            let (s, mut i) = ((l, unit), 0);
            // SAFETY: the packed rows of x and the decoded rows of w are whole zero-padded vectors.
            unsafe {
                while i + XR <= self.rows {
                    self.add_rows::<L, U, XR, WR>(
                        s,
                        x.add(i * SPAN),
                        w,
                        w_row,
                        &whole,
                        &mut sums[i * COLUMNS..],
                    );
                    i += XR;
                }
                while i + 2 <= self.rows {
                    self.add_rows::<L, U, 2, WR>(
                        s,
                        x.add(i * SPAN),
                        w,
                        w_row,
                        &whole,
                        &mut sums[i * COLUMNS..],
                    );
                    i += 2;
                }
                if i < self.rows {
                    self.add_rows::<L, U, 1, WR>(
                        s,
                        x.add(i * SPAN),
                        w,
                        w_row,
                        &whole,
                        &mut sums[i * COLUMNS..],
                    );
                }
            }
        }
    }

    /// Adds the products over a span of `M` packed rows at `x` with all decoded rows of w to their sums.
    ///
    /// # Safety
    /// The rows must be readable over the span.
    #[inline(always)]
    unsafe fn add_rows<L: DotLanes, U: Unit<L>, const M: usize, const WR: usize>(
        &self,
        (l, unit): (L, U),
        x: *const u8,
        w: *const u8,
        w_row: usize,
        span: &Span,
        sums: &mut [f32],
    ) {
        let columns = self.columns.len();
        let mut c = 0;
        // SAFETY: the caller promises the rows.
        unsafe {
            while c + WR <= columns {
                let found = tile::<L, U, Floats, M, WR>(l, unit, x, w.add(c * w_row), w_row, span);
                add_sums(&found, span, &mut sums[c..]);
                c += WR;
            }
            while c < columns {
                let found = tile::<L, U, Floats, M, 1>(l, unit, x, w.add(c * w_row), w_row, span);
                add_sums(&found, span, &mut sums[c..]);
                c += 1;
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
    block: &'a Block,
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
        let columns = &self.block.columns;
        let mut group = columns.start;
        while group < columns.end {
            let sums = &mut self.sums[group - columns.start..];
            let whole = group + WR <= columns.end;
            for (index, start) in (0..p.k).step_by(BLOCK * U::ELEMENTS).enumerate() {
                let span = Span::new(start, p.k, U::ELEMENTS);
                // SAFETY: the rows lie in w, and x is padded to whole vectors.
                unsafe {
                    let x = self.block.x.add(index * self.block.x_span);
                    let w = p.rhs.add(group * p.rhs_row + start / per_block * R::BYTES);
                    if whole {
                        let found = tile::<L, U, R, 1, WR>(l, unit, x, w, p.rhs_row, &span);
                        add_sums(&found, &span, sums);
                    } else {
                        let found = tile::<L, U, R, 1, 1>(l, unit, x, w, p.rhs_row, &span);
                        add_sums(&found, &span, sums);
                    }
                }
            }
            group += if whole { WR } else { 1 };
        }
    }
}

/// Sets `sums` to the products of the one row of a block with its rows of w.
///
/// # Safety
/// The block must lie in the product.
#[inline(never)]
unsafe fn one_row(isa: DotIsa, product: &Product<'_>, pairs: bool, block: &Block, sums: &mut [f32]) {
    if pairs {
        unit::pairs(isa, OneRow::<BrainPairs> { product, block, sums, row: PhantomData });
    } else {
        with_row!(product.rhs_dtype, R => {
            unit::singles(isa, OneRow::<R> { product, block, sums, row: PhantomData });
        });
    }
}

/// The sums over a span of the products of `M` packed rows of x and `W` rows of w.
///
/// # Safety
/// The rows must be readable over the span; rows of x are padded with zeros to whole vectors.
#[inline(always)]
unsafe fn tile<L: DotLanes, U: Unit<L>, R: Row, const M: usize, const W: usize>(
    l: L,
    unit: U,
    x: *const u8,
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
                if M == 1 {
                    // The same place in the next group of rows.
                    l.prefetch(block.wrapping_add(W * w_row));
                }
                let scale = R::open(l, block);
                for period in 0..R::VECTORS / R::PERIOD {
                    for i in 0..R::PERIOD {
                        let j = period * R::PERIOD + i;
                        let v = R::vector(l, block, &scale, j);
                        for r in 0..M {
                            let xv = l.load_units(x.add(r * SPAN + (b * R::VECTORS + j) * 64));
                            acc[r][c] = unit.mac(l, acc[r][c], xv, v);
                        }
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
                    let xv = l.load_units(x.add(r * SPAN + span.vectors * 64));
                    acc[r][c] = unit.mac(l, acc[r][c], xv, v);
                }
            }
        }
    }
    let mut sums = [[0.0; W]; M];
    for r in 0..M {
        if W == 4 {
            sums[r].copy_from_slice(&l.sum_four([acc[r][0], acc[r][1 % W], acc[r][2 % W], acc[r][3 % W]]));
        } else {
            for c in 0..W {
                sums[r][c] = l.sum(acc[r][c]);
            }
        }
    }
    sums
}
