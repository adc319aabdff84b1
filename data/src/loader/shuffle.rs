//! The random order of every epoch.

use std::sync::{Arc, Mutex, PoisonError};

use crate::chance::Chance;

/// Makes orders and keeps those of two epochs of each dataset, for threads that are on either side of an
/// epoch's end. Memory: eight bytes a sample.
pub(super) struct Orders {
    seed: u64,
    kept: Vec<Mutex<Vec<(u64, Arc<[u32]>)>>>,
}

impl Orders {
    pub fn new(seed: u64, datasets: usize) -> Self {
        Self { seed, kept: (0..datasets).map(|_| Mutex::default()).collect() }
    }

    /// A permutation of `0..size`, from the seed, the dataset and the epoch.
    pub fn of(&self, dataset: usize, epoch: u64, size: usize) -> Arc<[u32]> {
        let mut kept = self.kept[dataset].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, order)) = kept.iter().find(|(of, _)| *of == epoch) {
            return Arc::clone(order);
        }
        let order: Arc<[u32]> = permutation(self.seed, dataset as u64, epoch, size).into();
        if kept.len() == 2 {
            kept.remove(0);
        }
        kept.push((epoch, Arc::clone(&order)));
        order
    }
}

/// Fisher and Yates's shuffle.
fn permutation(seed: u64, dataset: u64, epoch: u64, size: usize) -> Vec<u32> {
    // Counted down, apart from the streams of draws.
    let mut chance = Chance::new(seed, u64::MAX - dataset, epoch);
    let mut order: Vec<u32> = (0..size as u32).collect();
    for at in (1..size).rev() {
        order.swap(at, chance.below(at + 1));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_permutation_and_each_epoch_has_its_own() {
        let orders = Orders::new(7, 2);
        let first = orders.of(0, 0, 1000);
        let mut sorted = first.to_vec();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(at, &index)| at == index as usize));
        assert_ne!(first, orders.of(0, 1, 1000));
        assert_ne!(first, orders.of(1, 0, 1000));
        assert_ne!(first, Orders::new(8, 2).of(0, 0, 1000));
        // Long forgotten, and made again the same.
        orders.of(0, 2, 1000);
        assert_eq!(first, orders.of(0, 0, 1000));
    }

    #[test]
    fn every_order_is_as_likely() {
        // 24 orders of four, 24,000 draws: chi-squared with 23 degrees of freedom is above 60 once in 40,000
        // times.
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..24_000 {
            *counts.entry(permutation(1, 0, epoch, 4)).or_insert(0u32) += 1;
        }
        let chi: f64 = counts.values().map(|&n| (f64::from(n) - 1000.0).powi(2) / 1000.0).sum();
        assert!(counts.len() == 24 && chi < 60.0, "{} orders, chi-squared {chi}", counts.len());
    }
}
