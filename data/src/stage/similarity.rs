//! `filter-similarity`: samples by how well image and text fit, as a CLIP or SigLIP checkpoint scores it.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Number, Value};

use super::captions::whole_text;
use super::{Gate, ImageUse, Scorer, Settings, Site, Stage, Verdict};
use crate::error::{Error, Result};
use crate::format::Input;
use crate::item::{DecodedImage, Item};
use crate::reject::Reject;

/// Writes the cosine of the first image and the text into the metadata, and rejects what is below a bound.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Similarity {
    /// The path of the checkpoint.
    model: PathBuf,
    /// The least cosine, between -1 and 1.
    #[serde(default = "lowest")]
    min: f64,
    /// The metadata that the cosine is written into.
    #[serde(default = "similarity")]
    column: String,
}

fn lowest() -> f64 {
    -1.0
}

fn similarity() -> String {
    "similarity".into()
}

impl Settings for Similarity {
    fn build(&self, site: &Site<'_>) -> Result<Stage> {
        let fault = |why: String| Error::Config(format!("stage filter-similarity: {why}"));
        let model = site.resolve(&self.model);
        let scorers = site.scorers.ok_or_else(|| fault("no model can be opened here".into()))?;
        let scorer = scorers.open(&model).map_err(|why| fault(format!("{}: {why}", model.display())))?;
        let decode = |item: &mut Item| match item.image_indices().first() {
            Some(at) => item.whole_image(*at).map(|_| ()),
            None => Err(Reject::new("missing-medium", "it has no image to compare its text with")),
        };
        let gate = Scored { scorer, min: self.min, column: self.column.clone() };
        Ok(Stage::compare(ImageUse::Whole, decode, gate))
    }

    fn inputs(&self, site: &Site<'_>) -> Result<Vec<Input>> {
        let model = site.resolve(&self.model);
        if !model.is_dir() {
            // The code that opens models reports one that is not there.
            return Ok(if model.exists() { vec![Input::File(model)] } else { Vec::new() });
        }
        let entries = std::fs::read_dir(&model).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let mut files: Vec<PathBuf> =
            entries.map_err(Error::read(&model))?.into_iter().map(|entry| entry.path()).collect();
        files.retain(|file| file.is_file());
        files.sort();
        Ok(files.into_iter().map(Input::File).collect())
    }
}

struct Scored {
    scorer: Box<dyn Scorer>,
    min: f64,
    column: String,
}

impl Gate for Scored {
    fn admit(&mut self, items: &mut [Item]) -> Result<Vec<Verdict>> {
        let image = |item: &mut Item| -> Option<(DecodedImage, String)> {
            let at = *item.image_indices().first()?;
            Some((item.whole_image(at).ok()?.clone(), whole_text(&item.sample)))
        };
        let found: Vec<Option<(DecodedImage, String)>> = items.iter_mut().map(image).collect();
        let pairs: Vec<_> =
            found.iter().flatten().map(|(p, text)| (p.pixels.as_ref(), text.as_str())).collect();
        let fault = |why: String| Error::Config(format!("stage filter-similarity: {why}"));
        let scores = if pairs.is_empty() { Vec::new() } else { self.scorer.score(&pairs).map_err(fault)? };
        if scores.len() != pairs.len() {
            return Err(fault(format!("the model gave {} scores for {} pairs", scores.len(), pairs.len())));
        }
        let mut scores = scores.into_iter();
        let verdict = |(item, found): (&mut Item, &Option<_>)| {
            let score = found.as_ref().and_then(|_| scores.next()).map(f64::from);
            let Some((score, number)) = score.and_then(|score| Some((score, Number::from_f64(score)?)))
            else {
                return Err(Reject::new("no-score", "the model gave it no score"));
            };
            item.sample.meta.insert(self.column.clone(), Value::Number(number));
            match score >= self.min {
                true => Ok(()),
                false => Err(Reject::new("score", format!("its {} is {score:.3}", self.column))),
            }
        };
        Ok(items.iter_mut().zip(&found).map(verdict).collect())
    }
}
