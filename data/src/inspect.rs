//! What a corpus holds: counts, sizes, lengths, what was left out, and some of its samples to look at.

mod histogram;
mod page;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use percept_modalities::text::Tokenizer;
use rayon::prelude::*;
use serde::Serialize;

pub use self::histogram::Histogram;
use crate::build::{Manifest, TIMINGS, Timings};
use crate::error::{Error, Result};
use crate::format::{self, LeftOut, ReadSettings};
use crate::hash::hash_bytes;
use crate::item::Item;
use crate::sample::{Kind, Sample};
use crate::splits::Splits;
use crate::stage::{audio_seconds, video_seconds};
use crate::tokenizer::texts;

/// Samples that are shown.
const SHOWN: usize = 24;

/// How a corpus is looked at.
#[derive(Default)]
pub struct InspectOptions<'a> {
    /// Counts tokens as well.
    pub tokenizer: Option<&'a Tokenizer>,
    /// Told now and then how many samples were seen.
    pub progress: Option<&'a (dyn Fn(u64) + Sync)>,
}

/// What a corpus holds.
#[derive(Debug, Default, Serialize)]
pub struct Inspection {
    /// The folder of the corpus.
    pub folder: PathBuf,
    /// Samples in its shards.
    pub samples: u64,
    /// Bytes of all media.
    pub media_bytes: u64,
    /// Samples of each split.
    pub splits: BTreeMap<String, u64>,
    /// Media of each kind and extension.
    pub media: BTreeMap<String, u64>,
    /// Samples with each of text, turns, and metadata.
    pub parts: BTreeMap<String, u64>,
    /// Samples and media that cannot be read, by reasons.
    pub damaged: BTreeMap<String, u64>,
    /// Media that are there before, byte for byte.
    pub repeated_media: u64,
    /// How lengths and sizes are spread.
    pub histograms: BTreeMap<String, Histogram>,
    /// What a build left beside the shards.
    pub manifest: Option<Manifest>,
    /// How long it took.
    pub timings: Option<Timings>,
    /// Some samples, with the names of their splits.
    #[serde(skip)]
    shown: BTreeMap<u64, (String, Sample)>,
}

/// Look at a folder of shards, or at one shard.
///
/// # Errors
/// When there are no shards. Damaged ones are counted.
pub fn inspect(path: &Path, options: &InspectOptions<'_>) -> Result<Inspection> {
    let splits = Splits::find(path)?;
    let shards: Vec<(PathBuf, String)> =
        splits.shards().map(|(split, shard)| (shard.to_path_buf(), split.to_owned())).collect();
    if shards.is_empty() {
        let why = "there are no shards (.tar, .tar.gz or .parquet) in it; build it first".to_owned();
        return Err(Error::Read { path: path.to_path_buf(), why });
    }
    // What a build says is of the whole corpus.
    let is_whole = path.canonicalize().is_ok_and(|real| real == splits.root());
    let manifest = splits.manifest().filter(|_| is_whole).cloned();
    let (seen, media) = (AtomicU64::new(0), Mutex::new(HashSet::new()));
    let each = |(shard, split): &(PathBuf, String)| -> Inspection {
        let mut part = Inspection::default();
        let settings = ReadSettings {
            path: vec![glob::Pattern::escape(&shard.to_string_lossy())],
            ..ReadSettings::default()
        };
        let (left_out, named) = (LeftOut::default(), format::Named::default());
        let draws = match format::open(&settings, Path::new(""), u64::MAX >> 1, &left_out, &named) {
            Ok(draws) => draws,
            Err(_) => {
                part.count_damage("unreadable");
                return part;
            }
        };
        for draw in draws {
            match draw.make() {
                Ok(sample) => part.add(sample, split, options.tokenizer, &media),
                Err((_, reject)) => part.count_damage(reject.reason),
            }
            let seen = 1 + seen.fetch_add(1, Ordering::Relaxed);
            if let Some(tell) = options.progress.filter(|_| seen.is_multiple_of(64)) {
                tell(seen);
            }
        }
        part
    };
    let mut whole = shards.par_iter().map(each).reduce(Inspection::default, Inspection::with);
    whole.folder = path.to_path_buf();
    whole.manifest = manifest;
    whole.timings =
        std::fs::read(path.join(TIMINGS)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(whole)
}

impl Inspection {
    fn count_damage(&mut self, reason: &str) {
        *self.damaged.entry(reason.to_owned()).or_default() += 1;
    }

    fn measure(&mut self, what: &str, value: f64) {
        self.histograms.entry(what.to_owned()).or_default().add(value);
    }

    fn add(
        &mut self,
        sample: Sample,
        split: &str,
        tokenizer: Option<&Tokenizer>,
        media: &Mutex<HashSet<u64>>,
    ) {
        self.samples += 1;
        *self.splits.entry(split.to_owned()).or_default() += 1;
        let parts = [
            ("text", sample.text.is_some()),
            ("turns", !sample.messages.is_empty()),
            ("metadata", !sample.meta.is_empty()),
            ("media", !sample.media.is_empty()),
        ];
        for (part, _) in parts.into_iter().filter(|(_, there)| *there) {
            *self.parts.entry(part.to_owned()).or_default() += 1;
        }
        let said = texts(&sample).join("\n");
        if !said.is_empty() {
            self.measure("characters", said.chars().count() as f64);
            self.measure("words", said.split_whitespace().count() as f64);
            if let Some(Ok(tokens)) = tokenizer.map(|tokenizer| tokenizer.encode(&said, false)) {
                self.measure("tokens", tokens.len() as f64);
            }
        }
        if !sample.messages.is_empty() {
            self.measure("turns", sample.messages.len() as f64);
        }
        let key = hash_bytes(sample.key.bytes());
        let mut item = Item::new(0, sample, usize::MAX, false);
        for at in 0..item.sample.media.len() {
            let medium = &item.sample.media[at];
            let (kind, bytes) = (medium.kind, medium.bytes.len());
            let name = format!("{kind:?} {}", medium.extension).to_lowercase();
            let hash = hash_bytes(medium.bytes.iter().copied());
            *self.media.entry(name).or_default() += 1;
            self.media_bytes += bytes as u64;
            self.measure("bytes of a medium", bytes as f64);
            let is_new = media.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(hash);
            self.repeated_media += u64::from(!is_new);
            let measured = match kind {
                Kind::Image => item.image(at).map(|image| (image.width.max(image.height), None)),
                Kind::Audio => {
                    audio_seconds(&item, at, 16_000, f64::INFINITY).map(|seconds| (0, Some(seconds)))
                }
                Kind::Video => {
                    video_seconds(&item, at, 1 << 26, f64::INFINITY).map(|seconds| (0, Some(seconds)))
                }
            };
            match measured {
                Ok((_, Some(seconds))) => {
                    self.measure(&format!("seconds of {kind:?}").to_lowercase(), seconds)
                }
                Ok((side, None)) => self.measure("longer side of an image", side as f64),
                Err(reject) => self.count_damage(reject.reason),
            }
        }
        // The least hashes of keys are as good as a draw, and the same every time.
        self.shown.insert(key, (split.to_owned(), item.sample));
        if self.shown.len() > SHOWN {
            self.shown.pop_last();
        }
    }

    /// The sum of the statistics of two parts.
    fn with(mut self, other: Self) -> Self {
        self.samples += other.samples;
        self.media_bytes += other.media_bytes;
        self.repeated_media += other.repeated_media;
        let counts = [
            (&mut self.splits, other.splits),
            (&mut self.media, other.media),
            (&mut self.parts, other.parts),
            (&mut self.damaged, other.damaged),
        ];
        for (all, more) in counts {
            more.into_iter().for_each(|(name, count)| *all.entry(name).or_default() += count);
        }
        for (name, histogram) in other.histograms {
            self.histograms.entry(name).or_default().merge(&histogram);
        }
        self.shown.extend(other.shown);
        while self.shown.len() > SHOWN {
            self.shown.pop_last();
        }
        self
    }
}
