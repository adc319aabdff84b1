//! `encode-video`: videos re-encoded at a frame rate and a size.

use std::sync::Arc;

use percept_modalities::image::{Filter, Image, resize};
use percept_modalities::video::{Limits, Sampling, sample_bytes, tick_from};
use serde::Deserialize;

use super::{ImageUse, Settings, Site, Stage};
use crate::error::{Error, Result};
use crate::item::Item;
use crate::reject::Reject;
use crate::sample::Kind;
use crate::video::encode_timed;

/// Bytes that the frames of one video may take while it is written.
const FRAMES: usize = 1 << 30;

/// Re-encodes all videos as mp4, without their audio. Encoding is bit-exact for one build of FFmpeg.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EncodeVideo {
    /// The most frames a second. Frames that come faster are left out; a slower video keeps its frames and
    /// their times.
    #[serde(default = "rate")]
    rate: u32,
    /// Pixels that the longer side has at most.
    longest: Option<usize>,
}

fn rate() -> u32 {
    8
}

impl Settings for EncodeVideo {
    fn build(&self, site: &Site<'_>) -> Result<Stage> {
        let Self { rate, longest } = *self;
        if rate == 0 || longest.is_some_and(|side| side < 2) {
            let why = "stage encode-video: rate is one frame or more, longest two pixels or more";
            return Err(Error::Config(why.to_string()));
        }
        let limits = Limits { pixels: site.max_pixels, bytes: FRAMES, ..Limits::default() };
        Ok(Stage::each(ImageUse::Unseen, move |item: &mut Item| {
            for at in 0..item.sample.media.len() {
                if item.sample.media[at].kind != Kind::Video {
                    continue;
                }
                let bytes = Arc::clone(&item.sample.media[at].bytes);
                let clip = sample_bytes("video", bytes, &Sampling::Thinned(f64::from(rate)), &limits)
                    .map_err(|e| Reject::medium(at, &e))?;
                let (seconds, mut times) = (clip.seconds(), clip.times);
                if clip.frames.len() < clip.total_frames {
                    // What is left comes at the ticks at which it is shown.
                    times.iter_mut().for_each(|time| *time = tick_from(*time, f64::from(rate)));
                }
                let frames = clip.frames.into_iter().map(|frame| even(&frame, longest));
                let frames = frames.collect::<Result<Vec<_>, _>>().map_err(|e| Reject::medium(at, &e))?;
                let bytes = encode_timed(&frames, &times, seconds)
                    .map_err(|e| Reject::new("encoding", format!("video {at}: {e}")))?;
                item.replace_bytes(at, "mp4", bytes);
            }
            Ok(())
        }))
    }
}

/// A frame whose sides are even, as H.264 wants them, and its longer side at most `longest`.
fn even(frame: &Image, longest: Option<usize>) -> Result<Image, percept_modalities::Error> {
    let side = frame.width.max(frame.height);
    let scale = longest.filter(|&most| most < side).map_or(1.0, |most| most as f64 / side as f64);
    let length = |of: usize| ((of as f64 * scale) as usize / 2 * 2).max(2);
    resize(frame, length(frame.width), length(frame.height), Filter::Lanczos)
}
