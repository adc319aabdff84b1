//! Resizing of images: the nearest pixel, or a blend of the nearest four.

use percept_graph::{Interpolation, OpDesc};

use crate::caps::Caps;
use crate::geometry::{MAX_ELEMENTS, count};
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};

/// (x[b,c,h,w]) -> [b,c,size].
pub(crate) fn lower(
    desc: &OpDesc<'_>,
    kind: Interpolation,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let n = count(&y.dims)?;
    count(&x.dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    let nearest = kind == Interpolation::Nearest;
    let mut k = Kernel::new("upsample", include_str!("upsample.wgsl"));
    k.tag(if nearest { "nearest" } else { "bilinear" });
    k.set("BLEND", if nearest { "low" } else { "low * (1.0 - share) + high * share" });
    k.input("x", Slot::Input(0), x.dtype)?.output("y", Slot::Output(0), y.dtype)?;
    for (axis, name) in [(2, "rows"), (3, "columns")] {
        let (from, to) = (x.dims[axis], y.dims[axis]);
        if from.saturating_mul(to).saturating_mul(2) >= MAX_ELEMENTS {
            return Err(Unsupported::new(format!("{from} pixels resized to {to} are past 32-bit positions")));
        }
        // Pixel i of the result lies at (scale i + shift) / parts of the source.
        let (scale, shift, parts) = match kind {
            Interpolation::Nearest => (from, 0, to),
            Interpolation::Bilinear { align_corners: true } => (from - 1, 0, (to - 1).max(1)),
            Interpolation::Bilinear { align_corners: false } => (2 * from, from as i64 - to as i64, 2 * to),
        };
        k.param(name, from).param(&format!("{name}_to"), to);
        k.param_i32(&format!("{name}_scale"), scale as i64).param_i32(&format!("{name}_shift"), shift);
        k.param_i32(&format!("{name}_parts"), parts as i64);
    }
    Ok(KernelProgram { launches: vec![k.map(y.dtype, n, caps)?], ..KernelProgram::default() })
}
