//! The launch of a register-tiled product.

use std::fmt::Write;

use percept_graph::{Activation, DType};

use super::operand::{Loader, Matrix, columns, rows};
use crate::caps::Caps;
use crate::elementwise::activation;
use crate::kernel::Kernel;
use crate::program::{Launch, Slot, Unsupported};
use crate::storage::scalar;

/// y = finish(a b^T) with what is done before storing.
pub(super) struct Product<'a> {
    pub a: &'a Matrix,
    pub b: &'a Matrix,
    pub bias: Option<(Slot, DType)>,
    pub act: Option<Activation>,
    pub to: Slot,
    pub dtype: DType,
}

impl Product<'_> {
    /// One launch with tiles of `tm` rows by `tn` vectors, `wx` by `wy` tiles a workgroup.
    pub fn launch(&self, [tm, tn, wx, wy]: [usize; 4], caps: &Caps) -> Result<Launch, Unsupported> {
        let (m, n, k, batch) = (self.a.rows.0, self.b.rows.0, self.a.k.0, self.a.batch.0);
        let step = if k % 4 == 0 { 4 } else { 1 };
        let a_loader = self.a.loader(tm, step == 4);
        let b_loader = self.b.loader(4 * tn, step == 4);
        let element = if scalar(self.dtype)? == "i32" { "i32" } else { "f32" };

        let (a_setup, a_load) = rows("a", "row", "m", tm, a_loader, step);
        let (b_setup, b_load) = columns(tn, b_loader, step);
        let mut setup = a_setup + &b_setup;
        let mut multiply = String::new();
        for i in 0..tm {
            for v in 0..tn {
                let _ = writeln!(setup, "    var y{i}_{v} = vec4<T>();");
            }
        }
        for q in 0..step {
            for i in 0..tm {
                for v in 0..tn {
                    let _ = if element == "f32" {
                        writeln!(multiply, "        y{i}_{v} = fma(vec4<T>(a{i}[{q}]), b_{q}_{v}, y{i}_{v});")
                    } else {
                        writeln!(multiply, "        y{i}_{v} += vec4<T>(a{i}[{q}]) * b_{q}_{v};")
                    };
                }
            }
        }

        let mut kernel = Kernel::new("matmul", include_str!("tile.wgsl"));
        kernel.tag(&format!("{tm}x{}", 4 * tn));
        kernel.set("SETUP", &setup).set("LOAD", &(a_load + &b_load)).set("MULTIPLY", &multiply);
        kernel.set("STORE", &self.store(tm, tn, n)?);
        kernel.set("TN4", &(4 * tn).to_string()).set("TM", &tm.to_string()).set("TN", &tn.to_string());
        kernel.set("WX", &wx.to_string()).set("WY", &wy.to_string()).set("LANES", &(wx * wy).to_string());
        kernel.set("STEP", &step.to_string());
        kernel.declare(&format!("alias T = {element};\n"));
        bind(&mut kernel, "a", self.a, a_loader)?;
        bind(&mut kernel, "b", self.b, b_loader)?;
        let whole = n % 4 == 0;
        if let Some((slot, dtype)) = self.bias {
            if whole {
                kernel.vectors("bias", slot, dtype)?
            } else {
                kernel.input("bias", slot, dtype)?
            };
        }
        if whole {
            kernel.vectors("y", self.to, self.dtype)?
        } else {
            kernel.output("y", self.to, self.dtype)?
        };
        let groups_m = m.div_ceil(tm * wy);
        let groups_n = n.div_ceil(4 * tn * wx);
        kernel.param("m", m).param("n", n).param("k", k).param("batch", batch);
        kernel.param("groups_m", groups_m).param("groups_n", groups_n);
        for (name, matrix, loader) in [("a", self.a, a_loader), ("b", self.b, b_loader)] {
            let [batch, row, k] = matrix.units(loader);
            kernel.param(&format!("{name}_batch"), batch);
            kernel.param(&format!("{name}_row"), row).param(&format!("{name}_k"), k);
        }
        kernel.launch(groups_m.saturating_mul(groups_n).saturating_mul(batch), caps)
    }

    /// Bias, activation and the store of the tile, guarded at the edges.
    fn store(&self, tm: usize, tn: usize, n: usize) -> Result<String, Unsupported> {
        let mut text = String::new();
        let whole = n.is_multiple_of(4);
        for v in 0..tn {
            let _ = writeln!(text, "    let column{v} = column + {}u;", 4 * v);
            if self.bias.is_some() {
                let vector = if whole {
                    format!("load4_bias(min(column{v}, p.n - 4u) / 4u)")
                } else {
                    let parts: Vec<String> =
                        (0..4).map(|e| format!("load_bias(min(column{v} + {e}u, p.n - 1u))")).collect();
                    format!("vec4<T>({})", parts.join(", "))
                };
                let _ = writeln!(text, "    let bias{v} = {vector};");
            }
        }
        for i in 0..tm {
            let _ = writeln!(
                text,
                "    if row + {i}u < p.m {{\n        let at = (batch * p.m + row + {i}u) * p.n;"
            );
            for v in 0..tn {
                let biased =
                    if self.bias.is_some() { format!("y{i}_{v} + bias{v}") } else { format!("y{i}_{v}") };
                let _ = writeln!(text, "        let sum{v} = {biased};");
                let parts: Vec<String> = (0..4)
                    .map(|e| {
                        let x = format!("sum{v}[{e}]");
                        self.act.map_or(x.clone(), |act| activation(act, &x))
                    })
                    .collect();
                let _ = if whole {
                    writeln!(
                        text,
                        "        if column{v} < p.n {{ store4_y((at + column{v}) / 4u, vec4<T>({})); }}",
                        parts.join(", ")
                    )
                } else {
                    parts.iter().enumerate().try_for_each(|(e, part)| {
                        writeln!(
                            text,
                            "        if column{v} + {e}u < p.n {{ store_y(at + column{v} + {e}u, {part}); }}"
                        )
                    })
                };
            }
            text += "    }\n";
        }
        Ok(text)
    }
}

/// Bind an operand so that its loader's functions exist.
fn bind(kernel: &mut Kernel, name: &str, matrix: &Matrix, loader: Loader) -> Result<(), Unsupported> {
    kernel.tag(match loader {
        Loader::AlongK => "k",
        Loader::AlongRows => "r",
        Loader::Single => "s",
    });
    if loader == Loader::Single && !matrix.dtype.is_quantized() {
        kernel.input(name, matrix.slot, matrix.dtype)?;
    } else {
        kernel.vectors(name, matrix.slot, matrix.dtype)?;
    }
    Ok(())
}
