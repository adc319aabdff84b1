//! RMS norm and layer norm over the last dimension, and their gradients.

use percept_graph::{DType, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};
use crate::row::RowKernel;
use crate::storage::storage_bytes;

/// Which kind of norm is computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Norm {
    /// x / sqrt(mean(x^2) + eps) * w, or * (1 + w).
    Rms { unit_offset: bool },
    /// (x - mean) / sqrt(var + eps) * w + b.
    Layer,
}

/// The forward norm.
pub(crate) fn forward(
    desc: &OpDesc<'_>,
    norm: Norm,
    eps: f32,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, y) = (&desc.inputs[0], &desc.outputs[0]);
    let mut program = KernelProgram::default();
    let n = count(&x.dims)?;
    let Some(&width) = x.dims.last().filter(|_| n > 0) else { return Ok(program) };
    let (name, text) = match norm {
        Norm::Rms { .. } => ("rms_norm", include_str!("rms_norm.wgsl")),
        Norm::Layer => ("layer_norm", include_str!("layer_norm.wgsl")),
    };
    let mut k = RowKernel::new(name, text, n / width, width, caps);
    k.input("x", Slot::Input(0), x.dtype, false)?.input("w", Slot::Input(1), desc.inputs[1].dtype, true)?;
    if norm == Norm::Layer {
        k.input("b", Slot::Input(2), desc.inputs[2].dtype, true)?;
    } else {
        k.kernel.param_f32("unit", (norm == Norm::Rms { unit_offset: true }) as u8 as f64);
    }
    let written = k.output(&mut program, "y", Slot::Output(0), y.dtype)?;
    k.kernel.param_f32("eps", eps as f64).param_f32("count", width as f64);
    program.launches.push(k.launch(caps)?);
    k.finish(&mut program, written, Slot::Output(0), y.dtype, caps)?;
    Ok(program)
}

/// The gradient: dx by rows, which also leaves each row's mean and scale; then dw (and db) by columns.
pub(crate) fn gradient(
    desc: &OpDesc<'_>,
    norm: Norm,
    eps: f32,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let (x, dx) = (&desc.inputs[0], &desc.outputs[0]);
    let mut program = KernelProgram::default();
    let n = count(&x.dims)?;
    let width = x.dims.last().copied().unwrap_or(1);
    if width == 0 {
        return Ok(program);
    }
    let rows = n / width;
    let stats = program.scratch((rows as u64 * 2).max(1) * 4);
    if rows > 0 {
        let text = match norm {
            Norm::Rms { .. } => include_str!("rms_norm_grad.wgsl"),
            Norm::Layer => include_str!("layer_norm_grad.wgsl"),
        };
        let mut k = RowKernel::new(
            if norm == Norm::Layer { "layer_norm_grad" } else { "rms_norm_grad" },
            text,
            rows,
            width,
            caps,
        );
        k.input("x", Slot::Input(0), x.dtype, false)?.input(
            "w",
            Slot::Input(1),
            desc.inputs[1].dtype,
            true,
        )?;
        k.input("dy", Slot::Input(2), desc.inputs[2].dtype, false)?;
        if norm != Norm::Layer {
            k.kernel.param_f32("unit", (norm == Norm::Rms { unit_offset: true }) as u8 as f64);
        }
        let written = k.output(&mut program, "dx", Slot::Output(0), dx.dtype)?;
        k.kernel.array("stats", stats, "f32");
        k.kernel.param_f32("eps", eps as f64).param_f32("count", width as f64);
        program.launches.push(k.launch(caps)?);
        k.finish(&mut program, written, Slot::Output(0), dx.dtype, caps)?;
    }
    // Rows are summed in blocks of 64, then the blocks, each in order.
    let blocks = rows.div_ceil(64);
    let with_bias = norm == Norm::Layer;
    for output in 1..=1 + with_bias as usize {
        let partial = program.scratch(storage_bytes(DType::F32, width * blocks.max(1)));
        if blocks > 0 {
            let mut k = Kernel::new("norm_weight_grad", include_str!("weight_grad.wgsl"));
            k.set(
                "VALUE",
                if output == 1 {
                    "load_dy(at) * (load_x(at) - stats[2u * row]) * stats[2u * row + 1u]"
                } else {
                    "load_dy(at)"
                },
            );
            if output == 1 {
                k.input("x", Slot::Input(0), x.dtype)?;
                k.array("stats", stats, "f32");
            }
            k.input("dy", Slot::Input(2), desc.inputs[2].dtype)?.output("y", partial, DType::F32)?;
            k.param("rows", rows).param("width", width);
            program.launches.push(k.map(DType::F32, width * blocks, caps)?);
        }
        let to = &desc.outputs[output];
        let mut k = Kernel::new("norm_weight_sum", include_str!("weight_sum.wgsl"));
        k.array("partial", partial, "f32").output("y", Slot::Output(output), to.dtype)?;
        k.param("blocks", blocks).param("width", width);
        program.launches.push(k.map(to.dtype, width, caps)?);
    }
    Ok(program)
}
