//! Whether two runs over the same questions differ by more than chance.

use percept_data::chance::Chance;
use serde::Serialize;

use super::interval::{Bootstrap, Estimate};

/// McNemar's test of two runs' right and wrong answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct McNemar {
    /// Questions that only the first run has right.
    pub first: usize,
    /// Questions that only the second run has right.
    pub second: usize,
    /// The exact two-sided p-value: how likely so uneven a split, or a more uneven one, is by chance.
    pub p: f64,
}

/// McNemar's exact test (1947): of the questions that one run alone has right, either is as likely to be the one.
pub fn mcnemar(first: &[bool], second: &[bool]) -> McNemar {
    let only = |a: &[bool], b: &[bool]| a.iter().zip(b).filter(|(a, b)| **a && !**b).count();
    let (first, second) = (only(first, second), only(second, first));
    let (n, fewer) = (first + second, first.min(second));
    // Terms of the binomial distribution, by their logarithms.
    let mut term = n as f64 * 0.5f64.ln();
    let mut tail = 0.0;
    for k in 0..=fewer {
        tail += term.exp();
        term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    McNemar { first, second, p: (2.0 * tail).min(1.0) }
}

/// The mean of the second run less that of the first, with its interval, over groups drawn again.
pub fn difference(
    first: &[f64],
    second: &[f64],
    groups: &[Vec<usize>],
    bootstrap: &Bootstrap,
) -> Option<Estimate> {
    let n = first.len().min(second.len());
    let measure = |times: &[u32]| {
        let all: u32 = times.iter().sum();
        let gain = |at: usize| (second[at] - first[at]) * f64::from(times[at]);
        vec![(0..n).map(gain).sum::<f64>() / f64::from(all)]
    };
    bootstrap.estimate(n, groups, measure).into_iter().next()
}

/// The p-value of the paired bootstrap's null: signs of the groups' differences flipped at random, how often their sum is as
/// far from zero as it is. With the add-one of Phipson and Smyth 2010, it is never 0.
pub fn sign_flips(first: &[f64], second: &[f64], groups: &[Vec<usize>], bootstrap: &Bootstrap) -> f64 {
    let gain = |group: &Vec<usize>| group.iter().map(|at| second[*at] - first[*at]).sum::<f64>();
    let gains: Vec<f64> = groups.iter().map(gain).collect();
    let seen = gains.iter().sum::<f64>().abs();
    let as_far = |draw: &u64| {
        let mut chance = Chance::new(bootstrap.seed, 0x0073_6967_6e73, *draw);
        let sum: f64 = gains.iter().map(|gain| if chance.coin() { *gain } else { -gain }).sum();
        sum.abs() >= seen - 1e-12
    };
    let as_far = (0..bootstrap.draws as u64).filter(as_far).count();
    (as_far + 1) as f64 / (bootstrap.draws + 1) as f64
}
