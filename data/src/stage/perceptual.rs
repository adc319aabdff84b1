//! `deduplicate-perceptual`: of samples whose images look the same, the first is kept.

use serde::Deserialize;

use super::{Gate, ImageUse, Settings, Site, Stage, Verdict};
use crate::error::{Error, Result};
use crate::hash::{HammingIndex, perceptual_hash};
use crate::item::Item;
use crate::reject::Reject;

/// Keeps the first of samples whose images all look like earlier ones.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Perceptual {
    /// Bits of 64 in which the hashes of images that look the same may differ, up to 15.
    distance: u32,
}

impl Default for Perceptual {
    fn default() -> Self {
        Self { distance: 8 }
    }
}

impl Settings for Perceptual {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        if self.distance > 15 {
            let why = "stage deduplicate-perceptual: distance lies between 0 and 15; with more all images are alike";
            return Err(Error::Config(why.into()));
        }
        let each = |item: &mut Item| {
            for at in item.image_indices() {
                match perceptual_hash(&item.image(at)?.pixels) {
                    Some(hash) => item.prints.push(hash),
                    // An image without features is like every other one, which says nothing.
                    None => {
                        item.prints.clear();
                        break;
                    }
                }
            }
            Ok(())
        };
        Ok(Stage::compare(ImageUse::Reduced, each, Seen(HammingIndex::new(self.distance))))
    }
}

struct Seen(HammingIndex);

impl Gate for Seen {
    fn admit(&mut self, items: &mut [Item]) -> Result<Vec<Verdict>> {
        let admit = |item: &mut Item| {
            let near: Option<Vec<_>> = item.prints.iter().map(|hash| self.0.nearest(*hash)).collect();
            if let Some((distance, label)) = near.and_then(|near| near.into_iter().max()) {
                let why = format!("looks like sample number {label}: {distance} of 64 bits differ");
                return Err(Reject::new("near-duplicate", why));
            }
            item.prints.iter().for_each(|hash| self.0.insert(*hash, item.ordinal as u32));
            Ok(())
        };
        Ok(items.iter_mut().map(admit).collect())
    }
}
