//! Reductions.

use super::{BackwardStep, wide, zeros_like};
use crate::op::ReduceKind;
use crate::trace::Tensor;

pub fn reduce(s: &BackwardStep, kind: ReduceKind, axes: &[usize]) -> Option<Tensor> {
    let x = &s.x[0];
    let kept: Vec<usize> = (0..x.rank()).filter(|d| !axes.contains(d)).collect();
    let over = |t: &Tensor| t.broadcast(x.dims(), kept.clone());
    s.when(0, || match kind {
        ReduceKind::Sum => over(&s.g()),
        ReduceKind::Max | ReduceKind::Min => {
            let extreme = x.eq(&over(&s.y[0]));
            let ties = extreme.cast(x.dtype()).sum(axes);
            extreme.select(&over(&(s.g() / ties)), &x.like(0.0))
        }
        ReduceKind::Prod => {
            let product = over(&wide(&s.g())) * others(&wide(x), axes, &kept);
            product.cast(x.dtype())
        }
        // Not on floats.
        ReduceKind::And | ReduceKind::Or => zeros_like(x),
    })
}

/// For each element the product of all others it is reduced with, exact where some are zero: what comes
/// before it times what comes after it.
fn others(x: &Tensor, axes: &[usize], kept: &[usize]) -> Tensor {
    let dims = x.dims();
    let perm: Vec<usize> = kept.iter().chain(axes).copied().collect();
    let rows: usize = kept.iter().map(|&d| dims[d]).product();
    let n: usize = axes.iter().map(|&d| dims[d]).product();
    if rows * n == 0 {
        return zeros_like(x);
    }
    let flat = x.transpose(perm.clone()).reshape([rows, n]);
    let products = running(&flat, n, true) * running(&flat, n, false);
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
    let moved: Vec<usize> = perm.iter().map(|&p| dims[p]).collect();
    products.reshape(moved).transpose(inverse)
}

/// Exclusive running products along the rows of [m,n], from the front or from the back.
fn running(x: &Tensor, n: usize, front: bool) -> Tensor {
    // The row moved on by `by`, ones coming in behind it.
    let moved = |t: &Tensor, by: usize| {
        if front {
            t.narrow(1, 0, n - by).pad(1.0, [0, by], [0, 0], [0, 0])
        } else {
            t.narrow(1, by, n).pad(1.0, [0, 0], [0, by], [0, 0])
        }
    };
    let mut products = moved(x, 1);
    let mut by = 1;
    while by < n {
        products = &products * moved(&products, by);
        by *= 2;
    }
    products
}
