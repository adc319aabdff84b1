//! What can be done to samples, one file each.
//!
//! A stage is a struct of settings, read from a `[[stage]]` table, that builds a [`Stage`]. To add one: write
//! its file, and add its line to [`KINDS`].

mod captions;
mod cut_off;
mod decontaminate;
mod duration;
mod encode;
mod encode_video;
mod encoding;
mod exact;
mod language;
mod length;
mod pattern;
mod perceptual;
mod resize;
mod score;
mod similarity;
mod size;
mod split;
mod template;
mod validate;

pub(crate) use validate::{audio_seconds, video_seconds};

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::format::{Input, Named};
use crate::item::Item;
use crate::recipe::StageTable;
use crate::reject::Reject;

/// A stage's answer to one sample.
pub type Verdict = Result<(), Reject>;

/// The settings of a stage.
pub trait Settings: fmt::Debug + Send + Sync {
    /// Make the stage ready to run.
    ///
    /// # Errors
    /// When the settings contradict one another or name something that is not there.
    fn build(&self, site: &Site<'_>) -> Result<Stage>;

    /// The files that the stage reads, on which a corpus depends as on its sources.
    ///
    /// # Errors
    /// When one cannot be found.
    fn inputs(&self, site: &Site<'_>) -> Result<Vec<Input>> {
        let _ = site;
        Ok(Vec::new())
    }

    /// What the stage does to splits, if it divides the corpus.
    fn division(&self) -> Option<Division> {
        None
    }
}

/// How a stage divides a corpus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Division {
    /// The names of the splits.
    pub splits: Vec<String>,
    /// The metadata whose value keeps samples together, if that is what decides.
    pub group: Option<String>,
}

/// Where a stage is built.
pub struct Site<'a> {
    /// The folder that relative paths start from.
    pub folder: &'a Path,
    /// Seeds whatever is drawn.
    pub seed: u64,
    /// Pixels that an image may have.
    pub max_pixels: usize,
    /// Opens models that score samples.
    pub scorers: Option<&'a dyn Scorers>,
    /// The metadata whose value keeps samples together, where the recipe names one.
    pub group: Option<&'a str>,
    /// Told which files rows name.
    pub(crate) named: Named,
}

impl Site<'_> {
    /// A path of the recipe, from its folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }
}

/// A stage that is ready to run: a part that handles each sample by itself, and one that handles them in
/// order.
pub struct Stage {
    /// What the stage needs of images.
    pub images: ImageUse,
    /// Runs on many samples at once, in any order.
    pub each: Option<Box<dyn Each>>,
    /// Runs on one sample after another, in the order of reading.
    pub gate: Option<Box<dyn Gate>>,
}

impl Stage {
    /// A stage that handles each sample by itself.
    pub fn each(images: ImageUse, each: impl Each + 'static) -> Self {
        Self { images, each: Some(Box::new(each)), gate: None }
    }

    /// A stage that compares samples: `each` leaves fingerprints in [`Item::prints`], `gate` compares them.
    pub fn compare(images: ImageUse, each: impl Each + 'static, gate: impl Gate + 'static) -> Self {
        Self { images, each: Some(Box::new(each)), gate: Some(Box::new(gate)) }
    }
}

/// What a stage needs of a sample's images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageUse {
    /// The stage does not decode images.
    Unseen,
    /// The pixels, at a fraction of the size if that is faster.
    Reduced,
    /// All pixels of the images.
    Whole,
}

/// The part of a stage that checks or changes each sample by itself.
pub trait Each: Send + Sync {
    /// Keep the sample, changed or not, or say why not.
    fn apply(&self, item: &mut Item) -> Verdict;
}

impl<F: Fn(&mut Item) -> Verdict + Send + Sync> Each for F {
    fn apply(&self, item: &mut Item) -> Verdict {
        self(item)
    }
}

/// The part of a stage that handles samples one after another, in the order of reading.
pub trait Gate: Send {
    /// One verdict for each sample.
    ///
    /// # Errors
    /// What ends the whole run, such as a device that failed.
    fn admit(&mut self, items: &mut [Item]) -> Result<Vec<Verdict>>;
}

/// Opens the models that score how well an image and a text fit. Models live above this crate, so they come
/// in here.
pub trait Scorers: Send + Sync {
    /// Open the checkpoint at `model`.
    ///
    /// # Errors
    /// In words, when it cannot be opened or is no model that embeds images and texts in one space.
    fn open(&self, model: &Path) -> Result<Box<dyn Scorer>, String>;
}

/// Scores how well images and texts fit.
pub trait Scorer: Send {
    /// The cosine of each image and its text, between -1 and 1. A pair's score must not depend on the rest of
    /// the batch.
    ///
    /// # Errors
    /// In words, when the device or the model fails.
    fn score(&mut self, pairs: &[(&percept_modalities::image::Image, &str)]) -> Result<Vec<f32>, String>;
}

/// A stage that recipes can name.
pub(crate) struct Kind {
    /// What `run` calls it.
    pub name: &'static str,
    /// The keys of its settings, which the guide is held to.
    #[cfg_attr(not(test), expect(dead_code))]
    pub keys: fn() -> &'static [&'static str],
    /// Parses the settings of the stage.
    pub parse: fn(StageTable<'_>) -> Result<Box<dyn Settings>>,
}

/// The table of all stages.
pub(crate) const KINDS: &[Kind] = &[
    kind::<decontaminate::Decontaminate>("decontaminate"),
    kind::<captions::Captions>("deduplicate-captions"),
    kind::<exact::Exact>("deduplicate-exact"),
    kind::<perceptual::Perceptual>("deduplicate-perceptual"),
    kind::<encode::Encode>("encode"),
    kind::<encode_video::EncodeVideo>("encode-video"),
    kind::<duration::Duration>("filter-duration"),
    kind::<language::Language>("filter-language"),
    kind::<length::Length>("filter-length"),
    kind::<pattern::Pattern>("filter-regex"),
    kind::<score::Score>("filter-score"),
    kind::<similarity::Similarity>("filter-similarity"),
    kind::<size::Size>("filter-size"),
    kind::<resize::Resize>("resize"),
    kind::<split::Split>("split"),
    kind::<template::Template>("template"),
    kind::<validate::Validate>("validate"),
];

const fn kind<T: Settings + serde::de::DeserializeOwned + 'static>(name: &'static str) -> Kind {
    Kind {
        name,
        keys: crate::recipe::keys::keys_of::<T>,
        parse: |table| table.settings::<T>().map(|settings| Box::new(settings) as Box<dyn Settings>),
    }
}
