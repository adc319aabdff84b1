//! What is done to logits only where a token is drawn: transformers' logits warpers, in its order. What is not kept becomes
//! minus infinity.

use super::Sampling;

/// The softmax of scores, as probabilities.
fn softmax(scores: &[f32]) -> Vec<f64> {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut p: Vec<f64> = scores.iter().map(|&x| ((x - greatest) as f64).exp()).collect();
    let total: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= total);
    p
}

/// The sum of -p ln p.
fn entropy(p: &[f64]) -> f64 {
    p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// The indices of the scores, sorted by an order.
fn sorted_indices(scores: &[f32], mut order: impl FnMut(usize, usize) -> std::cmp::Ordering) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..scores.len()).collect();
    indices.sort_by(|&a, &b| order(a, b));
    indices
}

/// Keeps what passes, and the greatest whatever it is.
fn keep(scores: &mut [f32], passes: impl Fn(usize) -> bool) {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for (i, x) in scores.iter_mut().enumerate() {
        if *x < greatest && !passes(i) {
            *x = f32::NEG_INFINITY;
        }
    }
}

/// Scores as they are drawn from. NaN is never drawn.
pub(super) fn warp(s: &Sampling, scores: &mut [f32]) {
    for x in scores.iter_mut() {
        *x = if x.is_nan() { f32::NEG_INFINITY } else { *x / s.temperature };
    }
    if s.top_k > 0 && s.top_k < scores.len() {
        let mut sorted = scores.to_vec();
        let (_, least, _) = sorted.select_nth_unstable_by(s.top_k - 1, |a, b| b.total_cmp(a));
        let least = *least;
        // All that are as likely as the last one are kept.
        for x in scores.iter_mut().filter(|x| **x < least) {
            *x = f32::NEG_INFINITY;
        }
    }
    if s.top_p < 1.0 {
        let p = softmax(scores);
        let mut sum = 0.0;
        let mut removed = vec![false; scores.len()];
        for i in sorted_indices(scores, |a, b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a))) {
            sum += p[i];
            removed[i] = sum <= 1.0 - s.top_p as f64;
        }
        keep(scores, |i| !removed[i]);
    }
    if s.min_p > 0.0 {
        let p = softmax(scores);
        let least = s.min_p as f64 * p.iter().copied().fold(0.0, f64::max);
        keep(scores, |i| p[i] >= least);
    }
    if s.typical_p < 1.0 {
        typical(scores, s.typical_p as f64);
    }
    if s.epsilon_cutoff > 0.0 {
        let p = softmax(scores);
        keep(scores, |i| p[i] >= s.epsilon_cutoff as f64);
    }
    if s.eta_cutoff > 0.0 {
        let p = softmax(scores);
        let epsilon = s.eta_cutoff as f64;
        let eta = epsilon.min(epsilon.sqrt() * (-entropy(&p)).exp());
        keep(scores, |i| p[i] >= eta);
    }
}

/// Keeps the tokens whose information is nearest the entropy, with this much probability together.
fn typical(scores: &mut [f32], mass: f64) {
    let p = softmax(scores);
    let entropy = entropy(&p);
    let far: Vec<f64> = p.iter().map(|p| (-p.ln() - entropy).abs()).collect();
    let indices = sorted_indices(scores, |a, b| far[a].total_cmp(&far[b]));
    let mut sum = 0.0;
    let last = indices.iter().position(|&i| {
        sum += p[i];
        sum >= mass
    });
    let farthest = far[indices[last.unwrap_or(indices.len() - 1)]];
    let nearest = indices[0];
    for (i, x) in scores.iter_mut().enumerate() {
        if far[i] > farthest && i != nearest {
            *x = f32::NEG_INFINITY;
        }
    }
}
