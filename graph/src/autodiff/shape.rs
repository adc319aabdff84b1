//! Operations that move elements.

use super::{BackwardStep, Gradients, zeros_like};
use crate::dtype::DType;
use crate::trace::Tensor;

pub fn transpose(s: &BackwardStep, perm: &[usize]) -> Option<Tensor> {
    s.when(0, || {
        let mut inverse = vec![0; perm.len()];
        perm.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
        s.g().transpose(inverse)
    })
}

/// Repeated elements add up.
pub fn broadcast(s: &BackwardStep, dims: &[usize], axes: &[usize]) -> Option<Tensor> {
    s.when(0, || {
        let from = s.x[0].dims();
        let kept = |d: usize| axes.iter().position(|&a| a == d).is_some_and(|i| from[i] == dims[d]);
        let summed: Vec<usize> = (0..dims.len()).filter(|&d| !kept(d)).collect();
        let g = s.g();
        if summed.is_empty() { g } else { g.sum(summed).reshape(from) }
    })
}

pub fn slice(s: &BackwardStep, start: &[usize], stride: &[usize]) -> Option<Tensor> {
    let (from, to) = (s.x[0].dims(), s.y[0].dims());
    s.when(0, || {
        if to.contains(&0) {
            return zeros_like(&s.x[0]);
        }
        let last = |i: usize| start[i] + (to[i] - 1) * stride[i] + 1;
        let high: Vec<usize> = (0..from.len()).map(|i| from[i] - last(i)).collect();
        let interior: Vec<usize> = stride.iter().map(|t| t - 1).collect();
        s.g().pad(0.0, start, high, interior)
    })
}

pub fn pad(s: &BackwardStep, low: &[usize], interior: &[usize]) -> Gradients {
    let (g, from) = (s.g(), s.x[0].dims());
    let stride: Vec<usize> = interior.iter().map(|t| t + 1).collect();
    let limit: Vec<usize> =
        (0..from.len()).map(|i| low[i] + from[i].saturating_sub(1) * stride[i] + from[i].min(1)).collect();
    let empty = from.contains(&0);
    vec![
        s.when(0, || if empty { zeros_like(&s.x[0]) } else { g.slice(low, limit.clone(), stride.clone()) }),
        s.when(1, || {
            // The elements that the value filled: every one that x does not cover.
            let trace = &s.trace;
            let ones = trace.full(DType::Bool, from.clone(), 1.0);
            let high: Vec<usize> = g.dims().iter().zip(&limit).map(|(d, l)| d - l).collect();
            let covered = ones.pad(0.0, low, high, interior);
            let filled = if empty { g.clone() } else { covered.select(&g.like(0.0), &g) };
            filled.sum((0..from.len()).collect::<Vec<_>>())
        }),
    ]
}

pub fn concat(s: &BackwardStep, axis: usize) -> Gradients {
    let g = s.g();
    let mut at = 0;
    let mut gradients = Vec::with_capacity(s.x.len());
    for (i, x) in s.x.iter().enumerate() {
        let end = at + x.dim(axis);
        gradients.push(s.when(i, || g.narrow(axis, at, end)));
        at = end;
    }
    gradients
}

pub fn dynamic_slice(s: &BackwardStep) -> Gradients {
    let starts: Vec<&Tensor> = s.x[1..].iter().collect();
    let mut gradients = vec![None; s.x.len()];
    gradients[0] = s.when(0, || zeros_like(&s.x[0]).dynamic_update_slice(&s.g(), &starts));
    gradients
}

pub fn dynamic_update_slice(s: &BackwardStep) -> Gradients {
    let starts: Vec<&Tensor> = s.x[2..].iter().collect();
    let (g, update) = (s.g(), &s.x[1]);
    let mut gradients = vec![None; s.x.len()];
    gradients[0] = s.when(0, || g.dynamic_update_slice(&zeros_like(update), &starts));
    gradients[1] = s.when(1, || g.dynamic_slice(&starts, update.dims()));
    gradients
}
