//! The launch of a product of one row: a matrix-vector product.

use super::operand::Loader;
use super::product::Product;
use crate::caps::Caps;
use crate::kernel::Kernel;
use crate::program::{Launch, Unsupported};

/// Columns of a workgroup, one vector.
const COLUMNS: usize = 4;
/// Invocations that share the terms of a sum.
const LANES: usize = 64;

impl Product<'_> {
    /// Whether both operands lie along k in vectors, and there is one row.
    pub fn is_row(&self) -> bool {
        let [m, _, k, _] = self.extents();
        let along_k = |matrix: &super::operand::Matrix| matrix.loader(1, k % 4 == 0) == Loader::AlongK;
        m == 1 && along_k(self.a) && along_k(self.b) && self.element() == Ok("f32")
    }

    /// The launch of this product of one row: a workgroup reads four rows of b, its lanes side by side.
    pub fn row(&self, caps: &Caps) -> Result<Launch, Unsupported> {
        let [_, n, _, batch] = self.extents();
        let mut kernel = Kernel::new("matmul_row", include_str!("row.wgsl"));
        let reduce = match caps.subgroup_size {
            Some(size) => {
                kernel.tag(&format!("subgroup{size}")).uses_subgroups();
                kernel.set("PARTS", &(LANES / size as usize).to_string());
                include_str!("row_subgroup.wgsl").replace("$SIZE", &size.to_string())
            }
            None => {
                kernel.set("PARTS", &LANES.to_string());
                include_str!("row_workgroup.wgsl").to_string()
            }
        };
        kernel.set("REDUCE", reduce.trim_end()).set("LANES", &LANES.to_string());
        kernel.set("STORE", &self.store(1, 1));
        kernel.declare("alias T = f32;\n");
        let loaders = [Loader::AlongK; 2];
        self.bind_operands(&mut kernel, loaders)?;
        self.bind_result(&mut kernel)?;
        let groups = n.div_ceil(COLUMNS);
        self.params(&mut kernel, [1, groups], loaders);
        kernel.launch(groups.saturating_mul(batch), caps)
    }
}
