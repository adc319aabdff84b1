//! Average and maximum pooling over any number of spatial dimensions.

use percept_graph::{OpDesc, PoolKind};

use crate::caps::Caps;
use crate::geometry::{Views, count, strides};
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};

/// (x[b,c,s1..sn]) -> [b,c,(si - wi)/ti + 1 ..].
pub(crate) fn lower(
    desc: &OpDesc<'_>,
    kind: PoolKind,
    window: &[usize],
    stride: &[usize],
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let n = count(&y.dims)?;
    count(&x.dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    let dense = strides(&x.dims);
    let steps: Vec<i64> =
        dense.iter().enumerate().map(|(d, &s)| if d < 2 { s } else { s * stride[d - 2] as i64 }).collect();
    let size = count(window)?;
    let mut k = Kernel::new("pool", include_str!("pool.wgsl"));
    let [start, combine, finish] = match kind {
        PoolKind::Avg => ["0.0", "a + b", "total / p.count"],
        PoolKind::Max => ["-infinity()", "max_nan(a, b)", "total"],
    };
    k.set("START", start).set("COMBINE", combine).set("FINISH", finish);
    k.input("x", Slot::Input(0), x.dtype)?.output("y", Slot::Output(0), y.dtype)?;
    k.views(&["corner"], &Views::new(&y.dims, &[steps]));
    k.views(&["within"], &Views::new(window, &[dense[2..].to_vec()]));
    k.param("size", size).param_f32("count", size as f64);
    Ok(KernelProgram { launches: vec![k.map(y.dtype, n, caps)?], ..KernelProgram::default() })
}
