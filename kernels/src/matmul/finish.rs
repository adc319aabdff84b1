//! Sums in several parts, and the launch that adds the parts and finishes them.

use percept_graph::DType;

use super::operand::Matrix;
use super::product::Product;
use crate::caps::Caps;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Launch, Slot, Unsupported};

/// Terms of a part of a sum. Fixed, so that the order of a sum depends on its length alone.
pub(super) const SPLIT: usize = 256;

impl Product<'_> {
    /// Whether the sums are long and few: an adapter of many cores would stand idle.
    pub fn is_narrow(&self) -> bool {
        let [m, n, k, batch] = self.extents();
        batch == 1 && k.is_multiple_of(SPLIT) && k >= 4 * SPLIT && m.saturating_mul(n) <= 1 << 16
    }

    /// This product with its sums in parts of [`SPLIT`] terms, each made by `launch` as an entry of a batch,
    /// then added part after part.
    pub fn split(
        &self,
        program: &mut KernelProgram,
        launch: impl Fn(&Product<'_>) -> Result<Launch, Unsupported>,
        caps: &Caps,
    ) -> Result<(), Unsupported> {
        let [m, n, k, _] = self.extents();
        let parts = k / SPLIT;
        let cut = |x: &Matrix| Matrix { batch: (parts, SPLIT * x.k.1), k: (SPLIT, x.k.1), ..*x };
        let (a, b) = (cut(self.a), cut(self.b));
        let to = program.scratch((parts * m * n) as u64 * 4);
        program.launches.push(launch(&Product {
            a: &a,
            b: &b,
            bias: None,
            act: None,
            to,
            dtype: DType::F32,
            columns: (0, n),
        })?);
        program.launches.push(self.finish(to, parts, caps)?);
        Ok(())
    }

    /// y from f32 sums [parts, batch, m, n]: the parts added in order, then bias, activation and rounding.
    pub fn finish(&self, from: Slot, parts: usize, caps: &Caps) -> Result<Launch, Unsupported> {
        let [m, n, _, batch] = self.extents();
        let whole = n.is_multiple_of(4);
        let mut kernel = Kernel::new("matmul_finish", include_str!("finish.wgsl"));
        kernel.declare("alias T = f32;\n");
        if whole {
            kernel.vectors("sums", from, DType::F32)?;
            kernel.set("VECTOR", "load4_sums(at / 4u)");
        } else {
            kernel.input("sums", from, DType::F32)?;
            let parts: Vec<String> =
                (0..4).map(|e| format!("load_sums(at + min({e}u, p.n - 1u - column))")).collect();
            kernel.set("VECTOR", &format!("vec4<f32>({})", parts.join(", ")));
        }
        kernel.set("STORE", &self.store(1, 1));
        self.bind_result(&mut kernel)?;
        kernel.param("m", m).param("n", n).param("batch", batch).param("parts", parts);
        self.column_params(&mut kernel);
        kernel.launch((batch * m).saturating_mul(n.div_ceil(4)).div_ceil(64), caps)
    }
}
