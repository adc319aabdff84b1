//! Scaled-dot-product attention: causal, windowed, segmented, by blocks, grouped-query, with live extents and
//! paged, and its gradient.

mod backward;
mod forward;
mod mask;

use percept_graph::{AttentionSpec, OpDesc};

use crate::caps::Caps;
use crate::geometry::count;
use crate::kernel::Kernel;
use crate::program::{KernelProgram, Slot, Unsupported};

/// The extents of one attention.
struct Shape {
    b: usize,
    h: usize,
    hk: usize,
    t: usize,
    /// Keys a query may attend to: the extent, or pages times the page size.
    s: usize,
    d: usize,
    e: usize,
    page: usize,
    pages: usize,
    pool: usize,
}

impl Shape {
    fn of(desc: &OpDesc<'_>, spec: &AttentionSpec) -> Result<Self, Unsupported> {
        let [q, k, v] = [&desc.inputs[0].dims, &desc.inputs[1].dims, &desc.inputs[2].dims];
        let pages = if spec.paged { desc.inputs[2 + spec.optional_operands()].dims[1] } else { 1 };
        for ty in desc.inputs {
            count(&ty.dims)?;
        }
        let shape = Self {
            b: q[0],
            h: q[1],
            hk: k[1],
            t: q[2],
            s: k[2].saturating_mul(pages),
            d: q[3],
            e: v[3],
            page: k[2],
            pages,
            pool: k[0],
        };
        count(&[shape.s])?;
        if !shape.d.is_multiple_of(4) || !shape.e.is_multiple_of(4) {
            return Err(Unsupported::new("attention heads of features that are no multiple of four"));
        }
        Ok(shape)
    }

    /// Parameters that every attention kernel has; feature extents in vectors.
    fn params(&self, k: &mut Kernel, spec: &AttentionSpec) {
        k.param("b", self.b).param("h", self.h).param("hk", self.hk).param("group", self.h / self.hk.max(1));
        k.param("t", self.t).param("s", self.s).param("d", self.d / 4).param("e", self.e / 4);
        k.param_f32("scale", spec.scale as f64);
        if let Some(cap) = spec.soft_cap {
            k.param_f32("cap", cap as f64);
        }
        if let Some(window) = spec.window {
            k.param_i32("window", window.min(i32::MAX as usize) as i64);
        }
        if spec.paged {
            k.param("page", self.page).param("pages", self.pages).param("pool", self.pool);
        }
    }
}

/// Invocations of a workgroup: a CPU's vector, or enough to fill a GPU's subgroups.
fn lanes(caps: &Caps) -> usize {
    if caps.software { 8 } else { 64 }
}

/// Whether there is nothing to compute, or something is empty that the kernels do not handle.
fn degenerate(desc: &OpDesc<'_>, shape: &Shape) -> Result<bool, Unsupported> {
    if desc.outputs.iter().all(|y| y.numel() == 0) {
        return Ok(true);
    }
    if [shape.b, shape.h, shape.t, shape.s, shape.d, shape.e, shape.pool].contains(&0) {
        return Err(Unsupported::new("attention over an empty extent"));
    }
    Ok(false)
}

/// (q, k, v, optional operands) -> out, lse.
pub(crate) fn forward(
    desc: &OpDesc<'_>,
    spec: &AttentionSpec,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    let shape = Shape::of(desc, spec)?;
    if degenerate(desc, &shape)? {
        return Ok(KernelProgram::default());
    }
    forward::program(desc, spec, &shape, caps)
}

/// (q, k, v, optional operands, out, lse, dout) -> dq, dk, dv.
pub(crate) fn gradient(
    desc: &OpDesc<'_>,
    spec: &AttentionSpec,
    caps: &Caps,
) -> Result<KernelProgram, Unsupported> {
    if spec.paged {
        return Err(Unsupported::new("the gradient of paged attention"));
    }
    let shape = Shape::of(desc, spec)?;
    if degenerate(desc, &shape)? {
        return Ok(KernelProgram::default());
    }
    backward::program(desc, spec, &shape, caps)
}

/// Bind q, k, v and the optional operands under their names.
fn bind(k: &mut Kernel, desc: &OpDesc<'_>, spec: &AttentionSpec) -> Result<(), Unsupported> {
    for (i, name) in ["q", "k", "v"].into_iter().enumerate() {
        k.vectors(name, Slot::Input(i), desc.inputs[i].dtype)?;
    }
    for (i, name) in mask::operand_names(spec).into_iter().enumerate() {
        k.input(name, Slot::Input(3 + i), desc.inputs[3 + i].dtype)?;
    }
    Ok(())
}
