//! Scatter along an axis, in place, deterministic without float atomics.
//!
//! Set: an integer maximum per row finds the last update. Add: updates are sorted by row, stably, and each
//! element adds its row's segment in index order.

use percept_graph::{DType, OpDesc, ScatterKind};

use crate::caps::Caps;
use crate::geometry::{Views, count};
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::sort::{Rows, sort_rows};
use crate::storage::scalar;

/// x with slices along `axis` set or added to.
pub(crate) fn lower(
    desc: &OpDesc<'_>,
    axis: usize,
    kind: ScatterKind,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, indices) = (&desc.inputs[0], &desc.inputs[1]);
    let mut program = KernelProgram { in_place: vec![(0, 0)], ..KernelProgram::default() };
    let n = count(&x.dims)?;
    let updates = count(&indices.dims)?;
    if n == 0 || updates == 0 {
        return Ok(program);
    }
    count(&desc.inputs[2].dims)?;
    let extent = x.dims[axis];
    let (text, table) = match kind {
        ScatterKind::Set => (include_str!("set.wgsl"), last_updates(&mut program, extent, updates, caps)?),
        ScatterKind::Add if x.dtype.is_float() || x.dtype.is_int() => {
            (include_str!("add.wgsl"), segments(&mut program, extent, updates, caps)?)
        }
        ScatterKind::Add => return Err(Unsupported::new(format!("{} is not added", x.dtype))),
    };
    let mut k = Kernel::new(if kind == ScatterKind::Set { "scatter_set" } else { "scatter_add" }, text);
    k.set("T", scalar(x.dtype)?);
    k.input("updates", Slot::Input(2), x.dtype)?;
    for (name, slot) in table {
        k.words(name, slot);
    }
    k.in_out("y", Slot::Output(0), x.dtype)?;
    k.param("extent", extent).param("inner", count(&x.dims[axis + 1..])?).param("count", updates);
    program.launches.push(k.map(x.dtype, n, caps)?);
    Ok(program)
}

/// `winners[row]`: one more than the last update of the row, 0 without any.
fn last_updates(
    program: &mut KernelProgram,
    extent: usize,
    updates: usize,
    caps: &Caps,
) -> Result<Vec<(&'static str, Slot)>, Unsupported> {
    let winners = program.scratch(extent as u64 * 4);
    let mut clear = Kernel::new("scatter_clear", include_str!("clear.wgsl"));
    clear.output("y", winners, DType::U32)?;
    program.launches.push(clear.map(DType::U32, extent, caps)?);
    let mut mark = Kernel::new("scatter_mark", include_str!("mark.wgsl"));
    mark.input("indices", Slot::Input(1), DType::I32)?.array("winners", winners, "atomic<u32>");
    mark.param("extent", extent).param("count", updates);
    program.launches.push(mark.launch(updates.div_ceil(64), caps)?);
    Ok(vec![("winners", winners)])
}

/// `order`: updates sorted by row; `starts[row]`: where the row's updates begin in it.
fn segments(
    program: &mut KernelProgram,
    extent: usize,
    updates: usize,
    caps: &Caps,
) -> Result<Vec<(&'static str, Slot)>, Unsupported> {
    let rows = Rows {
        slot: Slot::Input(1),
        dtype: DType::I32,
        count: 1,
        length: updates,
        kept: &Views::new(&[], &[Vec::new()]),
        step: 1,
        // Negative indices become the greatest keys, past every row.
        key: "bitcast<u32>(x)",
    };
    let sorted = sort_rows(program, &rows, caps)?;
    let starts = program.scratch((extent as u64 + 1) * 4);
    let mut k = Kernel::new("scatter_starts", include_str!("starts.wgsl"));
    k.words("keys", sorted.keys).output("y", starts, DType::U32)?;
    k.param("count", updates);
    program.launches.push(k.map(DType::U32, extent + 1, caps)?);
    Ok(vec![("order", sorted.indices), ("starts", starts)])
}
