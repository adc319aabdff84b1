//! Choosing a token from its logits.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::error::{Error, Result};

/// How a token is chosen. Filters apply in the order in which they stand here, as in Hugging Face's generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits of tokens seen before when positive, multiplies them when negative; 1 is off.
    pub repetition_penalty: f32,
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Keep this many of the most likely; 0 is off.
    pub top_k: usize,
    /// Keep the most likely whose probabilities sum to this; 1 is off.
    pub top_p: f32,
    /// Keep those at least this likely compared with the most likely; 0 is off.
    pub min_p: f32,
    /// Seeds the draws.
    pub seed: u64,
    /// Tells sequences of one seed apart.
    pub stream: u64,
    /// Tokens that are never chosen.
    pub suppressed: Vec<i32>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            repetition_penalty: 1.0,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seed: 0,
            stream: 0,
            suppressed: Vec::new(),
        }
    }
}

/// Chooses tokens one after the other. The draw for a token depends on seed, stream and the token's index alone.
pub struct Sampler {
    settings: Sampling,
    seen: Vec<bool>,
    index: u64,
}

impl Sampler {
    /// A sampler that has seen `prompt`, for logits of `vocab` tokens.
    ///
    /// # Errors
    /// When a setting is out of its range.
    pub fn new(settings: Sampling, prompt: &[i32], vocab: usize) -> Result<Self> {
        let s = &settings;
        let rules = [
            (s.repetition_penalty > 0.0, "the repetition penalty must be positive"),
            (s.temperature >= 0.0 && s.temperature.is_finite(), "the temperature must be 0 or positive"),
            (s.top_p > 0.0 && s.top_p <= 1.0, "top-p must be above 0 and at most 1"),
            ((0.0..=1.0).contains(&s.min_p), "min-p must be between 0 and 1"),
        ];
        if let Some((_, why)) = rules.iter().find(|r| !r.0) {
            return Err(Error::Setting((*why).to_string()));
        }
        let mut sampler = Self { settings, seen: vec![false; vocab], index: 0 };
        prompt.iter().for_each(|&id| sampler.see(id));
        Ok(sampler)
    }

    /// The next token. `logits` are overwritten.
    pub fn choose(&mut self, logits: &mut [f32]) -> i32 {
        let s = &self.settings;
        if s.repetition_penalty != 1.0 {
            for (x, _) in logits.iter_mut().zip(&self.seen).filter(|(_, seen)| **seen) {
                *x = if *x > 0.0 { *x / s.repetition_penalty } else { *x * s.repetition_penalty };
            }
        }
        for &id in &s.suppressed {
            if let Some(x) = logits.get_mut(id as usize) {
                *x = f32::NEG_INFINITY;
            }
        }
        let id = if s.temperature == 0.0 { greedy(logits) } else { self.draw(logits) };
        self.index += 1;
        self.see(id);
        id
    }

    fn see(&mut self, id: i32) {
        if let Some(seen) = self.seen.get_mut(id as usize) {
            *seen = true;
        }
    }

    fn draw(&self, logits: &[f32]) -> i32 {
        let s = &self.settings;
        let mut kept: Vec<(f32, i32)> = logits
            .iter()
            .enumerate()
            .filter(|(_, x)| !x.is_nan())
            .map(|(i, &x)| (x / s.temperature, i as i32))
            .collect();
        // Ties go to the lower id, so that the order is one on every machine.
        let order = |a: &(f32, i32), b: &(f32, i32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if s.top_k > 0 && s.top_k < kept.len() {
            kept.select_nth_unstable_by(s.top_k - 1, order);
            kept.truncate(s.top_k);
        }
        kept.sort_unstable_by(order);
        let Some(&(greatest, first)) = kept.first() else { return 0 };
        let weight = |x: f32| ((x - greatest) as f64).exp();
        if s.top_p < 1.0 {
            let total: f64 = kept.iter().map(|k| weight(k.0)).sum();
            let mut sum = 0.0;
            let mut count = 0;
            while count < kept.len() && sum < s.top_p as f64 {
                sum += weight(kept[count].0) / total;
                count += 1;
            }
            kept.truncate(count.max(1));
        }
        kept.retain(|k| weight(k.0) >= s.min_p as f64);
        let total: f64 = kept.iter().map(|k| weight(k.0)).sum();
        let mut left = self.uniform() * total;
        for &(x, id) in &kept {
            left -= weight(x);
            if left < 0.0 {
                return id;
            }
        }
        kept.last().map_or(first, |k| k.1)
    }

    /// Between 0 and 1, by seed, stream and index: ChaCha's block number is the index.
    fn uniform(&self) -> f64 {
        const WORDS_PER_BLOCK: u128 = 16;
        let mut rng = ChaCha12Rng::seed_from_u64(self.settings.seed);
        rng.set_stream(self.settings.stream);
        rng.set_word_pos(self.index as u128 * WORDS_PER_BLOCK);
        (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The first of the greatest; NaN is never chosen.
fn greedy(logits: &[f32]) -> i32 {
    let mut best = 0;
    let mut greatest = f32::NEG_INFINITY;
    for (i, &x) in logits.iter().enumerate() {
        if x > greatest {
            (best, greatest) = (i, x);
        }
    }
    best as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of 20,000 draws, by token.
    fn shares(settings: Sampling, logits: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(settings, &[], logits.len()).unwrap();
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.choose(&mut logits.to_vec()) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn near(found: &[f64], expected: &[f64]) {
        assert!(
            found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 0.015),
            "{found:?} is not {expected:?}"
        );
    }

    /// Logits of tokens with these probabilities.
    fn of(p: &[f32]) -> Vec<f32> {
        p.iter().map(|p| p.ln() + 3.0).collect()
    }

    #[test]
    fn draws_follow_the_filtered_distribution() {
        let logits = of(&[0.1, 0.4, 0.2, 0.3]);
        let hot = Sampling { temperature: 1.0, ..Sampling::default() };
        near(&shares(hot.clone(), &logits), &[0.1, 0.4, 0.2, 0.3]);
        let squares = [0.01, 0.16, 0.04, 0.09].map(|p: f64| p / 0.3);
        near(&shares(Sampling { temperature: 0.5, ..hot.clone() }, &logits), &squares);
        near(&shares(Sampling { top_k: 2, ..hot.clone() }, &logits), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        near(&shares(Sampling { top_p: 0.65, ..hot.clone() }, &logits), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        near(
            &shares(Sampling { top_p: 0.75, ..hot.clone() }, &logits),
            &[0.0, 4.0 / 9.0, 2.0 / 9.0, 3.0 / 9.0],
        );
        near(&shares(Sampling { min_p: 0.6, ..hot.clone() }, &logits), &[0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0]);
        let without = Sampling { suppressed: vec![1], ..hot };
        near(&shares(without, &logits), &[1.0 / 6.0, 0.0, 2.0 / 6.0, 3.0 / 6.0]);
    }

    #[test]
    fn the_seed_the_stream_and_the_index_decide_a_draw() {
        let draw = |seed, stream| {
            let settings = Sampling { temperature: 1.0, seed, stream, ..Sampling::default() };
            let mut sampler = Sampler::new(settings, &[], 100).unwrap();
            (0..20).map(|_| sampler.choose(&mut [0.0; 100])).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        let mut late =
            Sampler::new(Sampling { temperature: 1.0, seed: 1, ..Sampling::default() }, &[], 100).unwrap();
        late.index = 7;
        assert_eq!(late.choose(&mut [0.0; 100]), draw(1, 0)[7]);
    }

    #[test]
    fn greedy_takes_the_first_of_the_greatest_and_penalties_count_the_prompt() {
        let mut plain = Sampler::new(Sampling::default(), &[], 4).unwrap();
        assert_eq!(plain.choose(&mut [1.0, f32::NAN, 3.0, 3.0]), 2);
        let settings = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        let mut penal = Sampler::new(settings, &[2, 700, -1], 4).unwrap();
        assert_eq!(penal.choose(&mut [1.0, 1.6, 3.0, -1.0]), 1);
        assert_eq!(penal.choose(&mut [1.0, 1.6, 3.0, -1.0]), 2);
        assert_eq!(penal.choose(&mut [f32::NAN; 4]), 0);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let refused = |s: Sampling| Sampler::new(s, &[], 4).is_err();
        let fine = Sampling::default();
        assert!(refused(Sampling { temperature: -1.0, ..fine.clone() }));
        assert!(refused(Sampling { temperature: f32::NAN, ..fine.clone() }));
        assert!(refused(Sampling { top_p: 0.0, ..fine.clone() }));
        assert!(refused(Sampling { min_p: 1.5, ..fine.clone() }));
        assert!(refused(Sampling { repetition_penalty: 0.0, ..fine }));
    }
}
