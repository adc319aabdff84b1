//! Which dataset each draw is from.

use crate::error::{Error, Result};

/// The longest period that is kept.
const LONGEST: u64 = 1 << 20;

/// From a draw's number to its dataset and its number among the draws from that dataset: draws without end,
/// in the proportions of the weights.
#[derive(Debug)]
pub(super) struct Mixture {
    weights: Vec<u64>,
    /// For each draw of a period: the dataset, and the draws from it before this one in the period.
    period: Vec<(u32, u32)>,
}

impl Mixture {
    /// The dataset that is furthest behind its weight is next; of several the first.
    pub fn by_quota(weights: &[u64]) -> Result<Self> {
        let common = weights.iter().fold(0, |a, &b| greatest_common_divisor(a, b));
        if weights.contains(&0) {
            return Err(Error::Config("a weight is 0; leave the dataset out instead".to_string()));
        }
        let weights: Vec<u64> = weights.iter().map(|weight| weight / common).collect();
        let total: u64 = weights.iter().sum();
        if total > LONGEST {
            return Err(Error::Config(format!(
                "the weights add to {total}, and {LONGEST} is the most; use smaller whole numbers"
            )));
        }
        let mut taken = vec![0u64; weights.len()];
        let period = (1..=total).map(|draws| {
            let behind = |d: usize| (weights[d] * draws) as i64 - (taken[d] * total) as i64;
            let next = (0..weights.len()).rev().max_by_key(|&d| behind(d)).unwrap_or(0);
            taken[next] += 1;
            (next as u32, (taken[next] - 1) as u32)
        });
        let period = period.collect();
        Ok(Self { weights, period })
    }

    /// The draws after which the mixture repeats.
    pub fn period(&self) -> u64 {
        self.period.len() as u64
    }

    /// The dataset of a draw, and the draws from it before.
    pub fn draw(&self, number: u64) -> (usize, u64) {
        let (round, at) = (number / self.period(), number % self.period());
        let (dataset, before) = self.period[at as usize];
        (dataset as usize, round * self.weights[dataset as usize] + u64::from(before))
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_window_of_a_period_holds_the_weights() {
        for weights in [vec![36, 10, 14, 12], vec![1, 1], vec![7], vec![1, 100, 3, 3, 1], vec![5, 2, 5]] {
            let total: u64 = weights.iter().sum();
            let common = weights.iter().fold(0, |a, &b| greatest_common_divisor(a, b));
            let mixture = Mixture::by_quota(&weights).unwrap();
            assert_eq!(mixture.period(), total / common);
            let draws: Vec<_> = (0..3 * total).map(|number| mixture.draw(number)).collect();
            for window in draws.windows(total as usize) {
                let count = |d| window.iter().filter(|draw| draw.0 == d).count() as u64;
                assert_eq!((0..weights.len()).map(count).collect::<Vec<_>>(), weights);
            }
            // Each dataset's draws count on without a gap, and no prefix is a whole draw away from its share.
            let mut taken = vec![0; weights.len()];
            for (number, &(dataset, nth)) in draws.iter().enumerate() {
                assert_eq!(nth, taken[dataset]);
                taken[dataset] += 1;
                for (taken, weight) in taken.iter().zip(&weights) {
                    let share = *weight as f64 * (number + 1) as f64 / total as f64;
                    assert!((*taken as f64 - share) < 1.0, "{weights:?} at {number}");
                }
            }
        }
    }

    #[test]
    fn weights_that_cannot_be_kept_are_refused() {
        assert!(Mixture::by_quota(&[1, 0]).is_err());
        assert!(Mixture::by_quota(&[u64::from(u32::MAX), 1]).is_err());
        assert!(Mixture::by_quota(&[1 << 30, 1 << 31]).is_ok());
    }
}
