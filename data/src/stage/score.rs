//! `filter-score`: samples by a number in their metadata, such as an aesthetic score.

use serde::Deserialize;

use super::{ImageUse, Settings, Site, Stage};
use crate::error::Result;
use crate::item::Item;
use crate::reject::Reject;

/// Rejects samples whose score is out of bounds, or missing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Score {
    /// The metadata that holds the score.
    column: String,
    /// The smallest score that is kept.
    #[serde(default = "lowest")]
    min: f64,
    /// The largest score that is kept.
    #[serde(default = "highest")]
    max: f64,
}

fn lowest() -> f64 {
    f64::NEG_INFINITY
}

fn highest() -> f64 {
    f64::INFINITY
}

impl Settings for Score {
    fn build(&self, _: &Site<'_>) -> Result<Stage> {
        let Self { column, min, max } = self;
        let (column, min, max) = (column.clone(), *min, *max);
        Ok(Stage::each(ImageUse::Unseen, move |item: &mut Item| {
            let value = item.sample.meta.get(&column);
            // Tables of text hold numbers as text.
            let score =
                value.and_then(|value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()));
            match score {
                Some(score) if (min..=max).contains(&score) => Ok(()),
                Some(score) => Err(Reject::new("score", format!("its {column} is {score}"))),
                None => Err(Reject::new("no-score", format!("it has no number {column}"))),
            }
        }))
    }
}
