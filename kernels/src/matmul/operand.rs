//! How a product's operand is read: vectors along k, vectors along rows, or single elements at any strides.

use std::fmt::Write;

use percept_graph::DType;

use crate::program::Slot;

/// An operand as [batch, rows, k], each an (extent, stride in elements).
pub(super) struct Matrix {
    pub slot: Slot,
    pub dtype: DType,
    pub batch: (usize, usize),
    pub rows: (usize, usize),
    pub k: (usize, usize),
}

/// The unit in which an operand is loaded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loader {
    /// Vectors of four along k.
    AlongK,
    /// Vectors of four along rows.
    AlongRows,
    /// Elements.
    Single,
}

impl Matrix {
    /// A dense row-major [batch, rows, k].
    pub fn dense(slot: Slot, dtype: DType, batch: usize, rows: usize, k: usize) -> Self {
        Self { slot, dtype, batch: (batch, rows * k), rows: (rows, k), k: (k, 1) }
    }

    /// The widest loader for tiles of `rows` rows, given whether k is taken four at a time.
    pub fn loader(&self, rows: usize, quads: bool) -> Loader {
        let whole = |(extent, stride): (usize, usize)| extent == 1 || stride % 4 == 0;
        let unit = |(_, stride): (usize, usize)| stride == 1;
        if quads && unit(self.k) && whole(self.rows) && whole(self.batch) {
            Loader::AlongK
        } else if quads
            && rows.is_multiple_of(4)
            && unit(self.rows)
            && self.rows.0.is_multiple_of(4)
            && whole(self.k)
            && whole(self.batch)
        {
            Loader::AlongRows
        } else {
            Loader::Single
        }
    }

    /// Strides of batch, row and k in the loader's units: for vectors along rows, `row` is 1 vector per four
    /// rows.
    pub fn units(&self, loader: Loader) -> [usize; 3] {
        let [batch, row, k] =
            [self.batch, self.rows, self.k].map(|(extent, stride)| if extent == 1 { 0 } else { stride });
        match loader {
            Loader::AlongK => [batch / 4, row / 4, 1],
            Loader::AlongRows => [batch / 4, 1, k / 4],
            Loader::Single => [batch, row, k],
        }
    }
}

/// Statements that find each row's base, and statements that load vectors `{name}{row}` of `step` elements
/// along k.
pub(super) fn rows(
    name: &str,
    first: &str,
    extent: &str,
    count: usize,
    loader: Loader,
    step: usize,
) -> (String, String) {
    let (mut setup, mut load) = (String::new(), String::new());
    if loader == Loader::AlongRows {
        for v in 0..count / 4 {
            let _ = writeln!(
                setup,
                "    let {name}_at{v} = batch * p.{name}_batch + min({first} / 4u + {v}u, p.{extent} / 4u - 1u);"
            );
            for q in 0..4 {
                let _ = writeln!(
                    load,
                    "        let {name}_v{v}_{q} = load4_{name}({name}_at{v} + (4u * k + {q}u) * p.{name}_k);"
                );
            }
            for e in 0..4 {
                let parts: Vec<String> = (0..4).map(|q| format!("{name}_v{v}_{q}[{e}]")).collect();
                let _ = writeln!(load, "        let {name}{} = vec4<T>({});", 4 * v + e, parts.join(", "));
            }
        }
        return (setup, load);
    }
    for r in 0..count {
        let _ = writeln!(
            setup,
            "    let {name}_at{r} = batch * p.{name}_batch + min({first} + {r}u, p.{extent} - 1u) * p.{name}_row;"
        );
        let _ = match (loader, step) {
            (Loader::AlongK, _) => writeln!(load, "        let {name}{r} = load4_{name}({name}_at{r} + k);"),
            (_, 4) => {
                let parts: Vec<String> = (0..4)
                    .map(|q| format!("load_{name}({name}_at{r} + (4u * k + {q}u) * p.{name}_k)"))
                    .collect();
                writeln!(load, "        let {name}{r} = vec4<T>({});", parts.join(", "))
            }
            _ => {
                writeln!(load, "        let {name}{r} = vec4<T>(load_{name}({name}_at{r} + k * p.{name}_k));")
            }
        };
    }
    (setup, load)
}

/// The same as [`rows`] for `count` rows of a along k that a subgroup of `lanes` shares: each lane loads
/// every `lanes`-th.
pub(super) fn spread_rows(count: usize, lanes: usize) -> (String, String) {
    let (mut setup, mut load) = (String::new(), String::new());
    for part in 0..count.div_ceil(lanes) {
        let _ = writeln!(
            setup,
            "    let a_at{part} = batch * p.a_batch + min(row + {}u + lane % {lanes}u, p.m - 1u) * p.a_row;",
            part * lanes
        );
        let _ = writeln!(load, "        let a_own{part} = load4_a(a_at{part} + k);");
    }
    for r in 0..count {
        let _ = writeln!(load, "        let a{r} = subgroupBroadcast(a_own{}, {}u);", r / lanes, r % lanes);
    }
    (setup, load)
}

/// Columns of b as vectors across columns, `b_{q}_{v}` for step q of k: loaded so where they lie so,
/// otherwise turned.
pub(super) fn columns(count: usize, loader: Loader, step: usize) -> (String, String) {
    if loader == Loader::AlongRows {
        let (mut setup, mut load) = (String::new(), String::new());
        for v in 0..count {
            let _ = writeln!(
                setup,
                "    let b_at{v} = batch * p.b_batch + min(column / 4u + {v}u, p.n / 4u - 1u);"
            );
            for q in 0..4 {
                let _ = writeln!(load, "        let b_{q}_{v} = load4_b(b_at{v} + (4u * k + {q}u) * p.b_k);");
            }
        }
        return (setup, load);
    }
    let (setup, mut load) = rows("b", "column", "n", 4 * count, loader, step);
    for v in 0..count {
        for q in 0..step {
            let parts: Vec<String> = (0..4).map(|e| format!("b{}[{q}]", 4 * v + e)).collect();
            let _ = writeln!(load, "        let b_{q}_{v} = vec4<T>({});", parts.join(", "));
        }
    }
    (setup, load)
}
