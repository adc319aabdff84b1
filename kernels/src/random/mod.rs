//! Counter-based random bits: Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw 2011).

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};

/// (seed u32[2]) -> u32 of `dims`.
pub(crate) fn bits(desc: &OpDesc<'_>, stream: u32, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let n = count(&desc.outputs[0].dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    let mut k = Kernel::new("random_bits", include_str!("threefry.wgsl"));
    k.input("seed", Slot::Input(0), DType::U32)?.output("y", Slot::Output(0), DType::U32)?;
    k.param("stream", stream as usize);
    Ok(KernelProgram { launches: vec![k.map(DType::U32, n, caps)?], ..KernelProgram::default() })
}
