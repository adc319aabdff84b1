//! Packed rows as the arrays that a step reads.

use std::collections::BTreeMap;

use percept_graph::HostTensor;
use percept_modalities::{Array, Inputs, Values};
use percept_model::{CausalModel, EncoderRun, MediaShape, PassRows, PassShape};

use crate::encode::{Encoded, IGNORE};
use crate::error::{Error, Result};
use crate::router::{LIVE, usual_weight};

/// What the graph of a step depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Rows of the batch.
    pub rows: usize,
    /// Tokens of a row.
    pub length: usize,
    /// Tokens whose logits are computed; all of them when it is `rows * length`.
    pub out: usize,
    /// Several samples share a row.
    pub packed: bool,
    /// Image blocks see both ways.
    pub blocks: bool,
    /// The encoder runs, by their keys.
    pub runs: Vec<String>,
}

impl Shape {
    /// The pass over the decoder.
    pub fn pass(&self) -> PassShape {
        PassShape {
            rows: [self.rows, self.length],
            out: (self.out < self.rows * self.length).then_some(self.out),
            segments: self.packed,
            blocks: self.blocks,
            media: if self.runs.is_empty() { MediaShape::None } else { MediaShape::Computed },
            ..PassShape::default()
        }
    }
}

/// A batch on the host.
pub struct Batch {
    /// What its graph depends on.
    pub shape: Shape,
    /// Inputs by name, those of encoders as `media.{run}.{name}`.
    pub arrays: BTreeMap<String, HostTensor>,
    /// The encoder runs of its media.
    pub runs: Vec<EncoderRun>,
    /// Tokens that are learnt.
    pub answers: usize,
    /// Tokens of samples, without those that only fill rows up.
    pub tokens: usize,
    /// How many samples it holds.
    pub samples: usize,
    /// For each sample, where its labels stand among the rows whose logits are computed.
    pub places: Vec<Vec<usize>>,
}

impl Batch {
    /// Put packed rows of at most `length` tokens together.
    ///
    /// # Errors
    /// When a row is too long, or the model's encoders refuse the media.
    pub fn new(model: &dyn CausalModel, rows: &[Vec<&Encoded>], length: usize) -> Result<Self> {
        let (n, samples) = (rows.len() * length, rows.iter().flatten());
        let mut labels = vec![IGNORE; n];
        let mut pass = PassRows {
            ids: vec![0; n],
            segments: vec![-1; n],
            blocks: vec![-1; n],
            features: vec![None; n],
            ..PassRows::default()
        };
        let axes = samples.clone().map(|s| s.positions.len()).max().unwrap_or(1);
        let mut positions = vec![vec![0.0; n]; axes];
        let mut starts = Vec::new();
        for (r, row) in rows.iter().enumerate() {
            let mut at = r * length;
            for (k, sample) in row.iter().enumerate() {
                let end = at + sample.tokens();
                if end > (r + 1) * length {
                    return Err(Error::Setting(format!(
                        "'{}' has {} tokens, which do not fit a row of {length}",
                        sample.key,
                        sample.tokens()
                    )));
                }
                pass.ids[at..end].copy_from_slice(&sample.ids);
                pass.segments[at..end].fill(k as i32);
                labels[at..end].copy_from_slice(&sample.labels);
                if let Some(b) = &sample.blocks {
                    pass.blocks[at..end].copy_from_slice(b);
                }
                for (axis, all) in positions.iter_mut().enumerate() {
                    let own = sample.positions.get(axis).or(sample.positions.first());
                    all[at..end].copy_from_slice(own.map_or(&[][..], |p| p));
                }
                starts.push(at);
                at = end;
            }
        }
        let learnt: Vec<usize> = (0..n).filter(|&i| labels[i] != IGNORE).collect();
        let out = out_rows(learnt.len(), n);
        let mut shape = Shape {
            rows: rows.len(),
            length,
            out,
            packed: rows.iter().any(|r| r.len() > 1),
            blocks: pass.blocks.iter().any(|&b| b >= 0),
            runs: Vec::new(),
        };
        let mut place: Vec<usize> = (0..n).collect();
        let mut wanted = labels.clone();
        if out < n {
            pass.out = learnt.iter().map(|&i| i as i32).collect();
            wanted = learnt.iter().map(|&i| labels[i]).collect();
            wanted.resize(out, IGNORE);
            // A batch without answers has a row of logits all the same.
            pass.out.resize(out, 0);
            learnt.iter().enumerate().for_each(|(k, &i)| place[i] = k);
        }
        let axes: Vec<&[f32]> = positions.iter().map(|p| &p[..]).collect();
        pass.add_angles(model.decoder(), &axes, length);
        let all: Vec<&Encoded> = samples.clone().copied().collect();
        let runs = take_media(model, &all, &starts, &mut pass.features)?;
        shape.runs = runs.iter().map(|r| r.key.clone()).collect();
        let mut arrays: BTreeMap<String, HostTensor> =
            shape.pass().fill(model.decoder(), &pass)?.into_iter().collect();
        if usual_weight(model.decoder()).is_some() {
            let live: Vec<f32> = pass.segments.iter().map(|s| f32::from(*s >= 0)).collect();
            arrays.insert(LIVE.into(), HostTensor::from_f32([n], &live)?);
        }
        arrays.insert("labels".into(), HostTensor::from_i32([wanted.len()], &wanted)?);
        for (r, run) in runs.iter().enumerate() {
            let named = run.arguments.iter().map(|(name, t)| (format!("media.{r}.{name}"), t.clone()));
            arrays.extend(named);
        }
        let places = all.iter().zip(&starts).map(|(s, &at)| {
            let own = (at..at + s.tokens()).filter(|&i| labels[i] != IGNORE);
            own.map(|i| place[i]).collect()
        });
        Ok(Self {
            places: places.collect(),
            shape,
            answers: learnt.len(),
            tokens: all.iter().map(|s| s.tokens()).sum(),
            samples: starts.len(),
            arrays,
            runs,
        })
    }
}

/// Runs of the encoders over the media of all samples together; `features` gets the number of the feature at
/// each row.
fn take_media(
    model: &dyn CausalModel,
    samples: &[&Encoded],
    starts: &[usize],
    features: &mut [Option<usize>],
) -> Result<Vec<EncoderRun>> {
    if samples.iter().all(|s| s.media.arrays.is_empty()) {
        return Ok(Vec::new());
    }
    let merged = merge(samples)?;
    let layout = model.layout(&merged)?;
    let mut from = 0;
    for (sample, &at) in samples.iter().zip(starts) {
        let tokens = sample.tokens();
        features[at..at + tokens].copy_from_slice(&layout.features[from..from + tokens]);
        from += tokens;
    }
    Ok(model.encoder_runs(&merged)?)
}

/// Rows whose logits are computed when `learnt` of `n` are needed: few different numbers, so that few graphs
/// are made.
fn out_rows(learnt: usize, n: usize) -> usize {
    let step = (n / 8).max(32);
    let rows = learnt.max(1).next_multiple_of(step);
    if 4 * rows > 3 * n { n } else { rows }
}

/// The inputs of several samples as those of one: token ids one after the other, media in the same order.
fn merge(samples: &[&Encoded]) -> Result<Inputs> {
    let mut merged = Inputs::default();
    let ids: Vec<i64> = samples.iter().flat_map(|s| s.ids.iter().map(|&id| id.into())).collect();
    merged.arrays.insert("input_ids".into(), Array { dims: vec![1, ids.len()], values: Values::I64(ids) });
    let mut names: Vec<&String> = samples.iter().flat_map(|s| s.media.arrays.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let parts: Vec<(&str, &Array)> =
            samples.iter().filter_map(|s| Some((&s.key[..], s.media.arrays.get(name)?))).collect();
        merged.arrays.insert(name.clone(), stack(name, &parts)?);
    }
    Ok(merged)
}

/// Arrays one after the other along their first dimension. Where the second differs, shorter ones end in
/// zeros, as processors fill up the images of a batch.
fn stack(name: &str, parts: &[(&str, &Array)]) -> Result<Array> {
    let first = parts[0].1;
    let widest = parts.iter().filter_map(|(_, a)| a.dims.get(1)).max().copied().unwrap_or(1);
    let mut dims = first.dims.clone();
    dims[0] = 0;
    if dims.len() > 1 {
        dims[1] = widest;
    }
    let mut values = match first.values {
        Values::F32(_) => Values::F32(Vec::new()),
        Values::I64(_) => Values::I64(Vec::new()),
    };
    for (key, array) in parts {
        let same = array.dims.len() == dims.len() && array.dims.get(2..) == dims.get(2..);
        let inner: usize = array.dims.iter().skip(1).product();
        let full: usize = dims.iter().skip(1).product();
        match (&mut values, &array.values) {
            (Values::F32(all), Values::F32(own)) if same => fill(all, own, inner, full, 0.0),
            (Values::I64(all), Values::I64(own)) if same => fill(all, own, inner, full, 0),
            _ => {
                return Err(Error::Setting(format!(
                    "{name} of '{key}' is {:?}, which cannot stand beside {:?} of '{}' in one batch",
                    array.dims, first.dims, parts[0].0
                )));
            }
        }
        dims[0] += array.dims[0];
    }
    Ok(Array { dims, values })
}

fn fill<T: Copy>(all: &mut Vec<T>, own: &[T], inner: usize, full: usize, zero: T) {
    for piece in own.chunks(inner.max(1)) {
        all.extend_from_slice(piece);
        all.extend(std::iter::repeat_n(zero, full - inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_numbers_of_logits() {
        assert_eq!((out_rows(0, 2048), out_rows(256, 2048), out_rows(257, 2048)), (256, 256, 512));
        assert_eq!((out_rows(1600, 2048), out_rows(5, 40)), (2048, 40));
    }

    #[test]
    fn arrays_of_media_follow_each_other() {
        let a = Array { dims: vec![1, 1, 2], values: Values::F32(vec![1.0, 2.0]) };
        let b = Array { dims: vec![1, 2, 2], values: Values::F32(vec![3.0, 4.0, 5.0, 6.0]) };
        let both = stack("pixels", &[("a", &a), ("b", &b)]).unwrap();
        assert_eq!(both.dims, [2, 2, 2]);
        assert_eq!(both.values, Values::F32(vec![1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 5.0, 6.0]));
        let c = Array { dims: vec![1, 1, 3], values: Values::F32(vec![0.0; 3]) };
        let e = stack("pixels", &[("a", &a), ("c", &c)]).unwrap_err().to_string();
        assert!(e.contains("pixels of 'c' is [1, 1, 3]"), "{e}");
    }
}
