//! Projections, normalizations, activations, losses and the optimizer.

use crate::composite::{Activation, INT8_GROUP, INT8_LEAST};
use crate::dtype::DType;
use crate::trace::Tensor;

/// Compute in f32 and round the result to the operand's dtype.
pub fn in_f32(x: &Tensor, f: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
    f(&x.cast(DType::F32)).cast(x.dtype())
}

/// A row statistic brought back over the last dimension.
fn over_rows(stat: &Tensor, x: &Tensor) -> Tensor {
    stat.broadcast(x.dims(), (0..stat.rank()).collect::<Vec<_>>())
}

/// A per-feature vector over every row.
fn over_features(w: &Tensor, x: &Tensor) -> Tensor {
    w.broadcast_to(x.dims())
}

fn last(x: &Tensor) -> usize {
    x.rank().saturating_sub(1)
}

/// Every dimension but the last.
fn lead(x: &Tensor) -> Vec<usize> {
    (0..last(x)).collect()
}

pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, act: Option<Activation>) -> Tensor {
    let (x32, w32) = (x.cast(DType::F32), w.cast(DType::F32));
    let mut y = x32.dot(&w32, (&[], &[]), (&[last(x)], &[1]));
    if let Some(b) = bias {
        y = &y + b.cast(DType::F32);
    }
    act.map_or(y.clone(), |a| activate(&y, a)).cast(x.dtype())
}

pub fn quantized_dot(x: &Tensor, w: &Tensor, transposed: bool) -> Tensor {
    let w = w.dequantize(DType::F32);
    in_f32(x, |x| x.dot(&w, (&[], &[]), (&[last(x)], &[if transposed { 0 } else { 1 }])))
}

pub fn int8_dot(x: &Tensor, w: &Tensor) -> Tensor {
    in_f32(x, |x| {
        let mut dims = lead(x).iter().map(|&d| x.dims()[d]).collect::<Vec<_>>();
        dims.extend([x.dims()[last(x)] / INT8_GROUP, INT8_GROUP]);
        let groups = x.reshape(dims);
        let greatest = groups.abs().max([last(&groups)]);
        let heard = greatest.gt(&greatest.like(INT8_LEAST.into()));
        let scale = heard.select(&(greatest.like(127.0) / &greatest), &greatest.like(0.0));
        let q = (&groups * over_rows(&scale, &groups)).round();
        let rounded = (q * over_rows(&(greatest / 127.0), &groups)).reshape(x.dims());
        // The exact product is a composite: a device that runs it reads the weight as it is stored.
        rounded.linear(w, None, None)
    })
}

pub fn activate(x: &Tensor, a: Activation) -> Tensor {
    match a {
        Activation::GeluErf => x * 0.5 * ((x * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0),
        Activation::GeluTanh => {
            let inner = (x + x * x * x * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
            x * 0.5 * (inner.tanh() + 1.0)
        }
        Activation::Silu => x * x.logistic(),
        Activation::QuickGelu => x * (x * 1.702).logistic(),
        // Not a maximum: the derivative at 0 is 0, and NaN stays.
        Activation::Relu => x.le(&x.like(0.0)).select(&x.like(0.0), x),
    }
}

/// Rows less their maximum; a row of -inf alone has no softmax and becomes NaN.
fn shifted(x: &Tensor) -> Tensor {
    let max = x.max([last(x)]);
    x - over_rows(&max, x)
}

pub fn softmax(x: &Tensor) -> Tensor {
    in_f32(x, |x| {
        let e = shifted(x).exp();
        &e / over_rows(&e.sum([last(x)]), x)
    })
}

pub fn log_softmax(x: &Tensor) -> Tensor {
    in_f32(x, |x| {
        let s = shifted(x);
        &s - over_rows(&s.exp().sum([last(x)]).log(), x)
    })
}

/// One-hot rows of labels, as bool [n,v].
fn one_hot(labels: &Tensor, logits: &Tensor) -> Tensor {
    let classes = logits.trace().iota(DType::I32, logits.dims(), 1);
    classes.eq(&over_rows(labels, logits))
}

/// Rows whose label is not `ignore`.
fn counted(labels: &Tensor, ignore: i32) -> Tensor {
    labels.ne(&labels.like(ignore as f64))
}

pub fn cross_entropy(logits: &Tensor, labels: &Tensor, ignore: i32, smoothing: f32) -> Vec<Tensor> {
    let x = logits.cast(DType::F32);
    let max = x.max([1]);
    let lse = (&x - over_rows(&max, &x)).exp().sum([1]).log() + &max;
    let zero = x.like(0.0);
    let target = one_hot(labels, &x).select(&x, &zero).sum([1]);
    let mut loss = &lse - target * (1.0 - smoothing as f64);
    if smoothing != 0.0 {
        loss = loss - x.mean([1]) * smoothing as f64;
    }
    vec![counted(labels, ignore).select(&loss, &zero), lse]
}

pub fn cross_entropy_grad(
    logits: &Tensor,
    labels: &Tensor,
    lse: &Tensor,
    g: &Tensor,
    ignore: i32,
    smoothing: f32,
) -> Tensor {
    in_f32(logits, |x| {
        let p = (x - over_rows(lse, x)).exp();
        let even = x.like(smoothing as f64 / x.dim(1) as f64);
        let hot = &even + (1.0 - smoothing as f64);
        let target = one_hot(labels, x).select(&hot, &even);
        // Chosen last, so that logits of ignored rows may be anything, NaN included.
        over_rows(&counted(labels, ignore), x).select(&((p - target) * over_rows(g, x)), &x.like(0.0))
    })
}

/// 1 / sqrt(mean(x^2) + eps) per row.
fn inverse_rms(x: &Tensor, eps: f32) -> Tensor {
    ((x * x).mean([last(x)]) + eps as f64).rsqrt()
}

fn norm_weight(w: &Tensor, unit_offset: bool) -> Tensor {
    let w = w.cast(DType::F32);
    if unit_offset { w + 1.0 } else { w }
}

pub fn rms_norm(x: &Tensor, w: &Tensor, eps: f32, unit_offset: bool) -> Tensor {
    in_f32(x, |x| x * over_rows(&inverse_rms(x, eps), x) * over_features(&norm_weight(w, unit_offset), x))
}

pub fn rms_norm_grad(x: &Tensor, w: &Tensor, dy: &Tensor, eps: f32, unit_offset: bool) -> Vec<Tensor> {
    let (dtype, wtype) = (x.dtype(), w.dtype());
    let (x, dy) = (x.cast(DType::F32), dy.cast(DType::F32));
    let r = over_rows(&inverse_rms(&x, eps), &x);
    let unit = &x * &r;
    let g = &dy * over_features(&norm_weight(w, unit_offset), &x);
    let dx = &r * (&g - &unit * over_rows(&(&g * &unit).mean([last(&x)]), &x));
    vec![dx.cast(dtype), (dy * unit).sum(lead(&x)).cast(wtype)]
}

/// Rows less their mean, over the root of their variance; and the inverse root, both [..,d].
fn standardized(x: &Tensor, eps: f32) -> [Tensor; 2] {
    let centred = x - over_rows(&x.mean([last(x)]), x);
    let r = over_rows(&((&centred * &centred).mean([last(x)]) + eps as f64).rsqrt(), x);
    [centred * &r, r]
}

pub fn layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, eps: f32) -> Tensor {
    in_f32(x, |x| {
        let [unit, _] = standardized(x, eps);
        unit * over_features(&w.cast(DType::F32), x) + over_features(&b.cast(DType::F32), x)
    })
}

pub fn layer_norm_grad(x: &Tensor, w: &Tensor, dy: &Tensor, eps: f32) -> Vec<Tensor> {
    let (dtype, wtype) = (x.dtype(), w.dtype());
    let (x, dy) = (x.cast(DType::F32), dy.cast(DType::F32));
    let [unit, r] = standardized(&x, eps);
    let g = &dy * over_features(&w.cast(DType::F32), &x);
    let rows = [last(&x)];
    let dx = &r * (&g - over_rows(&g.mean(rows), &x) - &unit * over_rows(&(&g * &unit).mean(rows), &x));
    vec![dx.cast(dtype), (&dy * unit).sum(lead(&x)).cast(wtype), dy.sum(lead(&x)).cast(wtype)]
}

pub fn embedding(table: &Tensor, ids: &Tensor, out: DType) -> Tensor {
    let table = if table.dtype().is_quantized() { table.dequantize(out) } else { table.clone() };
    table.gather(ids, 0)
}

pub fn adamw(x: &[Tensor], beta1: f32, beta2: f32, eps: f32, weight_decay: f32) -> Vec<Tensor> {
    let [p, g, m, v, lr, step] = [&x[0], &x[1], &x[2], &x[3], &x[4], &x[5]];
    let (b1, b2) = (beta1 as f64, beta2 as f64);
    let m = m * b1 + g * (1.0 - b1);
    let v = v * b2 + g * g * (1.0 - b2);
    // 1 - beta^step without cancellation.
    let correction = |b: f64| (step * b.ln()).expm1().neg();
    let update = (&m / correction(b1)) / ((&v / correction(b2)).sqrt() + eps as f64);
    let decayed = p - p * lr * weight_decay as f64;
    vec![decayed - update * lr, m, v]
}
