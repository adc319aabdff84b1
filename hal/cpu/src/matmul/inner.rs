//! Inner products: x [m, k] times w [n, k], the reduced axis contiguous in both.
//!
//! Lane i of an accumulator takes the units i, i+16, i+32, ... of a block of [`BLOCK`] units; the sixteen lanes are
//! added by a fixed tree, and the blocks' sums in order. An element's rounding depends on k alone, so a row is the
//! same whether it is multiplied alone, from weights decoded in registers, or in a batch, from weights decoded once: a
//! group of rows of w that stays in the first-level cache while all rows of x are multiplied by it.

use std::marker::PhantomData;
use std::ops::Range;

use super::Product;
use super::pack::{Rows, decode_rows, store_row};
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
/// Rows of w that are decoded at a time for a few rows of x, which then stay in the first-level cache with them. Many rows
/// do not fit there: they are read less often when all rows of w in a task are decoded at once.
const GROUP: usize = 8;
/// Bytes of a row's units in a block: packed and decoded rows lie this far apart, spread over the cache's sets.
const SPAN: usize = BLOCK * 4;
/// Tasks a thread gets at least, and rows of x that each is left with at least.
const TASKS: usize = 16;
const FEWEST: usize = 48;

/// Bytes of workspace for `m` rows of `k` elements, `per_unit` to a unit, on `threads` threads.
pub(super) fn workspace(m: usize, k: usize, per_unit: usize, threads: usize) -> usize {
    let spans = k.div_ceil(per_unit).div_ceil(BLOCK);
    packed(m.min(CHUNK), spans) + threads * OWN
}

/// Bytes of a thread's own memory: a task's sums, rows of w as units, and what is opened of one of them.
const OWN: usize = ROWS * COLUMNS * 4 + COLUMNS * SPAN + 2 * size_of::<Opened>();

/// Bytes of packed rows of x.
fn packed(rows: usize, spans: usize) -> usize {
    rows * spans * SPAN
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
        let own = unsafe { p.work.add(packed(chunk, spans) + team.rank() * OWN) };
        for first in (0..p.m).step_by(chunk.max(1)) {
            let rows = first..p.m.min(first + chunk);
            // A copy of rows that already are units pays when many rows of w read it and the rows collide in the cache.
            let in_place = rows.len() <= FEWEST || spread(p.lhs.row);
            let (x, x_row, x_span) = if in_place && p.lhs.is_units(p.k, U::ELEMENTS) {
                (p.lhs.start.wrapping_add(first * p.lhs.row), p.lhs.row, SPAN)
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
                (p.work.cast_const(), SPAN, rows.len() * SPAN)
            };
            // A small product is cut finer, so that threads finish together.
            let tasks = TASKS * team.size();
            let width = (p.n / tasks).next_multiple_of(GROUP).clamp(GROUP, COLUMNS);
            let width = if rows.len() > FEWEST { COLUMNS } else { width };
            let finer = tasks.div_ceil(p.n.div_ceil(width)).min(rows.len() / FEWEST);
            let by_rows = rows.len().div_ceil(ROWS).max(finer);
            let height = rows.len().div_ceil(by_rows.max(1)).next_multiple_of(XR).min(ROWS);
            let by_rows = rows.len().div_ceil(height.max(1));
            for tile in team.runs(by_rows * p.n.div_ceil(width)) {
                let (i, j) = (tile % by_rows * height, tile / by_rows * width);
                let block = Block {
                    x: x.wrapping_add(i * x_row),
                    x_row,
                    x_span,
                    rows: height.min(rows.len() - i),
                    columns: j..p.n.min(j + width),
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

/// Whether rows that begin so many bytes apart lie in different sets of a first-level cache. Its sets repeat every 4,096
/// bytes; rows that begin at about the same place of them would push each other out.
fn spread(row: usize) -> bool {
    (1024..=3072).contains(&(row % 4096))
}

/// A part of the output: consecutive rows of x against consecutive rows of w.
struct Block {
    x: *const u8,
    /// Bytes from one row of x to the next, and from one span to the next.
    x_row: usize,
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
        own: *mut u8,
    ) {
        let (sums, decoded) = (own.cast::<f32>(), own.wrapping_add(ROWS * COLUMNS * 4));
        // SAFETY: the memory begins with the sums and is a multiple of 4.
        let sums = unsafe { std::slice::from_raw_parts_mut(sums, self.rows * COLUMNS) };
        if p.k == 0 {
            sums.fill(0.0);
        } else if self.rows == 1 {
            // SAFETY: the caller promises the block.
            unsafe { one_row(isa, p, U::ELEMENTS == 2, self, sums, decoded) }
        } else {
            // SAFETY: the caller promises the block.
            unsafe { self.many_rows::<L, U, XR, WR>(l, unit, isa, p, decoded, sums) }
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

    /// Computes the sums of several rows, a group of rows of w after the other.
    ///
    /// # Safety
    /// As [`Block::compute`].
    #[inline(always)]
    unsafe fn many_rows<L: DotLanes, U: Unit<L>, const XR: usize, const WR: usize>(
        &self,
        l: L,
        unit: U,
        isa: DotIsa,
        p: &Product<'_>,
        decoded: *mut u8,
        sums: &mut [f32],
    ) {
        let pairs = U::ELEMENTS == 2;
        // A copy of rows that already are units pays when many rows of x read it and the rows collide in the cache.
        let in_place =
            (pairs || p.rhs_dtype == percept_graph::DType::F32) && (self.rows <= 2 * XR || spread(p.rhs_row));
        let group = if self.rows > FEWEST { COLUMNS } else { GROUP };
        // SAFETY: the thread's own memory ends with room for two, and is used for nothing else meanwhile.
        let opened = unsafe { &mut Opened::over(decoded.add(COLUMNS * SPAN), 1)[0] };
        for first in self.columns.clone().step_by(group) {
            let columns = group.min(self.columns.end - first);
            let sums = &mut sums[first - self.columns.start..];
            for (index, start) in (0..p.k).step_by(BLOCK * U::ELEMENTS).enumerate() {
                let span = Span::new(p, start, U::ELEMENTS);
                let skip = start / p.rhs_dtype.block_len() * p.rhs_dtype.block_bytes();
                let from = p.rhs.wrapping_add(first * p.rhs_row + skip);
                let (w, w_row) = if in_place && span.rest == 0 {
                    (from, p.rhs_row)
                } else {
                    let rows = Rows { from, row: p.rhs_row, count: columns, end: span.end };
                    // SAFETY: the rows lie in w, and a span of each fits its place.
                    unsafe {
                        decode_rows(isa, p.rhs_dtype, pairs, rows, span.elements, (decoded, SPAN), opened);
                    }
                    (decoded.cast_const(), SPAN)
                };
                let w = Group { start: w, row: w_row, count: columns };
                let span = Span { vectors: span.vectors + usize::from(span.rest > 0), rest: 0, ..span };
                let (mut x, mut row) = ((self.x.wrapping_add(index * self.x_span), self.x_row), 0);
                // As many rows at a time as registers allow, shared out evenly: a tile of few rows waits for itself.
                for left in (1..=self.rows.div_ceil(XR)).rev() {
                    let count = (self.rows - row).div_ceil(left);
                    let sums = &mut sums[row * COLUMNS..];
                    // SAFETY: the rows of x and of w are whole vectors, padded with zeros.
                    unsafe {
                        match count {
                            6 if XR >= 6 => add_rows::<L, U, 6, WR>(l, unit, x, &w, &span, sums),
                            5 if XR >= 5 => add_rows::<L, U, 5, WR>(l, unit, x, &w, &span, sums),
                            4 if XR >= 4 => add_rows::<L, U, 4, WR>(l, unit, x, &w, &span, sums),
                            3 if XR >= 3 => add_rows::<L, U, 3, WR>(l, unit, x, &w, &span, sums),
                            2 if XR >= 2 => add_rows::<L, U, 2, WR>(l, unit, x, &w, &span, sums),
                            _ => add_rows::<L, U, 1, WR>(l, unit, x, &w, &span, sums),
                        }
                    }
                    row += count;
                    x.0 = x.0.wrapping_add(count * self.x_row);
                }
            }
        }
    }
}

/// Rows of w as units.
struct Group {
    start: *const u8,
    /// Bytes from one row to the next.
    row: usize,
    count: usize,
}

/// Adds the products over a span of `M` rows of units at `x`, so many bytes apart, with a group of rows of w to their sums.
///
/// # Safety
/// The rows must be readable over the span.
#[inline(always)]
unsafe fn add_rows<L: DotLanes, U: Unit<L>, const M: usize, const WR: usize>(
    l: L,
    unit: U,
    x: (*const u8, usize),
    w: &Group,
    span: &Span,
    sums: &mut [f32],
) {
    let mut c = 0;
    // SAFETY: the caller promises the rows.
    unsafe {
        while c + WR <= w.count {
            let acc = l.dots::<U, M, WR>(unit, x, (w.start.add(c * w.row), w.row), span.vectors);
            add_sums(&sum_lanes(l, &acc), span, &mut sums[c..]);
            c += WR;
        }
        while c < w.count {
            let acc = l.dots::<U, M, 1>(unit, x, (w.start.add(c * w.row), w.row), span.vectors);
            add_sums(&sum_lanes(l, &acc), span, &mut sums[c..]);
            c += 1;
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

/// The products of one row of x with rows of w, decoded in registers.
struct One<'a, R> {
    product: &'a Product<'a>,
    block: &'a Block,
    sums: &'a mut [f32],
    /// A thread's own memory, for what is opened of the rows of w.
    own: *mut u8,
    row: PhantomData<R>,
}

impl<R: Row> Kernel for One<'_, R> {
    #[inline(always)]
    fn run<L: DotLanes, U: Unit<L>, const MR: usize, const NR: usize, const XR: usize, const WR: usize>(
        self,
        l: L,
        unit: U,
    ) {
        let One { product: p, block, sums, own, .. } = self;
        let per_block = block_units::<R>() * R::ELEMENTS;
        // SAFETY: the caller of `one_row` promises the memory, of which far fewer than its bytes are needed.
        let opened = unsafe { Opened::over(own, if R::OPEN == 0 { 0 } else { WR }) };
        let mut group = block.columns.start;
        while group < block.columns.end {
            let sums = &mut sums[group - block.columns.start..];
            let whole = group + WR <= block.columns.end;
            for (index, start) in (0..p.k).step_by(BLOCK * U::ELEMENTS).enumerate() {
                let span = Span::new(p, start, U::ELEMENTS);
                // SAFETY: the rows lie in w, and x is padded to whole vectors.
                unsafe {
                    let x = block.x.add(index * block.x_span);
                    let w = p.rhs.add(group * p.rhs_row + start / per_block * R::BYTES);
                    if whole {
                        let found = tile::<L, U, R, WR>(l, unit, x, w, p.rhs_row, &span, opened);
                        add_sums(&[found], &span, sums);
                    } else {
                        let found = tile::<L, U, R, 1>(l, unit, x, w, p.rhs_row, &span, opened);
                        add_sums(&[found], &span, sums);
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
/// The block must lie in the product, and a span of [`COLUMNS`] rows at `own` be the caller's own.
#[inline(never)]
unsafe fn one_row(
    isa: DotIsa,
    product: &Product<'_>,
    pairs: bool,
    block: &Block,
    sums: &mut [f32],
    own: *mut u8,
) {
    if pairs {
        unit::pairs(isa, One::<BrainPairs> { product, block, sums, own, row: PhantomData });
    } else {
        with_row!(product.rhs_dtype, R => {
            unit::singles(isa, One::<R> { product, block, sums, own, row: PhantomData });
        });
    }
}

/// The sums over a span of the products of a packed row of x and `W` rows of w.
///
/// # Safety
/// The rows must be readable over the span; the row of x is padded with zeros to whole vectors. `opened` has a place for
/// each row of w, unless they need no opening.
#[inline(always)]
unsafe fn tile<L: DotLanes, U: Unit<L>, R: Row, const W: usize>(
    l: L,
    unit: U,
    x: *const u8,
    w: *const u8,
    w_row: usize,
    span: &Span,
    opened: &mut [Opened],
) -> [f32; W] {
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
    let mut acc = [l.splat(0.0); W];
    // SAFETY: the caller promises the rows.
    unsafe {
        for b in 0..blocks {
            for period in 0..R::VECTORS / R::PERIOD {
                for c in 0..W {
                    let block = w.add(c * w_row + b * R::BYTES);
                    let at = period * R::BYTES * R::PERIOD / R::VECTORS;
                    l.prefetch(block.wrapping_add(ahead + at));
                    for i in 0..R::PERIOD {
                        let j = period * R::PERIOD + i;
                        let v = R::vector(l, block, opened.wrapping_add(c), b, j);
                        acc[c] = unit.mac(l, acc[c], l.load_units(x.add((b * R::VECTORS + j) * 64)), v);
                    }
                }
            }
        }
        if span.rest > 0 {
            let per_vector = WIDTH * R::ELEMENTS;
            for c in 0..W {
                let p = w.add(c * w_row + span.vectors * R::BYTES);
                let v = part::<L, R>(l, p, span.rest * R::BYTES / per_vector);
                acc[c] = unit.mac(l, acc[c], l.load_units(x.add(span.vectors * 64)), v);
            }
        }
    }
    sum_lanes(l, &[acc])[0]
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
