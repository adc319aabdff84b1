//! Cross-entropy with ignored labels and label smoothing, and its gradient.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::row::RowKernel;

/// (logits[n,v], labels i32[n]) -> loss f32[n], lse f32[n].
pub(crate) fn forward(
    desc: &OpDesc<'_>,
    ignore: i32,
    smoothing: f32,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let x = &desc.inputs[0];
    let mut program = KernelProgram::default();
    let (rows, width) = (x.dims[0], x.dims[1]);
    if rows == 0 {
        return Ok(program);
    }
    if count(&x.dims)? == 0 {
        return Err(Unsupported::new("cross-entropy over no classes"));
    }
    let mut k = RowKernel::new("cross_entropy", include_str!("cross_entropy.wgsl"), rows, width, caps);
    k.input("x", Slot::Input(0), x.dtype, false)?;
    labels(&mut k.kernel, ignore, smoothing)?;
    k.kernel.output("loss", Slot::Output(0), DType::F32)?.output("lse", Slot::Output(1), DType::F32)?;
    k.kernel.param_f32("count", width as f64);
    program.launches.push(k.launch(caps)?);
    Ok(program)
}

/// (logits[n,v], labels i32[n], lse f32[n], g f32[n]) -> dlogits[n,v].
pub(crate) fn gradient(
    desc: &OpDesc<'_>,
    ignore: i32,
    smoothing: f32,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, dx) = (&desc.inputs[0], &desc.outputs[0]);
    let mut program = KernelProgram::default();
    if count(&x.dims)? == 0 {
        return Ok(program);
    }
    let (rows, width) = (x.dims[0], x.dims[1]);
    let mut k =
        RowKernel::new("cross_entropy_grad", include_str!("cross_entropy_grad.wgsl"), rows, width, caps);
    k.input("x", Slot::Input(0), x.dtype, false)?;
    labels(&mut k.kernel, ignore, smoothing)?;
    k.kernel.input("lse", Slot::Input(2), DType::F32)?.input("g", Slot::Input(3), DType::F32)?;
    k.kernel.param_f32("even", smoothing as f64 / width as f64);
    let written = k.output(&mut program, "dx", Slot::Output(0), dx.dtype)?;
    program.launches.push(k.launch(caps)?);
    k.finish(&mut program, written, Slot::Output(0), dx.dtype, caps)?;
    Ok(program)
}

fn labels(k: &mut Kernel, ignore: i32, smoothing: f32) -> Result<(), Unsupported> {
    k.input("labels", Slot::Input(1), DType::I32)?;
    k.param_i32("ignore", ignore as i64).param_f32("smoothing", smoothing as f64);
    Ok(())
}
