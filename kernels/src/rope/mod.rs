//! Rotary position embedding.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::storage::scalar;

/// (x[b,h,t,d], cos f32[b,t,r/2], sin f32[b,t,r/2]) -> [b,h,t,d].
pub(crate) fn lower(desc: &OpDesc<'_>, interleaved: bool, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (x, cos, y) = (&desc.inputs[0], &desc.inputs[1], &desc.outputs[0]);
    let n = count(&x.dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    scalar(x.dtype)?;
    let mut k = Kernel::new("rope", include_str!("rope.wgsl"));
    k.tag(if interleaved { "interleaved" } else { "halves" });
    let [pair, first, partner] = if interleaved {
        ["c / 2u", "(c & 1u) == 0u", "i + 1u - 2u * (c & 1u)"]
    } else {
        ["c % p.half", "c < p.half", "select(i - p.half, i + p.half, c < p.half)"]
    };
    k.set("PAIR", pair).set("FIRST", first).set("PARTNER", partner);
    k.input("x", Slot::Input(0), x.dtype)?.input("cos", Slot::Input(1), DType::F32)?;
    k.input("sin", Slot::Input(2), DType::F32)?.output("y", Slot::Output(0), y.dtype)?;
    k.param("half", cos.dims[2]).param("d", x.dims[3]).param("t", x.dims[2]).param("heads", x.dims[1]);
    Ok(KernelProgram { launches: vec![k.map(y.dtype, n, caps)?], ..KernelProgram::default() })
}
