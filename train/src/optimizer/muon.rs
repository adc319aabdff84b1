//! Muon: momentum whose matrix is brought near to an orthogonal one (Jordan et al. 2024), at a size at which
//! AdamW's rates fit it too (Liu et al. 2025). Coefficients and order are those of `torch.optim.Muon` with
//! `adjust_lr_fn="match_rms_adamw"`; here everything is f32.

use percept_graph::Tensor;

use super::{Operands, Optimizer, ParameterKind, Updated};

/// Muon.
pub const OPTIMIZER: &dyn Optimizer = &Muon;

struct Muon;

impl Optimizer for Muon {
    fn name(&self) -> &'static str {
        "muon"
    }

    fn about(&self) -> &'static str {
        "Muon for matrices inside the network (Jordan et al. 2024), AdamW for the rest."
    }

    fn settings(&self) -> &'static [&'static str] {
        &["momentum"]
    }

    fn state(&self) -> &'static [&'static str] {
        &["m"]
    }

    fn takes(&self, kind: ParameterKind) -> bool {
        kind == ParameterKind::Matrix
    }

    fn update(&self, p: &Operands) -> Updated {
        let [momentum] = p.state else { return Updated { value: p.value.clone(), state: Vec::new() } };
        update(p.value, p.gradient, momentum, p.rate, p.config.momentum, p.decay)
    }
}

/// Coefficients of the quintic iteration.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Iterations that bring a matrix near to an orthogonal one.
const STEPS: usize = 5;

/// A matrix [n,k] and its momentum after a step.
fn update(
    value: &Tensor,
    gradient: &Tensor,
    momentum: &Tensor,
    rate: &Tensor,
    decay_of_momentum: f64,
    weight_decay: f64,
) -> Updated {
    let moved = momentum * decay_of_momentum + gradient * (1.0 - decay_of_momentum);
    let ahead = gradient * (1.0 - decay_of_momentum) + &moved * decay_of_momentum;
    let size = 0.2 * (value.dim(0).max(value.dim(1)) as f64).sqrt();
    let kept = value * (rate * -weight_decay + 1.0);
    Updated { value: kept - orthogonal(&ahead) * (rate * size), state: vec![moved] }
}

/// A matrix with the singular vectors of x and singular values near 1 (five Newton-Schulz iterations).
fn orthogonal(x: &Tensor) -> Tensor {
    let tall = x.dim(0) > x.dim(1);
    let mut x = if tall { x.transpose([1, 0]) } else { x.clone() };
    let norm = (&x * &x).sum([0, 1]).sqrt();
    x = &x / norm.maximum(&norm.like(1e-7));
    let [a, b, c] = QUINTIC;
    for _ in 0..STEPS {
        let square = x.dot(&x, (&[], &[]), (&[1], &[1]));
        let mixed = &square * b + square.matmul(&square) * c;
        x = &x * a + mixed.matmul(&x);
    }
    if tall { x.transpose([1, 0]) } else { x }
}

#[cfg(test)]
mod tests {
    use percept_graph::{DType, HostTensor, Role, TensorType, Trace, reference};
    use serde_json::Value;

    use super::*;

    /// Values that tests/training/make_golden.py makes too.
    fn formula(n: usize, seed: u64) -> Vec<f64> {
        let hash = |i: usize| (i as u64 + (seed << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        (0..n).map(|i| (hash(i) as f64 / 2f64.powi(23) - 1.0) as f32 as f64).collect()
    }

    #[test]
    fn two_steps_are_pytorchs() {
        let golden: Value =
            serde_json::from_str(include_str!("../../../tests/training/golden.json")).unwrap();
        let ty = TensorType::new(DType::F32, [6, 10]);
        let t = Trace::new("muon");
        let [p, g, m] = ["p", "g", "m"].map(|n| t.input(n, Role::State, ty.clone()));
        let rate = t.input("rate", Role::Scalar, TensorType::new(DType::F32, []));
        let new = update(&p, &g, &m, &rate, 0.95, 0.1);
        t.output("p", &new.value);
        t.output("m", &new.state[0]);
        let graph = t.finish().unwrap();
        let tensor = |v: &[f64]| HostTensor::from_f64(ty.clone(), v).unwrap();
        let (mut p, mut m) = (formula(60, 1), vec![0.0; 60]);
        for expected in golden["muon"].as_array().unwrap() {
            let rate = HostTensor::from_f32([], &[0.02]).unwrap();
            let out = reference::evaluate(&graph, &[tensor(&p), tensor(&formula(60, 2)), tensor(&m), rate])
                .unwrap();
            (p, m) = (out[0].values(), out[1].values());
            for (found, e) in p.iter().zip(expected.as_array().unwrap()) {
                assert!((found - e.as_f64().unwrap()).abs() < 1e-5, "{found}, PyTorch has {e}");
            }
        }
    }
}
