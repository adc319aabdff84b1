//! Block formats, ggml's and one of our own, read as 32-bit words and dequantized in registers, exactly in
//! f32.
//!
//! A quantized binding has the same functions as a dense one: `load4_NAME(quad)` and `load_NAME(i)`; kernels
//! that read through them take any weight.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};

/// Declaration and load functions of a quantized binding.
pub(crate) fn declare(binding: usize, name: &str, dtype: DType) -> Result<String, Unsupported> {
    let text = match dtype {
        DType::Q8_0 => include_str!("q8_0.wgsl"),
        DType::Q4_0 => include_str!("q4_0.wgsl"),
        DType::Q4_1 => include_str!("q4_1.wgsl"),
        DType::Q4K => include_str!("q4_k.wgsl"),
        DType::Q6K => include_str!("q6_k.wgsl"),
        DType::Q8X => include_str!("q8_x.wgsl"),
        d => return Err(Unsupported::new(format!("{d} is not quantized"))),
    };
    let common = include_str!("bytes.wgsl");
    Ok(format!("@group(0) @binding({binding}) var<storage, read_write> $W: array<u32>;\n{common}{text}")
        .replace("$W", name))
}

/// A quantized tensor as floats.
pub(crate) fn dequantize(desc: &OpDesc<'_>, caps: &Caps) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let n = count(&y.dims)?;
    if n == 0 {
        return Ok(KernelProgram::default());
    }
    let mut k = Kernel::new("dequantize", include_str!("dequantize.wgsl"));
    k.vectors("x", Slot::Input(0), x.dtype)?.vectors("y", Slot::Output(0), y.dtype)?;
    k.param("quads", n / 4);
    Ok(KernelProgram { launches: vec![k.launch((n / 4).div_ceil(64), caps)?], ..KernelProgram::default() })
}
