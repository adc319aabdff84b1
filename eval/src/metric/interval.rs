//! Intervals of confidence by the bootstrap (Efron 1979): the same questions drawn again, with replacement.
//!
//! Questions that share an image, a patient or any other group are no independent draws, so whole groups are drawn.

use std::collections::BTreeMap;

use percept_data::chance::Chance;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// The stream of random numbers that groups are drawn by.
const STREAM: u64 = 0x6576_616c;

/// How intervals are found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Draws of all groups.
    pub draws: usize,
    /// The share of draws within the interval.
    pub level: f64,
    /// The seed of the draws.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { draws: 1000, level: 0.95, seed: 0 }
    }
}

/// A value and the interval around it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The samples of each group, in the order of the groups' names.
pub fn groups(names: &[String]) -> Vec<Vec<usize>> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    names.iter().enumerate().for_each(|(at, name)| groups.entry(name).or_default().push(at));
    groups.into_values().collect()
}

impl Bootstrap {
    /// The values of what `measure` makes of all samples, and their intervals: percentiles of what it makes of drawn ones.
    /// `measure` is given how often each of `n` samples was drawn.
    pub fn estimate(
        &self,
        n: usize,
        groups: &[Vec<usize>],
        measure: impl Fn(&[u32]) -> Vec<f64> + Sync,
    ) -> Vec<Estimate> {
        let values = measure(&vec![1; n]);
        let drawn: Vec<Vec<f64>> = (0..self.draws as u64)
            .into_par_iter()
            .map(|draw| {
                let mut chance = Chance::new(self.seed, STREAM, draw);
                let mut times = vec![0; n];
                for _ in 0..groups.len() {
                    for at in &groups[chance.below(groups.len())] {
                        times[*at] += 1;
                    }
                }
                measure(&times)
            })
            .collect();
        let interval = |(at, value): (usize, f64)| {
            let mut column: Vec<f64> = drawn.iter().filter_map(|draw| draw.get(at).copied()).collect();
            column.retain(|value| !value.is_nan());
            column.sort_by(f64::total_cmp);
            let tail = (1.0 - self.level) / 2.0;
            let end = |share: f64| percentile(&column, share).unwrap_or(value);
            Estimate { value, low: end(tail), high: end(1.0 - tail) }
        };
        values.into_iter().enumerate().map(interval).collect()
    }
}

/// The value below which a share of sorted values lies, between two of them by a straight line.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * (sorted.len().checked_sub(1)?) as f64;
    let (low, high) = (*sorted.get(place.floor() as usize)?, *sorted.get(place.ceil() as usize)?);
    Some(low + (high - low) * place.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean of drawn values.
    fn mean(values: &[f64]) -> impl Fn(&[u32]) -> Vec<f64> + Sync + '_ {
        |times| {
            let sum: f64 = values.iter().zip(times).map(|(value, times)| value * f64::from(*times)).sum();
            vec![sum / f64::from(times.iter().sum::<u32>())]
        }
    }

    #[test]
    fn intervals_hold_what_they_say() {
        // Coverage over many samples of a known mean, with groups of four equal answers.
        let (trials, n, p) = (500u64, 200, 0.3);
        let mut held = [0, 0];
        for trial in 0..trials {
            let mut chance = Chance::new(7, 1, trial);
            let answers: Vec<f64> =
                (0..n / 4).flat_map(|_| [f64::from(u8::from(chance.between(0.0, 1.0) < p)); 4]).collect();
            let bootstrap = Bootstrap { draws: 200, seed: trial, ..Bootstrap::default() };
            let alone: Vec<String> = (0..n).map(|at| format!("{at:04}")).collect();
            let four: Vec<String> = (0..n).map(|at| format!("{:04}", at / 4)).collect();
            for (held, names) in held.iter_mut().zip([four, alone]) {
                let found = bootstrap.estimate(n, &groups(&names), mean(&answers))[0];
                *held += u64::from(found.low <= p && p <= found.high);
            }
        }
        let share = held.map(|held| held as f64 / trials as f64);
        assert!((0.92..=0.975).contains(&share[0]), "by group {share:?}");
        assert!(share[1] < 0.8, "samples of a group are no independent ones: {share:?}");
    }

    #[test]
    fn the_same_seed_draws_the_same_and_percentiles_lie_between() {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        let names: Vec<String> = (0..50).map(|at| at.to_string()).collect();
        let of =
            |seed| Bootstrap { seed, ..Bootstrap::default() }.estimate(50, &groups(&names), mean(&values));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_eq!([percentile(&[1.0, 2.0, 4.0], 0.75), percentile(&[], 0.5)], [Some(3.0), None]);
    }
}
