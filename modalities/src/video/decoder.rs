//! A video stream: what it says of itself, and its frames.

use ffmpeg_next::packet::side_data;
use ffmpeg_next::{Error as Fault, ffi, frame, media};

use super::convert::Orientation;
use super::{Info, Limits};
use crate::error::Result;
use crate::libav::{Decoding, Source};

/// A video being decoded.
pub(super) struct Decoder {
    decoding: Decoding,
    frame: frame::Video,
    /// Seconds of a tick of the frames' clock.
    tick: f64,
    /// When the next frame is due, for files that do not tell.
    due: f64,
    info: Info,
    orientation: Orientation,
}

impl Decoder {
    pub(super) fn open(source: &Source, limits: &Limits) -> Result<Self> {
        let decoding = Decoding::open(source, media::Type::Video, limits.pixels)?;
        let stream = decoding.stream().ok_or_else(|| source.damaged("it holds no video"))?;
        let orientation = stream
            .side_data()
            .find(|data| data.kind() == side_data::Type::DisplayMatrix)
            .map_or(Orientation::default(), |data| Orientation::of_matrix(data.data()));
        let rate =
            [stream.avg_frame_rate(), stream.rate()].map(f64::from).into_iter().find(|rate| rate.is_normal());
        let tick = f64::from(stream.time_base());
        let seconds = match stream.duration() {
            ticks if ticks > 0 => ticks as f64 * tick,
            _ => decoding.input.duration() as f64 / f64::from(ffi::AV_TIME_BASE),
        };
        let (width, height) = orientation.turned(decoding.size.0, decoding.size.1);
        let info = Info {
            width,
            height,
            // FFmpeg's own default for streams without a clock.
            fps: rate.filter(|&rate| rate > 0.0).unwrap_or(25.0),
            frames: usize::try_from(stream.frames()).ok().filter(|&frames| frames > 0),
            seconds: Some(seconds).filter(|&seconds| seconds > 0.0),
            codec: decoding.decoder.id().name().to_owned(),
        };
        Ok(Self { decoding, frame: frame::Video::empty(), tick, due: 0.0, info, orientation })
    }

    pub(super) fn info(&self) -> &Info {
        &self.info
    }

    pub(super) fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// What went wrong first, if anything did.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.decoding.fault()
    }

    /// See [`Decoding::count_packets`].
    pub(super) fn count_packets(&mut self) -> usize {
        self.decoding.count_packets()
    }

    /// The next frame in the order of presentation and its time in seconds; `None` at the end.
    pub(super) fn next(&mut self) -> Option<(&frame::Video, f64)> {
        if !self.decoding.next(&mut self.frame) {
            return None;
        }
        let seconds = self.frame.timestamp().map_or(self.due, |ticks| ticks as f64 * self.tick);
        self.due = seconds + 1.0 / self.info.fps;
        Some((&self.frame, seconds))
    }
}
