//! Decoded packets of audio, mixed down.

use std::io::{Cursor, ErrorKind, Read, SeekFrom};
use std::path::Path;

use ffmpeg_next::format::sample::{Sample, Type};
use ffmpeg_next::{frame, media};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as Fault;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;

use crate::error::{Error, Result};
use crate::libav::{Decoding, Faults, Source, Stream, open_file};

/// An audio file, decoded packet by packet.
pub(super) trait Packets: Send {
    /// Replaces `mono` with the next packet's samples and returns their rate; `None` at the end.
    fn next(&mut self, mono: &mut Vec<f32>) -> Result<Option<u32>>;

    /// What went wrong so far.
    fn faults(&self) -> &Faults;

    /// How long the file says it is, in seconds.
    fn declared(&self) -> Option<f64>;

    /// [`Packets::declared`], or what can be guessed.
    fn seconds(&self) -> Option<f64> {
        self.declared()
    }
}

/// FFmpeg reads everything but Ogg Vorbis, whose padding FFmpeg 5 leaves at the end of the audio: symphonia
/// cuts it off.
pub(super) fn open(path: &Path) -> Result<Box<dyn Packets>> {
    let what = path.display().to_string();
    if is_vorbis(&mut open_file(path)?)
        && let Some(packets) = Vorbis::new(&what, Box::new(open_file(path)?))?
    {
        return Ok(Box::new(packets));
    }
    Ok(Box::new(Libav::open(&Source::file(path))?))
}

/// [`open`] for a file in memory.
pub(super) fn open_bytes<'s>(what: &str, bytes: &'s [u8]) -> Result<Box<dyn Packets + 's>> {
    if is_vorbis(&mut &*bytes)
        && let Some(packets) = Vorbis::new(what, Box::new(Cursor::new(bytes)))?
    {
        return Ok(Box::new(packets));
    }
    Ok(Box::new(Libav::open(&Source::memory(what, bytes.into()))?))
}

/// Whether the first page of an Ogg file begins a stream of Vorbis.
fn is_vorbis(stream: &mut impl Read) -> bool {
    let mut head = [0; 35];
    stream.read_exact(&mut head).is_ok() && head.starts_with(b"OggS") && head[28..].starts_with(b"\x01vorbis")
}

/// The mean of a frame's channels.
fn mean(sum: f32, channels: usize) -> f32 {
    sum / channels as f32
}

/// Ogg Vorbis.
struct Vorbis<'s> {
    what: String,
    format: Box<dyn FormatReader + 's>,
    track: u32,
    decoder: Box<dyn AudioDecoder>,
    interleaved: Vec<f32>,
    faults: Faults,
}

impl<'s> Vorbis<'s> {
    /// `None` when symphonia finds no audio in it.
    fn new(what: &str, stream: Box<dyn MediaSource + 's>) -> Result<Option<Self>> {
        let stream = MediaSourceStream::new(stream, Default::default());
        let (format, meta) = (FormatOptions::default(), MetadataOptions::default());
        let format = match symphonia::default::get_probe().probe(&Hint::new(), stream, format, meta) {
            Ok(format) => format,
            Err(Fault::IoError(error)) if error.kind() != ErrorKind::UnexpectedEof => {
                return Err(Error::Read { what: what.to_owned(), why: error.to_string() });
            }
            Err(_) => return Ok(None),
        };
        Ok(open_track(&*format).map(|(track, decoder)| Self {
            what: what.to_owned(),
            format,
            track,
            decoder,
            interleaved: Vec::new(),
            faults: Faults::default(),
        }))
    }
}

/// The track to decode: its number and its decoder.
fn open_track(format: &dyn FormatReader) -> Option<(u32, Box<dyn AudioDecoder>)> {
    let track = format.default_track(TrackType::Audio)?;
    let parameters = track.codec_params.as_ref()?.audio()?;
    let options = AudioDecoderOptions::default();
    let decoder = symphonia::default::get_codecs().make_audio_decoder(parameters, &options).ok()?;
    Some((track.id, decoder))
}

impl Packets for Vorbis<'_> {
    fn next(&mut self, mono: &mut Vec<f32>) -> Result<Option<u32>> {
        loop {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(None),
                Err(Fault::ResetRequired) => {
                    // A chained Ogg file: another stream begins.
                    let opened = open_track(&*self.format);
                    (self.track, self.decoder) = opened.ok_or_else(|| Error::Decode {
                        what: self.what.clone(),
                        why: "it changes to an unknown format".into(),
                    })?;
                    continue;
                }
                // The file ends in the middle of something.
                Err(fault) => {
                    self.faults.note(fault);
                    return Ok(None);
                }
            };
            if packet.track_id != self.track {
                continue;
            }
            let buffer = match self.decoder.decode(&packet) {
                Ok(buffer) => buffer,
                Err(fault @ (Fault::DecodeError(_) | Fault::IoError(_))) => {
                    self.faults.note(fault);
                    continue;
                }
                Err(fault) => {
                    self.faults.note(fault);
                    return Ok(None);
                }
            };
            let (channels, rate) = (buffer.spec().channels().count(), buffer.spec().rate());
            if buffer.frames() == 0 || channels == 0 {
                continue;
            }
            self.interleaved.resize(buffer.samples_interleaved(), 0.0);
            buffer.copy_to_slice_interleaved(&mut self.interleaved);
            mono.clear();
            let frames = self.interleaved.chunks_exact(channels);
            mono.extend(frames.map(|frame| mean(frame.iter().sum(), channels)));
            return Ok(Some(rate));
        }
    }

    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn declared(&self) -> Option<f64> {
        let track = self.format.default_track(TrackType::Audio)?;
        Some(track.time_base?.calc_duration(track.duration?)?.as_secs_f64())
    }
}

/// FFmpeg's formats.
struct Libav {
    decoding: Decoding,
    frame: frame::Audio,
    /// Seconds that the file states.
    declared: Option<f64>,
}

impl Libav {
    fn open(source: &Source) -> Result<Self> {
        let decoding = Decoding::open(source, media::Type::Audio, 1)?;
        let declared = match decoding.input.format().name() {
            "wav" => wave_seconds(&mut *source.open()?),
            _ => decoding.declared(),
        };
        Ok(Self { decoding, frame: frame::Audio::empty(), declared })
    }
}

impl Packets for Libav {
    fn next(&mut self, mono: &mut Vec<f32>) -> Result<Option<u32>> {
        while self.decoding.next(&mut self.frame) {
            let frame = &self.frame;
            if frame.planes() == 0 || frame.samples() == 0 || frame.rate() == 0 {
                continue;
            }
            mono.clear();
            match frame.format() {
                Sample::U8(layout) => {
                    mix(frame, layout, mono, |[byte]: [u8; 1]| f32::from(byte) / 128.0 - 1.0)
                }
                Sample::I16(layout) => {
                    mix(frame, layout, mono, |b| f32::from(i16::from_ne_bytes(b)) / 32_768.0)
                }
                Sample::I32(layout) => {
                    mix(frame, layout, mono, |b| (f64::from(i32::from_ne_bytes(b)) / 2_147_483_648.0) as f32)
                }
                Sample::I64(layout) => mix(frame, layout, mono, |b| {
                    (i64::from_ne_bytes(b) as f64 / 9_223_372_036_854_775_808.0) as f32
                }),
                Sample::F32(layout) => mix(frame, layout, mono, f32::from_ne_bytes),
                Sample::F64(layout) => mix(frame, layout, mono, |b| f64::from_ne_bytes(b) as f32),
                Sample::None => continue,
            }
            return Ok(Some(frame.rate()));
        }
        Ok(None)
    }

    fn faults(&self) -> &Faults {
        self.decoding.faults()
    }

    fn declared(&self) -> Option<f64> {
        self.declared
    }

    fn seconds(&self) -> Option<f64> {
        Some(self.decoding.input.duration() as f64 / f64::from(ffmpeg_next::ffi::AV_TIME_BASE))
    }
}

/// Seconds that the header of a Wave file states. FFmpeg goes by what the file holds; a file that is cut off
/// says more. Recorders that do not know the final length write nothing, or the most that a header holds, or
/// nearly so. Of codecs other than those below the header holds no length that is to be relied on.
fn wave_seconds(stream: &mut dyn Stream) -> Option<f64> {
    const MARK: u32 = 0x7fff_0000;
    let number = |bytes: &[u8]| bytes.first_chunk().map(|four| u32::from_le_bytes(*four));
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    if !head.starts_with(b"RIFF") {
        return None;
    }
    let mut rate = None;
    // Few chunks come before the samples.
    for _ in 0..64 {
        stream.read_exact(&mut head[..8]).ok()?;
        let size = number(&head[4..])?;
        let mut rest = i64::from(size) + i64::from(size % 2);
        match &head[..4] {
            b"data" if size == 0 || size >= MARK => return None,
            b"data" => return rate.map(|rate| f64::from(size) / rate),
            b"fmt " if size >= 16 => {
                let mut format = [0; 20];
                let held = format.len().min(size as usize);
                stream.read_exact(&mut format[..held]).ok()?;
                rate = bytes_a_second(&format[..held]);
                rest -= held as i64;
            }
            _ => {}
        }
        stream.seek(SeekFrom::Current(rest)).ok()?;
    }
    None
}

/// Bytes of samples that a second takes, by the blocks of a Wave file's format. The header's own number is an
/// estimate that many programs get wrong for compressed audio.
fn bytes_a_second(format: &[u8]) -> Option<f64> {
    let number =
        |at: usize| format.get(at..at + 2).map(|two| u32::from(u16::from_le_bytes([two[0], two[1]])));
    let frequency = f64::from(number(4)? | number(6)? << 16);
    let samples = match number(0)? {
        // Integers, floats, A-law, mu-law, and what needs the longer header to say so: a block is a sample of
        // every channel.
        1 | 3 | 6 | 7 | 0xfffe => 1,
        // ADPCM of Microsoft and of IMA: the samples of a block come after the common part.
        2 | 0x11 => number(18)?,
        _ => return None,
    };
    let rate = f64::from(number(12)?) * frequency / f64::from(samples);
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

/// Appends the mean of the channels of each of a frame's samples, read by `value` from their bytes.
fn mix<const N: usize>(
    frame: &frame::Audio,
    layout: Type,
    mono: &mut Vec<f32>,
    value: impl Fn([u8; N]) -> f32,
) {
    let (samples, channels) = (frame.samples(), usize::from(frame.channels()).max(1));
    let planes: Vec<&[[u8; N]]> = (0..frame.planes()).map(|plane| frame.data(plane).as_chunks().0).collect();
    let at = |sample: usize, channel: usize| match layout {
        Type::Planar => planes.get(channel).and_then(|plane| plane.get(sample)),
        Type::Packed => planes.first().and_then(|plane| plane.get(sample * channels + channel)),
    };
    let sum =
        |sample| (0..channels).filter_map(|channel| at(sample, channel)).map(|&bytes| value(bytes)).sum();
    mono.extend((0..samples).map(|sample| mean(sum(sample), channels)));
}
