//! Muon: momentum whose matrix is brought near to an orthogonal one (Jordan et al. 2024), at a size at which AdamW's
//! rates fit it too (Liu et al. 2025). Coefficients and order are those of `torch.optim.Muon` with
//! `adjust_lr_fn="match_rms_adamw"`; here everything is f32.

use percept_graph::Tensor;

/// Coefficients of the quintic iteration.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Iterations.
const STEPS: usize = 5;

/// A matrix [n,k] and its momentum after a step.
pub fn update(
    value: &Tensor,
    gradient: &Tensor,
    momentum: &Tensor,
    rate: &Tensor,
    decay_of_momentum: f64,
    weight_decay: f64,
) -> Vec<Tensor> {
    let moved = momentum * decay_of_momentum + gradient * (1.0 - decay_of_momentum);
    let ahead = gradient * (1.0 - decay_of_momentum) + &moved * decay_of_momentum;
    let size = 0.2 * (value.dim(0).max(value.dim(1)) as f64).sqrt();
    let kept = value * (rate * -weight_decay + 1.0);
    vec![kept - orthogonal(&ahead) * (rate * size), moved]
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
