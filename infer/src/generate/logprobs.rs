//! Log-probabilities of tokens.

use serde::Serialize;

/// A token and how likely the model held it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// The token.
    pub id: i32,
    /// The natural logarithm of its probability: of the softmax of the model's logits as they are, before any setting
    /// changed them.
    pub logprob: f32,
    /// The most likely tokens at its place and theirs, most likely first, as many as were asked for.
    pub top: Vec<(i32, f32)>,
}

/// The log-probabilities of one row of logits. Sums are in f64 and in the order of the ids, so that equal logits give equal
/// bits.
pub(super) struct Row<'l> {
    logits: &'l [f32],
    /// What is taken from a logit.
    total: f64,
}

impl<'l> Row<'l> {
    pub(super) fn new(logits: &'l [f32]) -> Self {
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let sum: f64 = logits.iter().map(|&x| (x as f64 - greatest).exp()).sum();
        Self { logits, total: greatest + sum.ln() }
    }

    fn of(&self, id: usize) -> f32 {
        self.logits.get(id).map_or(f32::NEG_INFINITY, |&x| (x as f64 - self.total) as f32)
    }

    /// A token and the `top` most likely ones; of equal ones the lower id comes first.
    pub(super) fn token(&self, id: i32, top: usize) -> TokenLogprob {
        let logprob = usize::try_from(id).map_or(f32::NEG_INFINITY, |id| self.of(id));
        let top = top.min(self.logits.len());
        let mut ids: Vec<usize> = (0..if top == 0 { 0 } else { self.logits.len() }).collect();
        let order = |a: &usize, b: &usize| self.logits[*b].total_cmp(&self.logits[*a]).then_with(|| a.cmp(b));
        if top > 0 && top < ids.len() {
            ids.select_nth_unstable_by(top - 1, order);
            ids.truncate(top);
        }
        ids.sort_unstable_by(order);
        TokenLogprob { id, logprob, top: ids.into_iter().map(|id| (id as i32, self.of(id))).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_logarithms_of_the_softmax_and_the_top_is_sorted() {
        // Probabilities 1/8, 1/2, 1/8, 1/4.
        let logits = [1.0f32, 4.0, 1.0, 2.0].map(|p: f32| p.ln() + 5.0);
        let row = Row::new(&logits);
        let found = row.token(3, 3);
        assert!((found.logprob - 0.25f32.ln()).abs() < 1e-6);
        assert_eq!(found.top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3, 0]);
        for ((_, found), p) in found.top.iter().zip([0.5f32, 0.25, 0.125]) {
            assert!((found - p.ln()).abs() < 1e-6);
        }
        assert!(row.token(0, 0).top.is_empty() && row.token(0, 9).top.len() == 4);
        assert_eq!(row.token(4, 0).logprob, f32::NEG_INFINITY);
        let hidden = Row::new(&[0.0, f32::NEG_INFINITY]).token(1, 2);
        assert_eq!((hidden.logprob, hidden.top), (f32::NEG_INFINITY, vec![(0, 0.0), (1, f32::NEG_INFINITY)]));
    }
}
