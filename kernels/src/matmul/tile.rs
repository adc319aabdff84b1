//! The launch of a register-tiled product.

use super::operand::{Loader, columns, rows, spread_rows};
use super::product::{Product, sums};
use crate::caps::Caps;
use crate::kernel::Kernel;
use crate::program::{Launch, Unsupported};

/// What an invocation owns, and how many of them a workgroup has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    /// Rows of an invocation.
    pub rows: usize,
    /// Vectors of four columns of an invocation.
    pub vectors: usize,
    /// Invocations across the columns and down the rows of a workgroup.
    pub group: [usize; 2],
    /// The invocations across are one subgroup: each loads some of the rows they share, and all get them by
    /// broadcast.
    pub spread: bool,
}

impl Tile {
    pub const fn new([rows, vectors, across, down]: [usize; 4]) -> Self {
        Self { rows, vectors, group: [across, down], spread: false }
    }

    pub const fn spread([rows, vectors, across, down]: [usize; 4]) -> Self {
        Self { spread: true, ..Self::new([rows, vectors, across, down]) }
    }
}

impl Product<'_> {
    /// The launch of this product in tiles.
    pub fn tiled(&self, tile: Tile, caps: &Caps) -> Result<Launch, Unsupported> {
        let Tile { rows: tm, vectors: tn, group: [wx, wy], .. } = tile;
        let [m, n, k, batch] = self.extents();
        let step = if k % 4 == 0 { 4 } else { 1 };
        let a_loader = self.a.loader(tm, step == 4);
        let b_loader = self.b.loader(4 * tn, step == 4);
        let spread = tile.spread && a_loader == Loader::AlongK;

        let (a_setup, a_load) =
            if spread { spread_rows(tm, wx) } else { rows("a", "row", "m", tm, a_loader, step) };
        let (b_setup, b_load) = columns(tn, b_loader, step);
        let (declare, multiply) = sums(tm, tn, step, self.element()?);

        let mut kernel = Kernel::new("matmul", include_str!("tile.wgsl"));
        kernel.tag(&format!("{tm}x{}", 4 * tn));
        if spread {
            kernel.tag("spread").uses_subgroups();
        }
        // A lane past the last column still loads rows for the others.
        kernel.set("OUTSIDE", if spread { "row >= p.m" } else { "row >= p.m || column >= p.n" });
        kernel.set("SETUP", &(a_setup + &b_setup + &declare)).set("LOAD", &(a_load + &b_load));
        kernel.set("MULTIPLY", &multiply).set("STORE", &self.store(tm, tn));
        kernel.set("TN4", &(4 * tn).to_string()).set("TM", &tm.to_string()).set("TN", &tn.to_string());
        kernel.set("WX", &wx.to_string()).set("WY", &wy.to_string()).set("LANES", &(wx * wy).to_string());
        kernel.set("STEP", &step.to_string());
        kernel.declare(&format!("alias T = {};\n", self.element()?));
        self.bind_operands(&mut kernel, [a_loader, b_loader])?;
        self.bind_result(&mut kernel)?;
        let groups = [m.div_ceil(tm * wy), n.div_ceil(4 * tn * wx)];
        self.params(&mut kernel, groups, [a_loader, b_loader]);
        kernel.launch(groups[0].saturating_mul(groups[1]).saturating_mul(batch), caps)
    }
}
