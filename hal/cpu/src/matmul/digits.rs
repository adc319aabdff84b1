//! Products of rows with 4-bit weights, in whole numbers.
//!
//! A group of 32 numbers of a row is held as 24-bit whole numbers of one scale, a power of two, and these as three digits
//! of eight bits. Products of digits with a weight's four bits are added without rounding, whatever their order; only the
//! groups' sums are rounded, scaled and added, in the order of the groups. So an element depends on its two rows
//! alone, and has the same bits on every instruction set.
//!
//! A number is off by at most 2^-23 of the greatest magnitude of its group, half a unit of its 24-bit number (and by
//! 2^-123 where all are tiny). So an element is off by that times the magnitudes of the group's weights, summed over
//! groups, beside what it loses where groups are added, each sum rounded to 2^-24 of itself. On the whole this is what
//! products in f32 lose, and two to three times that with activations of which single ones are ten thousand times the
//! others; where the greatest number of a group meets a weight of nearly zero it is more. What a row has that is not
//! finite makes the whole row NaN.

use percept_graph::DType;

use super::Product;
use super::bytes::{ByteKernel, Bytes};
use super::pack::store_row;
use super::panel::{CENTRE, Format, GROUP, Group, Q4_0, Q4_1, Q4K, Rows};
use super::unit::{DotLanes, Single};
use crate::lanes::WIDTH;
use crate::pool::Team;

/// Rows of x up to which every thread makes the digits of all of them for itself, which costs less than to wait.
const FEW: usize = 4;
/// Rows of x whose digits are made at a time, and that a task has.
const CHUNK: usize = 1024;
const ROWS: usize = 96;
/// Panels that many rows of x are multiplied with at once: every number of x that is brought to the registers is used twice.
const WIDE: usize = 2;
/// Groups of a panel that are read at a time: with the digits of a few rows they stay in the first-level cache. For a
/// few rows of x fewer, so that reading and multiplying take turns and memory is never idle.
const SPAN: usize = 24;
const SHORT: usize = 8;
/// About how many bytes ahead of their use w is brought near.
const AHEAD: usize = 4096;

/// Bytes of a group in any format, at most.
const WIDEST: usize = 20;
/// The smallest exponent that a group's scale counts from.
const LEAST: i32 = -100;

/// A group of a row of x: number `e` is `scale * (65536 high + 256 middle + low)`, the first of which is signed.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Digits {
    /// High, middle, low.
    digits: [[u8; GROUP]; 3],
    scale: f32,
    /// What all numbers add up to.
    sum: f32,
    /// `-CENTRE` times the sums of `256 high + middle` and of the low digits.
    start: [i32; 2],
}

/// Whether weights of `dtype` are multiplied by digits.
pub(super) fn has(dtype: DType) -> bool {
    matches!(dtype, DType::Q4_0 | DType::Q4_1 | DType::Q4K)
}

/// Rows of digits in memory for `rows` of x.
fn held(rows: usize, threads: usize) -> usize {
    if rows <= FEW { rows * threads } else { rows.min(CHUNK) }
}

/// From one row of digits to the next: an odd number of places, which spreads the rows over the cache's sets.
fn pitch(k: usize) -> usize {
    (k / GROUP) | 1
}

/// Bytes of workspace for `m` rows of `k` elements on `threads` threads.
pub(super) fn workspace(m: usize, k: usize, threads: usize) -> usize {
    held(m, threads) * pitch(k) * size_of::<Digits>() + threads * size_of::<Own>()
}

/// A thread's own memory.
#[repr(C, align(64))]
struct Own {
    panels: [[Group; SPAN]; WIDE],
    sums: [[[f32; WIDTH]; WIDE]; ROWS],
    /// Elements of a row of x on their way to digits.
    floats: [f32; SPAN * GROUP],
    /// The last rows of w, where they are fewer than sixteen.
    last: [[u8; SPAN * WIDEST]; WIDTH],
}

/// The product of `product.lhs` and rows of weights.
pub(super) struct ByDigits<'a> {
    pub(super) product: &'a Product<'a>,
    pub(super) team: &'a Team<'a>,
}

impl ByteKernel for ByDigits<'_> {
    #[inline(always)]
    fn run<L: DotLanes, B: Bytes<L>, const M: usize, const W: usize>(self, l: L, b: B) {
        match self.product.rhs_dtype {
            DType::Q4_0 => self.multiply::<L, B, Q4_0, M, W>(l, b),
            DType::Q4_1 => self.multiply::<L, B, Q4_1, M, W>(l, b),
            _ => self.multiply::<L, B, Q4K, M, W>(l, b),
        }
    }
}

impl ByDigits<'_> {
    #[inline(always)]
    fn multiply<L: DotLanes, B: Bytes<L>, F: Format, const M: usize, const W: usize>(&self, l: L, b: B) {
        let ByDigits { product: p, team } = *self;
        let pitch = pitch(p.k);
        let alone = p.m <= FEW;
        let digits = p.work.cast::<Digits>();
        // SAFETY: the workspace begins on a cache line and holds the digits, then each thread's own memory, of which any
        // bytes are valid.
        let (digits, own) = unsafe {
            let own = digits.add(held(p.m, team.size()) * pitch).cast::<Own>().add(team.rank());
            (digits.add(if alone { team.rank() * p.m * pitch } else { 0 }), &mut *own)
        };
        for first in (0..p.m).step_by(CHUNK) {
            let rows = CHUNK.min(p.m - first);
            let few = rows <= M;
            let columns = if few { WIDTH } else { WIDTH * WIDE };
            let height = if few { rows } else { rows.div_ceil(rows.div_ceil(ROWS)).next_multiple_of(W) };
            let across = p.n.div_ceil(columns);
            let tiles = rows.div_ceil(height) * across;
            if alone {
                // Memory answers while the digits are made.
                let start = p.rhs.wrapping_add(team.first(tiles) * columns * p.rhs_row);
                (0..AHEAD).step_by(64).for_each(|at| l.prefetch(start.wrapping_add(at)));
            }
            for i in if alone { 0..rows } else { team.share(rows, 1) } {
                // SAFETY: the row's digits are this thread's to write.
                unsafe { self.fill(l, b, first + i, digits.add(i * pitch), &mut own.floats) }
            }
            if !alone {
                team.barrier();
            }
            for tile in team.runs(tiles) {
                // Neighbouring tasks have the same rows of x, which stay near.
                let (i, j) = (tile / across * height, tile % across * columns);
                let height = height.min(rows - i);
                let sums = &mut own.sums[..height];
                let panels = (&mut own.panels, &mut own.last);
                // SAFETY: the rows of digits were filled; the weights lie in w.
                unsafe {
                    let x = digits.add(i * pitch);
                    if few {
                        self.sums::<L, B, F, M, 1>(l, b, x, j, panels, sums);
                    } else {
                        self.sums::<L, B, F, W, WIDE>(l, b, x, j, panels, sums);
                    }
                }
                let width = columns.min(p.n - j);
                for (row, sums) in (first + i..).zip(sums) {
                    let sums = &mut sums.as_flattened_mut()[..width];
                    if let Some(finish) = p.finish {
                        finish(row, j, sums);
                    }
                    let to = p.out.wrapping_add((row * p.n + j) * p.out_dtype.block_bytes());
                    // SAFETY: these elements of the output belong to this task.
                    unsafe { store_row(l, sums, p.out_dtype, to) }
                }
            }
            if first + rows < p.m {
                team.barrier();
            }
        }
    }

    /// Makes the digits of row `i` of x.
    ///
    /// # Safety
    /// `to` must have room for them.
    #[inline(always)]
    unsafe fn fill<L: DotLanes, B: Bytes<L>>(
        &self,
        l: L,
        b: B,
        i: usize,
        to: *mut Digits,
        floats: &mut [f32; SPAN * GROUP],
    ) {
        let p = self.product;
        let mut trouble = l.splat(0.0);
        for start in (0..p.k).step_by(SPAN * GROUP) {
            let k = start..p.k.min(start + SPAN * GROUP);
            let len = k.len();
            // SAFETY: the elements lie in x, and as many fit.
            unsafe { p.lhs.pack::<L, Single>(l, i..i + 1, k, floats.as_mut_ptr().cast(), 0) }
            for (g, x) in floats[..len].as_chunks::<GROUP>().0.iter().enumerate() {
                // SAFETY: the caller promises the room.
                unsafe { digits(l, b, x, &mut trouble, &mut *to.add(start / GROUP + g)) }
            }
        }
        // Zero times what is not finite is NaN.
        if l.sum(trouble) != 0.0 {
            // SAFETY: as above; a row that is empty has no trouble.
            unsafe { (*to).scale = f32::NAN }
        }
    }

    /// Sets `sums` to the products of as many rows of digits with the rows of w from `j` on, `N` panels of them. At most `M`
    /// rows are multiplied at a time.
    ///
    /// # Safety
    /// The digits must be filled, and `j` be a row of w.
    #[inline(always)]
    unsafe fn sums<L: DotLanes, B: Bytes<L>, F: Format, const M: usize, const N: usize>(
        &self,
        l: L,
        b: B,
        x: *const Digits,
        j: usize,
        (panels, last): (&mut [[Group; SPAN]; WIDE], &mut [[u8; SPAN * WIDEST]; WIDTH]),
        sums: &mut [[[f32; WIDTH]; WIDE]],
    ) {
        let p = self.product;
        let start = p.rhs.wrapping_add(j * p.rhs_row);
        let bytes = N * WIDTH * p.rhs_row;
        let next = start.wrapping_add(bytes * AHEAD.div_ceil(bytes.max(1)));
        let groups = p.k / GROUP;
        sums.as_flattened_mut().fill([0.0; WIDTH]);
        let span = if N == 1 { SHORT } else { SPAN };
        for first in (0..groups).step_by(span) {
            let (count, skip) = (span.min(groups - first), bytes_of::<F>(first));
            for (n, panel) in panels.iter_mut().enumerate().take(N) {
                // What a panel past the last row holds is multiplied, and dropped.
                let there = WIDTH.min((p.n - j).saturating_sub(n * WIDTH));
                let mut rows = Rows {
                    start: start.wrapping_add(n * WIDTH * p.rhs_row + skip),
                    row: p.rhs_row,
                    next: next.wrapping_add(WIDTH * (n * p.rhs_row + skip)),
                };
                if there < WIDTH {
                    for (i, last) in last.iter_mut().take(there).enumerate() {
                        let from = rows.start.wrapping_add(i * p.rhs_row);
                        // SAFETY: the span lies in w, and no row of it is longer than its place.
                        unsafe { from.copy_to_nonoverlapping(last.as_mut_ptr(), bytes_of::<F>(count)) }
                    }
                    (rows.start, rows.row) = (last.as_ptr().cast(), size_of_val(&last[0]));
                }
                // SAFETY: a span is whole blocks of rows of w, or of their copy.
                unsafe { F::read(l, b, rows, &mut panel[..count]) }
            }
            let panels: [&[Group]; N] = std::array::from_fn(|n| &panels[n][..count]);
            // As many rows at a time as registers allow, shared out evenly.
            let (pitch, mut row) = (pitch(p.k), 0);
            for left in (1..=sums.len().div_ceil(M)).rev() {
                let count = (sums.len() - row).div_ceil(left);
                let sums = &mut sums[row..row + count];
                // SAFETY: the digits are the caller's promise.
                unsafe {
                    let x = x.add(first + row * pitch);
                    match count {
                        6 if M >= 6 => dots::<L, B, 6, N>(l, b, x, pitch, panels, sums),
                        5 if M >= 5 => dots::<L, B, 5, N>(l, b, x, pitch, panels, sums),
                        4 if M >= 4 => dots::<L, B, 4, N>(l, b, x, pitch, panels, sums),
                        3 if M >= 3 => dots::<L, B, 3, N>(l, b, x, pitch, panels, sums),
                        2 if M >= 2 => dots::<L, B, 2, N>(l, b, x, pitch, panels, sums),
                        _ => dots::<L, B, 1, N>(l, b, x, pitch, panels, sums),
                    }
                }
                row += count;
            }
        }
    }
}

/// Bytes of so many groups, which are whole blocks.
fn bytes_of<F: Format>(groups: usize) -> usize {
    const { assert!(F::STORED.block_bytes() * GROUP <= WIDEST * F::STORED.block_len()) };
    groups * GROUP / F::STORED.block_len() * F::STORED.block_bytes()
}

/// Makes the digits of a group; its numbers times zero are added to `trouble`.
#[inline(always)]
fn digits<L: DotLanes, B: Bytes<L>>(l: L, b: B, x: &[f32; GROUP], trouble: &mut L::F, to: &mut Digits) {
    let halves = x.as_chunks::<WIDTH>().0;
    let halves = [l.load(&halves[0]), l.load(&halves[1])];
    for half in halves {
        *trouble = l.fma(half, l.splat(0.0), *trouble);
    }
    let greatest = l.greatest(l.max(l.abs(halves[0]), l.abs(halves[1])));
    let exponent = ((greatest.to_bits() >> 23) as i32 - 127).clamp(LEAST, 127);
    let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    let (mut upper, mut lower) = (l.splat_int(0), l.splat_int(0));
    for (i, half) in halves.into_iter().enumerate() {
        // Below 2^23, to which half a unit less would be rounded.
        let scaled = l.mul(half, l.splat(power(22 - exponent)));
        let q = l.to_int(l.min(scaled, l.splat(8_388_607.0)));
        let high = l.shift_right_signed::<8>(q);
        upper = l.add_int(upper, high);
        lower = l.add_int(lower, l.and(q, l.splat_int(255)));
        for (digits, x) in to.digits.iter_mut().zip([l.shift_right::<8>(high), high, q]) {
            digits.as_chunks_mut::<WIDTH>().0[i] = b.low_bytes(l, x);
        }
    }
    // Whole numbers below 2^24, of which f32 adds every one.
    let [upper, lower] = [upper, lower].map(|x| l.sum(l.to_float(x)));
    to.scale = power(exponent - 22);
    to.sum = upper.mul_add(256.0, lower) * to.scale;
    to.start = [-CENTRE * upper as i32, -CENTRE * lower as i32];
}

/// Adds the products of `M` rows of digits, `pitch` apart, with `N` panels to their sums.
///
/// # Safety
/// The rows must be filled over the panels' groups, and there be as many sums.
#[inline(always)]
unsafe fn dots<L: DotLanes, B: Bytes<L>, const M: usize, const N: usize>(
    l: L,
    b: B,
    x: *const Digits,
    pitch: usize,
    panels: [&[Group]; N],
    sums: &mut [[[f32; WIDTH]; WIDE]],
) {
    let sums = &mut sums.as_chunks_mut::<M>().0[0];
    let mut acc = [[l.splat(0.0); N]; M];
    for r in 0..M {
        for n in 0..N {
            acc[r][n] = l.load(&sums[r][n]);
        }
    }
    for g in 0..panels[0].len() {
        // SAFETY: the caller promises the rows.
        let x: [&Digits; M] = std::array::from_fn(|r| unsafe { &*x.add(r * pitch + g) });
        let w: [&Group; N] = std::array::from_fn(|n| &panels[n][g]);
        let mut parts = [[[l.splat_int(0); 3]; N]; M];
        for r in 0..M {
            let start = x[r].start.map(|start| l.splat_int(start));
            parts[r] = [[l.splat_int(0), start[0], start[1]]; N];
        }
        for j in 0..GROUP / 4 {
            let numbers: [L::I; N] = std::array::from_fn(|n| l.load_int(&w[n].numbers[j]));
            for r in 0..M {
                let [high, middle, low] = x[r].digits.each_ref().map(|digits| {
                    let four = digits.as_chunks::<4>().0[j];
                    l.splat_int(i32::from_le_bytes(four))
                });
                for n in 0..N {
                    let parts = &mut parts[r][n];
                    parts[0] = b.dot(l, parts[0], numbers[n], high);
                    parts[1] = b.dot(l, parts[1], middle, numbers[n]);
                    parts[2] = b.dot(l, parts[2], low, numbers[n]);
                }
            }
        }
        for n in 0..N {
            let (scale, offset) = (l.load(&w[n].scale), l.load(&w[n].offset));
            for r in 0..M {
                let [high, middle, low] = parts[r][n];
                // Both are below 2^24, so this is the sum rounded once.
                let upper = l.to_float(l.add_int(l.shift_left::<8>(high), middle));
                let sum = l.fma(upper, l.splat(256.0), l.to_float(low));
                let sum = l.mul(sum, l.splat(x[r].scale));
                // Whole before it is added: of what was added up, the last place is lost once a group.
                let group = l.fma(l.splat(x[r].sum), offset, l.mul(sum, scale));
                acc[r][n] = l.add(acc[r][n], group);
            }
        }
    }
    for r in 0..M {
        for n in 0..N {
            l.store(acc[r][n], &mut sums[r][n]);
        }
    }
}
