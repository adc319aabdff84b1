//! What kernels over rows share: a row of the last dimension is reduced by one invocation (adapters that are
//! CPUs) or by a workgroup of 64 lanes, and read in vectors of four.
//!
//! Order of a row's sum: lane l of L takes vectors l, l + L, .. in turn, component by component; components
//! are added (x + y) + (z + w), then lanes pairwise from a distance of L / 2 down to 1. L is 64, or 1 on a
//! CPU.

use percept_graph::DType;

use crate::caps::Caps;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Launch, Slot, Unsupported};
use crate::storage::per_word;

/// A kernel over `rows` rows of `width` elements.
pub(crate) struct RowKernel {
    pub kernel: Kernel,
    rows: usize,
    width: usize,
    single: bool,
}

impl RowKernel {
    /// The kernel's text defines `fn row_main(row: u32, lane: u32)` in terms of `LANES`, `p.rows`, `p.width`,
    /// `p.quads` (vectors in a row), `row_sum`, `row_max` and each tensor's `quad_NAME(row, j, fill)` and
    /// `put_NAME(row, j, v)`.
    pub fn new(name: &str, text: &str, rows: usize, width: usize, caps: &Caps) -> Self {
        let single = caps.software;
        let mut kernel = Kernel::new(name, text);
        kernel.tag(if single { "single" } else { "lanes" });
        kernel.declare(if single { include_str!("single.wgsl") } else { include_str!("lanes.wgsl") });
        kernel.param("rows", rows).param("width", width).param("quads", width.div_ceil(4));
        Self { kernel, rows, width, single }
    }

    fn whole(&self) -> bool {
        self.width.is_multiple_of(4)
    }

    /// Bind a tensor of rows, or with `shared` of one row that all share.
    pub fn input(
        &mut self,
        name: &str,
        slot: Slot,
        dtype: DType,
        shared: bool,
    ) -> Result<&mut Self, Unsupported> {
        let row = if shared { "0u" } else { "row" };
        let text = if self.whole() {
            self.kernel.vectors(name, slot, dtype)?;
            format!(
                "fn quad_{name}(row: u32, j: u32, fill: f32) -> vec4<f32> {{ return load4_{name}({row} * p.quads + j); }}\n"
            )
        } else {
            self.kernel.input(name, slot, dtype)?;
            let parts: Vec<String> =
                (0..4).map(|e| format!("select(fill, load_{name}(base + min(4u * j + {e}u, p.width - 1u)), 4u * j + {e}u < p.width)")).collect();
            format!(
                "fn quad_{name}(row: u32, j: u32, fill: f32) -> vec4<f32> {{\n    let base = {row} * p.width;\n    return vec4<f32>({});\n}}\n",
                parts.join(", ")
            )
        };
        self.kernel.declare(&text);
        Ok(self)
    }

    /// Bind a result of rows. Ragged rows of 16-bit floats are written to f32 scratch, which
    /// [`RowKernel::finish`] casts.
    pub fn output(
        &mut self,
        program: &mut KernelProgram,
        name: &str,
        slot: Slot,
        dtype: DType,
    ) -> Result<(Slot, DType), Unsupported> {
        let narrow = !self.whole() && per_word(dtype) == 2;
        let (to, stored) = if narrow {
            (program.scratch((self.rows * self.width) as u64 * 4), DType::F32)
        } else {
            (slot, dtype)
        };
        let text = if self.whole() {
            self.kernel.vectors(name, to, stored)?;
            format!(
                "fn put_{name}(row: u32, j: u32, v: vec4<f32>) {{ store4_{name}(row * p.quads + j, v); }}\n"
            )
        } else {
            self.kernel.output(name, to, stored)?;
            let stores: Vec<String> = (0..4)
                .map(|e| format!("    if 4u * j + {e}u < p.width {{ store_{name}(base + {e}u, v[{e}]); }}\n"))
                .collect();
            format!(
                "fn put_{name}(row: u32, j: u32, v: vec4<f32>) {{\n    let base = row * p.width + 4u * j;\n{}}}\n",
                stores.concat()
            )
        };
        self.kernel.declare(&text);
        Ok((to, stored))
    }

    /// The launch: a row for each invocation or for each workgroup.
    pub fn launch(&mut self, caps: &Caps) -> Result<Launch, Unsupported> {
        self.kernel.append(if self.single {
            include_str!("single_main.wgsl")
        } else {
            include_str!("lanes_main.wgsl")
        });
        let groups = if self.single { self.rows.div_ceil(16) } else { self.rows };
        self.kernel.launch(groups, caps)
    }

    /// Add the launch that casts what [`RowKernel::output`] diverted, if it did.
    pub fn finish(
        &self,
        program: &mut KernelProgram,
        (from, stored): (Slot, DType),
        slot: Slot,
        dtype: DType,
        caps: &Caps,
    ) -> Result<(), Unsupported> {
        if from != slot {
            let n = self.rows * self.width;
            program.launches.extend(crate::movement::cast(from, stored, slot, dtype, n, caps)?);
        }
        Ok(())
    }
}
