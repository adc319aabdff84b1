//! Clips of frames encoded as files.

use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, Once, PoisonError};

use ffmpeg_next::codec::{self, threading};
use ffmpeg_next::format::context::StreamIo;
use ffmpeg_next::util::error::register_all;
use ffmpeg_next::{Dictionary, Packet, Rational, color, encoder, format, frame, log};
use percept_modalities::image::Image;

use crate::augment::to_byte;

/// Why a clip could not be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Frames that make no clip.
    #[error("a clip needs frames of one even size, and {0}")]
    Frames(String),
    /// What FFmpeg reported.
    #[error("FFmpeg cannot encode the clip: {0}; a build of it needs libx264 or its own mpeg4")]
    Encoder(String),
}

/// The encoder that [`encode`] uses: libx264 (H.264) where FFmpeg has it, its own MPEG-4 otherwise.
pub fn encoder_name() -> &'static str {
    silence();
    if encoder::find_by_name("libx264").is_some() { "libx264" } else { "mpeg4" }
}

/// Encode frames of one even size as mp4, `rate` of them a second. One thread and FFmpeg's bit-exact flags:
/// for one build of FFmpeg the same frames give the same bytes.
///
/// # Errors
/// When there are no frames, their sizes differ or are odd, or FFmpeg fails.
pub fn encode(frames: &[Image], rate: u32) -> Result<Vec<u8>, EncodeError> {
    encode_by(frames, Clock::steady(frames.len(), rate.max(1)))
}

/// [`encode`] for frames that appear at `times`, in seconds, rising from 0; the last one ends at `seconds`.
///
/// # Errors
/// As [`encode`], and when there are not as many times as frames.
pub fn encode_timed(frames: &[Image], times: &[f64], seconds: f64) -> Result<Vec<u8>, EncodeError> {
    if times.len() != frames.len() {
        return Err(EncodeError::Frames(format!("{} of them have {} times", frames.len(), times.len())));
    }
    encode_by(frames, Clock::of(times, seconds))
}

fn encode_by(frames: &[Image], clock: Clock) -> Result<Vec<u8>, EncodeError> {
    let Some(Image { width, height, .. }) = frames.first() else {
        return Err(EncodeError::Frames("there are none".to_string()));
    };
    let odd = |image: &&Image| (image.width, image.height) != (*width, *height) || width % 2 + height % 2 > 0;
    if let Some(image) = frames.iter().find(odd) {
        return Err(EncodeError::Frames(format!("one has {}x{} pixels", image.width, image.height)));
    }
    silence();
    write(frames, (*width as u32, *height as u32), &clock).map_err(|e| EncodeError::Encoder(e.to_string()))
}

/// Ticks a second of a clip whose frames come at no whole rate; MPEG-4 counts no finer than 16 bits.
const TICKS: u32 = 60_000;

/// When frames are shown.
struct Clock {
    /// Ticks per second of the clock.
    ticks: u32,
    /// Frames a second, on average.
    rate: Rational,
    /// The tick at which each frame appears, and that at which the last one ends.
    times: Vec<i64>,
}

impl Clock {
    fn steady(frames: usize, rate: u32) -> Self {
        Self { ticks: rate, rate: Rational(rate as i32, 1), times: (0..=frames as i64).collect() }
    }

    /// From seconds, by the whole rate that they are of, or else by a fine clock.
    fn of(times: &[f64], seconds: f64) -> Self {
        let fps = times.len() as f64 / seconds;
        let rate = fps.round().clamp(1.0, f64::from(u16::MAX));
        let on_time = |(i, time): (usize, &f64)| (time - i as f64 / rate).abs() < 1e-3;
        if times.iter().chain([&seconds]).enumerate().all(on_time) {
            return Self::steady(times.len(), rate as u32);
        }
        let mut ticks: Vec<i64> = Vec::with_capacity(times.len() + 1);
        for time in times.iter().chain([&seconds]) {
            let next = ticks.last().map_or(0, |last| last + 1);
            ticks.push(((time * f64::from(TICKS)).round() as i64).max(next));
        }
        let rate = Rational((fps * 1000.0).round().clamp(1.0, 1e9) as i32, 1000);
        Self { ticks: TICKS, rate, times: ticks }
    }

    /// Ticks until the next frame.
    fn length(&self, tick: i64) -> i64 {
        let next = self.times.partition_point(|time| *time <= tick);
        self.times.get(next).map_or(1, |next| next - tick)
    }
}

fn write(frames: &[Image], size: (u32, u32), clock: &Clock) -> Result<Vec<u8>, ffmpeg_next::Error> {
    let sink = Sink::default();
    let mut file = format::output_to_stream(StreamIo::from_write_seek(sink.clone())?, None, Some("mp4"))?;
    let name = encoder_name();
    let codec = encoder::find_by_name(name).ok_or(ffmpeg_next::Error::EncoderNotFound)?;
    let time = Rational(1, clock.ticks as i32);

    let mut video = codec::context::Context::new_with_codec(codec).encoder().video()?;
    video.set_width(size.0);
    video.set_height(size.1);
    video.set_format(format::Pixel::YUV420P);
    video.set_time_base(time);
    video.set_frame_rate(Some(clock.rate));
    video.set_max_b_frames(0);
    video.set_colorspace(color::Space::SMPTE170M);
    video.set_color_range(color::Range::MPEG);
    video.set_flags(codec::Flags::BITEXACT | codec::Flags::GLOBAL_HEADER);
    video.set_threading(threading::Config::count(1));
    let mut options = Dictionary::new();
    if name == "libx264" {
        options.set("preset", "medium");
        options.set("crf", "18");
        if let Some(instructions) = x264_instructions() {
            options.set("x264-params", instructions);
        }
    } else {
        options.set("qscale", "3");
    }
    let mut video = video.open_with(options)?;
    file.add_stream(codec)?.set_parameters(&video);

    let mut flags = Dictionary::new();
    flags.set("fflags", "bitexact");
    file.write_header_with(flags)?;
    let stream_time = file.stream(0).map_or(time, |stream| stream.time_base());
    let mut packet = Packet::empty();
    let mut drain = |video: &mut encoder::Video, file: &mut format::context::Output| {
        while video.receive_packet(&mut packet).is_ok() {
            packet.set_stream(0);
            packet.set_duration(packet.pts().map_or(1, |tick| clock.length(tick)));
            packet.rescale_ts(time, stream_time);
            packet.write_interleaved(file)?;
        }
        Ok::<_, ffmpeg_next::Error>(())
    };
    for (image, tick) in frames.iter().zip(&clock.times) {
        let mut yuv = to_yuv(image);
        yuv.set_pts(Some(*tick));
        video.send_frame(&yuv)?;
        drain(&mut video, &mut file)?;
    }
    video.send_eof()?;
    drain(&mut video, &mut file)?;
    file.write_trailer()?;
    drop(file);
    Ok(std::mem::take(sink.lock().get_mut()))
}

/// Keeps libx264 from AVX-512. Its code for AVX-512 (release 164) takes motion vectors from memory that
/// nothing has written: where the heap holds small numbers from earlier work, more than half of small clips
/// get other bytes than in a fresh process. Its code for AVX2 does not; the test below dirties the heap to
/// tell them apart.
fn x264_instructions() -> Option<&'static str> {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if std::arch::is_x86_feature_detected!("avx512f") {
        return Some("asm=avx2");
    }
    None
}

/// A file in memory, which the muxer owns a handle of.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Cursor<Vec<u8>>>>);

impl Sink {
    fn lock(&self) -> std::sync::MutexGuard<'_, Cursor<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Sink {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        self.lock().seek(place)
    }
}

/// BT.601 in studio range, with the mean colour of every two by two pixels.
fn to_yuv(image: &Image) -> frame::Video {
    let (width, height) = (image.width, image.height);
    let mut out = frame::Video::new(format::Pixel::YUV420P, width as u32, height as u32);
    let pixel = |x: usize, y: usize| -> [f64; 3] {
        std::array::from_fn(|channel| f64::from(image.rgb[3 * (y * width + x) + channel]))
    };
    let stride = out.stride(0);
    for y in 0..height {
        for x in 0..width {
            let [r, g, b] = pixel(x, y);
            out.data_mut(0)[y * stride + x] = to_byte(16.0 + (65.481 * r + 128.553 * g + 24.966 * b) / 255.0);
        }
    }
    for plane in [1, 2] {
        let weights = [[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]][plane - 1];
        let stride = out.stride(plane);
        for y in 0..height / 2 {
            for x in 0..width / 2 {
                let four = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| pixel(2 * x + dx, 2 * y + dy));
                let sum: f64 = four
                    .iter()
                    .flat_map(|p| p.iter().zip(weights).map(|(value, weight)| value * weight))
                    .sum();
                out.data_mut(plane)[y * stride + x] = to_byte(128.0 + sum / (4.0 * 255.0));
            }
        }
    }
    out
}

/// Errors come back as values, so FFmpeg's log stays silent.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_level(log::Level::Quiet);
        // Without this the library's own errors have no words.
        register_all();
    });
}

#[cfg(test)]
mod tests {
    use percept_modalities::video::{Limits, Sampling, sample_bytes};

    use super::*;

    fn frames(n: usize) -> Vec<Image> {
        let frame = |at: usize| {
            let mut image = Image::filled(32, 48, [200, 60, 30]).unwrap();
            for y in 10..26 {
                for x in 2 * at..2 * at + 12 {
                    image.rgb[3 * (y * 32 + x)..][..3].copy_from_slice(&[20, 90, 220]);
                }
            }
            image
        };
        (0..n).map(frame).collect()
    }

    #[test]
    fn a_clip_decodes_to_nearly_its_frames_and_has_the_same_bytes_twice() {
        let frames = frames(6);
        let bytes = encode(&frames, 6).unwrap();
        assert_eq!(bytes, encode(&frames, 6).unwrap());
        let clip = sample_bytes("clip.mp4", bytes.into(), &Sampling::All, &Limits::default()).unwrap();
        assert_eq!(clip.frames.len(), 6);
        for (decoded, frame) in clip.frames.iter().zip(&frames) {
            assert_eq!((decoded.width, decoded.height), (32, 48));
            let errors = decoded.rgb.iter().zip(&frame.rgb).map(|(a, b)| f64::from(a.abs_diff(*b)));
            let mean = errors.sum::<f64>() / frame.rgb.len() as f64;
            assert!(mean < 6.0, "a mean error of {mean}");
        }
    }

    /// Fills and frees blocks of the sizes that an encoder takes, so that it gets memory with small numbers
    /// in it, as motion vectors of an earlier clip are.
    fn dirty_the_heap(seed: u32) {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let blocks: Vec<Vec<i16>> = (5..16)
            .flat_map(|power| [power; 6])
            .map(|power| {
                (0..(1usize << power) + next() as usize % 64).map(|_| (next() % 25) as i16 - 12).collect()
            })
            .collect();
        assert!(blocks.iter().flatten().all(|v| v.abs() <= 12));
    }

    #[test]
    fn clips_have_the_same_bytes_ten_times_on_many_threads_whatever_the_heap_holds() {
        let clip = |at: usize| -> Vec<Image> {
            let mut frames = frames(6);
            for (t, frame) in frames.iter_mut().enumerate() {
                for (i, value) in frame.rgb.iter_mut().enumerate() {
                    let (x, y) = (i / 3 % 32, i / 96);
                    let inside = x.wrapping_sub(t + at % 7) < 14 && y.wrapping_sub(2 * t + at % 5) < 14;
                    if inside {
                        *value = (((x * 7 + at) ^ (y * 13)) % 200) as u8 + 20;
                    }
                }
            }
            frames
        };
        let clips: Vec<_> = (0..24).map(clip).collect();
        let first: Vec<_> = clips.iter().map(|clip| encode(clip, 6).unwrap()).collect();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (clips, first) = (&clips, &first);
                scope.spawn(move || {
                    for at in (0..10 * clips.len()).filter(|at| at % 8 == thread) {
                        dirty_the_heap(at as u32);
                        assert!(
                            encode(&clips[at % clips.len()], 6).unwrap() == first[at % clips.len()],
                            "clip {at}"
                        );
                    }
                });
            }
        });
    }

    #[test]
    fn frames_are_shown_at_their_times() {
        let times = [0.0, 0.04, 0.08, 2.0, 2.5, 7.25];
        let bytes = encode_timed(&frames(6), &times, 9.0).unwrap();
        let clip = sample_bytes("clip.mp4", bytes.into(), &Sampling::All, &Limits::default()).unwrap();
        let close = clip.times.iter().zip(times).all(|(found, time)| (found - time).abs() < 1e-3);
        assert!(clip.times.len() == 6 && close && (clip.seconds() - 9.0).abs() < 1e-3, "{clip:?}");
        // A whole rate is stored as one.
        let times: Vec<f64> = (0..6).map(|i| f64::from(i) / 6.0).collect();
        assert_eq!(encode_timed(&frames(6), &times, 1.0).unwrap(), encode(&frames(6), 6).unwrap());
        assert!(encode_timed(&frames(6), &times[1..], 1.0).is_err());
    }

    #[test]
    fn frames_that_make_no_clip_are_refused() {
        assert!(matches!(encode(&[], 6), Err(EncodeError::Frames(_))));
        let mut different = frames(2);
        different[1] = Image::filled(30, 48, [0; 3]).unwrap();
        assert!(encode(&different, 6).unwrap_err().to_string().contains("30x48"));
        assert!(encode(&[Image::filled(31, 48, [0; 3]).unwrap()], 6).is_err());
    }
}
