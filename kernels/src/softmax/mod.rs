//! Softmax and log-softmax over the last dimension.

use percept_graph::OpDesc;

use crate::caps::Caps;
use crate::geometry::count;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::row::RowKernel;

/// exp(x - max) / sum, or with `log` x - max - log(sum).
pub(crate) fn lower(desc: &OpDesc<'_>, log: bool, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let mut program = KernelProgram::default();
    let n = count(&x.dims)?;
    let Some(&width) = x.dims.last().filter(|_| n > 0) else { return Ok(program) };
    let (name, text) = if log {
        ("log_softmax", include_str!("log_softmax.wgsl"))
    } else {
        ("softmax", include_str!("softmax.wgsl"))
    };
    let mut k = RowKernel::new(name, text, n / width, width, caps);
    k.input("x", Slot::Input(0), x.dtype, false)?;
    let written = k.output(&mut program, "y", Slot::Output(0), y.dtype)?;
    program.launches.push(k.launch(caps)?);
    k.finish(&mut program, written, Slot::Output(0), y.dtype, caps)?;
    Ok(program)
}
