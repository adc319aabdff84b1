//! A video stream: what it says of itself, and its frames.

use ffmpeg_next::packet::side_data;
use ffmpeg_next::{frame, media};

use super::convert::Orientation;
use super::{Info, Limits, Timeline};
use crate::error::Result;
use crate::libav::{Decoding, Faults, Source};

/// A video being decoded.
pub(super) struct Decoder {
    decoding: Decoding,
    frame: frame::Video,
    /// Seconds of a tick of the frames' clock.
    tick: f64,
    /// When the next frame is due, for files that do not say.
    due: f64,
    /// How long the last frame that was given is shown, where the file says so.
    shown: f64,
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
        let seconds = decoding.declared();
        let (width, height) = orientation.turned(decoding.size.0, decoding.size.1);
        let info = Info {
            width,
            height,
            // FFmpeg's own default for streams without a clock.
            fps: rate.filter(|&rate| rate > 0.0).unwrap_or(25.0),
            frames: usize::try_from(stream.frames()).ok().filter(|&frames| frames > 0),
            seconds,
            codec: decoding.decoder.id().name().to_owned(),
        };
        Ok(Self { decoding, frame: frame::Video::empty(), tick, due: 0.0, shown: 0.0, info, orientation })
    }

    pub(super) fn info(&self) -> &Info {
        &self.info
    }

    pub(super) fn orientation(&self) -> Orientation {
        self.orientation
    }

    /// What went wrong so far.
    pub(super) fn faults(&self) -> &Faults {
        self.decoding.faults()
    }

    /// The frames' times by the file's index or packets, without decoding them; nothing can be decoded
    /// afterwards. A file that does not state them all is taken for one of a steady rate.
    pub(super) fn scan(&mut self) -> Timeline {
        let packets = self.decoding.scan();
        let ticks: Option<Vec<(i64, i64)>> =
            packets.iter().map(|(at, length)| Some(((*at)?, *length))).collect();
        let Some(mut ticks) = ticks else { return Timeline::steady(packets.len(), self.info.fps) };
        ticks.sort_unstable();
        let last = ticks.last().map_or(0, |(_, length)| *length);
        let times = ticks.iter().map(|(at, _)| *at as f64 * self.tick).collect();
        Timeline::new(times, last as f64 * self.tick, self.info.fps)
    }

    /// How long the last frame that was given is shown, in seconds; 0 where the file does not say.
    pub(super) fn shown(&self) -> f64 {
        self.shown
    }

    /// The next frame in the order of presentation and its time in seconds; `None` at the end.
    pub(super) fn next(&mut self) -> Option<(&frame::Video, f64)> {
        if !self.decoding.next(&mut self.frame) {
            return None;
        }
        let seconds = self.frame.timestamp().map_or(self.due, |ticks| ticks as f64 * self.tick);
        self.shown = self.frame.packet().duration.max(0) as f64 * self.tick;
        self.due = seconds + if self.shown > 0.0 { self.shown } else { 1.0 / self.info.fps };
        Some((&self.frame, seconds))
    }
}
