//! Gather along an axis, by run-time indices that are clamped into range.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::storage::scalar;

/// x.dims[..axis] + indices + x.dims[axis+1..].
pub(crate) fn lower(desc: &OpDesc<'_>, axis: usize, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (x, indices, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let n = count(&y.dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    if count(&x.dims)? == 0 {
        return Err(Unsupported::new("a gather from an empty tensor"));
    }
    let mut k = Kernel::new("gather", include_str!("gather.wgsl"));
    k.set("T", scalar(x.dtype)?);
    k.input("x", Slot::Input(0), x.dtype)?.input("indices", Slot::Input(1), DType::I32)?;
    k.output("y", Slot::Output(0), y.dtype)?;
    k.param("extent", x.dims[axis])
        .param("inner", count(&x.dims[axis + 1..])?)
        .param("count", count(&indices.dims)?);
    Ok(KernelProgram { launches: vec![k.map(y.dtype, n, caps)?], ..KernelProgram::default() })
}
