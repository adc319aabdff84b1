//! Inner products: x [m, k] times w [n, k], the reduced axis contiguous in both.
//!
//! Lane i of an accumulator takes the units i, i+16, i+32, ... of a block of [`BLOCK`] units; the sixteen lanes are
//! added by a fixed tree, and the blocks' sums in order. An element's rounding depends on k alone, so a row is the
//! same whether it is multiplied alone, from weights decoded in registers, or in a batch, from weights decoded once.

use std::marker::PhantomData;
use std::ops::Range;

use super::Product;
use super::pack::{decode_units, store_row};
use super::row::{BrainPairs, Opened, Row, block_units, part, with_row};
use super::unit::{self, DotIsa, DotLanes, Kernel, Unit};
use crate::lanes::WIDTH;
use crate::pool::Team;

/// Units of the reduced axis whose products share an accumulator.
const BLOCK: usize = 768;
/// Rows of x that are packed at a time.
const CHUNK: usize = 1024;
/// Rows of x in a task.
const ROWS: usize = 192;
/// Rows of w in a task, at most.
const COLUMNS: usize = 64;
/// About how many bytes ahead of their use w is prefetched.
const AHEAD: usize = 6144;
/// Rows of x up to which rows of w are decoded in registers; so many are multiplied at a time.
const FEW: usize = 8;
const TOGETHER: usize = 4;
/// Bytes of a row's units in a block: packed and decoded rows lie this far apart, spread over the cache's sets.
const SPAN: usize = BLOCK * 4;
/// Blocks of the reduced axis of which a thread keeps a task's rows of w for the next task.
const KEPT: usize = 2;
/// Tasks a thread gets at least, and rows of x that each is left with at least.
const TASKS: usize = 16;
const FEWEST: usize = 48;

/// Bytes of workspace for `m` rows of `k` elements, `per_unit` to a unit, on `threads` threads.
pub(super) fn workspace(m: usize, k: usize, per_unit: usize, threads: usize) -> usize {
    let spans = k.div_ceil(per_unit).div_ceil(BLOCK);
    packed(m.min(CHUNK), spans) + threads * own(spans)
}

/// Bytes of a thread's own memory: a task's sums, and its rows of w.
fn own(spans: usize) -> usize {
    ROWS * COLUMNS * 4 + spans.min(KEPT) * COLUMNS * SPAN
}

/// Bytes of packed rows of x, with room for reading up to [`TOGETHER`] rows from the last one on.
fn packed(rows: usize, spans: usize) -> usize {
    (rows * spans + TOGETHER - 1) * SPAN
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
        let at = unsafe { p.work.add(packed(chunk, spans) + team.rank() * own(spans)) };
        let mut own = Own { at, kept: None };
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
            // A small product is cut finer, so that threads finish together.
            let tasks = TASKS * team.size();
            let width = (p.n / tasks).next_multiple_of(8).clamp(8, COLUMNS);
            let width = if rows.len() > FEW { COLUMNS } else { width };
            let finer = tasks.div_ceil(p.n.div_ceil(width)).min(rows.len() / FEWEST);
            let by_rows = rows.len().div_ceil(ROWS).max(finer);
            let height = rows.len().div_ceil(by_rows.max(1)).next_multiple_of(XR).min(ROWS);
            let by_rows = rows.len().div_ceil(height.max(1));
            for tile in team.runs(by_rows * p.n.div_ceil(width)) {
                let (i, j) = (tile % by_rows * height, tile / by_rows * width);
                let block = Block {
                    x: x.wrapping_add(i * SPAN),
                    x_span: rows.len() * SPAN,
                    rows: height.min(rows.len() - i),
                    columns: j..p.n.min(j + width),
                };
                // SAFETY: the block lies in the product; tiles write disjoint parts of the output.
                unsafe { block.compute::<L, U, XR, WR>(l, unit, isa, p, first + i, &mut own) }
            }
            if rows.end < p.m {
                team.barrier();
            }
        }
    }
}

/// A thread's own memory: a task's sums, then rows of w as units.
struct Own {
    at: *mut u8,
    /// The first of the rows of w that are there.
    kept: Option<usize>,
}

impl Own {
    /// Where block `index` of the reduced axis of a task's rows of w is.
    fn decoded(&self, index: usize) -> *mut u8 {
        self.at.wrapping_add(ROWS * COLUMNS * 4 + index % KEPT * COLUMNS * SPAN)
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
    /// The block must lie in the product, and nothing else may use its output.
    #[inline(always)]
    unsafe fn compute<L: DotLanes, U: Unit<L>, const XR: usize, const WR: usize>(
        &self,
        l: L,
        unit: U,
        isa: DotIsa,
        p: &Product<'_>,
        first: usize,
        own: &mut Own,
    ) {
        // SAFETY: the memory begins with the sums and is a multiple of 4.
        let sums = unsafe { std::slice::from_raw_parts_mut(own.at.cast::<f32>(), self.rows * COLUMNS) };
        if p.k == 0 {
            sums.fill(0.0);
        } else if self.rows <= FEW {
            own.kept = None;
            // SAFETY: the caller promises the block.
            unsafe { few_rows(isa, p, U::ELEMENTS == 2, self, sums, own.decoded(0)) }
        } else {
            // SAFETY: the caller promises the block.
            unsafe { self.add_spans::<L, U, XR, WR>(l, unit, isa, p, own, sums) }
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
    /// As [`Block::compute`].
    #[inline(always)]
    unsafe fn add_spans<L: DotLanes, U: Unit<L>, const XR: usize, const WR: usize>(
        &self,
        l: L,
        unit: U,
        isa: DotIsa,
        p: &Product<'_>,
        own: &mut Own,
        sums: &mut [f32],
    ) {
        let pairs = U::ELEMENTS == 2;
        let spans = p.k.div_ceil(BLOCK * U::ELEMENTS);
        let kept = own.kept.take() == Some(self.columns.start);
        let mut keep = spans <= KEPT;
        let stored_as_units = pairs || p.rhs_dtype == percept_graph::DType::F32;
        for (index, start) in (0..p.k).step_by(BLOCK * U::ELEMENTS).enumerate() {
            let span = Span::new(p, start, U::ELEMENTS);
            let skip = start / p.rhs_dtype.block_len() * p.rhs_dtype.block_bytes();
            // A copy of rows that already are units pays when many rows of x read it.
            let (w, w_row) = if stored_as_units && span.rest == 0 && self.rows <= 2 * XR {
                keep = false;
                (p.rhs.wrapping_add(self.columns.start * p.rhs_row + skip), p.rhs_row)
            } else {
                let decoded = own.decoded(index);
                let columns = if kept { 0..0 } else { self.columns.clone() };
                for (at, column) in columns.enumerate() {
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
        own.kept = keep.then_some(self.columns.start);
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
                let acc = l.dots::<U, M, WR>(unit, (x, SPAN), (w.add(c * w_row), w_row), span.vectors);
                let found = sum_lanes(l, &acc);
                add_sums(&found, span, &mut sums[c..]);
                c += WR;
            }
            while c < columns {
                let acc = l.dots::<U, M, 1>(unit, (x, SPAN), (w.add(c * w_row), w_row), span.vectors);
                let found = sum_lanes(l, &acc);
                add_sums(&found, span, &mut sums[c..]);
                c += 1;
            }
        }
    }
}

/// Adds a tile's sums over a span to the running ones, which the first span begins.
#[inline(always)]
fn add_sums<const W: usize>(found: &[[f32; W]], span: &Span, sums: &mut [f32]) {
    for (r, row) in found.iter().enumerate() {
        // As an array: a slice of unknown length would be copied by a call.
        let (sums, _) = sums[r * COLUMNS..].as_chunks_mut::<W>();
        for (sum, &new) in sums[0].iter_mut().zip(row) {
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
    /// Where the rows of w end.
    end: *const u8,
}

impl Span {
    #[inline(always)]
    fn new(p: &Product<'_>, start: usize, per_unit: usize) -> Span {
        let elements = (BLOCK * per_unit).min(p.k - start);
        let per_vector = per_unit * WIDTH;
        Span {
            units: start / per_unit,
            elements,
            vectors: elements / per_vector,
            rest: elements % per_vector,
            end: p.rhs.wrapping_add(
                (p.n - 1) * p.rhs_row + p.k / p.rhs_dtype.block_len() * p.rhs_dtype.block_bytes(),
            ),
        }
    }
}

/// The products of a few rows of x with rows of w, decoded in registers.
struct Few<'a, R> {
    product: &'a Product<'a>,
    block: &'a Block,
    sums: &'a mut [f32],
    /// A thread's own memory, for what is opened of the rows of w.
    own: *mut u8,
    row: PhantomData<R>,
}

impl<R: Row> Kernel for Few<'_, R> {
    #[inline(always)]
    fn run<L: DotLanes, U: Unit<L>, const MR: usize, const NR: usize, const XR: usize, const WR: usize>(
        self,
        l: L,
        unit: U,
    ) {
        if self.block.rows == 1 {
            self.rows::<L, U, 1, WR>(l, unit);
        } else {
            self.rows::<L, U, TOGETHER, WR>(l, unit);
        }
    }
}

impl<R: Row> Few<'_, R> {
    /// All rows, `M` at a time.
    #[inline(always)]
    fn rows<L: DotLanes, U: Unit<L>, const M: usize, const WR: usize>(self, l: L, unit: U) {
        let Few { product: p, block, sums, own, .. } = self;
        let per_block = block_units::<R>() * R::ELEMENTS;
        // SAFETY: the caller of `few_rows` promises the memory, of which far fewer than its bytes are needed.
        let opened = unsafe { Opened::over(own, if R::OPEN == 0 { 0 } else { WR }) };
        for row in (0..block.rows).step_by(M) {
            let count = M.min(block.rows - row);
            let mut group = block.columns.start;
            while group < block.columns.end {
                let sums = &mut sums[row * COLUMNS + group - block.columns.start..];
                let whole = group + WR <= block.columns.end;
                for (index, start) in (0..p.k).step_by(BLOCK * U::ELEMENTS).enumerate() {
                    let span = Span::new(p, start, U::ELEMENTS);
                    // SAFETY: the rows lie in w, and x is padded to whole vectors. Rows of x past the last are whatever
                    // follows in the packed rows, which has room for them, and their sums are dropped.
                    unsafe {
                        let x = block.x.add(index * block.x_span + row * SPAN);
                        let w = p.rhs.add(group * p.rhs_row + start / per_block * R::BYTES);
                        if whole {
                            let found = tile::<L, U, R, M, WR>(l, unit, x, w, p.rhs_row, &span, opened);
                            add_sums(&found[..count], &span, sums);
                        } else {
                            let found = tile::<L, U, R, M, 1>(l, unit, x, w, p.rhs_row, &span, opened);
                            add_sums(&found[..count], &span, sums);
                        }
                    }
                }
                group += if whole { WR } else { 1 };
            }
        }
    }
}

/// Sets `sums` to the products of the few rows of a block with its rows of w.
///
/// # Safety
/// The block must lie in the product, and a span of [`COLUMNS`] rows at `own` be the caller's own.
#[inline(never)]
unsafe fn few_rows(
    isa: DotIsa,
    product: &Product<'_>,
    pairs: bool,
    block: &Block,
    sums: &mut [f32],
    own: *mut u8,
) {
    if pairs {
        unit::pairs(isa, Few::<BrainPairs> { product, block, sums, own, row: PhantomData });
    } else {
        with_row!(product.rhs_dtype, R => {
            unit::singles(isa, Few::<R> { product, block, sums, own, row: PhantomData });
        });
    }
}

/// The sums over a span of the products of `M` packed rows of x and `W` rows of w.
///
/// # Safety
/// The rows must be readable over the span; rows of x are padded with zeros to whole vectors. `opened` has a place for
/// each row of w, unless they need no opening.
#[inline(always)]
unsafe fn tile<L: DotLanes, U: Unit<L>, R: Row, const M: usize, const W: usize>(
    l: L,
    unit: U,
    x: *const u8,
    w: *const u8,
    w_row: usize,
    span: &Span,
    opened: &mut [Opened],
) -> [[f32; W]; M] {
    let blocks = span.vectors / R::VECTORS;
    if R::OPEN > 0 {
        for (c, opened) in opened.iter_mut().enumerate().take(W) {
            // SAFETY: the caller promises the rows; a span has no more blocks than are opened together.
            unsafe {
                let w = w.add(c * w_row);
                R::open(l, w, blocks, span.end.addr() - w.addr(), opened);
            }
        }
    }
    // The same place in a later group of rows: at least the next, and far enough for memory to answer in time.
    let group = W * w_row;
    let ahead = group * (AHEAD / group.max(1)).max(1);
    // What is opened stays in memory, from where the broadcasts shall come.
    let opened = std::hint::black_box(opened.as_ptr());
    let mut acc = [[l.splat(0.0); W]; M];
    // SAFETY: the caller promises the rows.
    unsafe {
        for b in 0..blocks {
            for period in 0..R::VECTORS / R::PERIOD {
                for c in 0..W {
                    let block = w.add(c * w_row + b * R::BYTES);
                    if M == 1 {
                        let at = period * R::BYTES * R::PERIOD / R::VECTORS;
                        l.prefetch(block.wrapping_add(ahead + at));
                    }
                    for i in 0..R::PERIOD {
                        let j = period * R::PERIOD + i;
                        let v = R::vector(l, block, opened.wrapping_add(c), b, j);
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
    sum_lanes(l, &acc)
}

/// The sum of each accumulator's lanes.
#[inline(always)]
fn sum_lanes<L: DotLanes, const M: usize, const W: usize>(l: L, acc: &[[L::F; W]; M]) -> [[f32; W]; M] {
    let mut sums = [[0.0; W]; M];
    let (fours, rest) = acc.as_flattened().as_chunks::<4>();
    let (to_fours, to_rest) = sums.as_flattened_mut().as_chunks_mut::<4>();
    for (four, to) in fours.iter().zip(to_fours) {
        *to = l.sum_four(*four);
    }
    for (one, to) in rest.iter().zip(to_rest) {
        *to = l.sum(*one);
    }
    sums
}
