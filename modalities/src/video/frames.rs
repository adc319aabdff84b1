//! All frames of a video, or some of them.

use super::convert::Converter;
use super::decoder::Decoder;
use super::webp::{Animation, is_webp};
use super::{Clip, Info, Limits, Sampling};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::libav::Source;

/// The most frames that a file is believed to hold before they are counted: a week at 25 a second.
const PLAUSIBLE: usize = 1 << 24;

/// One frame of a video.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// The picture, upright.
    pub image: Image,
    /// When it is shown, in seconds on the file's clock; a frame's time after the one before where the file does not tell.
    pub seconds: f64,
}

/// The frames of a video, in the order in which they are shown.
///
/// What decodes of a damaged file is given; only a file of which nothing decodes ends in an error.
pub struct Frames {
    source: Source,
    reader: Reader,
    converter: Converter,
    given: usize,
    ended: bool,
}

enum Reader {
    Video(Box<Decoder>),
    Animation(Box<Animation>),
}

impl Frames {
    pub(super) fn new(source: Source, limits: &Limits) -> Result<Self> {
        let reader = if is_webp(&mut *source.open()?) {
            Reader::Animation(Box::new(Animation::open(&source, limits)?))
        } else {
            Reader::Video(Box::new(Decoder::open(&source, limits)?))
        };
        Ok(Self { source, reader, converter: Converter::default(), given: 0, ended: false })
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
        let wanted = wanted(self.given);
        let frame = match &mut self.reader {
            Reader::Video(decoder) => {
                let orientation = decoder.orientation();
                decoder.next().map(|(frame, seconds)| {
                    let image = wanted.then(|| self.converter.convert(frame, orientation)).transpose();
                    image.map(|image| image.map(|image| Frame { image, seconds }))
                })
            }
            Reader::Animation(animation) => {
                animation.next().map(|(image, seconds)| Ok(wanted.then_some(Frame { image, seconds })))
            }
        };
        match frame {
            Some(Ok(frame)) => {
                self.given += 1;
                Some(Ok(frame))
            }
            Some(Err(fault)) => {
                self.ended = true;
                Some(Err(self.source.damaged(format!("a frame cannot be converted to RGB: {fault}"))))
            }
            None => {
                self.ended = true;
                (self.given == 0).then(|| Err(self.nothing()))
            }
        }
    }

    fn nothing(&self) -> Error {
        let fault = match &self.reader {
            Reader::Video(decoder) => decoder.fault().map(|fault| fault.to_string()),
            Reader::Animation(_) => None,
        };
        let fault = fault.map_or(String::new(), |fault| format!(" ({fault})"));
        self.source.damaged(format!("none of its frames can be decoded{fault}"))
    }
}

impl Iterator for Frames {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(|_| true).and_then(Result::transpose)
    }
}

/// Picks frames. Whether the number of frames was right is known at the end; if it was not, everything is decoded once
/// more with the number that was found.
pub(super) fn sample(source: &Source, sampling: &Sampling, limits: &Limits) -> Result<Clip> {
    let mut frames = Frames::new(source.clone(), limits)?;
    if *sampling == Sampling::All {
        let kept = keep(&mut frames, limits, |_| true)?;
        let (fps, total) = (frames.info().fps, frames.given);
        return Ok(Clip { frames: kept, indices: (0..total).collect(), fps, total_frames: total });
    }
    let info = frames.info().clone();
    let mut total = info.frames.filter(|&frames| frames <= PLAUSIBLE);
    if total.is_none()
        && let Reader::Video(decoder) = &mut frames.reader
    {
        total = Some(decoder.count_packets());
        frames = Frames::new(source.clone(), limits)?;
    }
    // A rule that does not fit what the file says may fit what it holds.
    let guessed = total.and_then(|total| sampling.indices(total, info.fps).ok());
    let mut indices = guessed.unwrap_or_default();
    let mut kept = keep_some(&mut frames, limits, &indices)?;
    if indices.is_empty() || total != Some(frames.given) {
        indices = sampling.indices(frames.given, info.fps)?;
        frames = Frames::new(source.clone(), limits)?;
        kept = keep_some(&mut frames, limits, &indices)?;
        indices.truncate(kept.len());
    }
    Ok(Clip { frames: kept, indices, fps: info.fps, total_frames: frames.given })
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
