//! What every kernel of a product shares: its operands and parameters, and what is done to a sum before it is
//! stored.

use std::fmt::Write;

use percept_graph::{Activation, DType};

use super::operand::{Loader, Matrix};
use crate::elementwise::activation;
use crate::kernel::Kernel;
use crate::program::{Slot, Unsupported};
use crate::storage::scalar;

/// y = finish(a b^T) with what is done before storing.
pub(super) struct Product<'a> {
    pub a: &'a Matrix,
    pub b: &'a Matrix,
    pub bias: Option<(Slot, DType)>,
    pub act: Option<Activation>,
    pub to: Slot,
    pub dtype: DType,
    /// The first column of y that this product makes, a multiple of four, and the columns that y has.
    pub columns: (usize, usize),
}

impl Product<'_> {
    /// Whether rows of y split into vectors.
    fn is_whole(&self) -> bool {
        self.columns.1.is_multiple_of(4)
    }

    /// Rows, columns, terms and batch entries.
    pub fn extents(&self) -> [usize; 4] {
        [self.a.rows.0, self.b.rows.0, self.a.k.0, self.a.batch.0]
    }

    /// The WGSL type of sums.
    pub fn element(&self) -> Result<&'static str, Unsupported> {
        Ok(if scalar(self.dtype)? == "i32" { "i32" } else { "f32" })
    }

    /// Bind a and b for their loaders.
    pub fn bind_operands(&self, kernel: &mut Kernel, loaders: [Loader; 2]) -> Result<(), Unsupported> {
        for (name, matrix, loader) in [("a", self.a, loaders[0]), ("b", self.b, loaders[1])] {
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
        }
        Ok(())
    }

    /// Bind the bias, if there is one, and y: as vectors where rows of y split into them.
    pub fn bind_result(&self, kernel: &mut Kernel) -> Result<(), Unsupported> {
        let whole = self.is_whole();
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
        Ok(())
    }

    /// Parameters: the extents, the groups each way, and per operand the strides of batch, row and k in its
    /// loader's unit.
    pub fn params(&self, kernel: &mut Kernel, groups: [usize; 2], loaders: [Loader; 2]) {
        let [m, n, k, batch] = self.extents();
        kernel.param("m", m).param("n", n).param("k", k).param("batch", batch);
        self.column_params(kernel);
        kernel.param("groups_m", groups[0]).param("groups_n", groups[1]);
        for (name, matrix, loader) in [("a", self.a, loaders[0]), ("b", self.b, loaders[1])] {
            let [batch, row, k] = matrix.units(loader);
            kernel.param(&format!("{name}_batch"), batch);
            kernel.param(&format!("{name}_row"), row).param(&format!("{name}_k"), k);
        }
    }

    /// Parameters by which [`Product::store`] places columns.
    pub fn column_params(&self, kernel: &mut Kernel) {
        kernel.param("first", self.columns.0).param("pitch", self.columns.1);
    }

    /// Bias, activation and the store of the sums `y{i}_{v}`, guarded at the edges: `rows` rows from `row` on
    /// by `vectors` vectors of columns from `column` on.
    pub fn store(&self, rows: usize, vectors: usize) -> String {
        let mut text = String::new();
        let whole = self.is_whole();
        for v in 0..vectors {
            let _ = writeln!(text, "    let column{v} = column + {}u;", 4 * v);
            if self.bias.is_some() {
                let vector = if whole {
                    format!("load4_bias((p.first + min(column{v}, p.n - 4u)) / 4u)")
                } else {
                    let parts: Vec<String> = (0..4)
                        .map(|e| format!("load_bias(p.first + min(column{v} + {e}u, p.n - 1u))"))
                        .collect();
                    format!("vec4<T>({})", parts.join(", "))
                };
                let _ = writeln!(text, "    let bias{v} = {vector};");
            }
        }
        for i in 0..rows {
            let _ = writeln!(
                text,
                "    if row + {i}u < p.m {{\n        let at = (batch * p.m + row + {i}u) * p.pitch + p.first;"
            );
            for v in 0..vectors {
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
        text
    }
}

/// Declarations of the sums `y{i}_{v}`, and statements that add `steps` products to each: rows `a{i}` by
/// columns `b_{q}_{v}`, step by step in the order of k.
pub(super) fn sums(rows: usize, vectors: usize, steps: usize, element: &str) -> (String, String) {
    let (mut declare, mut multiply) = (String::new(), String::new());
    for i in 0..rows {
        for v in 0..vectors {
            let _ = writeln!(declare, "    var y{i}_{v} = vec4<T>();");
        }
    }
    for q in 0..steps {
        for i in 0..rows {
            for v in 0..vectors {
                let _ = if element == "f32" {
                    writeln!(multiply, "        y{i}_{v} = fma(vec4<T>(a{i}[{q}]), b_{q}_{v}, y{i}_{v});")
                } else {
                    writeln!(multiply, "        y{i}_{v} += vec4<T>(a{i}[{q}]) * b_{q}_{v};")
                };
            }
        }
    }
    (declare, multiply)
}
