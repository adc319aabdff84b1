//! First values of new parameters: the same for a seed on every machine, whatever else a model has.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A parameter's own stream of random numbers (FNV-1a of its name).
pub fn parameter_stream(name: &str, seed: u64) -> ChaCha12Rng {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let hash = |h: u64, b: u8| (h ^ b as u64).wrapping_mul(0x100_0000_01b3);
    random.set_stream(name.bytes().fold(0xcbf2_9ce4_8422_2325, hash));
    random
}

/// `n` normal values for the parameter `name`: the sum of twelve uniform numbers is as good as normal here,
/// and exact.
pub fn normal(name: &str, n: usize, deviation: f64, seed: u64) -> Vec<f32> {
    let mut random = parameter_stream(name, seed);
    let mut normal = || {
        // In whole numbers of 2^-32, two at a time and without ranges: tests make millions of them with a compiler that
        // does not optimize.
        let (mut sum, mut pairs) = (0, 0);
        while pairs < 6 {
            let pair = random.next_u64();
            sum += (pair & u64::from(u32::MAX)) + (pair >> 32);
            pairs += 1;
        }
        sum as f64 / (1u64 << 32) as f64 - 6.0
    };
    (0..n).map(|_| (normal() * deviation) as f32).collect()
}
