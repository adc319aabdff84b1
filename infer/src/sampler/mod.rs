//! Choosing a token from its logits.

mod process;
mod warp;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::error::{Error, Result};

/// How a token is chosen: what Hugging Face's generation does to logits, with its meaning and in its order, which is that of
/// the fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Added to the last token of a sequence whose other tokens stand at the end.
    pub sequence_bias: Vec<(Vec<i32>, f32)>,
    /// Multiplies the logits of the prompt's tokens when positive, divides them when negative; 1 is off.
    pub encoder_repetition_penalty: f32,
    /// Divides the logits of tokens seen before when positive, multiplies them when negative; 1 is off.
    pub repetition_penalty: f32,
    /// Taken from the logits of tokens of the continuation for each time that they occurred; 0 is off. OpenAI's, which
    /// transformers does not have.
    pub frequency_penalty: f32,
    /// Taken from the logits of tokens of the continuation that occurred, however often; 0 is off. OpenAI's too.
    pub presence_penalty: f32,
    /// No group of so many tokens occurs twice; 0 is off.
    pub no_repeat_ngram_size: usize,
    /// No group of so many tokens of the prompt occurs again; 0 is off.
    pub encoder_no_repeat_ngram_size: usize,
    /// Sequences of tokens that are never completed.
    pub bad_words: Vec<Vec<i32>>,
    /// Tokens of prompt and continuation before which nothing ends.
    pub min_length: usize,
    /// Tokens of the continuation before which nothing ends.
    pub min_new_tokens: usize,
    /// The second token, where the prompt has but one.
    pub forced_first: Option<i32>,
    /// What the last of `max_length` tokens is chosen among; none is off.
    pub forced_last: Vec<i32>,
    /// NaN counts as 0, infinities as the greatest numbers.
    pub remove_invalid: bool,
    /// After so many tokens the logits of those that end grow by this factor with each token.
    pub exponential_decay: Option<(usize, f64)>,
    /// Tokens that are never chosen.
    pub suppressed: Vec<i32>,
    /// Tokens that are not chosen first.
    pub suppressed_first: Vec<i32>,
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Keep this many of the most likely; 0 is off.
    pub top_k: usize,
    /// Keep the most likely whose probabilities sum to this; 1 is off.
    pub top_p: f32,
    /// Keep those at least this likely compared with the most likely; 0 is off.
    pub min_p: f32,
    /// Keep those nearest the expected information whose probabilities sum to this; 1 is off.
    pub typical_p: f32,
    /// Keep those at least this likely; 0 is off.
    pub epsilon_cutoff: f32,
    /// As `epsilon_cutoff`, less strict where many tokens are likely; 0 is off.
    pub eta_cutoff: f32,
    /// The seed of the draws.
    pub seed: u64,
    /// Tells sequences of one seed apart.
    pub stream: u64,
    /// Tokens that end a sequence, as far as the settings above speak of them.
    pub ends: Vec<i32>,
    /// Tokens of prompt and continuation at most, where that is known.
    pub max_length: Option<usize>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            sequence_bias: Vec::new(),
            encoder_repetition_penalty: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            no_repeat_ngram_size: 0,
            encoder_no_repeat_ngram_size: 0,
            bad_words: Vec::new(),
            min_length: 0,
            min_new_tokens: 0,
            forced_first: None,
            forced_last: Vec::new(),
            remove_invalid: false,
            exponential_decay: None,
            suppressed: Vec::new(),
            suppressed_first: Vec::new(),
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            epsilon_cutoff: 0.0,
            eta_cutoff: 0.0,
            seed: 0,
            stream: 0,
            ends: Vec::new(),
            max_length: None,
        }
    }
}

/// Chooses tokens one after the other. The draw for a token depends on seed, stream and the token's index alone.
pub struct Sampler {
    settings: Sampling,
    /// The prompt and what was chosen.
    ids: Vec<i32>,
    prompt: usize,
    index: u64,
}

impl Sampler {
    /// A sampler that has seen `prompt`, for logits of `vocab` tokens.
    ///
    /// # Errors
    /// When a setting is out of its range.
    pub fn new(settings: Sampling, prompt: &[i32], vocab: usize) -> Result<Self> {
        let s = &settings;
        let cutoff = |x: f32| (0.0..1.0).contains(&x);
        let rules = [
            (s.repetition_penalty > 0.0, "the repetition penalty must be positive"),
            (s.encoder_repetition_penalty > 0.0, "the encoder repetition penalty must be positive"),
            (s.frequency_penalty.is_finite(), "the frequency penalty must be a number"),
            (s.presence_penalty.is_finite(), "the presence penalty must be a number"),
            (s.temperature >= 0.0 && s.temperature.is_finite(), "the temperature must be 0 or positive"),
            (s.top_p > 0.0 && s.top_p <= 1.0, "top-p must be above 0 and at most 1"),
            ((0.0..=1.0).contains(&s.min_p), "min-p must be between 0 and 1"),
            (s.typical_p > 0.0 && s.typical_p <= 1.0, "typical-p must be above 0 and at most 1"),
            (cutoff(s.epsilon_cutoff), "the epsilon cutoff must be 0 or between 0 and 1"),
            (cutoff(s.eta_cutoff), "the eta cutoff must be 0 or between 0 and 1"),
        ];
        if let Some((_, why)) = rules.iter().find(|r| !r.0) {
            return Err(Error::Setting((*why).to_string()));
        }
        let biased = s.sequence_bias.iter().map(|(ids, _)| ids).chain(&s.bad_words).flatten();
        let fits = |id: &i32| usize::try_from(*id).is_ok_and(|id| id < vocab);
        if let Some(id) = biased.chain(&s.forced_first).chain(&s.forced_last).find(|id| !fits(id)) {
            return Err(Error::Setting(format!("the settings name token {id}, and the model has {vocab}")));
        }
        Ok(Self { settings, ids: prompt.to_vec(), prompt: prompt.len(), index: 0 })
    }

    /// Whether there is nothing to choose from: no logit is a finite number, and none is to be made one
    /// (`remove_invalid_values`).
    pub fn is_lost(&self, logits: &[f32]) -> bool {
        !self.settings.remove_invalid && !logits.iter().any(|x| x.is_finite())
    }

    /// The next token. `logits` are overwritten.
    pub fn choose(&mut self, logits: &mut [f32]) -> i32 {
        let s = &self.settings;
        process::process(s, &self.ids, self.prompt, logits);
        let id = if s.temperature == 0.0 { greedy(logits) } else { self.draw(logits) };
        self.index += 1;
        self.ids.push(id);
        id
    }

    fn draw(&self, logits: &mut [f32]) -> i32 {
        warp::warp(&self.settings, logits);
        let mut kept: Vec<(f32, i32)> = logits
            .iter()
            .enumerate()
            .filter(|(_, x)| **x > f32::NEG_INFINITY)
            .map(|(i, &x)| (x, i as i32))
            .collect();
        // Ties go to the lower id, so that the order is one on every machine.
        kept.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let Some(&(greatest, first)) = kept.first() else { return 0 };
        let weight = |x: f32| ((x - greatest) as f64).exp();
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
pub(crate) fn greedy(logits: &[f32]) -> i32 {
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

    #[test]
    fn where_no_number_is_left_there_is_nothing_to_choose() {
        let nothing = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY];
        let sampler = |remove_invalid| {
            Sampler::new(Sampling { remove_invalid, ..Sampling::default() }, &[], nothing.len()).unwrap()
        };
        assert!(sampler(false).is_lost(&nothing) && !sampler(true).is_lost(&nothing));
        assert!(!sampler(false).is_lost(&[f32::NAN, -3.0, f32::NEG_INFINITY]));
    }

    /// Logits of tokens with these probabilities.
    fn of(p: &[f32]) -> Vec<f32> {
        p.iter().map(|p| p.ln() + 3.0).collect()
    }

    #[test]
    fn penalties_count_what_was_generated_and_not_the_prompt() {
        let settings = Sampling { frequency_penalty: 1.0, presence_penalty: 0.5, ..Sampling::default() };
        let mut sampler = Sampler::new(settings, &[0, 0, 0], 3).unwrap();
        // Token 0 leads by 3.2: it loses 1.5 with its first time, and 1 with each other.
        let chosen: Vec<i32> = (0..5).map(|_| sampler.choose(&mut [4.2, 1.0, 0.0])).collect();
        // 4.2, 2.7, 1.7, 0.7 against 1; then 0.7 against 1 - 1.5.
        assert_eq!(chosen, [0, 0, 0, 1, 0]);
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

    /// Each processor and warper against transformers' own class (`golden.py`).
    #[test]
    fn logits_are_processed_as_transformers_does() {
        let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!("golden.json")).unwrap();
        let numbers = |v: &serde_json::Value| -> Vec<f32> {
            let number = |x: &serde_json::Value| x.as_f64().map_or(f32::NEG_INFINITY, |x| x as f32);
            v.as_array().unwrap().iter().map(number).collect()
        };
        let ids = |v: &serde_json::Value| -> Vec<i32> {
            v.as_array().unwrap().iter().map(|x| x.as_i64().unwrap() as i32).collect()
        };
        assert!(cases.len() > 40);
        for case in &cases {
            let config = serde_json::to_vec(&case["config"]).unwrap();
            let all = ids(&case["ids"]);
            let prompt = case["prompt"].as_u64().unwrap() as usize;
            let recommended = crate::Recommended::read(&config).unwrap();
            let mut settings = recommended.sampling();
            settings.ends = ids(&case["ends"]);
            settings.max_length = recommended.max_length;
            let mut scores = numbers(&case["scores"]);
            process::process(&settings, &all, prompt, &mut scores);
            if recommended.draws {
                warp::warp(&settings, &mut scores);
            }
            for (i, (found, expected)) in scores.iter().zip(numbers(&case["expected"])).enumerate() {
                let near = *found == expected || (found - expected).abs() <= 1e-5 * expected.abs().max(1.0);
                assert!(near, "{}: token {i} is {found}, transformers has {expected}", case["config"]);
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let refused = |s: Sampling| Sampler::new(s, &[], 4).is_err();
        let fine = Sampling::default();
        assert!(refused(Sampling { temperature: -1.0, ..fine.clone() }));
        assert!(refused(Sampling { temperature: f32::NAN, ..fine.clone() }));
        assert!(refused(Sampling { top_p: 0.0, ..fine.clone() }));
        assert!(refused(Sampling { min_p: 1.5, ..fine.clone() }));
        assert!(refused(Sampling { repetition_penalty: 0.0, ..fine.clone() }));
        assert!(refused(Sampling { typical_p: 0.0, ..fine.clone() }));
        assert!(refused(Sampling { epsilon_cutoff: 1.0, ..fine.clone() }));
        assert!(refused(Sampling { bad_words: vec![vec![1, 4]], ..fine }));
    }
}
