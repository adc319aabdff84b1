//! Random numbers by seed, stream and index.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A seekable ChaCha and the draws that data needs of it. The same key gives the same draws on every machine.
#[derive(Debug, Clone)]
pub struct Chance(ChaCha12Rng);

impl Chance {
    /// The draws of `index` in `stream` under `seed`.
    pub fn new(seed: u64, stream: u64, index: u64) -> Self {
        let mut key = [0; 32];
        for (bytes, part) in key.chunks_mut(8).zip([seed, index]) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        let mut random = ChaCha12Rng::from_seed(key);
        random.set_stream(stream);
        Self(random)
    }

    /// Evenly from `low` to `high`, which it does not reach.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        low + (high - low) * unit
    }

    /// Evenly of `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        // The high half of the product is uniform but for one part in 2^64 / n.
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// A random boolean, each value with probability 1/2.
    pub fn coin(&mut self) -> bool {
        self.0.next_u32() & 1 == 1
    }

    /// From the normal distribution of mean 0 and deviation 1, by Box and Muller.
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.between(0.0, 1.0), self.between(0.0, std::f64::consts::TAU));
        libm::sqrt(-2.0 * libm::log(radius)) * libm::cos(angle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_each_part_of_the_key_and_on_nothing_else() {
        let first = |seed, stream, index| Chance::new(seed, stream, index).0.next_u64();
        assert_eq!(first(1, 2, 3), first(1, 2, 3));
        let all = [first(1, 2, 3), first(2, 2, 3), first(1, 3, 3), first(1, 2, 4), first(3, 2, 1)];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), 5);
    }

    #[test]
    fn draws_have_the_moments_of_their_distributions() {
        let mut chance = Chance::new(0, 0, 0);
        let n = 100_000;
        let normal: Vec<_> = (0..n).map(|_| chance.normal()).collect();
        let mean = normal.iter().sum::<f64>() / f64::from(n);
        let variance = normal.iter().map(|x| x * x).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.015 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let mut counts = [0; 7];
        (0..n).for_each(|_| counts[chance.below(7)] += 1);
        assert!(counts.iter().all(|&count: &i32| (count - n / 7).abs() < 600), "{counts:?}");
        assert!((0..n).map(|_| chance.between(-1.0, 3.0)).all(|x| (-1.0..3.0).contains(&x)));
        assert_eq!(chance.below(0), 0);
    }
}
