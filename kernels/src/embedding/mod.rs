//! Rows of a table, float or quantized, by ids that are clamped.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::{count, row_ranges};
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::storage::{row_bytes, rows_slot};

/// (table[v,d], ids i32[..]) -> [..,d].
pub(crate) fn lower(desc: &OpDesc<'_>, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (table, y) = (&desc.inputs[0], &desc.outputs[0]);
    let n = count(&y.dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    if count(&table.dims)? == 0 {
        return Err(Unsupported::new("an embedding from an empty table"));
    }
    let ranges = row_ranges(table.dims[0], row_bytes(table), caps)?;
    if table.dims[1] % 4 == 0 {
        let launch = |&(first, held): &(usize, usize)| {
            let mut k = Kernel::new("embedding", include_str!("quads.wgsl"));
            k.tag("quads").param("rows", table.dims[0]);
            let slot = rows_slot(0, table, (first, held));
            k.vectors("table", slot, table.dtype)?.input("ids", Slot::Input(1), DType::I32)?;
            k.vectors("y", Slot::Output(0), y.dtype)?;
            k.param("quads", table.dims[1] / 4)
                .param("count", n / 4)
                .param("first", first)
                .param("held", held);
            k.launch((n / 4).div_ceil(64), caps)
        };
        let launches = ranges.iter().map(launch).collect::<Result<_, _>>()?;
        return Ok(KernelProgram { launches, ..KernelProgram::default() });
    }
    if ranges.len() > 1 {
        return Err(Unsupported::new(
            "rows that do not split into vectors, of a table longer than a binding shows",
        ));
    }
    let mut k = Kernel::new("embedding", include_str!("singles.wgsl"));
    k.tag("singles").param("rows", table.dims[0]);
    k.input("table", Slot::Input(0), table.dtype)?.input("ids", Slot::Input(1), DType::I32)?;
    k.output("y", Slot::Output(0), y.dtype)?;
    k.param("width", table.dims[1]);
    Ok(KernelProgram { launches: vec![k.map(y.dtype, n, caps)?], ..KernelProgram::default() })
}
