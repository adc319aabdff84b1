//! `filter-duration`: videos and audio clips by their seconds.

use serde::Deserialize;

use super::validate::{audio_seconds, video_seconds};
use super::{ImageUse, Settings, Site, Stage};
use crate::error::Result;
use crate::item::Item;
use crate::reject::Reject;
use crate::sample::Kind;

/// Rejects samples with a video or an audio clip out of bounds. Both are decoded to the end, since headers
/// may be wrong.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Duration {
    /// The fewest seconds.
    min_seconds: f64,
    /// The most seconds.
    max_seconds: f64,
}

impl Default for Duration {
    fn default() -> Self {
        Self { min_seconds: 0.0, max_seconds: f64::INFINITY }
    }
}

impl Settings for Duration {
    fn build(&self, site: &Site<'_>) -> Result<Stage> {
        let Self { min_seconds, max_seconds } = *self;
        let max_pixels = site.max_pixels;
        Ok(Stage::each(ImageUse::Unseen, move |item: &mut Item| {
            for at in 0..item.sample.media.len() {
                let seconds = match item.sample.media[at].kind {
                    Kind::Image => continue,
                    Kind::Audio => audio_seconds(item, at, 16_000, max_seconds)?,
                    Kind::Video => video_seconds(item, at, max_pixels, max_seconds)?,
                };
                if seconds < min_seconds {
                    return Err(Reject::new("too-short", format!("medium {at} has {seconds:.2} seconds")));
                }
            }
            Ok(())
        }))
    }
}
