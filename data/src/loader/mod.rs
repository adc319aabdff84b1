//! The streaming loader that training uses.
//!
//! A [`Loader`] is a function from a number to a sample: draw `i` is found from indexes and a seed alone,
//! without reading what comes before it. So a run continues from any [`Position`] at once, and the order
//! never depends on threads or timing. Draws never end.
//!
//! Datasets are mixed by quota: the dataset that is furthest behind its weight is next. With whole-number
//! weights that add to `w`, any `w` consecutive draws hold exactly as many samples of each dataset as its
//! weight says. Within a dataset each epoch has an order of its own.

mod config;
mod dataset;
mod mixture;
mod pack;
mod shuffle;
mod stream;

pub use config::{DatasetConfig, LoaderConfig};
pub use dataset::Dataset;
pub use pack::{Packed, PackedBatches, Packing};
pub use stream::{Drawn, Prefetch, Refused, Stream};

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::chance::Chance;
use crate::error::{Error, Result};
use crate::sample::Sample;
use mixture::Mixture;
use shuffle::Orders;

/// The position of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// What was drawn before.
    pub drawn: u64,
    /// Stands for the seed, the weights and the sizes of the datasets, which must not change.
    pub mixture: u64,
}

/// What a draw is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Draw {
    /// Its number.
    pub number: u64,
    /// The dataset, as numbered in the configuration.
    pub dataset: usize,
    /// How often the dataset was gone through before.
    pub epoch: u64,
    /// The sample of the dataset.
    pub index: usize,
    /// The seed, and the draw's number among those from its dataset.
    key: (u64, u64),
}

impl Draw {
    /// Random numbers of this draw, for augmentation; they differ between epochs and `stream`s, and not
    /// between runs.
    pub fn chance(&self, stream: u32) -> Chance {
        Chance::new(self.key.0, (self.dataset as u64) << 32 | u64::from(stream), self.key.1)
    }
}

/// Draws from a mixture of datasets.
pub struct Loader {
    datasets: Vec<Dataset>,
    seed: u64,
    mixture: Mixture,
    orders: Orders,
    fingerprint: u64,
}

impl Loader {
    /// Open the datasets and find their samples.
    ///
    /// # Errors
    /// A dataset that is missing, damaged or empty, or weights of zero.
    pub fn open(config: &LoaderConfig) -> Result<Self> {
        let datasets = config.datasets.iter().map(Dataset::open).collect::<Result<Vec<_>>>()?;
        Self::of(datasets, config)
    }

    /// The same over datasets that are open.
    pub fn of(datasets: Vec<Dataset>, config: &LoaderConfig) -> Result<Self> {
        let wrong = |what: String| Err(Error::Config(what));
        if datasets.is_empty() || datasets.len() != config.datasets.len() {
            return wrong("a loader needs at least one dataset, and each once".to_string());
        }
        if let Some(empty) = datasets.iter().find(|dataset| dataset.is_empty()) {
            return wrong(format!("{} holds no samples", empty.path().display()));
        }
        let sizes: Vec<u64> = datasets.iter().map(|dataset| dataset.len() as u64).collect();
        let weights: Vec<u64> = config.datasets.iter().map(|dataset| u64::from(dataset.weight)).collect();
        let mixture = Mixture::by_quota(&weights)?;
        // The words that never change keep the positions of checkpoints that are there.
        let what = format!("{} 1 {weights:?} {sizes:?} Shuffled", config.seed);
        let mut digest = [0; 8];
        digest.copy_from_slice(&Sha256::digest(what)[..8]);
        let fingerprint = u64::from_le_bytes(digest);
        let orders = Orders::new(config.seed, datasets.len());
        Ok(Self { datasets, seed: config.seed, mixture, orders, fingerprint })
    }

    /// The datasets that the loader draws from.
    pub fn datasets(&self) -> &[Dataset] {
        &self.datasets
    }

    /// The draws of a period, which hold exactly as many samples of each dataset as its weight says.
    pub fn period(&self) -> u64 {
        self.mixture.period()
    }

    /// Where a run begins.
    pub fn start(&self) -> Position {
        self.position(0)
    }

    /// The position of a run after `drawn` draws.
    pub fn position(&self, drawn: u64) -> Position {
        Position { drawn, mixture: self.fingerprint }
    }

    /// Hold a saved position to this loader.
    ///
    /// # Errors
    /// When it was saved by a loader of another mixture or seed.
    pub fn check(&self, position: Position) -> Result<()> {
        if position.mixture == self.fingerprint {
            return Ok(());
        }
        Err(Error::Config(
            "the saved position is of other data: the datasets, their weights and sizes, and the seed must be those of \
             the run that is resumed"
                .to_string(),
        ))
    }

    /// What draw `number` is.
    pub fn draw(&self, number: u64) -> Draw {
        let (dataset, nth) = self.mixture.draw(number);
        let size = self.datasets[dataset].len();
        let (epoch, at) = (nth / size as u64, nth % size as u64);
        let index = self.orders.of(dataset, epoch, size)[at as usize] as usize;
        Draw { number, dataset, epoch, index, key: (self.seed, nth) }
    }

    /// Read the sample of a draw.
    pub fn read(&self, draw: &Draw) -> Result<Sample> {
        self.datasets[draw.dataset].read(draw.index)
    }

    /// The draw that replaces `draw` when its sample is bad: the `attempt`-th after it in the dataset, so
    /// that a batch keeps its make-up. It is the same in every run.
    fn replacement(&self, draw: &Draw, attempt: u64) -> Draw {
        let size = self.datasets[draw.dataset].len();
        Draw { index: (draw.index + attempt as usize) % size, ..*draw }
    }

    /// Draws from `position` on. `prepare` runs on the threads of `prefetch` and may decode, augment and
    /// tokenize; what it refuses is replaced like a sample that cannot be read.
    ///
    /// # Errors
    /// When the position was saved by another loader.
    pub fn stream<T, F, E>(
        self: &Arc<Self>,
        position: Position,
        prefetch: Prefetch,
        prepare: F,
    ) -> Result<Stream<T>>
    where
        T: Send + 'static,
        F: Fn(&Draw, Sample) -> Result<T, E> + Send + Sync + 'static,
        E: std::fmt::Display,
    {
        self.check(position)?;
        Ok(Stream::start(Arc::clone(self), position.drawn, prefetch, prepare))
    }
}

#[cfg(test)]
mod tests;
