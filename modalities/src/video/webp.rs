//! Animated WebP.

use std::io::BufReader;

use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, Frame, Frames, ImageDecoder, Limits as Caps, Rgba};

use super::{Info, Limits};
use crate::error::Result;
use crate::image::Image;
use crate::libav::{Faults, Source, Stream};

/// An animation being decoded. Transparency is dropped, as for every other format.
pub(super) struct Animation {
    frames: Frames<'static>,
    info: Info,
    seconds: f64,
    /// How long the last frame that was given is shown.
    shown: f64,
    faults: Faults,
}

/// Whether a file starts like a WebP image.
pub(super) fn is_webp(stream: &mut dyn Stream) -> bool {
    let mut head = [0; 12];
    let read = stream.read_exact(&mut head).is_ok() && stream.rewind().is_ok();
    read && head.starts_with(b"RIFF") && head.ends_with(b"WEBP")
}

impl Animation {
    pub(super) fn open(source: &Source, limits: &Limits) -> Result<Self> {
        let open = || WebPDecoder::new(BufReader::new(source.open()?)).map_err(|error| source.damaged(error));
        let mut decoder = open()?;
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        if width * height > limits.pixels {
            let why = format!("its frames are {width} x {height}; the limit is {} pixels", limits.pixels);
            return Err(source.too_large(why));
        }
        let mut caps = Caps::default();
        caps.max_alloc = Some(limits.bytes as u64);
        decoder.set_limits(caps).map_err(|error| source.damaged(error))?;
        // What is disposed of becomes transparent, as in libwebp, whatever colour the file names.
        if decoder.has_animation() {
            decoder.set_background_color(Rgba([0; 4])).map_err(|error| source.damaged(error))?;
        }
        // The delays stand between the frames, so that only a pass over all of them gives the rate.
        let (mut count, mut milliseconds) = (0_usize, 0.0);
        for frame in open()?.into_frames().map_while(|frame| frame.ok()) {
            milliseconds += delay(&frame);
            count += 1;
        }
        let seconds = milliseconds / 1000.0;
        let fps = if seconds > 0.0 { count as f64 / seconds } else { 25.0 };
        let info = Info {
            width,
            height,
            fps,
            frames: Some(count).filter(|&count| count > 0),
            seconds: Some(seconds).filter(|&seconds| seconds > 0.0),
            codec: "webp".into(),
        };
        Ok(Self { frames: decoder.into_frames(), info, seconds: 0.0, shown: 0.0, faults: Faults::default() })
    }

    pub(super) fn info(&self) -> &Info {
        &self.info
    }

    /// The next frame and its time in seconds; `None` at the end or where the file is damaged.
    pub(super) fn next(&mut self) -> Option<(Image, f64)> {
        let frame = match self.frames.next()? {
            Ok(frame) => frame,
            Err(error) => {
                self.faults.note(error);
                return None;
            }
        };
        let seconds = self.seconds;
        self.shown = delay(&frame) / 1000.0;
        self.seconds += self.shown;
        let buffer = frame.into_buffer();
        let (width, height) = (buffer.width() as usize, buffer.height() as usize);
        let rgb = buffer.pixels().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        Some((Image { width, height, rgb }, seconds))
    }

    pub(super) fn shown(&self) -> f64 {
        self.shown
    }

    /// What went wrong so far.
    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }
}

/// Milliseconds that a frame is shown.
fn delay(frame: &Frame) -> f64 {
    let (numerator, denominator) = frame.delay().numer_denom_ms();
    f64::from(numerator) / f64::from(denominator.max(1))
}
