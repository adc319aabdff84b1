//! How numbers are spread, in memory that does not grow with them.

use serde::Serialize;

/// Counts of numbers between powers of two, with their least, greatest and mean.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// The number of values.
    pub count: u64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// The mean of all values.
    pub mean: f64,
    /// How many lie from a power of two up to the next one: the power, and the count.
    pub buckets: Vec<(f64, u64)>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { count: 0, min: f64::INFINITY, max: f64::NEG_INFINITY, mean: 0.0, buckets: Vec::new() }
    }
}

impl Histogram {
    /// Add a value.
    pub fn add(&mut self, value: f64) {
        let power = if value > 0.0 { value.log2().floor().exp2() } else { 0.0 };
        self.merge(&Self { count: 1, min: value, max: value, mean: value, buckets: vec![(power, 1)] });
    }

    /// Count what another has counted.
    pub fn merge(&mut self, other: &Self) {
        let total = self.count + other.count;
        if other.count == 0 {
            return;
        }
        self.mean += (other.mean - self.mean) * other.count as f64 / total as f64;
        self.count = total;
        (self.min, self.max) = (self.min.min(other.min), self.max.max(other.max));
        for (power, count) in &other.buckets {
            match self.buckets.binary_search_by(|(known, _)| known.total_cmp(power)) {
                Ok(at) => self.buckets[at].1 += count,
                Err(at) => self.buckets.insert(at, (*power, *count)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_counted_between_powers_of_two() {
        let (mut one, mut two) = (Histogram::default(), Histogram::default());
        [0.0, 1.0, 3.0, 3.5].into_iter().for_each(|value| one.add(value));
        [4.0, 0.3].into_iter().for_each(|value| two.add(value));
        one.merge(&two);
        assert_eq!(one.buckets, [(0.0, 1), (0.25, 1), (1.0, 1), (2.0, 2), (4.0, 1)]);
        assert_eq!((one.count, one.min, one.max), (6, 0.0, 4.0));
        assert!((one.mean - 11.8 / 6.0).abs() < 1e-12);
    }
}
