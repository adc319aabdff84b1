//! The register tile of outer products.

use super::outer::BLOCK;
use super::unit::{DotLanes, Unit};
use crate::lanes::WIDTH;

/// Units from one row of a packed left panel to the next: the rows of a panel fall into different cache sets.
pub(super) const LEFT: usize = BLOCK + WIDTH;

/// Units by which a right panel is brought near before it is read: about the time of the last cache that cores share.
const AHEAD: usize = 32;

/// What all register tiles of a span share.
pub(super) struct Tile {
    /// Units to add up.
    pub(super) units: usize,
    /// Whether the sums begin here.
    pub(super) begin: bool,
    /// Elements from one row of sums to the next.
    pub(super) pitch: usize,
}

impl Tile {
    /// Adds the product of a left and a right panel to `rows` by `columns` sums at `c`.
    ///
    /// # Safety
    /// The panels must be packed over the span and the sums writable.
    #[inline(always)]
    pub(super) unsafe fn add_rows<L: DotLanes, U: Unit<L>, const MR: usize, const NR: usize>(
        &self,
        s: (L, U),
        a: *const u8,
        b: *const u8,
        c: *mut f32,
        (rows, columns): (usize, usize),
    ) {
        let size = (rows, columns);
        // Rows past the last are computed from whatever the panel holds, and dropped.
        // SAFETY: the caller promises the panels and sums; no tile is taller than its panel.
        unsafe {
            match rows {
                1..=2 => self.add::<L, U, 2, NR>(s, a, b, c, size),
                3..=4 => self.add::<L, U, 4, NR>(s, a, b, c, size),
                5..=8 if MR >= 8 => self.add::<L, U, 8, NR>(s, a, b, c, size),
                _ => self.add::<L, U, MR, NR>(s, a, b, c, size),
            }
        }
    }

    #[inline(always)]
    unsafe fn add<L: DotLanes, U: Unit<L>, const M: usize, const NR: usize>(
        &self,
        (l, unit): (L, U),
        a: *const u8,
        b: *const u8,
        c: *mut f32,
        (rows, columns): (usize, usize),
    ) {
        for r in 0..rows {
            for v in 0..NR {
                l.prefetch(c.wrapping_add(r * self.pitch + v * WIDTH).cast());
            }
        }
        let mut acc = [[l.splat(0.0); NR]; M];
        for k in 0..self.units {
            // SAFETY: the caller promises panels of M rows and NR vectors over the span.
            unsafe {
                // A span of both panels is larger than a first-level cache, and rows of the left one are too many streams
                // for the hardware to follow. Every unit brings one row's next units but one.
                l.prefetch(a.wrapping_add((k % WIDTH * LEFT + k / WIDTH * WIDTH + 2 * WIDTH) * 4).cast());
                let mut bv = [l.splat_int(0); NR];
                for v in 0..NR {
                    l.prefetch(b.wrapping_add(((k + AHEAD) * NR + v) * 64).cast());
                    bv[v] = l.load_units(b.add((k * NR + v) * 64));
                }
                for r in 0..M {
                    let av = l.splat_int(a.add((r * LEFT + k) * 4).cast::<i32>().read());
                    for v in 0..NR {
                        acc[r][v] = unit.mac(l, acc[r][v], av, bv[v]);
                    }
                }
            }
        }
        // The accumulators leave through memory: indexing them by a run-time count would keep them there throughout.
        let mut found = [[[0.0; WIDTH]; NR]; M];
        for r in 0..M {
            for v in 0..NR {
                l.store(acc[r][v], &mut found[r][v]);
            }
        }
        for (r, row) in found[..rows].iter().enumerate() {
            for (v, new) in row.iter().enumerate() {
                let column = v * WIDTH;
                if column >= columns {
                    break;
                }
                let count = WIDTH.min(columns - column);
                // SAFETY: the caller promises `rows` by `columns` sums.
                let sums = unsafe { std::slice::from_raw_parts_mut(c.add(r * self.pitch + column), count) };
                let new = l.load(new);
                if let Ok(full) = <&mut [f32; WIDTH]>::try_from(&mut *sums) {
                    l.store(if self.begin { new } else { l.add(l.load(full), new) }, full);
                } else {
                    l.store_first(if self.begin { new } else { l.add(l.load_first(sums, 0.0), new) }, sums);
                }
            }
        }
    }
}
