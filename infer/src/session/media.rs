//! What encoders make of media. The results of the last runs are kept, so that a medium that comes again is not encoded
//! again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use percept_model::EncoderRun;
use sha2::{Digest, Sha256};

use super::{Key, Prompt, Session};
use crate::error::Result;
use crate::runner::{read_floats, upload_named};

/// A hash of what an encoder reads: runs of equal media have equal hashes.
pub(super) type RunHash = [u8; 32];

/// The features of one run of an encoder.
pub(crate) struct Features {
    /// f32[n,hidden].
    rows: Vec<f32>,
    /// Extra features of the same shape.
    deepstack: Vec<Vec<f32>>,
}

impl Features {
    fn bytes(&self) -> usize {
        4 * (self.rows.len() + self.deepstack.iter().map(Vec::len).sum::<usize>())
    }
}

/// What the encoders made of a prompt's media: runs whose rows are numbered through.
#[derive(Default)]
pub(crate) struct MediaFeatures {
    runs: Vec<(usize, RunHash, Arc<Features>)>,
    rows: usize,
    hidden: usize,
}

impl MediaFeatures {
    /// Rows of features, and the sets that all runs gave.
    pub(super) fn extents(&self) -> (usize, usize) {
        let sets = self.runs.iter().map(|(_, _, run)| run.deepstack.len()).min();
        (self.rows, 1 + sets.unwrap_or(0))
    }

    /// The run that gave a row, and which one of its rows it is.
    fn find(&self, row: usize) -> Option<(&RunHash, &Features, usize)> {
        let at = self.runs.partition_point(|(first, _, _)| *first <= row).checked_sub(1)?;
        let (first, hash, features) = &self.runs[at];
        Some((hash, features, row - first))
    }

    /// Tells a row of features from all others.
    pub(super) fn name(&self, row: usize) -> Option<(&RunHash, usize)> {
        self.find(row).map(|(hash, _, row)| (hash, row))
    }

    /// A row of the features, and of each set of extra ones.
    pub(super) fn row(&self, row: usize) -> impl Iterator<Item = &[f32]> {
        let found = self.find(row);
        found.into_iter().flat_map(move |(_, features, row)| {
            let sets = std::iter::once(&features.rows).chain(&features.deepstack);
            sets.filter_map(move |set| set.get(row * self.hidden..(row + 1) * self.hidden))
        })
    }
}

/// Features of the last runs, up to a number of bytes.
pub(super) struct Encoded {
    limit: usize,
    bytes: usize,
    clock: u64,
    by_hash: HashMap<RunHash, (u64, Arc<Features>)>,
    by_time: BTreeMap<u64, RunHash>,
    /// Runs that were needed, and those that were not.
    pub(super) runs: u64,
    pub(super) hits: u64,
}

impl Encoded {
    pub(super) fn new(limit: usize) -> Self {
        let (by_hash, by_time) = Default::default();
        Self { limit, bytes: 0, clock: 0, by_hash, by_time, runs: 0, hits: 0 }
    }

    fn find(&mut self, hash: &RunHash) -> Option<Arc<Features>> {
        let (time, features) = self.by_hash.get_mut(hash)?;
        self.by_time.remove(time);
        self.clock += 1;
        *time = self.clock;
        self.by_time.insert(self.clock, *hash);
        self.hits += 1;
        Some(features.clone())
    }

    /// Keep features, in place of those that were not needed for longest.
    fn keep(&mut self, hash: RunHash, features: &Arc<Features>) {
        if features.bytes() > self.limit || self.by_hash.contains_key(&hash) {
            return;
        }
        self.bytes += features.bytes();
        while self.bytes > self.limit
            && let Some((_, oldest)) = self.by_time.pop_first()
        {
            self.bytes -= self.by_hash.remove(&oldest).map_or(0, |(_, features)| features.bytes());
        }
        self.clock += 1;
        self.by_time.insert(self.clock, hash);
        self.by_hash.insert(hash, (self.clock, features.clone()));
    }
}

/// The hash of a run.
pub(super) fn hash(run: &EncoderRun) -> RunHash {
    let mut hash = Sha256::new();
    hash.update((run.key.len() as u64).to_le_bytes());
    hash.update(&run.key);
    for (name, array) in &run.arguments {
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name);
        hash.update((array.bytes().len() as u64).to_le_bytes());
        hash.update(array.bytes());
    }
    hash.finalize().into()
}

impl Session {
    /// Runs of encoders so far, and those that were not needed because their features were kept.
    pub fn encoder_counts(&self) -> (u64, u64) {
        (self.encoded.runs, self.encoded.hits)
    }

    /// Whether the features of all media of a prompt are kept.
    pub(crate) fn is_encoded(&self, prompt: &Prompt) -> bool {
        prompt.runs.iter().all(|(hash, _)| self.encoded.by_hash.contains_key(hash))
    }

    /// Run the encoders on a prompt's media, as far as their features are not kept.
    pub(super) fn encode(&mut self, runs: Vec<(RunHash, EncoderRun)>) -> Result<MediaFeatures> {
        let mut all =
            MediaFeatures { hidden: self.model.decoder().hidden.max(1), ..MediaFeatures::default() };
        for (hash, run) in runs {
            let features = match self.encoded.find(&hash) {
                Some(features) => features,
                None => {
                    let features = Arc::new(self.run_encoder(run)?);
                    self.encoded.runs += 1;
                    self.encoded.keep(hash, &features);
                    features
                }
            };
            let sets = std::iter::once(&features.rows).chain(&features.deepstack);
            let rows = sets.map(|set| set.len() / all.hidden).min().unwrap_or(0);
            all.runs.push((all.rows, hash, features));
            all.rows += rows;
        }
        Ok(all)
    }

    fn run_encoder(&mut self, run: EncoderRun) -> Result<Features> {
        let EncoderRun { key, graph, arguments } = run;
        let key = Key::Encoder(key);
        self.runner.prepare(&key, self.model.weights(), || Ok(graph))?;
        let given: Vec<_> = arguments.into_iter().collect();
        let outputs = self.runner.run(&key, |device, name, _| upload_named(device, &given, name))?;
        let mut all = Features { rows: Vec::new(), deepstack: Vec::new() };
        for (name, buffer) in outputs {
            let values = read_floats(self.device(), &buffer)?;
            match name.strip_prefix("deepstack.").and_then(|k| k.parse::<usize>().ok()) {
                Some(k) => {
                    if all.deepstack.len() <= k {
                        all.deepstack.resize(k + 1, Vec::new());
                    }
                    all.deepstack[k] = values;
                }
                None => all.rows = values,
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_that_were_not_needed_for_longest_go_first() {
        let features = |n: usize| Arc::new(Features { rows: vec![0.0; n], deepstack: vec![vec![0.0; n]] });
        let mut kept = Encoded::new(4 * 20);
        kept.keep([1; 32], &features(5));
        kept.keep([2; 32], &features(5));
        assert!(kept.find(&[1; 32]).is_some());
        kept.keep([3; 32], &features(4));
        assert!(kept.find(&[2; 32]).is_none() && kept.find(&[1; 32]).is_some());
        assert_eq!((kept.bytes, kept.hits), (4 * 18, 2));
        // What is larger than all of it is not kept, and throws nothing out.
        kept.keep([4; 32], &features(11));
        assert!(kept.find(&[4; 32]).is_none() && kept.find(&[3; 32]).is_some());
    }

    #[test]
    fn rows_are_numbered_through_the_runs() {
        let features = |rows: &[f32]| Arc::new(Features { rows: rows.into(), deepstack: vec![rows.into()] });
        let runs = vec![(0, [1; 32], features(&[1.0, 2.0, 3.0, 4.0])), (2, [2; 32], features(&[5.0, 6.0]))];
        let all = MediaFeatures { runs, rows: 3, hidden: 2 };
        assert_eq!(all.row(1).collect::<Vec<_>>(), [[3.0, 4.0], [3.0, 4.0]]);
        assert_eq!(all.row(2).collect::<Vec<_>>(), [[5.0, 6.0], [5.0, 6.0]]);
        assert_eq!((all.name(1), all.name(2)), (Some((&[1; 32], 1)), Some((&[2; 32], 0))));
        assert_eq!((all.row(3).count(), all.extents()), (0, (3, 2)));
    }
}
