//! Captions held to several references, as the COCO evaluation does (Chen et al. 2015): texts are cut into tokens as the Penn
//! Treebank has them, then compared by BLEU-4, ROUGE-L and CIDEr.

mod bleu;
mod cider;
mod ptb;
mod rouge;

pub use bleu::{Counts, bleu};
pub use cider::cider;
pub use ptb::tokens;
pub use rouge::rouge_l;

use std::collections::HashMap;

/// How often each run of 1 to 4 tokens is in a text.
fn grams(tokens: &[String]) -> HashMap<&[String], f64> {
    let mut counts = HashMap::new();
    for n in 1..=4 {
        for gram in tokens.windows(n) {
            *counts.entry(gram).or_default() += 1.0;
        }
    }
    counts
}
