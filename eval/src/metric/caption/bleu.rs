//! BLEU (Papineni et al. 2002) over a corpus.

use std::collections::HashMap;

use super::grams;

/// What BLEU adds up over the captions of a corpus.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// Tokens of the captions.
    pub length: f64,
    /// Tokens of the references that are nearest in length.
    pub reference: f64,
    /// Runs of 1 to 4 tokens in the captions.
    pub runs: [f64; 4],
    /// Those that a reference has too, each as often as one reference has it.
    pub found: [f64; 4],
}

impl Counts {
    /// What one caption adds. Of references equally near in length the shorter one counts.
    pub fn of(caption: &[String], references: &[Vec<String>]) -> Self {
        let length = caption.len();
        let nearest = references.iter().map(Vec::len).min_by_key(|other| (other.abs_diff(length), *other));
        let mut most: HashMap<&[String], f64> = HashMap::new();
        for reference in references {
            for (gram, count) in grams(reference) {
                let most = most.entry(gram).or_default();
                *most = most.max(count);
            }
        }
        let mut counts =
            Self { length: length as f64, reference: nearest.unwrap_or(0) as f64, ..Self::default() };
        for n in 1..=4 {
            counts.runs[n - 1] = (length + 1).saturating_sub(n) as f64;
        }
        for (gram, count) in grams(caption) {
            counts.found[gram.len() - 1] += count.min(most.get(gram).copied().unwrap_or(0.0));
        }
        counts
    }

    /// As a list, to be added up.
    pub fn parts(&self) -> [f64; 10] {
        let mut parts = [0.0; 10];
        (parts[0], parts[1]) = (self.length, self.reference);
        parts[2..6].copy_from_slice(&self.runs);
        parts[6..].copy_from_slice(&self.found);
        parts
    }
}

/// BLEU of 1 to 4 tokens, from the sums of [`Counts::parts`].
///
/// The tiny numbers keep logarithms away from zero, as COCO's code has them.
pub fn bleu(sums: &[f64]) -> [f64; 4] {
    const TINY: f64 = 1e-15;
    const SMALL: f64 = 1e-9;
    let at = |at: usize| sums.get(at).copied().unwrap_or(0.0);
    let mut product = 1.0;
    let mut scores = [0.0; 4];
    for n in 0..4 {
        product *= (at(6 + n) + TINY) / (at(2 + n) + SMALL);
        scores[n] = product.powf(1.0 / (n + 1) as f64);
    }
    let ratio = (at(0) + TINY) / (at(1) + SMALL);
    if ratio < 1.0 {
        scores = scores.map(|score| score * (1.0 - 1.0 / ratio).exp());
    }
    scores
}
