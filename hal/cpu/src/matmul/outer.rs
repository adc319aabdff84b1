//! Outer products: x [m, k] times b [k, n], the columns contiguous in b.
//!
//! Every element adds its products one unit after the other within a block of [`BLOCK`] units, then the blocks' sums
//! in order; lanes are columns. Few rows read b where it lies, many rows from packed panels, in that one order.

use std::marker::PhantomData;
use std::ops::Range;

use percept_graph::DType;

use super::Product;
use super::pack::{padded_units, store_row, store_units};
use super::row::{BrainPairs, Brains, Floats, Halves, Row};
use super::strip::{STEP, STRIP, Strip};
use super::tile::{LEFT, Tile};
use super::unit::{self, DotIsa, DotLanes, Kernel, Unit};
use crate::lanes::WIDTH;
use crate::pool::Team;

/// Units of the reduced axis that are summed together.
pub(super) const BLOCK: usize = 512;
/// Rows and columns whose packed panels are held at a time; a multiple of every panel and strip.
const CHUNK: usize = 1536;
/// Rows up to which b is read where it lies.
const FEW: usize = 4;
/// Panels of rows in a task.
const TALL: usize = 4;

/// Bytes of workspace for an [m, k] by [k, n] product, `per_unit` elements to a unit.
pub(super) fn workspace(m: usize, n: usize, k: usize, per_unit: usize, out: DType) -> usize {
    if m <= FEW {
        return m.next_power_of_two() * padded_units(k, per_unit) * 4;
    }
    let (rows, columns) = held(m, n);
    let sums = if out == DType::F32 { 0 } else { rows * columns * 4 };
    rows * LEFT * 4 + columns * BLOCK * 4 + sums
}

/// Rows and columns of a chunk of panels, in whole panels of every register tile.
fn held(m: usize, n: usize) -> (usize, usize) {
    (m.min(CHUNK).next_multiple_of(12), n.min(CHUNK).next_multiple_of(STRIP))
}

/// The product of `product.lhs` and columns of any kind.
#[derive(Clone, Copy)]
pub(super) struct Outer<'a> {
    pub(super) product: &'a Product<'a>,
    pub(super) team: &'a Team<'a>,
    pub(super) isa: DotIsa,
    pub(super) pairs: bool,
}

impl Outer<'_> {
    pub(super) fn multiply(self) {
        if self.product.m > FEW {
            if self.pairs {
                unit::pairs(self.isa, Chunks(self))
            } else {
                unit::singles(self.isa, Chunks(self))
            }
        } else {
            match self.product.rhs_dtype {
                DType::BF16 if self.pairs => unit::pairs(self.isa, Few::<BrainPairs>(self, PhantomData)),
                DType::BF16 => unit::singles(self.isa, Few::<Brains>(self, PhantomData)),
                DType::F16 => unit::singles(self.isa, Few::<Halves>(self, PhantomData)),
                _ => unit::singles(self.isa, Few::<Floats>(self, PhantomData)),
            }
        }
    }
}

/// Few rows, with columns read where they lie, as `R`.
struct Few<'a, R>(Outer<'a>, PhantomData<R>);

impl<R: Row> Kernel for Few<'_, R> {
    #[inline(always)]
    fn run<L: DotLanes, U: Unit<L>, const MR: usize, const NR: usize, const XR: usize, const WR: usize>(
        self,
        l: L,
        unit: U,
    ) {
        match self.0.product.m {
            1 => self.multiply::<L, U, 1>(l, unit),
            2 => self.multiply::<L, U, 2>(l, unit),
            _ => self.multiply::<L, U, FEW>(l, unit),
        }
    }
}

impl<R: Row> Few<'_, R> {
    /// Multiplies up to `M` rows, one strip of columns after the other.
    #[inline(always)]
    fn multiply<L: DotLanes, U: Unit<L>, const M: usize>(&self, l: L, unit: U) {
        let Outer { product: p, team, isa, .. } = self.0;
        let x_row = padded_units(p.k, U::ELEMENTS) * 4;
        if team.rank() == 0 {
            // SAFETY: the workspace holds the packed rows, and only this thread writes them.
            unsafe { p.lhs.pack::<L, U>(l, 0..p.m, 0..p.k, p.work, x_row) };
        }
        team.barrier();
        let units = p.k.div_ceil(U::ELEMENTS);
        let mut strip = Strip::<R>::new(p, isa);
        for tile in team.claims(p.n.div_ceil(STRIP)) {
            strip.columns = tile * STRIP..p.n.min((tile + 1) * STRIP);
            let mut sums = [[0.0f32; STRIP]; M];
            for block in (0..units).step_by(BLOCK) {
                let end = units.min(block + BLOCK);
                let mut acc = [[0.0f32; STRIP]; M];
                for step in (block..end).step_by(STEP) {
                    let count = STEP.min(end - step);
                    // SAFETY: the strip and its units lie in b. The workspace has `M` rows of x; those past the
                    // last are whatever they are, and dropped.
                    unsafe {
                        strip.stage(step, count);
                        let x = p.work.add(step * 4);
                        if count == STEP {
                            strip.add((l, unit), STEP, x, x_row, &mut acc);
                        } else {
                            strip.add((l, unit), count, x, x_row, &mut acc);
                        }
                    }
                }
                for r in 0..M {
                    for (sum, new) in sums[r].iter_mut().zip(acc[r]) {
                        *sum = if block == 0 { new } else { *sum + new };
                    }
                }
            }
            for (r, row) in sums[..p.m.min(M)].iter_mut().enumerate() {
                // SAFETY: the strip's columns lie in the output and belong to this tile.
                unsafe { put(l, p, r, strip.columns.start, &mut row[..strip.columns.len()]) };
            }
        }
    }
}

/// Stores finished sums of row `row` from column `column` on.
///
/// # Safety
/// The columns must lie in the output, and nothing else may write them.
#[inline(always)]
unsafe fn put<L: DotLanes>(l: L, p: &Product<'_>, row: usize, column: usize, sums: &mut [f32]) {
    if let Some(finish) = p.finish {
        finish(row, column, sums);
    }
    let at = (row * p.n + column) * p.out_dtype.block_bytes();
    // SAFETY: the caller promises the columns.
    unsafe { store_row(l, sums, p.out_dtype, p.out.add(at)) };
}

/// Any number of rows, by packed panels.
struct Chunks<'a>(Outer<'a>);

impl Kernel for Chunks<'_> {
    #[inline(always)]
    fn run<L: DotLanes, U: Unit<L>, const MR: usize, const NR: usize, const XR: usize, const WR: usize>(
        self,
        l: L,
        unit: U,
    ) {
        let Outer { product: p, team, .. } = self.0;
        let units = p.k.div_ceil(U::ELEMENTS);
        for left in (0..p.n).step_by(CHUNK) {
            for top in (0..p.m).step_by(CHUNK) {
                let panels = Panels::new(p, top..p.m.min(top + CHUNK), left..p.n.min(left + CHUNK));
                if units == 0 {
                    panels.finish_empty(l, team);
                }
                for block in (0..units).step_by(BLOCK) {
                    let span = block..units.min(block + BLOCK);
                    panels.pack_left::<L, U, MR>(l, team, &span);
                    panels.pack_right(self.0, &span);
                    team.barrier();
                    panels.multiply::<L, U, MR, NR>(l, unit, team, &span, span.end == units);
                    team.barrier();
                }
            }
        }
    }
}

/// A chunk of the output and the packed panels of its operands.
///
/// A left panel is MR rows of units, [`LEFT`] apart; a right panel is, unit after unit, NR vectors of columns.
struct Panels<'a> {
    product: &'a Product<'a>,
    rows: Range<usize>,
    columns: Range<usize>,
    left: *mut u8,
    right: *mut u8,
    sums: *mut f32,
    /// Elements from one row of sums to the next.
    pitch: usize,
}

impl<'a> Panels<'a> {
    fn new(p: &'a Product<'a>, rows: Range<usize>, columns: Range<usize>) -> Self {
        let (height, width) = held(p.m, p.n);
        // The workspace holds left panels, right panels, then sums where the output is not f32.
        let right = p.work.wrapping_add(height * LEFT * 4);
        let (sums, pitch) = if p.out_dtype == DType::F32 {
            (p.out.cast::<f32>().wrapping_add(rows.start * p.n + columns.start), p.n)
        } else {
            (right.wrapping_add(width * BLOCK * 4).cast(), width)
        };
        Panels { product: p, rows, columns, left: p.work, right, sums, pitch }
    }

    /// Packs this thread's rows of the left operand over a span of units; no thread reads the panels until
    /// the barrier.
    #[inline(always)]
    fn pack_left<L: DotLanes, U: Unit<L>, const MR: usize>(
        &self,
        l: L,
        team: &Team<'_>,
        span: &Range<usize>,
    ) {
        let p = self.product;
        let elements = span.start * U::ELEMENTS..p.k.min(span.end * U::ELEMENTS);
        let mine = team.share(self.rows.len(), MR);
        let rows = self.rows.start + mine.start..self.rows.start + mine.end;
        // SAFETY: shares are disjoint rows of the left panels.
        unsafe { p.lhs.pack::<L, U>(l, rows, elements, self.left.add(mine.start * LEFT * 4), LEFT * 4) };
    }

    /// Packs the columns that this thread claims over a span of units; no thread reads the panels until the
    /// barrier.
    fn pack_right(&self, outer: Outer<'_>, span: &Range<usize>) {
        let isa = outer.isa;
        match self.product.rhs_dtype {
            DType::BF16 if outer.pairs => {
                unit::pairs(isa, PackRight::<BrainPairs>(self, outer, span, PhantomData))
            }
            DType::BF16 => unit::singles(isa, PackRight::<Brains>(self, outer, span, PhantomData)),
            DType::F16 => unit::singles(isa, PackRight::<Halves>(self, outer, span, PhantomData)),
            _ => unit::singles(isa, PackRight::<Floats>(self, outer, span, PhantomData)),
        }
    }

    /// Adds the product of the panels to the sums; the first span begins them, the last stores them.
    #[inline(always)]
    fn multiply<L: DotLanes, U: Unit<L>, const MR: usize, const NR: usize>(
        &self,
        l: L,
        unit: U,
        team: &Team<'_>,
        span: &Range<usize>,
        last: bool,
    ) {
        let (m, n) = (self.rows.len(), self.columns.len());
        let strips = n.div_ceil(STRIP);
        let panel = NR * WIDTH;
        // Small products are cut finer, so that threads finish together.
        let tall = if m.div_ceil(MR * TALL) * strips >= 16 * team.size() { TALL } else { 1 } * MR;
        let tile = Tile { units: span.len(), begin: span.start == 0, pitch: self.pitch };
        for task in team.claims(m.div_ceil(tall) * strips) {
            let (column, row) = (task % strips * STRIP, task / strips * tall);
            let (columns, rows) = (column..n.min(column + STRIP), row..m.min(row + tall));
            for j in columns.clone().step_by(panel) {
                for i in rows.clone().step_by(MR) {
                    // SAFETY: the panels are packed; tasks write disjoint parts of the sums.
                    unsafe {
                        let a = self.left.add(i * LEFT * 4);
                        let b = self.right.add(j / panel * span.len() * panel * 4);
                        let c = self.sums.add(i * self.pitch + j);
                        tile.add_rows::<L, U, MR, NR>((l, unit), a, b, c, (MR.min(m - i), panel.min(n - j)));
                    }
                }
            }
            if last {
                self.store(l, rows, columns);
            }
        }
    }

    /// Finishes the sums of a part of the chunk and stores them; f32 sums already lie in the output.
    #[inline(always)]
    fn store<L: DotLanes>(&self, l: L, rows: Range<usize>, columns: Range<usize>) {
        let p = self.product;
        if p.out_dtype == DType::F32 && p.finish.is_none() {
            return;
        }
        for i in rows {
            let (row, column) = (self.rows.start + i, self.columns.start + columns.start);
            // SAFETY: the part belongs to this task.
            unsafe {
                let from = self.sums.add(i * self.pitch + columns.start);
                let sums = std::slice::from_raw_parts_mut(from, columns.len());
                if p.out_dtype != DType::F32 {
                    put(l, p, row, column, sums);
                } else if let Some(finish) = p.finish {
                    finish(row, column, sums);
                }
            }
        }
    }

    /// Stores a chunk whose reduced axis is empty.
    #[inline(always)]
    fn finish_empty<L: DotLanes>(&self, l: L, team: &Team<'_>) {
        for i in team.share(self.rows.len(), 1) {
            // SAFETY: shares are disjoint rows of the sums.
            unsafe { std::slice::from_raw_parts_mut(self.sums.add(i * self.pitch), self.columns.len()) }
                .fill(0.0);
            self.store(l, i..i + 1, 0..self.columns.len());
        }
        team.barrier();
    }
}

/// Packs columns stored as `R`.
struct PackRight<'a, R>(&'a Panels<'a>, Outer<'a>, &'a Range<usize>, PhantomData<R>);

impl<R: Row> Kernel for PackRight<'_, R> {
    #[inline(always)]
    fn run<L: DotLanes, U: Unit<L>, const MR: usize, const NR: usize, const XR: usize, const WR: usize>(
        self,
        l: L,
        _: U,
    ) {
        let PackRight(panels, Outer { product, team, isa, .. }, span, _) = self;
        let panel = NR * WIDTH;
        let panel_bytes = span.len() * panel * 4;
        let strips = panels.columns.len().div_ceil(STRIP);
        let depth = 8 * STEP;
        let mut strip = Strip::<R>::new(product, isa);
        for tile in team.claims(strips * span.len().div_ceil(depth)) {
            let (column, first) = (tile % strips * STRIP, tile / strips * depth);
            let start = panels.columns.start + column;
            strip.columns = start..panels.columns.end.min(start + STRIP);
            let vectors = strip.columns.len().div_ceil(WIDTH);
            let end = span.len().min(first + depth);
            for step in (first..end).step_by(STEP) {
                let count = STEP.min(end - step);
                // SAFETY: the strip and its units lie in b; every tile writes its own units of its own panels.
                unsafe {
                    strip.stage(span.start + step, count);
                    for u in 0..count {
                        for v in 0..vectors.next_multiple_of(NR) {
                            let value = if v < vectors { strip.vector(l, u, v) } else { l.splat_int(0) };
                            let at =
                                (column / panel + v / NR) * panel_bytes + ((step + u) * NR + v % NR) * 64;
                            store_units(l, value, panels.right.add(at));
                        }
                    }
                }
            }
        }
    }
}
