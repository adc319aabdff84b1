//! `decontaminate`: samples that occur in a benchmark are left out.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::captions::whole_text;
use super::{ImageUse, Settings, Site, Stage, Verdict};
use crate::error::{Error, Result};
use crate::format::{self, Input, LeftOut, ReadSettings};
use crate::hash::{HammingIndex, hash_bytes, normalized, perceptual_hash};
use crate::item::Item;
use crate::reject::Reject;

/// Rejects samples that share an image, or a run of words, with a benchmark.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decontaminate {
    /// The benchmarks: anything that can be read, `.txt` files of a text a line, and `.hashes` files of a
    /// perceptual hash a line, in 16 hexadecimal digits.
    against: Vec<PathBuf>,
    /// Words of a run. A benchmark's text that is shorter counts as a whole if it has five words.
    #[serde(default = "words")]
    words: usize,
    /// The share of a sample's runs that must be a benchmark's, between 0 and 1; one is enough at 0.
    #[serde(default)]
    overlap: f64,
    /// Bits of 64 in which the hashes of images that look the same may differ, up to 15.
    #[serde(default = "distance")]
    distance: u32,
}

fn words() -> usize {
    8
}

fn distance() -> u32 {
    8
}

/// The fewest words of a text that says what it is from.
const TELLING: usize = 5;

impl Settings for Decontaminate {
    fn build(&self, site: &Site<'_>) -> Result<Stage> {
        let fault = |why: String| Error::Config(format!("stage decontaminate: {why}"));
        if self.distance > 15 || self.words < TELLING || !(0.0..=1.0).contains(&self.overlap) {
            let why = "distance lies between 0 and 15, words is 5 or more, overlap between 0 and 1";
            return Err(fault(why.into()));
        }
        let mut known =
            Known { words: self.words, runs: HashSet::new(), images: HammingIndex::new(self.distance) };
        for path in &self.against {
            let path = site.resolve(path);
            let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            match extension {
                "txt" => {
                    let text = std::fs::read_to_string(&path).map_err(Error::read(&path))?;
                    text.lines().for_each(|line| known.add_text(line));
                }
                "hashes" => {
                    let text = std::fs::read_to_string(&path).map_err(Error::read(&path))?;
                    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty())
                    {
                        let hash = u64::from_str_radix(line.trim(), 16).map_err(|_| {
                            fault(format!(
                                "{}:{}: '{line}' is no hash of 16 hexadecimal digits",
                                path.display(),
                                number + 1
                            ))
                        })?;
                        known.images.insert(hash, 0);
                    }
                }
                _ => known.add_samples(path, site)?,
            }
        }
        let overlap = self.overlap;
        Ok(Stage::each(ImageUse::Reduced, move |item: &mut Item| known.check(item, overlap)))
    }

    fn inputs(&self, site: &Site<'_>) -> Result<Vec<Input>> {
        let mut all = Vec::new();
        for path in &self.against {
            let path = site.resolve(path);
            match path.extension().and_then(|e| e.to_str()) {
                Some("txt" | "hashes") => all.push(Input::File(path)),
                _ => all.extend(format::inputs(&benchmark(&path), site.folder)?),
            }
        }
        Ok(all)
    }
}

/// A benchmark as a source.
fn benchmark(path: &Path) -> ReadSettings {
    ReadSettings { path: vec![path.to_string_lossy().into_owned()], ..ReadSettings::default() }
}

/// The texts and images of the benchmarks, as hashes.
struct Known {
    words: usize,
    runs: HashSet<u64>,
    images: HammingIndex,
}

impl Known {
    /// Everything in a file that can be read. A benchmark that is damaged protects nothing, so that is an
    /// error.
    fn add_samples(&mut self, path: PathBuf, site: &Site<'_>) -> Result<()> {
        let settings = benchmark(&path);
        for draw in format::open(&settings, site.folder, u64::MAX >> 1, &LeftOut::default(), &site.named)? {
            let fault = |key: &str, why: &str| {
                Error::Config(format!("stage decontaminate: {}: sample '{key}': {why}", path.display()))
            };
            let sample = draw.make().map_err(|(key, reject)| fault(&key, &reject.detail))?;
            let key = sample.key.clone();
            let mut item = Item::new(0, sample, site.max_pixels, false);
            self.add_text(&whole_text(&item.sample));
            for at in item.image_indices() {
                let image = item.image(at).map_err(|reject| fault(&key, &reject.detail))?;
                if let Some(hash) = perceptual_hash(&image.pixels) {
                    self.images.insert(hash, 0);
                }
            }
        }
        Ok(())
    }

    fn add_text(&mut self, text: &str) {
        let runs = runs(text, self.words);
        self.runs.extend(runs);
    }

    fn check(&self, item: &mut Item, overlap: f64) -> Verdict {
        let text = whole_text(&item.sample);
        let all = runs(&text, self.words);
        let found = all.iter().filter(|run| self.runs.contains(run)).count();
        if found > 0 && found as f64 >= overlap * all.len() as f64 {
            let why = format!("{found} of its {} runs of {} words are in a benchmark", all.len(), self.words);
            return Err(Reject::new("benchmark-text", why));
        }
        if self.images.is_empty() {
            return Ok(());
        }
        for at in item.image_indices() {
            let near = perceptual_hash(&item.image(at)?.pixels).and_then(|hash| self.images.nearest(hash));
            if let Some((distance, _)) = near {
                let why = format!("image {at} looks like one in a benchmark: {distance} of 64 bits differ");
                return Err(Reject::new("benchmark-image", why));
            }
        }
        Ok(())
    }
}

/// Hashes of all runs of words; of a shorter text that is telling, of all of it.
fn runs(text: &str, size: usize) -> Vec<u64> {
    let text = normalized(text);
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    if words.len() < TELLING {
        return Vec::new();
    }
    words.windows(size.min(words.len())).map(|run| hash_bytes(run.join(" ").into_bytes())).collect()
}
