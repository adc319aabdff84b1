//! Rows of a table, float or quantized, by ids that are clamped.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{Program, Slot, Unsupported};

/// (table[v,d], ids i32[..]) -> [..,d].
pub(crate) fn lower(desc: &OpDesc<'_>, caps: &Caps) -> Result<Program, Unsupported> {
    let (table, y) = (&desc.inputs[0], &desc.outputs[0]);
    let n = count(&y.dims)?;
    if n == 0 {
        return Ok(Program::default());
    }
    if count(&table.dims)? == 0 {
        return Err(Unsupported::new("an embedding from an empty table"));
    }
    let quads = table.dims[1] % 4 == 0;
    let mut k = Kernel::new(
        "embedding",
        if quads { include_str!("quads.wgsl") } else { include_str!("singles.wgsl") },
    );
    k.tag(if quads { "quads" } else { "singles" });
    k.param("rows", table.dims[0]);
    if quads {
        k.vectors("table", Slot::Input(0), table.dtype)?.input("ids", Slot::Input(1), DType::I32)?;
        k.vectors("y", Slot::Output(0), y.dtype)?;
        k.param("quads", table.dims[1] / 4).param("count", n / 4);
        return Ok(Program { launches: vec![k.launch((n / 4).div_ceil(64), caps)?], ..Program::default() });
    }
    k.input("table", Slot::Input(0), table.dtype)?.input("ids", Slot::Input(1), DType::I32)?;
    k.output("y", Slot::Output(0), y.dtype)?;
    k.param("width", table.dims[1]);
    Ok(Program { launches: vec![k.map(y.dtype, n, caps)?], ..Program::default() })
}
