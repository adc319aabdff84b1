//! `split`: each sample goes to a split by the hash of something that stays the same when the corpus grows.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Division, ImageUse, Settings, Site, Stage};
use crate::error::{Error, Result};
use crate::item::Item;
use crate::reject::Reject;
use crate::sample::Sample;

/// Divides a corpus into splits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Split {
    /// The share of each split but the last, between 0 and 1.
    fractions: BTreeMap<String, f64>,
    /// The split that gets what is left.
    #[serde(default = "train")]
    rest: String,
    /// What decides: `key`, `media`, `text`, or `meta.NAME`; the recipe's `group` where it is left out, and
    /// the key where there is none. Samples that have it in common stay together.
    #[serde(default)]
    by: Option<String>,
    /// Another word gives another division.
    #[serde(default)]
    salt: String,
}

fn train() -> String {
    "train".into()
}

enum By {
    Key,
    Media,
    Text,
    Meta(String),
}

impl Settings for Split {
    fn division(&self) -> Option<Division> {
        let splits = self.fractions.keys().chain([&self.rest]).cloned().collect();
        let group = self.by.clone().filter(|by| by.starts_with("meta."));
        Some(Division { splits, group })
    }

    fn build(&self, site: &Site<'_>) -> Result<Stage> {
        let fault = |why: String| Err(Error::Config(format!("stage split: {why}")));
        let total: f64 = self.fractions.values().sum();
        if self.fractions.values().any(|share| !(0.0..=1.0).contains(share)) || total > 1.0 {
            return fault("fractions lie between 0 and 1, and so does their sum".into());
        }
        let names = self.fractions.keys().chain([&self.rest]);
        let is_name = |n: &&String| {
            !n.is_empty() && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if let Some(name) = names.clone().find(|name| !is_name(name)) {
            return fault(format!("'{name}' is no name for a file; use letters, digits, - and _"));
        }
        let by = match self.by.as_deref().or(site.group).unwrap_or("key") {
            "key" => By::Key,
            "media" => By::Media,
            "text" => By::Text,
            other => match other.strip_prefix("meta.") {
                Some(name) => By::Meta(name.to_owned()),
                None => return fault(format!("by is key, media, text or meta.NAME, and not '{other}'")),
            },
        };
        let salt = self.salt.clone();
        let mut end = 0.0;
        let mut bounds: Vec<(f64, Arc<str>)> = Vec::new();
        for (name, share) in &self.fractions {
            end += share;
            bounds.push((end, Arc::from(name.as_str())));
        }
        let rest: Arc<str> = Arc::from(self.rest.as_str());
        Ok(Stage::each(ImageUse::Unseen, move |item: &mut Item| {
            let mut hash = Sha256::new();
            hash.update((salt.len() as u64).to_le_bytes());
            hash.update(&salt);
            feed(&mut hash, &item.sample, &by)?;
            let bytes = hash.finalize();
            let number = bytes[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            // The upper 53 bits as a number from 0 to 1, exactly.
            let at = (number >> 11) as f64 / (1u64 << 53) as f64;
            let split = bounds.iter().find(|(end, _)| at < *end).map_or(&rest, |(_, name)| name);
            item.split = Some(Arc::clone(split));
            Ok(())
        }))
    }
}

fn feed(hash: &mut Sha256, sample: &Sample, by: &By) -> Result<(), Reject> {
    match by {
        By::Key => hash.update(&sample.key),
        By::Media => sample.media.iter().for_each(|medium| hash.update(&medium.bytes)),
        By::Text => match &sample.text {
            Some(text) => hash.update(text),
            // Turns are plain data, which always has a JSON.
            None => hash.update(serde_json::to_vec(&sample.messages).unwrap_or_default()),
        },
        By::Meta(name) => match sample.meta.get(name) {
            Some(value) => hash.update(value.to_string()),
            None => return Err(Reject::new("no-split", format!("it has no meta.{name} to be split by"))),
        },
    }
    Ok(())
}
