//! Video: frames picked by presentation time.
//!
//! Videos are read through FFmpeg, and animated WebP, which FFmpeg 5 does not know, through `image`. Frames
//! come in the order in which they are shown, upright, as 8-bit RGB.

mod convert;
mod decoder;
mod frames;
mod sampling;
mod timeline;
mod webp;

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::image::Image;
use crate::libav::Source;
use crate::measure::Length;

pub use frames::{Frame, Frames};
pub use sampling::{Quota, Sampling};
pub use timeline::{Timeline, tick_from};

/// Frames sampled from a video, and where they stood in it.
#[derive(Debug, Clone)]
pub struct Clip {
    /// The sampled frames, upright.
    pub frames: Vec<Image>,
    /// Index of each sampled frame in presentation order.
    pub indices: Vec<usize>,
    /// When each sampled frame appears, in seconds after the video's first frame.
    pub times: Vec<f64>,
    /// Frames per second of the source, on average over the time that it is shown.
    pub fps: f64,
    /// Frames of the source.
    pub total_frames: usize,
}

impl Clip {
    fn new(frames: Vec<Image>, indices: Vec<usize>, timeline: &Timeline) -> Self {
        let times = indices.iter().map(|&index| timeline.at(index)).collect();
        Self { frames, indices, times, fps: timeline.fps, total_frames: timeline.times.len() }
    }

    /// All frames of a video that shows `fps` of them a second.
    pub fn steady(frames: Vec<Image>, fps: f64) -> Self {
        let timeline = Timeline::steady(frames.len(), fps);
        Self::new(frames, (0..timeline.times.len()).collect(), &timeline)
    }

    /// How long the source is shown, in seconds.
    pub fn seconds(&self) -> f64 {
        self.total_frames as f64 / self.fps
    }
}

/// What decoding a whole video found.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// What the file says of itself.
    pub info: Info,
    /// When its frames are shown.
    pub timeline: Timeline,
    /// Its declared and its real length, and what did not decode.
    pub length: Length,
}

/// What a file says of its video.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// Pixels in a row of an upright frame.
    pub width: usize,
    /// Rows of an upright frame.
    pub height: usize,
    /// Frames per second. Files of a variable rate may state anything; a [`Timeline`] knows.
    pub fps: f64,
    /// Frames, where the file states them. Only decoding is certain.
    pub frames: Option<usize>,
    /// Seconds, where the file states them.
    pub seconds: Option<f64>,
    /// The name of the compression, such as `h264`.
    pub codec: String,
}

/// What may be taken from an untrusted file.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Pixels of a frame.
    pub pixels: usize,
    /// Bytes of all frames that are kept at once.
    pub bytes: usize,
    /// Pixels of all frames that are decoded, kept or not, which is what takes the time.
    pub decoded: u64,
}

impl Default for Limits {
    /// 2^26 pixels a frame (8192 x 8192), 4 GiB of frames, and as many decoded as there are.
    fn default() -> Self {
        Self { pixels: 1 << 26, bytes: 1 << 32, decoded: u64::MAX }
    }
}

/// What a video file says of itself, without decoding it.
///
/// # Errors
/// When the file cannot be read or holds no video in a known format.
pub fn probe(path: &Path) -> Result<Info> {
    Frames::new(Source::file(path), &Limits::default()).map(|frames| frames.info().clone())
}

/// Picks frames of a video. Only these are converted and kept.
///
/// Frames are counted by decoding all of them, since what a file states may be wrong. A damaged file gives
/// the frames that decode, as if it held no others.
///
/// # Errors
/// When the file cannot be read, nothing of it decodes, the rule does not fit the number of frames, or the
/// frames are larger than the limits allow.
pub fn sample(path: &Path, sampling: &Sampling, limits: &Limits) -> Result<Clip> {
    frames::sample(&Source::file(path), sampling, limits)
}

/// [`sample`] for a file in memory; `what` names it in errors.
///
/// # Errors
/// As [`sample`].
pub fn sample_bytes(what: &str, bytes: Arc<[u8]>, sampling: &Sampling, limits: &Limits) -> Result<Clip> {
    frames::sample(&Source::memory(what, bytes), sampling, limits)
}

/// Decodes a whole video and keeps none of it: how long it is, when its frames are shown and what is damaged.
///
/// # Errors
/// When the file cannot be read, nothing of it decodes, or its frames are larger than the limits allow.
pub fn measure(path: &Path, limits: &Limits) -> Result<Measured> {
    frames::measure(&Source::file(path), limits)
}

/// [`measure`] for a file in memory; `what` names it in errors.
///
/// # Errors
/// As [`measure`].
pub fn measure_bytes(what: &str, bytes: Arc<[u8]>, limits: &Limits) -> Result<Measured> {
    frames::measure(&Source::memory(what, bytes), limits)
}

/// All frames of a video, one by one.
///
/// # Errors
/// As [`probe`].
pub fn frames(path: &Path, limits: &Limits) -> Result<Frames> {
    Frames::new(Source::file(path), limits)
}
