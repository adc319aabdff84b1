//! All frames of a video, or some of them.

use super::convert::Converter;
use super::decoder::Decoder;
use super::webp::{Animation, is_webp};
use super::{Clip, Info, Limits, Measured, Sampling, Timeline};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::libav::{Faults, Source};
use crate::measure::Length;

/// One frame of a video.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The decoded frame, upright.
    pub image: Image,
    /// When it is shown, in seconds on the file's clock; a frame's time after the one before where the file
    /// does not say.
    pub seconds: f64,
}

/// The frames of a video, in the order in which they are shown.
///
/// What decodes of a damaged file is given; only a file of which nothing decodes ends in an error.
pub struct Frames {
    source: Source,
    reader: Reader,
    converter: Converter,
    /// When the frames that were given are shown, on the file's clock.
    times: Vec<f64>,
    /// Pixels of the frames that were decoded.
    decoded: u64,
    ended: bool,
}

enum Reader {
    Video(Box<Decoder>),
    Animation(Box<Animation>),
}

impl Frames {
    pub(super) fn new(source: Source, limits: &Limits) -> Result<Self> {
        let source = source.without_notes()?;
        let reader = if is_webp(&mut *source.open()?) {
            Reader::Animation(Box::new(Animation::open(&source, limits)?))
        } else {
            Reader::Video(Box::new(Decoder::open(&source, limits)?))
        };
        Ok(Self {
            source,
            reader,
            converter: Converter::default(),
            times: Vec::new(),
            decoded: 0,
            ended: false,
        })
    }

    /// What the file says of itself.
    pub fn info(&self) -> &Info {
        match &self.reader {
            Reader::Video(decoder) => decoder.info(),
            Reader::Animation(animation) => animation.info(),
        }
    }

    /// Decodes the next frame, and converts it if `wanted` says so for its index. `None` at the end.
    fn step(&mut self, wanted: impl Fn(usize) -> bool) -> Option<Result<Option<Frame>>> {
        if self.ended {
            return None;
        }
        let wanted = wanted(self.times.len());
        let next = match &mut self.reader {
            Reader::Video(decoder) => {
                let orientation = decoder.orientation();
                decoder.next().map(|(frame, seconds)| {
                    self.decoded += u64::from(frame.width()) * u64::from(frame.height());
                    let image = wanted.then(|| self.converter.convert(frame, orientation)).transpose();
                    (seconds, image)
                })
            }
            Reader::Animation(animation) => animation.next().map(|(image, seconds)| {
                self.decoded += (image.width * image.height) as u64;
                (seconds, Ok(wanted.then_some(image)))
            }),
        };
        match next {
            Some((seconds, Ok(image))) => {
                self.times.push(seconds);
                Some(Ok(image.map(|image| Frame { image, seconds })))
            }
            Some((_, Err(fault))) => {
                self.ended = true;
                Some(Err(self.source.damaged(format!("a frame cannot be converted to RGB: {fault}"))))
            }
            None => {
                self.ended = true;
                self.times.is_empty().then(|| Err(self.nothing()))
            }
        }
    }

    fn faults(&self) -> &Faults {
        match &self.reader {
            Reader::Video(decoder) => decoder.faults(),
            Reader::Animation(animation) => animation.faults(),
        }
    }

    /// When the frames that were given are shown.
    fn timeline(&self) -> Timeline {
        let last = match &self.reader {
            Reader::Video(decoder) => decoder.shown(),
            Reader::Animation(animation) => animation.shown(),
        };
        Timeline::new(self.times.clone(), last, self.info().fps)
    }

    fn nothing(&self) -> Error {
        let fault = self.faults().first.as_ref().map_or(String::new(), |fault| format!(" ({fault})"));
        self.source.damaged(format!("none of its frames can be decoded{fault}"))
    }
}

impl Iterator for Frames {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(|_| true).and_then(Result::transpose)
    }
}

/// Picks frames. Which they are follows from the times of all frames, which the packets state before anything
/// is decoded. Whether they were right is known at the end; if they were not, everything is decoded once
/// more.
pub(super) fn sample(source: &Source, sampling: &Sampling, limits: &Limits) -> Result<Clip> {
    let mut frames = Frames::new(source.clone(), limits)?;
    if *sampling == Sampling::All {
        let kept = keep(&mut frames, limits, |_| true)?;
        return Ok(Clip::new(kept, (0..frames.times.len()).collect(), &frames.timeline()));
    }
    if let Reader::Video(decoder) = &mut frames.reader {
        let told = decoder.scan();
        frames = Frames::new(source.clone(), limits)?;
        // A rule that does not fit what the packets state may fit what they hold.
        if let Ok(indices) = told.pick(sampling) {
            let kept = keep_some(&mut frames, limits, &indices)?;
            let found = frames.timeline();
            if told.times.len() == found.times.len() && found.pick(sampling)? == indices {
                return Ok(Clip::new(kept, indices, &found));
            }
        } else {
            keep(&mut frames, limits, |_| false)?;
        }
    } else {
        keep(&mut frames, limits, |_| false)?;
    }
    let found = frames.timeline();
    let mut indices = found.pick(sampling)?;
    let mut frames = Frames::new(source.clone(), limits)?;
    let kept = keep_some(&mut frames, limits, &indices)?;
    indices.truncate(kept.len());
    Ok(Clip::new(kept, indices, &found))
}

/// Decodes everything and keeps nothing.
pub(super) fn measure(source: &Source, limits: &Limits) -> Result<Measured> {
    let mut frames = Frames::new(source.clone(), limits)?;
    keep(&mut frames, limits, |index| index == 0)?;
    let (info, timeline, faults) = (frames.info().clone(), frames.timeline(), frames.faults().clone());
    let length = Length::new(info.seconds, timeline.seconds, faults);
    Ok(Measured { info, timeline, length })
}

/// The frames at `indices`, which may repeat and come in any order. Decodes to the end.
fn keep_some(frames: &mut Frames, limits: &Limits, indices: &[usize]) -> Result<Vec<Image>> {
    let bytes = (3 * frames.info().width * frames.info().height).saturating_mul(indices.len());
    if bytes > limits.bytes {
        let why = format!("{} frames take {bytes} bytes; the limit is {}", indices.len(), limits.bytes);
        return Err(frames.source.too_large(why));
    }
    let mut wanted = indices.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let kept = keep(frames, limits, |index| wanted.binary_search(&index).is_ok())?;
    if wanted == indices {
        return Ok(kept);
    }
    let at = |index| wanted.binary_search(index).ok().and_then(|place| kept.get(place)).cloned();
    Ok(indices.iter().map_while(at).collect())
}

/// The frames that are wanted. Decodes to the end.
fn keep(frames: &mut Frames, limits: &Limits, wanted: impl Fn(usize) -> bool) -> Result<Vec<Image>> {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    while let Some(frame) = frames.step(&wanted) {
        if frames.decoded > limits.decoded {
            let why = format!("its frames have more than {} pixels together, the limit", limits.decoded);
            return Err(frames.source.too_large(why));
        }
        let Some(frame) = frame? else { continue };
        bytes += frame.image.rgb.len();
        if bytes > limits.bytes {
            let why = format!("more than {} frames take over {} bytes, the limit", kept.len(), limits.bytes);
            return Err(frames.source.too_large(why));
        }
        kept.push(frame.image);
    }
    Ok(kept)
}
