//! Gather, scatter and sort.

use super::{BackwardStep, Gradients, wide, zeros_like};
use crate::dtype::DType;
use crate::op::ScatterKind;
use crate::trace::Tensor;

/// Slices taken several times collect the gradients of all their copies, summed in f32.
pub fn gather(s: &BackwardStep, axis: usize) -> Gradients {
    let (x, indices) = (&s.x[0], &s.x[1]);
    let dx = s.when(0, || {
        // A gather clamps its indices where a scatter drops them.
        let taken = indices.clamp(0.0, x.dim(axis).saturating_sub(1) as f64);
        let into = zeros_like(&wide(x));
        into.scatter(ScatterKind::Add, &taken, &wide(&s.g()), axis).cast(x.dtype())
    });
    vec![dx, None]
}

pub fn scatter(s: &BackwardStep, axis: usize, kind: ScatterKind) -> Gradients {
    let (x, indices, updates) = (&s.x[0], &s.x[1], &s.x[2]);
    let g = s.g();
    let dx = s.when(0, || match kind {
        ScatterKind::Add => g.clone(),
        ScatterKind::Set => g.scatter(ScatterKind::Set, indices, &zeros_like(updates), axis),
    });
    let du = s.when(2, || {
        let n = x.dim(axis);
        if n == 0 || updates.ty().numel() == 0 {
            return zeros_like(updates);
        }
        let counts = match kind {
            ScatterKind::Add => indices.ge(&indices.like(0.0)).and(&indices.lt(&indices.like(n as f64))),
            ScatterKind::Set => winners(indices, n),
        };
        let at = (axis..axis + indices.rank()).collect::<Vec<_>>();
        counts.broadcast(updates.dims(), at).select(&g.gather(indices, axis), &g.like(0.0))
    });
    vec![dx, None, du]
}

/// Which updates of a `Set` stay: of those with one index the last, and none out of range. Bool, shaped as
/// indices.
fn winners(indices: &Tensor, n: usize) -> Tensor {
    let dims = indices.dims();
    let count = indices.ty().numel();
    let trace = indices.trace();
    let own = trace.iota(DType::I32, [count], 0).reshape(dims);
    let last = trace.full(DType::I32, [n], -1.0).scatter(ScatterKind::Set, indices, &own, 0);
    // The gather clamps: an index out of range sees the winner of the edge, which is never itself.
    last.gather(indices, 0).eq(&own)
}

/// Each sorted value goes back to where it came from.
pub fn sort(s: &BackwardStep, axis: usize) -> Option<Tensor> {
    let (x, from) = (&s.x[0], &s.y[1]);
    s.when(0, || {
        let (dims, strides) = (from.dims(), x.ty().strides());
        let elements = x.ty().numel();
        let along =
            |d: usize| if d == axis { from.clone() } else { s.trace.iota(DType::I32, dims.clone(), d) };
        let position = (0..dims.len())
            .map(|d| along(d) * strides[d] as f64)
            .reduce(|a, b| a + b)
            .unwrap_or_else(|| from.clone());
        let count = from.ty().numel();
        let into = s.trace.full(x.dtype(), [elements], 0.0);
        into.scatter(ScatterKind::Set, &position.reshape([count]), &s.g().reshape([count]), 0)
            .reshape(x.dims())
    })
}
