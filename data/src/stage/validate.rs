//! `validate`: every medium is decoded, and conversations mention as many media as there are.

use std::sync::Arc;

use percept_modalities::audio::Reader;
use percept_modalities::video;
use percept_modalities::{Length, Part};
use serde::Deserialize;
use serde_json::{Number, Value};

use super::cut_off::cut_off;
use super::{ImageUse, Settings, Site, Stage, Verdict};
use crate::error::Result;
use crate::item::Item;
use crate::reject::Reject;
use crate::sample::{Kind, Sample};

/// Rejects what does not decode, is larger than its caps, or is empty.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Validate {
    /// Seconds that an audio clip or video may have.
    max_seconds: f64,
    /// Decoded samples per second of audio, at which it is checked.
    rate: u32,
    /// Kinds of media that a sample must have.
    require: Vec<Kind>,
    /// Write width, height and seconds of the first medium into `meta`.
    measure: bool,
}

impl Default for Validate {
    fn default() -> Self {
        Self { max_seconds: 6.0 * 3600.0, rate: 16_000, require: Vec::new(), measure: false }
    }
}

impl Settings for Validate {
    fn build(&self, site: &Site<'_>) -> Result<Stage> {
        let Self { max_seconds, rate, measure, .. } = *self;
        let (require, max_pixels) = (self.require.clone(), site.max_pixels);
        Ok(Stage::each(ImageUse::Reduced, move |item: &mut Item| {
            let missing = require.iter().find(|kind| item.sample.media.iter().all(|m| m.kind != **kind));
            if let Some(kind) = missing {
                return Err(Reject::new("missing-medium", format!("it has no {kind:?}").to_lowercase()));
            }
            if item.sample.media.is_empty() && item.sample.text.is_none() && item.sample.messages.is_empty() {
                return Err(Reject::new("empty", "it has neither media nor text nor turns"));
            }
            check_mentions(&item.sample)?;
            for at in 0..item.sample.media.len() {
                match item.sample.media[at].kind {
                    Kind::Image => {
                        let image = item.image(at)?;
                        let size = (image.width, image.height);
                        if measure && at == 0 {
                            let meta = &mut item.sample.meta;
                            meta.insert("width".into(), size.0.into());
                            meta.insert("height".into(), size.1.into());
                        }
                    }
                    kind => {
                        if let Some(why) = cut_off(&item.sample.media[at].bytes) {
                            return Err(Reject::new("damaged", format!("medium {at}: {why}")));
                        }
                        let length = match kind {
                            Kind::Audio => audio_length(item, at, rate, max_seconds)?,
                            _ => video_length(item, at, max_pixels, max_seconds)?,
                        };
                        if let Some(why) = length.shortfall() {
                            return Err(Reject::new("damaged", format!("medium {at}: {why}")));
                        }
                        let seconds = length.seconds;
                        if measure && let Some(seconds) = Number::from_f64(seconds) {
                            item.sample.meta.insert("seconds".into(), Value::Number(seconds));
                        }
                    }
                }
            }
            Ok(())
        }))
    }
}

/// A conversation's placeholders of each kind are as many as the media of that kind.
fn check_mentions(sample: &Sample) -> Verdict {
    if sample.messages.is_empty() {
        return Ok(());
    }
    for kind in [Kind::Image, Kind::Video, Kind::Audio] {
        let shown = sample.messages.iter().flat_map(|message| message.content.parts()).map(Part::medium);
        let said = shown.filter(|medium| *medium == Some(kind.into())).count();
        let there = sample.media.iter().filter(|m| m.kind == kind).count();
        if said != there {
            let why = format!("its turns mention {said} of kind {kind:?}, and it has {there}").to_lowercase();
            return Err(Reject::new("placeholders", why));
        }
    }
    Ok(())
}

/// Decode a whole audio clip, packet by packet; its length in seconds.
pub(crate) fn audio_seconds(item: &Item, at: usize, rate: u32, max_seconds: f64) -> Result<f64, Reject> {
    audio_length(item, at, rate, max_seconds).map(|length| length.seconds)
}

/// Decode all frames of a video, and convert the first; its length in seconds, by its frames' times.
pub(crate) fn video_seconds(item: &Item, at: usize, pixels: usize, max_seconds: f64) -> Result<f64, Reject> {
    video_length(item, at, pixels, max_seconds).map(|length| length.seconds)
}

fn audio_length(item: &Item, at: usize, rate: u32, max_seconds: f64) -> Result<Length, Reject> {
    let reader = Reader::from_bytes("audio", &item.sample.media[at].bytes, rate);
    let reader = reader.map_err(|e| Reject::medium(at, &e))?;
    let declared = reader.declared();
    let mut samples = 0;
    for chunk in reader {
        samples += chunk.map_err(|e| Reject::medium(at, &e))?.len();
        if samples as f64 > max_seconds * f64::from(rate) {
            return Err(Reject::new("too-long", format!("medium {at} has more than {max_seconds} seconds")));
        }
    }
    if samples == 0 {
        return Err(Reject::new("damaged", format!("medium {at}: not one sample of it decodes")));
    }
    Ok(Length { declared, seconds: samples as f64 / f64::from(rate), faults: 0, fault: None })
}

fn video_length(item: &Item, at: usize, pixels: usize, max_seconds: f64) -> Result<Length, Reject> {
    let bytes = Arc::clone(&item.sample.media[at].bytes);
    let limits = video::Limits { pixels, ..video::Limits::default() };
    let length = video::measure_bytes("video", bytes, &limits).map_err(|e| Reject::medium(at, &e))?.length;
    if length.seconds > max_seconds {
        return Err(Reject::new(
            "too-long",
            format!("medium {at} has {:.1} seconds, over {max_seconds}", length.seconds),
        ));
    }
    Ok(length)
}
