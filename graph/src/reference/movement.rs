//! Operations that move elements.

use super::Operand;
use crate::tensor_type::{TensorType, round_to};

/// Call `f` with every index of a shape in row-major order.
pub fn each_index(dims: &[usize], mut f: impl FnMut(&[usize])) {
    if dims.contains(&0) {
        return;
    }
    let mut index = vec![0; dims.len()];
    loop {
        f(&index);
        let Some(axis) = (0..dims.len()).rev().find(|&i| index[i] + 1 < dims[i]) else { return };
        index[axis] += 1;
        index[axis + 1..].fill(0);
    }
}

/// Position of an index in row-major order.
pub fn offset(index: &[usize], strides: &[usize]) -> usize {
    index.iter().zip(strides).map(|(i, s)| i * s).sum()
}

/// A tensor of shape `dims` whose element at an index is the operand's at `from(index)`.
fn collect(x: &Operand<'_>, dims: &[usize], from: impl Fn(&[usize]) -> Vec<usize>) -> Vec<f64> {
    let strides = x.ty.strides();
    let mut out = Vec::with_capacity(x.values.len());
    each_index(dims, |i| out.push(x.values[offset(&from(i), &strides)]));
    out
}

pub fn iota(ty: &TensorType, axis: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(ty.numel());
    each_index(&ty.dims, |i| out.push(round_to(ty.dtype, i[axis] as f64)));
    out
}

pub fn transpose(x: &Operand<'_>, perm: &[usize]) -> Vec<f64> {
    let dims: Vec<usize> = perm.iter().map(|&p| x.ty.dims[p]).collect();
    collect(x, &dims, |i| {
        let mut from = vec![0; i.len()];
        perm.iter().zip(i).for_each(|(&p, &i)| from[p] = i);
        from
    })
}

pub fn broadcast(x: &Operand<'_>, dims: &[usize], axes: &[usize]) -> Vec<f64> {
    collect(x, dims, |i| axes.iter().zip(&x.ty.dims).map(|(&a, &d)| if d == 1 { 0 } else { i[a] }).collect())
}

pub fn slice(x: &Operand<'_>, start: &[usize], stride: &[usize], dims: &[usize]) -> Vec<f64> {
    collect(x, dims, |i| (0..i.len()).map(|d| start[d] + i[d] * stride[d]).collect())
}

pub fn pad(x: &Operand<'_>, value: f64, low: &[usize], interior: &[usize], dims: &[usize]) -> Vec<f64> {
    let ty = TensorType::new(x.ty.dtype, dims);
    let strides = ty.strides();
    let mut out = vec![value; ty.numel()];
    let mut source = x.values.iter();
    each_index(&x.ty.dims, |i| {
        let to: Vec<usize> = (0..i.len()).map(|d| low[d] + i[d] * (interior[d] + 1)).collect();
        if let Some(&v) = source.next() {
            out[offset(&to, &strides)] = v;
        }
    });
    out
}

pub fn concat(x: &[Operand<'_>], axis: usize, dims: &[usize]) -> Vec<f64> {
    let rows: usize = dims[..axis].iter().product();
    let mut out = Vec::new();
    for row in 0..rows {
        for part in x {
            let n: usize = part.ty.dims[axis..].iter().product();
            out.extend_from_slice(&part.values[row * n..(row + 1) * n]);
        }
    }
    out
}

/// Starts clamped so that a block of `sizes` fits.
fn clamped(x: &Operand<'_>, starts: &[Operand<'_>], sizes: &[usize]) -> Vec<usize> {
    let clamp = |d: usize| {
        let room = x.ty.dims[d] - sizes[d];
        starts[d].values[0].clamp(0.0, room as f64) as usize
    };
    (0..sizes.len()).map(clamp).collect()
}

pub fn dynamic_slice(x: &Operand<'_>, starts: &[Operand<'_>], sizes: &[usize]) -> Vec<f64> {
    slice(x, &clamped(x, starts, sizes), &vec![1; sizes.len()], sizes)
}

pub fn dynamic_update_slice(x: &Operand<'_>, update: &Operand<'_>, starts: &[Operand<'_>]) -> Vec<f64> {
    let start = clamped(x, starts, &update.ty.dims);
    let strides = x.ty.strides();
    let mut out = x.values.to_vec();
    let mut source = update.values.iter();
    each_index(&update.ty.dims, |i| {
        let to: Vec<usize> = i.iter().zip(&start).map(|(i, s)| i + s).collect();
        if let Some(&v) = source.next() {
            out[offset(&to, &strides)] = v;
        }
    });
    out
}
