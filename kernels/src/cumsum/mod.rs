//! Inclusive sums along an axis.
//!
//! Order: chunks of 64 are summed in turn; a chunk's start is the sum of the chunks before it, added in turn.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::storage::{scalar, storage_bytes};

/// (x) -> sums along `axis`.
pub(crate) fn lower(desc: &OpDesc<'_>, axis: usize, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let mut program = KernelProgram::default();
    let n = count(&x.dims)?;
    if n == 0 {
        return Ok(program);
    }
    let (extent, inner) = (x.dims[axis], count(&x.dims[axis + 1..])?);
    let chunks = extent.div_ceil(64);
    let wide = match scalar(x.dtype)? {
        "f32" => DType::F32,
        "i32" => DType::I32,
        _ => DType::U32,
    };
    let lines = n / extent;
    let sums = program.scratch(storage_bytes(wide, lines * chunks));
    let starts = program.scratch(storage_bytes(wide, lines * chunks));
    let common = |k: &mut Kernel| {
        k.param("extent", extent)
            .param("inner", inner)
            .param("chunks", chunks)
            .set("T", scalar(x.dtype).unwrap_or("f32"));
    };
    let mut k = Kernel::new("cumsum_chunks", include_str!("chunks.wgsl"));
    common(&mut k);
    k.input("x", Slot::Input(0), x.dtype)?.output("y", sums, wide)?;
    program.launches.push(k.map(wide, lines * chunks, caps)?);
    let mut k = Kernel::new("cumsum_starts", include_str!("starts.wgsl"));
    k.set("T", scalar(wide)?);
    k.input("x", sums, wide)?.output("y", starts, wide)?;
    k.param("chunks", chunks).param("lines", lines);
    program.launches.push(k.launch(lines.div_ceil(64), caps)?);
    let mut k = Kernel::new("cumsum", include_str!("cumsum.wgsl"));
    common(&mut k);
    k.input("x", Slot::Input(0), x.dtype)?.input("starts", starts, wide)?.output(
        "y",
        Slot::Output(0),
        y.dtype,
    )?;
    program.launches.push(k.map(y.dtype, n, caps)?);
    Ok(program)
}
