//! Patches, convolution, pooling, sums along an axis and resizing.

use crate::composite::{Interpolation, PoolKind};
use crate::dtype::DType;
use crate::tensor_type::{Literal, TensorType};
use crate::trace::Tensor;

use super::nn::in_f32;

pub fn patchify(x: &Tensor, patch: &[usize]) -> Tensor {
    let n = patch.len();
    let (b, c) = (x.dim(0), x.dim(1));
    let counts: Vec<usize> = (0..n).map(|i| x.dim(i + 2) / patch[i]).collect();
    let split: Vec<usize> = [b, c].into_iter().chain((0..n).flat_map(|i| [counts[i], patch[i]])).collect();
    let perm: Vec<usize> = [0]
        .into_iter()
        .chain((0..n).map(|i| 2 + 2 * i))
        .chain([1])
        .chain((0..n).map(|i| 3 + 2 * i))
        .collect();
    let rows = counts.iter().product::<usize>();
    x.reshape(split).transpose(perm).reshape([b, rows, c * patch.iter().product::<usize>()])
}

pub fn conv1d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
    dilation: usize,
) -> Tensor {
    let [b, c, o, k] = [x.dim(0), x.dim(1), w.dim(0), w.dim(2)];
    let x32 = x.cast(DType::F32).pad(0.0, [0, 0, padding], [0, 0, padding], [0, 0, 0]);
    let steps = (x32.dim(2) - dilation * (k - 1) - 1) / stride + 1;
    // The k shifted views, stacked to [b,c,k,t'], are the columns the weight is contracted with.
    let views: Vec<Tensor> = (0..k)
        .map(|i| {
            let at = i * dilation;
            let view = x32.slice([0, 0, at], [b, c, at + (steps - 1) * stride + 1], [1, 1, stride]);
            view.reshape([b, c, 1, steps])
        })
        .collect();
    let columns = Tensor::concat(&views.iter().collect::<Vec<_>>(), 2).unwrap_or_else(|| x.trace().poison());
    let y = columns.dot(&w.cast(DType::F32), (&[], &[]), (&[1, 2], &[1, 2])).transpose([0, 2, 1]);
    let y = match bias {
        Some(bias) => &y + bias.cast(DType::F32).broadcast([b, o, steps], [1]),
        None => y,
    };
    y.cast(x.dtype())
}

pub fn cumsum(x: &Tensor, axis: usize) -> Tensor {
    let n = x.dim(axis);
    let wide = if x.dtype().is_float() { x.cast(DType::F32) } else { x.clone() };
    let mut sums = wide;
    let mut shift = 1;
    // Each round adds the sums that end `shift` earlier (Hillis and Steele 1986).
    while shift < n {
        let mut low = vec![0; x.rank()];
        low[axis] = shift;
        let none = vec![0; x.rank()];
        let earlier = sums.narrow(axis, 0, n - shift).pad(0.0, low, none.clone(), none);
        sums = &sums + &earlier;
        shift *= 2;
    }
    sums.cast(x.dtype())
}

pub fn pool(x: &Tensor, kind: PoolKind, window: &[usize], stride: &[usize]) -> Tensor {
    in_f32(x, |x| {
        let n = window.len();
        let size: usize = window.iter().product();
        let out: Vec<usize> = (0..n).map(|i| (x.dim(i + 2) - window[i]) / stride[i] + 1).collect();
        let view = |offset: usize| {
            let mut at = vec![0; n];
            let mut rest = offset;
            for i in (0..n).rev() {
                at[i] = rest % window[i];
                rest /= window[i];
            }
            let start: Vec<usize> = [0, 0].into_iter().chain(at.iter().copied()).collect();
            let spans = (0..n).map(|i| at[i] + (out[i] - 1) * stride[i] + 1);
            let limit: Vec<usize> = [x.dim(0), x.dim(1)].into_iter().chain(spans).collect();
            let step: Vec<usize> = [1, 1].into_iter().chain(stride.iter().copied()).collect();
            x.slice(start, limit, step)
        };
        let views = (1..size).map(view);
        match kind {
            PoolKind::Avg => views.fold(view(0), |a, v| a + v) * (1.0 / size as f64),
            PoolKind::Max => views.fold(view(0), |a, v| a.maximum(&v)),
        }
    })
}

pub fn upsample(x: &Tensor, size: [usize; 2], kind: Interpolation) -> Tensor {
    in_f32(x, |x| along(&along(x, 2, size[0], kind), 3, size[1], kind))
}

/// Resize one dimension: each element is its lower source pixel, or a blend of that and the next.
fn along(x: &Tensor, axis: usize, to: usize, kind: Interpolation) -> Tensor {
    let trace = x.trace();
    let from = x.dim(axis);
    let last = from.saturating_sub(1);
    let sources: Vec<f64> = (0..to).map(|i| source(i, from, to, kind).clamp(0.0, last as f64)).collect();
    let low: Vec<f64> = sources.iter().map(|s| s.floor()).collect();
    let pick = |at: &[f64]| match Literal::dense(TensorType::new(DType::I32, [to]), at) {
        Some(indices) => x.gather(&trace.constant(indices), axis),
        None => trace.poison(),
    };
    if kind == Interpolation::Nearest {
        return pick(&low);
    }
    let high: Vec<f64> = low.iter().map(|l| (l + 1.0).min(last as f64)).collect();
    let share: Vec<f64> = sources.iter().zip(&low).map(|(s, l)| s - l).collect();
    let (low, high) = (pick(&low), pick(&high));
    let share = match Literal::dense(TensorType::new(DType::F32, [to]), &share) {
        Some(share) => trace.constant(share).broadcast(low.dims(), [axis]),
        None => trace.poison(),
    };
    &low * (share.like(1.0) - &share) + high * share
}

/// Where pixel `i` of `to` lies among `from` source pixels.
fn source(i: usize, from: usize, to: usize, kind: Interpolation) -> f64 {
    match kind {
        Interpolation::Nearest => (i * from / to) as f64,
        Interpolation::Bilinear { align_corners: true } if to > 1 => {
            (i * from.saturating_sub(1)) as f64 / (to - 1) as f64
        }
        Interpolation::Bilinear { align_corners: true } => 0.0,
        Interpolation::Bilinear { align_corners: false } => (i as f64 + 0.5) * from as f64 / to as f64 - 0.5,
    }
}
