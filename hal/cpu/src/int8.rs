//! Products of rows rounded to int8 with quantized rows.
//!
//! Numbers of a group of 32 are multiplied and added exactly, four to a lane. The groups' sums, each scaled, and what the
//! minima add are added in order, then the lanes by a fixed tree. So a result depends on its two rows alone, and has the
//! same bits on every instruction set.

mod lanes;
mod weights;

use percept_graph::{DType, INT8_GROUP, INT8_LEAST, OpDesc};

use self::lanes::{ByteLanes, Plain};
use self::weights::{GroupFormat, Q4_0, Q4_1, Q4K, Q6K, Q8_0};
use crate::fused::memory;
use crate::kernel::{Kernel, Operands};
use crate::lanes::{WIDTH, simd};
use crate::pool::Team;
use crate::rows::Rows;
use crate::scratch::with_scratch;

/// Rows of x up to which every thread rounds all of them for itself, which costs less than to wait for the others.
const FEW: usize = 4;
/// Rows of x that share a decoded group.
const TOGETHER: usize = 8;
/// Rows of x, and at most of w, in a task.
const HEIGHT: usize = 64;
const WIDEST: usize = 32;
/// How many bytes ahead of their use w is prefetched.
const AHEAD: usize = 2048;
/// Multiply-adds per nanosecond of one thread, roughly.
const SPEED: usize = 60;

/// Lanes of a group, of four elements each.
const LANES: usize = INT8_GROUP / 4;
/// Bytes that a row has of a group: the numbers, the scaled sums of the lanes, the scale.
const GROUP: usize = INT8_GROUP + 4 * LANES + 4;
const _: () = assert!(4 * LANES == INT8_GROUP, "sums are found as numbers are");

/// Rows as whole numbers, in panels of rows that are multiplied together. A panel holds group after group, a group
/// first all rows' numbers, then their sums, then their scales: one address reaches all of them.
#[derive(Clone, Copy)]
struct Rounded {
    start: *mut u8,
    rows: usize,
    groups: usize,
}

impl Rounded {
    /// The panel that row `i` lies in: its first row, and how many there are.
    fn panel(self, i: usize) -> (usize, usize) {
        let mut first = i / TOGETHER * TOGETHER;
        let mut height = TOGETHER;
        while first + height > self.rows || i >= first + height {
            if i >= first + height {
                first += height;
            }
            height /= 2;
        }
        (first, height)
    }

    /// Rounds row `i`.
    ///
    /// # Safety
    /// Memory for all rows must be there on a cache line, and nothing else may use that of this row.
    unsafe fn fill(self, i: usize, x: &[f32]) {
        let (first, height) = self.panel(i);
        let row = i - first;
        for (g, x) in x.as_chunks().0.iter().enumerate() {
            let mut numbers = [0; INT8_GROUP];
            let mut sums = [0.0; LANES];
            let scale = round(x, &mut numbers, &mut sums);
            // SAFETY: the caller promises the memory; sums and scales lie at multiples of four.
            unsafe {
                let group = self.start.add((first * self.groups + g * height) * GROUP);
                group.cast::<[i8; INT8_GROUP]>().add(row).write(numbers);
                let group = group.add(height * INT8_GROUP);
                group.cast::<[f32; LANES]>().add(row).write(sums);
                group.add(height * 4 * LANES).cast::<f32>().add(row).write(scale);
            }
        }
    }
}

simd! {
    /// Sets the numbers and scaled sums of a group; gives its scale.
    fn round(l, x: &[f32; INT8_GROUP], numbers: &mut [i8; INT8_GROUP], sums: &mut [f32; LANES]) -> f32 {
        let halves = x.as_chunks::<WIDTH>().0;
        let halves = [l.load(&halves[0]), l.load(&halves[1])];
        let greatest = l.greatest(l.max(l.abs(halves[0]), l.abs(halves[1])));
        // 0 where all is finite, else NaN, which the whole result then becomes.
        let trouble = l.sum(l.mul(l.add(l.mul(halves[0], l.splat(0.0)), halves[1]), l.splat(0.0)));
        let scale = if trouble == 0.0 { greatest / 127.0 } else { f32::NAN };
        let to_number = if greatest > INT8_LEAST { 127.0 / greatest } else { 0.0 };
        for (half, numbers) in halves.iter().zip(numbers.as_chunks_mut::<WIDTH>().0) {
            let mut whole = [0.0; WIDTH];
            l.store(l.round(l.mul(*half, l.splat(to_number))), &mut whole);
            for (to, q) in numbers.iter_mut().zip(whole) {
                *to = q as i8;
            }
        }
        for (sum, four) in sums.iter_mut().zip(numbers.as_chunks::<4>().0) {
            let whole: i32 = four.iter().map(|&q| i32::from(q)).sum();
            *sum = scale * whole as f32;
        }
        scale
    }
}

/// The products of some rows of x with some rows of w.
struct Tile<'a> {
    x: Rounded,
    w: &'a [u8],
    /// Rows of x, and of w.
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

/// Sums of a tile, a row of x after the other.
type Sums = [[f32; WIDEST]; HEIGHT];

impl Tile<'_> {
    #[inline(always)]
    fn multiply<L: ByteLanes, W: GroupFormat>(&self, l: L, sums: &mut Sums) {
        let mut i = self.rows.start;
        while i < self.rows.end {
            let to = &mut sums[i - self.rows.start..];
            i += match self.x.panel(i).1 {
                TOGETHER => self.rows::<L, W, TOGETHER, 1>(l, i, to),
                4 => self.rows::<L, W, 4, 2>(l, i, to),
                2 => self.rows::<L, W, 2, 2>(l, i, to),
                _ => self.rows::<L, W, 1, 2>(l, i, to),
            };
        }
    }

    /// The panel of `M` rows from `i` on, with `N` rows of w at a time.
    #[inline(always)]
    fn rows<L: ByteLanes, W: GroupFormat, const M: usize, const N: usize>(
        &self,
        l: L,
        i: usize,
        sums: &mut [[f32; WIDEST]],
    ) -> usize {
        let mut c = self.columns.start;
        while c + N <= self.columns.end {
            let found = self.few::<L, W, M, N>(l, i, c);
            for (sums, found) in sums.iter_mut().zip(found) {
                sums[c - self.columns.start..][..N].copy_from_slice(&found);
            }
            c += N;
        }
        for c in c..self.columns.end {
            let found = self.few::<L, W, M, 1>(l, i, c);
            for (sums, [found]) in sums.iter_mut().zip(found) {
                sums[c - self.columns.start] = found;
            }
        }
        M
    }

    #[inline(always)]
    fn few<L: ByteLanes, W: GroupFormat, const M: usize, const N: usize>(
        &self,
        l: L,
        i: usize,
        c: usize,
    ) -> [[f32; N]; M] {
        let blocks = self.x.groups / W::GROUPS;
        let row = blocks * W::BYTES;
        let w = self.w[c * row..(c + N) * row].as_ptr();
        let mut acc = [[l.splat(0.0); N]; M];
        let mut x = self.x.start.wrapping_add(i * self.x.groups * GROUP).cast_const();
        for b in 0..blocks {
            for g in 0..W::GROUPS {
                for n in 0..N {
                    let block = w.wrapping_add(n * row + b * W::BYTES);
                    if M == 1 {
                        l.prefetch(block.wrapping_add(AHEAD + g * (W::BYTES / W::GROUPS)));
                    }
                    // SAFETY: the block lies in the rows that were just sliced.
                    let group = unsafe { W::group(l, block, g) };
                    for m in 0..M {
                        // SAFETY: all rows of the panel were rounded, and the group is of them.
                        let (numbers, sums, scale) = unsafe {
                            let (numbers, sums) = (x.add(m * INT8_GROUP), x.add((M + m) * INT8_GROUP));
                            let scale = x.add(2 * M * INT8_GROUP).cast::<f32>().add(m).read();
                            (l.load(numbers), l.load_floats(sums.cast()), scale)
                        };
                        let dot = if W::SIGNED {
                            l.dot_signed(group.numbers, numbers)
                        } else {
                            l.dot_nibbles(group.numbers, numbers)
                        };
                        acc[m][n] = l.fma(l.mul(dot, l.splat(scale)), group.scale, acc[m][n]);
                        if W::MIN {
                            acc[m][n] = l.fma(group.min, sums, acc[m][n]);
                        }
                    }
                }
                x = x.wrapping_add(M * GROUP);
            }
        }
        let mut sums = [[0.0; N]; M];
        for m in 0..M {
            for n in 0..N {
                sums[m][n] = l.sum(acc[m][n]);
            }
        }
        sums
    }
}

/// Computes a tile with weights of a dtype on this machine's instruction set.
fn multiply<W: GroupFormat>(tile: &Tile<'_>, sums: &mut Sums) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn avx2<W: GroupFormat>(l: lanes::Bytes256, tile: &Tile<'_>, sums: &mut Sums) {
            tile.multiply::<_, W>(l, sums);
        }
        if let Some(l) = lanes::Bytes256::of(crate::lanes::isa()) {
            // SAFETY: the token was made after the machine's features were detected.
            return unsafe { avx2::<W>(l, tile, sums) };
        }
    }
    tile.multiply::<_, W>(Plain, sums);
}

/// x [.., k], rounded to int8 by groups, times a quantized weight [n, k].
pub(crate) fn int8_dot(desc: &OpDesc<'_>, threads: usize) -> Option<Kernel> {
    let (x, w) = (Rows::of(&desc.inputs[0])?, &desc.inputs[1]);
    let (n, k, out) = (w.dims[0], x.len, desc.outputs[0].dtype);
    let run: fn(&Tile<'_>, &mut Sums) = match w.dtype {
        DType::Q8_0 => multiply::<Q8_0>,
        DType::Q4_0 => multiply::<Q4_0>,
        DType::Q4_1 => multiply::<Q4_1>,
        DType::Q4K => multiply::<Q4K>,
        DType::Q6K => multiply::<Q6K>,
        _ => return None,
    };
    if k == 0 {
        return None;
    }
    let groups = k / INT8_GROUP;
    let bytes = (x.count * groups * GROUP).next_multiple_of(64);
    let copies = if x.count <= FEW { threads } else { 1 };
    let body = move |team: &Team<'_>, operands: &Operands<'_>| {
        if x.count * n == 0 {
            return;
        }
        let work = operands.workspace::<u8>().as_ptr();
        let start = work.wrapping_add(work.align_offset(64));
        let alone = x.count <= FEW;
        let start = start.wrapping_add(if alone { team.rank() * bytes } else { 0 });
        let rounded = Rounded { start, rows: x.count, groups };
        with_scratch(k, |row| {
            for i in if alone { 0..x.count } else { team.share(x.count, 1) } {
                // SAFETY: the workspace has room for all rows, or for all rows of each thread.
                unsafe { rounded.fill(i, x.read(operands, 0, i, row)) }
            }
        });
        if !alone {
            team.barrier();
        }
        let width = (n / (16 * team.size())).next_multiple_of(4).clamp(4, WIDEST);
        let down = x.count.div_ceil(HEIGHT);
        let mut sums = [[0.0; WIDEST]; HEIGHT];
        for tile in team.runs(down * n.div_ceil(width)) {
            let (i, j) = (tile % down * HEIGHT, tile / down * width);
            let (rows, columns) = (i..x.count.min(i + HEIGHT), j..n.min(j + width));
            let tile =
                Tile { x: rounded, w: operands.input(1), rows: rows.clone(), columns: columns.clone() };
            run(&tile, &mut sums);
            for (sums, row) in sums.iter().zip(rows) {
                let sums = bytemuck::cast_slice(&sums[..columns.len()]);
                memory::narrow(out, sums, operands, 0, row * n + columns.start, false);
            }
        }
    };
    let work = x.count * n * k / SPEED + n * k / 32;
    Some(Kernel::with_workspace(copies * bytes + 64, work, body))
}

#[cfg(test)]
#[path = "int8_test.rs"]
mod tests;
