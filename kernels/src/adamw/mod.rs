//! AdamW with decoupled weight decay (Loshchilov and Hutter 2019), in place.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};

/// (p, g, m, v, lr f32[], step f32[]) -> p, m, v.
pub(crate) fn lower(
    desc: &OpDesc<'_>,
    [beta1, beta2, eps, weight_decay]: [f32; 4],
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let mut program = KernelProgram { in_place: vec![(0, 0), (2, 1), (3, 2)], ..KernelProgram::default() };
    let n = count(&desc.outputs[0].dims)?;
    if n == 0 {
        return Ok(program);
    }
    let mut k = Kernel::new("adamw", include_str!("adamw.wgsl"));
    k.input("g", Slot::Input(1), DType::F32)?;
    k.input("lr", Slot::Input(4), DType::F32)?.input("step", Slot::Input(5), DType::F32)?;
    k.in_out("w", Slot::Output(0), DType::F32)?;
    k.in_out("m", Slot::Output(1), DType::F32)?.in_out("v", Slot::Output(2), DType::F32)?;
    k.param("n", n).param_f32("beta1", beta1 as f64).param_f32("beta2", beta2 as f64);
    k.param_f32("eps", eps as f64).param_f32("weight_decay", weight_decay as f64);
    k.param_f32("rest1", 1.0 - beta1 as f64).param_f32("rest2", 1.0 - beta2 as f64);
    // 1 - beta^step is taken as -expm1(step log(beta)), which does not cancel for betas near 1.
    k.param_f32("log1", (beta1 as f64).ln()).param_f32("log2", (beta2 as f64).ln());
    program.launches.push(k.launch(n.div_ceil(64), caps)?);
    Ok(program)
}
