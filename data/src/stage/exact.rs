//! `deduplicate-exact`: of samples that are the same byte for byte, the first is kept.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Gate, ImageUse, Settings, Site, Stage, Verdict};
use crate::error::Result;
use crate::item::Item;
use crate::reject::Reject;
use crate::sample::Sample;

/// Keeps the first of samples that are the same.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Exact {
    /// What must be the same.
    by: By,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    /// Media, text and turns together.
    #[default]
    Sample,
    /// Compare the media alone.
    Media,
    /// Text and turns alone.
    Text,
}

impl Settings for Exact {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        let by = self.by;
        let each = move |item: &mut Item| {
            if let Some(hash) = hash(&item.sample, by) {
                item.prints.extend([u64_of(&hash[..8]), u64_of(&hash[8..16])]);
            }
            Ok(())
        };
        Ok(Stage::compare(ImageUse::Unseen, each, Seen::default()))
    }
}

fn u64_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The SHA-256 of what is compared; `None` where there is nothing of it.
fn hash(sample: &Sample, by: By) -> Option<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut any = false;
    // Lengths come before contents, so that no two samples give the same stream.
    let mut put = |bytes: &[u8]| {
        any = true;
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    if !matches!(by, By::Text) {
        sample.media.iter().for_each(|medium| put(&medium.bytes));
    }
    if !matches!(by, By::Media) {
        if let Some(text) = &sample.text {
            put(b"text");
            put(text.as_bytes());
        }
        if !sample.messages.is_empty() {
            put(b"messages");
            // Turns are plain data, which always has a JSON.
            put(&serde_json::to_vec(&sample.messages).unwrap_or_default());
        }
    }
    any.then(|| hash.finalize().into())
}

/// Ninety-six bits of a hash and the place of the sample it came from: 16 bytes a sample.
#[derive(Default)]
struct Seen(HashMap<[u32; 3], u32>);

impl Gate for Seen {
    fn admit(&mut self, items: &mut [Item]) -> Result<Vec<Verdict>> {
        let admit = |item: &mut Item| {
            let [first, second] = item.prints[..] else { return Ok(()) };
            let hash = [(first >> 32) as u32, first as u32, (second >> 32) as u32];
            match self.0.entry(hash) {
                Entry::Vacant(place) => {
                    place.insert(item.ordinal as u32);
                    Ok(())
                }
                Entry::Occupied(place) => {
                    Err(Reject::new("duplicate", format!("the same as sample number {}", place.get())))
                }
            }
        };
        Ok(items.iter_mut().map(admit).collect())
    }
}
