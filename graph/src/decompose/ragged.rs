//! Products of rows with matrices of their groups.

use crate::dtype::DType;
use crate::trace::Tensor;

/// [`crate::Composite::RaggedDot`]. Of few rows the matrices are fetched one by one; many rows are multiplied by all
/// matrices, and each takes what is its own.
pub fn dot(x: &Tensor, w: &Tensor, groups: &Tensor, transposed: bool) -> Tensor {
    let wide = if w.dtype().is_quantized() { w.dequantize(DType::F32) } else { w.cast(DType::F32) };
    let (g, m, c) = (w.dim(0), x.dim(0), groups.dim(1));
    let (out, contracted) = if transposed { (w.dim(2), 1) } else { (w.dim(1), 2) };
    let x32 = x.cast(DType::F32);
    let y = if m * c <= g {
        let own = wide.gather(groups, 0);
        x32.dot(&own, (&[0], &[0]), (&[1], &[contracted + 1]))
    } else {
        let all = x32.dot(&wide, (&[], &[]), (&[1], &[contracted])).reshape([m * g, out]);
        let first = x.trace().iota(DType::I32, [m, c], 0) * g as f64;
        all.gather(&(groups.clamp(0.0, g as f64 - 1.0) + first), 0)
    };
    let inside = groups.ge(&groups.like(0.0)).and(&groups.lt(&groups.like(g as f64)));
    let inside = inside.broadcast(y.dims(), [0, 1]);
    inside.select(&y, &y.like(0.0)).cast(x.dtype())
}

/// [`crate::Composite::RaggedOuter`].
pub fn outer(x: &Tensor, y: &Tensor, groups: &Tensor, count: usize) -> Tensor {
    let (m, c, n) = (y.dim(0), y.dim(1), y.dim(2));
    let spread = [m, c, count, n];
    let numbers = x.trace().iota(DType::I32, spread, 2);
    let own = groups.broadcast(spread, [0, 1]).eq(&numbers);
    let y = y.cast(DType::F32).broadcast(spread, [0, 1, 3]);
    let of_group = own.select(&y, &y.like(0.0)).sum([1]);
    of_group.dot(&x.cast(DType::F32), (&[], &[]), (&[0], &[0])).cast(x.dtype())
}
