//! One-dimensional convolution.

use percept_graph::OpDesc;

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};

/// (x[b,c,t], w[o,c,k], bias[o]?) -> [b,o,t'].
pub(crate) fn lower(
    desc: &OpDesc<'_>,
    [stride, padding, dilation]: [usize; 3],
    bias: bool,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, w, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let n = count(&y.dims)?;
    count(&x.dims)?;
    count(&w.dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    let mut k = Kernel::new("conv1d", include_str!("conv1d.wgsl"));
    k.set("BIAS", if bias { " + load_bias(o)" } else { "" });
    k.input("x", Slot::Input(0), x.dtype)?.input("w", Slot::Input(1), w.dtype)?;
    if bias {
        k.input("bias", Slot::Input(2), desc.inputs[2].dtype)?;
    }
    k.output("y", Slot::Output(0), y.dtype)?;
    k.param("channels", x.dims[1])
        .param("steps", x.dims[2])
        .param("outputs", w.dims[0])
        .param("taps", w.dims[2]);
    k.param("out_steps", y.dims[2])
        .param("stride", stride)
        .param("padding", padding)
        .param("dilation", dilation);
    Ok(KernelProgram { launches: vec![k.map(y.dtype, n, caps)?], ..KernelProgram::default() })
}
