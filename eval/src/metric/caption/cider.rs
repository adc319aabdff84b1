//! CIDEr-D (Vedantam et al. 2015): how alike the runs of tokens are, each weighed by how few images have it.

use std::collections::{HashMap, HashSet};

use super::grams;

/// How much a difference in length costs.
const SIGMA: f64 = 6.0;

/// A text's runs of n tokens, weighed, with their length as vectors.
struct Weighed<'t> {
    runs: [HashMap<&'t [String], f64>; 4],
    norms: [f64; 4],
    /// Pairs of tokens, which stand for the length of the text.
    length: f64,
}

/// The score of each caption beside its references. What is rare is known from the references of all of them.
pub fn cider(captions: &[(Vec<String>, Vec<Vec<String>>)]) -> Vec<f64> {
    let mut images: HashMap<&[String], f64> = HashMap::new();
    for (_, references) in captions {
        let seen: HashSet<&[String]> = references.iter().flat_map(|text| grams(text).into_keys()).collect();
        seen.into_iter().for_each(|gram| *images.entry(gram).or_default() += 1.0);
    }
    let all = (captions.len() as f64).ln();
    captions
        .iter()
        .map(|(caption, references)| {
            let caption = weighed(caption, all, &images);
            let sum: f64 =
                references.iter().map(|reference| alike(&caption, &weighed(reference, all, &images))).sum();
            if references.is_empty() { 0.0 } else { 10.0 * sum / references.len() as f64 }
        })
        .collect()
}

/// The runs of a text, weighed by the logarithm of how many of all images have them.
fn weighed<'t>(text: &'t [String], all: f64, images: &HashMap<&[String], f64>) -> Weighed<'t> {
    let mut found = Weighed { runs: Default::default(), norms: [0.0; 4], length: 0.0 };
    let mut grams: Vec<(&[String], f64)> = grams(text).into_iter().collect();
    // Sums do not depend on the order of a hash table.
    grams.sort_by(|a, b| a.0.cmp(b.0));
    for (gram, count) in grams {
        let n = gram.len() - 1;
        let weight = count * (all - images.get(gram).copied().unwrap_or(0.0).max(1.0).ln());
        found.runs[n].insert(gram, weight);
        found.norms[n] += weight * weight;
        if n == 1 {
            found.length += count;
        }
    }
    found.norms = found.norms.map(f64::sqrt);
    found
}

/// The mean over n of the cosine, where no run counts more often than the reference has it.
fn alike(caption: &Weighed, reference: &Weighed) -> f64 {
    let difference = caption.length - reference.length;
    let penalty = (-difference * difference / (2.0 * SIGMA * SIGMA)).exp();
    let cosine = |n: usize| {
        let mut runs: Vec<_> = caption.runs[n].iter().collect();
        runs.sort_by(|a, b| a.0.cmp(b.0));
        let shared = runs.iter().map(|(gram, weight)| {
            let other = reference.runs[n].get(**gram).copied().unwrap_or(0.0);
            weight.min(other) * other
        });
        let (shared, norms) = (shared.sum::<f64>(), caption.norms[n] * reference.norms[n]);
        (if norms != 0.0 { shared / norms } else { shared }) * penalty
    };
    (0..4).map(cosine).sum::<f64>() / 4.0
}
