//! The launch of a product by cooperative matrices: what an adapter's matrix units multiply.

use std::fmt::Write;

use percept_graph::DType;

use super::operand::Matrix;
use super::product::Product;
use crate::caps::{Caps, Cooperative};
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Launch, Unsupported};
use crate::storage::word;

/// Matrices across and down what a subgroup owns.
const OWN: usize = 2;

impl Product<'_> {
    /// The matrices that this product can be made of, if the adapter has some that fit it whole.
    pub fn cooperative_kind(&self, caps: &Caps) -> Option<Cooperative> {
        let kind = caps.cooperative_matrix?;
        let size = kind.size as usize;
        let [m, n, k, _] = self.extents();
        let fits = |x: &Matrix| x.dtype == kind.operand && (x.k.1 == 1 || x.rows.1 == 1);
        let whole = [(m, OWN * size), (n, OWN * size), (k, size)]
            .iter()
            .all(|(extent, unit)| extent.is_multiple_of(*unit));
        (caps.subgroup_size.is_some() && whole && fits(self.a) && fits(self.b)).then_some(kind)
    }

    /// This product by matrices of one kind: sums in f32, finished by a second launch.
    pub fn cooperative(
        &self,
        program: &mut KernelProgram,
        kind: Cooperative,
        caps: &Caps,
    ) -> Result<(), Unsupported> {
        let [m, n, _, batch] = self.extents();
        let sums = program.scratch((batch * m * n) as u64 * 4);
        program.launches.push(self.matrices(sums, kind, caps)?);
        program.launches.push(self.finish(sums, 1, caps)?);
        Ok(())
    }

    fn matrices(
        &self,
        sums: crate::program::Slot,
        Cooperative { size, operand }: Cooperative,
        caps: &Caps,
    ) -> Result<Launch, Unsupported> {
        let lanes = caps.subgroup_size.unwrap_or(1);
        let [m, n, _, batch] = self.extents();
        let mut kernel = Kernel::new("matmul_cooperative", include_str!("cooperative.wgsl"));
        kernel.uses_cooperative_matrices();
        let element = if operand == DType::F16 { "f16" } else { word(operand) };
        if operand == DType::F16 {
            kernel.uses_f16();
        }
        // What lies along k is read row by row as the left side, and column by column as the right one.
        let (mut declare, mut load, mut multiply, mut store) =
            (String::new(), String::new(), String::new(), String::new());
        for (name, x, role) in [("a", self.a, 'A'), ("b", self.b, 'B')] {
            let along_k = x.k.1 == 1;
            kernel.tag(if along_k { "k" } else { "r" });
            let (turned, stride) = match (along_k, role) {
                (true, 'A') => ("T", "row"),
                (true, _) => ("", "row"),
                (false, 'A') => ("", "k"),
                (false, _) => ("T", "k"),
            };
            let first = if role == 'A' { "row" } else { "column" };
            for i in 0..OWN {
                let at = format!(
                    "batch * p.{name}_batch + ({first} + {}u) * p.{name}_row + k * p.{name}_k",
                    i * size as usize
                );
                let _ = writeln!(
                    load,
                    "        let {name}{i} = coopLoad{turned}<coop_mat{size}x{size}<{element}, {role}>>(&{name}[{at}], p.{name}_{stride});"
                );
            }
        }
        for (i, j) in (0..OWN).flat_map(|i| (0..OWN).map(move |j| (i, j))) {
            let (down, right) = (i * size as usize, j * size as usize);
            let _ = writeln!(declare, "    var y{i}_{j} = coop_mat{size}x{size}<f32, C>();");
            let _ = writeln!(multiply, "        y{i}_{j} = coopMultiplyAdd(a{i}, b{j}, y{i}_{j});");
            let _ = writeln!(
                store,
                "    coopStoreT(y{i}_{j}, &y[(batch * p.m + row + {down}u) * p.n + column + {right}u], p.n);"
            );
        }
        kernel.set("DECLARE", &declare).set("LOAD", &load).set("MULTIPLY", &multiply).set("STORE", &store);
        kernel.set("OWN", &(OWN * size as usize).to_string()).set("SIZE", &size.to_string());
        kernel.set("LANES", &lanes.to_string());
        kernel.tag(&format!("{element}_{size}"));
        kernel.array("a", self.a.slot, element).array("b", self.b.slot, element).array("y", sums, "f32");
        let groups = [m / (OWN * size as usize), n / (OWN * size as usize)];
        self.params(&mut kernel, groups, [super::operand::Loader::Single; 2]);
        kernel.launch(groups[0].saturating_mul(groups[1]).saturating_mul(batch), caps)
    }
}
