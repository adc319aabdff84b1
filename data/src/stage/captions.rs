//! `deduplicate-captions`: of samples whose texts share most of their pieces, the first is kept.

use serde::Deserialize;

use super::{Gate, ImageUse, Settings, Site, Stage, Verdict};
use crate::error::{Error, Result};
use crate::hash::{MinHash, Shingles, SimilarityIndex};
use crate::item::Item;
use crate::reject::Reject;
use crate::sample::Sample;
use crate::tokenizer::texts;

/// Keeps the first of samples with similar texts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Captions {
    /// The share of common pieces, between 0 and 1, from which texts are the same.
    threshold: f64,
    /// What pieces are made of: `characters` or `words`.
    shingles: Shingles,
    /// How many of them make a piece.
    size: usize,
}

impl Default for Captions {
    fn default() -> Self {
        Self { threshold: 0.6, shingles: Shingles::Characters, size: 3 }
    }
}

/// All text of a sample, as one string.
pub(super) fn whole_text(sample: &Sample) -> String {
    texts(sample).join("\n")
}

impl Settings for Captions {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        let Self { threshold, shingles, size } = *self;
        if !(0.3..=1.0).contains(&threshold) || size == 0 {
            let why = "stage deduplicate-captions: threshold lies between 0.3 and 1, and size is 1 or more";
            return Err(Error::Config(why.into()));
        }
        let each = move |item: &mut Item| {
            if let Some(signature) = MinHash::new(&whole_text(&item.sample), shingles, size) {
                item.prints.extend(signature.packed());
            }
            Ok(())
        };
        Ok(Stage::compare(ImageUse::Unseen, each, Seen(SimilarityIndex::new(threshold))))
    }
}

struct Seen(SimilarityIndex);

impl Gate for Seen {
    fn admit(&mut self, items: &mut [Item]) -> Result<Vec<Verdict>> {
        let admit = |item: &mut Item| {
            let Some(signature) = MinHash::unpacked(&item.prints) else { return Ok(()) };
            if let Some((similarity, label)) = self.0.nearest(&signature) {
                let why =
                    format!("its text is like that of sample number {label}: similarity {similarity:.2}");
                return Err(Reject::new("near-duplicate", why));
            }
            self.0.insert(&signature, item.ordinal as u32);
            Ok(())
        };
        Ok(items.iter_mut().map(admit).collect())
    }
}
