//! What training and held-out data have in common, which makes a score on the held-out data one of memory.
//!
//! Held-out samples are read whole. Of training samples only the text and those media are read whose size is
//! that of a held-out medium: all others differ. So shards of any origin are compared without a list of
//! hashes beside them, and at the speed of reading headers where media have many sizes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::format::webdataset::Shard;
use crate::loader::Dataset;
use crate::sample::{Kind, Sample};

/// What two samples have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shared {
    /// The key, in one corpus or in corpora that were built of the same file.
    Key,
    /// A medium, byte for byte.
    Media,
    /// All that is said, where there are no media.
    Text,
    /// The value of the metadata that both corpora name as what keeps samples together.
    Group,
}

impl Shared {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Media => "media",
            Self::Text => "text",
            Self::Group => "group",
        }
    }
}

/// Training samples that have something in common with held-out ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What they have in common.
    pub shared: Shared,
    /// How many training samples.
    pub samples: u64,
    /// Some of them, in words.
    pub examples: Vec<String>,
}

/// Examples of each kind.
const EXAMPLES: usize = 3;

/// The first half of a SHA-256.
type Print = [u8; 16];

/// What `train` and `held_out` have in common. `told` is called with the bytes that were passed so far, and
/// those in all. Samples that cannot be read are passed over: nothing is learnt from them either. Memory:
/// about 200 bytes a held-out sample.
pub fn find(train: &[&Dataset], held_out: &[&Dataset], told: &(dyn Fn(u64, u64) + Sync)) -> Vec<Leak> {
    let size = |sets: &[&Dataset]| -> u64 {
        sets.iter().flat_map(|set| set.shards()).map(|shard| shard.bytes()).sum()
    };
    let (done, all) = (AtomicU64::new(0), size(train) + size(held_out));
    let passed = |bytes: u64| told(bytes + done.fetch_add(bytes, Ordering::Relaxed), all);
    let known = Known::read(held_out, &passed);
    let part = |(set, shard): (&&Dataset, &Shard)| known.compare(set, shard, &passed);
    let shards: Vec<(&&Dataset, &Shard)> =
        train.iter().flat_map(|set| set.shards().iter().map(move |shard| (set, shard))).collect();
    let parts: Vec<BTreeMap<Shared, (u64, Vec<String>)>> = shards.into_par_iter().map(part).collect();
    let mut leaks: BTreeMap<Shared, (u64, Vec<String>)> = BTreeMap::new();
    for (shared, (samples, examples)) in parts.into_iter().flatten() {
        let leak = leaks.entry(shared).or_default();
        leak.0 += samples;
        leak.1.extend(examples);
        leak.1.truncate(EXAMPLES);
    }
    let leak = |(shared, (samples, examples))| Leak { shared, samples, examples };
    leaks.into_iter().map(leak).collect()
}

/// What held-out samples hold.
struct Known<'a> {
    sets: &'a [&'a Dataset],
    /// The data set and key of each sample.
    samples: Vec<(usize, String)>,
    sizes: HashSet<u64>,
    media: HashMap<Print, usize>,
    texts: HashMap<Print, usize>,
    keys: HashMap<String, Vec<usize>>,
    /// By the name of the metadata and its value.
    groups: HashMap<(String, String), usize>,
}

impl<'a> Known<'a> {
    fn read(sets: &'a [&'a Dataset], passed: &(dyn Fn(u64) + Sync)) -> Self {
        let shards: Vec<(usize, &Shard)> = sets
            .iter()
            .enumerate()
            .flat_map(|(at, set)| set.shards().iter().map(move |shard| (at, shard)))
            .collect();
        let part = |(at, shard): (usize, &Shard)| -> Vec<(usize, Prints)> {
            let mut found = Vec::new();
            each(shard, &|_| true, passed, &mut |prints| found.push((at, prints)), sets[at]);
            found
        };
        let parts: Vec<_> = shards.into_par_iter().map(part).collect();
        let mut known = Self {
            sets,
            samples: Vec::new(),
            sizes: HashSet::new(),
            media: HashMap::new(),
            texts: HashMap::new(),
            keys: HashMap::new(),
            groups: HashMap::new(),
        };
        for (set, prints) in parts.into_iter().flatten() {
            let at = known.samples.len();
            for (_, size, print) in prints.media {
                known.sizes.insert(size);
                known.media.entry(print).or_insert(at);
            }
            if let Some(print) = prints.text {
                known.texts.entry(print).or_insert(at);
            }
            if let Some(group) = prints.group {
                known.groups.entry(group).or_insert(at);
            }
            known.keys.entry(prints.key.clone()).or_default().push(at);
            known.samples.push((set, prints.key));
        }
        known
    }

    /// What the samples of a training shard have in common with these.
    fn compare(
        &self,
        set: &Dataset,
        shard: &Shard,
        passed: &(dyn Fn(u64) + Sync),
    ) -> BTreeMap<Shared, (u64, Vec<String>)> {
        let related: Vec<bool> = self.sets.iter().map(|other| are_related(set, other)).collect();
        let mut leaks: BTreeMap<Shared, (u64, Vec<String>)> = BTreeMap::new();
        let title = set.title();
        let mut add = |shared: Shared, example: &dyn Fn() -> String| {
            let leak = leaks.entry(shared).or_default();
            leak.0 += 1;
            if leak.1.len() < EXAMPLES {
                leak.1.push(example());
            }
        };
        let named = |at: usize| {
            let (set, key) = &self.samples[at];
            format!("'{key}' of {}", self.sets[*set].title())
        };
        let mut look = |prints: Prints| {
            let own = format!("'{}' of {title}", prints.key);
            let twin = self
                .keys
                .get(&prints.key)
                .and_then(|all| all.iter().copied().find(|at| related[self.samples[*at].0]));
            if let Some(at) = twin {
                add(Shared::Key, &|| format!("{own} has the key of {}", named(at)));
            }
            let shown =
                prints.media.iter().find_map(|(kind, _, print)| Some((*kind, *self.media.get(print)?)));
            if let Some((kind, at)) = shown {
                let kind = format!("{kind:?}").to_lowercase();
                add(Shared::Media, &|| format!("{own} has the {kind} of {}", named(at)));
            }
            if let Some(at) = prints.text.and_then(|print| self.texts.get(&print)) {
                add(Shared::Text, &|| format!("{own} has the same text as {}", named(*at)));
            }
            if let Some(group) = &prints.group
                && let Some(at) = self.groups.get(group)
            {
                add(Shared::Group, &|| format!("{own} has {} {} of {}", group.0, group.1, named(*at)));
            }
        };
        each(shard, &|size| self.sizes.contains(&size), passed, &mut look, set);
        leaks
    }
}

/// What is compared of a sample.
struct Prints {
    key: String,
    media: Vec<(Kind, u64, Print)>,
    text: Option<Print>,
    group: Option<(String, String)>,
}

/// Go through a shard's samples; of media only those are read whose size is wanted.
fn each(
    shard: &Shard,
    wants: &dyn Fn(u64) -> bool,
    passed: &(dyn Fn(u64) + Sync),
    look: &mut dyn FnMut(Prints),
    set: &Dataset,
) {
    let group = set.splits().manifest().and_then(|manifest| manifest.group.as_deref());
    for at in 0..shard.len() {
        if let Ok((sample, others)) = shard.read_where(at, wants) {
            look(prints(sample, others == 0, group));
        }
        passed(shard.size_of(at));
    }
}

fn prints(sample: Sample, has_all_media: bool, group: Option<&str>) -> Prints {
    let print = |hash: Sha256| {
        let mut first = [0; 16];
        first.copy_from_slice(&hash.finalize()[..16]);
        first
    };
    let is_text =
        has_all_media && sample.media.is_empty() && !(sample.text.is_none() && sample.messages.is_empty());
    let text = is_text.then(|| {
        // Turns are plain data, which always has a JSON.
        let said = serde_json::to_vec(&(&sample.text, &sample.messages)).unwrap_or_default();
        print(Sha256::new_with_prefix(said))
    });
    let media = sample.media.iter().map(|medium| {
        (medium.kind, medium.bytes.len() as u64, print(Sha256::new_with_prefix(&medium.bytes)))
    });
    let group = group.and_then(|group| {
        let value = sample.meta.get(group.strip_prefix("meta.")?)?;
        Some((group.to_owned(), value.to_string()))
    });
    Prints { media: media.collect(), text, group, key: sample.key }
}

/// Whether keys of two data sets name the same things: they are of one corpus, or were built of the same
/// file.
fn are_related(a: &Dataset, b: &Dataset) -> bool {
    let inputs = |set: &Dataset| -> HashSet<String> {
        let manifest = set.splits().manifest();
        manifest.iter().flat_map(|m| m.inputs.values()).filter_map(|input| input.sha256.clone()).collect()
    };
    a.splits().root() == b.splits().root() || !inputs(a).is_disjoint(&inputs(b))
}

#[cfg(test)]
mod tests;
