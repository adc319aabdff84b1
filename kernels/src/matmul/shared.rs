//! The launch of a product whose operands pass through workgroup memory.

use std::fmt::Write;

use percept_graph::DType;

use super::operand::{Loader, Matrix};
use super::product::{Product, sums};
use super::tile::Tile;
use crate::caps::Caps;
use crate::kernel::Kernel;
use crate::program::{Launch, Unsupported};

/// Vectors of k that a workgroup holds at a time.
const DEPTH: usize = 4;
/// Distance between rows in workgroup memory: one more than they hold, so that neighbours lie in different
/// banks.
const PITCH: usize = DEPTH + 1;

impl Product<'_> {
    /// The launch of this product in tiles; k is a multiple of four.
    ///
    /// # Errors
    /// When the adapter's workgroups are too small for the tile.
    pub fn shared(&self, tile: Tile, caps: &Caps) -> Result<Launch, Unsupported> {
        let Tile { rows: tm, vectors: tn, group: [wx, wy], .. } = tile;
        let [m, n, _, batch] = self.extents();
        let loaders = [self.a.loader(tm, true), self.b.loader(4 * tn, true)];
        // f16 stays f16 until it is multiplied: half the workgroup memory, and no unpacking of words.
        let vectors = |m: &Matrix, loader| m.dtype == DType::F16 && loader != Loader::Single;
        let half = caps.f16 && vectors(self.a, loaders[0]) && vectors(self.b, loaders[1]);
        let held = [tm * wy, 4 * tn * wx];
        let bytes = held.iter().sum::<usize>() * PITCH * if half { 8 } else { 16 };
        if bytes > caps.max_workgroup_storage as usize || wx * wy > caps.max_invocations as usize {
            return Err(Unsupported::new("the adapter's workgroups are too small for this tile"));
        }

        let mut kernel = Kernel::new("matmul_shared", include_str!("shared.wgsl"));
        kernel.tag(&format!("{tm}x{}", 4 * tn));
        let element = self.element()?;
        kernel.declare(&format!("alias T = {element};\nalias E = {};\n", if half { "f16" } else { element }));
        if half {
            kernel.tag("half").uses_f16();
            kernel.half_vectors("a", self.a.slot).half_vectors("b", self.b.slot);
        } else {
            self.bind_operands(&mut kernel, loaders)?;
        }
        let (declare, multiply) = sums(tm, tn, 4, element);
        let mut fetch = String::new();
        for i in 0..tm {
            let _ = writeln!(
                fetch,
                "            let a{i} = vec4<T>(a_tile[({}u + lane / {wx}u) * {PITCH}u + q]);",
                i * wy
            );
        }
        for c in 0..4 * tn {
            let _ = writeln!(
                fetch,
                "            let b{c} = vec4<T>(b_tile[({}u + lane % {wx}u) * {PITCH}u + q]);",
                c * wx
            );
        }
        for (v, q) in (0..tn).flat_map(|v| (0..4).map(move |q| (v, q))) {
            let parts: Vec<String> = (0..4).map(|e| format!("b{}[{q}]", 4 * v + e)).collect();
            let _ = writeln!(fetch, "            let b_{q}_{v} = vec4<T>({});", parts.join(", "));
        }
        kernel.set("FILL_A", &fill("a", "m", loaders[0], tm, held[0], wx * wy));
        kernel.set("FILL_B", &fill("b", "n", loaders[1], 4 * tn, held[1], wx * wy));
        kernel.set("SETUP", &declare).set("FETCH", &fetch).set("MULTIPLY", &multiply);
        kernel.set("STORE", &self.store(tm, tn));
        kernel.set("A_SIZE", &(held[0] * PITCH).to_string()).set("B_SIZE", &(held[1] * PITCH).to_string());
        kernel.set("HELD_M", &held[0].to_string()).set("HELD_N", &held[1].to_string());
        kernel.set("TN4", &(4 * tn).to_string()).set("TM", &tm.to_string());
        kernel.set("WX", &wx.to_string()).set("LANES", &(wx * wy).to_string());
        kernel.set("DEPTH", &DEPTH.to_string());
        self.bind_result(&mut kernel)?;
        let groups = [m.div_ceil(held[0]), n.div_ceil(held[1])];
        self.params(&mut kernel, groups, loaders);
        kernel.launch(groups[0].saturating_mul(groups[1]).saturating_mul(batch), caps)
    }
}

/// Statements by which `lanes` invocations fill a tile of `held` rows from row `first_{name}` on, vectors
/// along k from `base` on. Row r of an invocation's `own` rows lies `held / own` places behind its row r - 1.
fn fill(name: &str, extent: &str, loader: Loader, own: usize, held: usize, lanes: usize) -> String {
    let place = |row: &str| format!("(({row}) % {own}u * {}u + ({row}) / {own}u) * {PITCH}u", held / own);
    let start = format!("batch * p.{name}_batch");
    match loader {
        Loader::AlongRows => {
            // Four rows by four steps of k, turned.
            let mut text = format!(
                "        for (var u = lane; u < {held}u; u += {lanes}u) {{\n            let r = 4u * (u % {quads}u);\n            \
                 let q = u / {quads}u;\n            let k = 4u * min(base + q, p.k / 4u - 1u);\n            \
                 let at = {start} + min((first_{name} + r) / 4u, p.{extent} / 4u - 1u);\n",
                quads = held / 4
            );
            for e in 0..4 {
                let _ = writeln!(text, "            let v{e} = load4_{name}(at + (k + {e}u) * p.{name}_k);");
            }
            for e in 0..4 {
                let _ = writeln!(
                    text,
                    "            {name}_tile[{} + q] = vec4<E>(v0[{e}], v1[{e}], v2[{e}], v3[{e}]);",
                    place(&format!("r + {e}u"))
                );
            }
            text + "        }\n"
        }
        _ => {
            let vector = if loader == Loader::AlongK {
                format!("load4_{name}(at + k)")
            } else {
                let parts: Vec<String> =
                    (0..4).map(|e| format!("load_{name}(at + (4u * k + {e}u) * p.{name}_k)")).collect();
                format!("vec4<E>({})", parts.join(", "))
            };
            format!(
                "        for (var u = lane; u < {}u; u += {lanes}u) {{\n            let r = u / {DEPTH}u;\n            \
                 let q = u % {DEPTH}u;\n            let k = min(base + q, p.k / 4u - 1u);\n            \
                 let at = {start} + min(first_{name} + r, p.{extent} - 1u) * p.{name}_row;\n            \
                 {name}_tile[{} + q] = {vector};\n        }}\n",
                held * DEPTH,
                place("r")
            )
        }
    }
}
