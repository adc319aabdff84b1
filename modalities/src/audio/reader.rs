//! Audio files, read piece by piece.

use std::path::Path;

use super::packets::{self, Packets};
use super::{Resampler, Waveform};
use crate::error::{Error, Result};
use crate::measure::Length;

/// Reads an audio file piece by piece: an iterator of mono samples at the rate requested, never more than a
/// packet and a resampler's block in memory.
///
/// All formats that FFmpeg reads are read, whatever the file's name is: Wave (integers of all depths, floats,
/// A-law, mu-law), FLAC, MP3, AAC, Vorbis, Opus and more, and the audio of any container, such as a video's.
/// The encoder's delay and padding are cut off where the file states them. What a header says of the length
/// is ignored: all that follows it is decoded.
///
/// Channels are mixed down to their mean, each with equal weight, as librosa's `to_mono` does and as training
/// sets for speech are made. No channel is left out and none is scaled by its position.
///
/// Packets that do not decode are left out, and a file that ends early ends there; only a file of which
/// nothing decodes is an error. So is one with samples that are NaN or infinite, which files of floats may hold: one of them
/// would make everything NaN that is computed from the seconds around it.
pub struct Reader<'s> {
    what: String,
    rate: u32,
    packets: Box<dyn Packets + 's>,
    mono: Vec<f32>,
    /// The rate of the file and the converter from it.
    resampler: Option<(u32, Resampler)>,
    /// Seconds that were decoded.
    seconds_read: f64,
    decoded: bool,
    ended: bool,
}

impl Reader<'static> {
    /// Opens a file to be read as mono at `rate` samples per second.
    ///
    /// # Errors
    /// When the file cannot be read or holds no audio in a known format.
    pub fn open(path: &Path, rate: u32) -> Result<Self> {
        Self::new(path.display().to_string(), packets::open(path)?, rate)
    }
}

impl<'s> Reader<'s> {
    /// Reads a file in memory; `what` names it in errors.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn from_bytes(what: &str, bytes: &'s [u8], rate: u32) -> Result<Self> {
        Self::new(what.to_owned(), packets::open_bytes(what, bytes)?, rate)
    }

    fn new(what: String, packets: Box<dyn Packets + 's>, rate: u32) -> Result<Self> {
        // Says early that nothing can be resampled to this rate.
        Resampler::new(rate, rate).map_err(|error| named(error.into(), &what))?;
        let (mono, resampler, seconds_read) = (Vec::new(), None, 0.0);
        Ok(Self { what, rate, packets, mono, resampler, seconds_read, decoded: false, ended: false })
    }

    /// The file's name in errors.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// Samples per second of what is read.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// How long the audio is in seconds, by what its file says. It may be missing or wrong.
    pub fn seconds(&self) -> Option<f64> {
        self.packets.seconds().filter(|seconds| seconds.is_finite() && *seconds > 0.0)
    }

    /// How long the file declares the audio to be in seconds, if it does; nothing is guessed from its size.
    pub fn declared(&self) -> Option<f64> {
        self.packets.declared()
    }

    /// The same audio in windows of `seconds`, the last one as short as what is left.
    pub fn windows(self, seconds: u32) -> Windows<'s> {
        let samples = (u64::from(self.rate) * u64::from(seconds)).max(1) as usize;
        Windows { reader: self, samples, pending: Vec::new() }
    }

    /// The next samples at the target rate; `None` at the end.
    fn chunk(&mut self) -> Result<Option<Vec<f32>>> {
        let mut output = Vec::new();
        while output.is_empty() && !self.ended {
            let rate = self.packets.next(&mut self.mono)?;
            self.ended = rate.is_none();
            self.decoded |= rate.is_some();
            if let Some(rate) = rate {
                all_finite(&self.what, &self.mono, rate, &mut self.seconds_read)?;
            }
            self.convert(rate, &mut output).map_err(|error| named(error, &self.what))?;
        }
        if self.ended && !self.decoded {
            self.decoded = true;
            return Err(nothing(&self.what, &*self.packets));
        }
        Ok(Some(output).filter(|output| !output.is_empty()))
    }

    /// Resamples what was decoded at `rate`; without a rate, the rest.
    fn convert(&mut self, rate: Option<u32>, output: &mut Vec<f32>) -> Result<()> {
        // Where the rate changes within a file, what the resampler holds back comes first.
        if let Some((_, mut resampler)) = self.resampler.take_if(|(from, _)| Some(*from) != rate) {
            resampler.finish(output)?;
        }
        let Some(rate) = rate else { return Ok(()) };
        let (_, resampler) = match &mut self.resampler {
            Some(resampler) => resampler,
            none => none.insert((rate, Resampler::new(rate, self.rate)?)),
        };
        Ok(resampler.push(&self.mono, output)?)
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Vec<f32>>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = self.chunk();
        self.ended |= chunk.is_err();
        chunk.transpose()
    }
}

/// The windows of [`Reader::windows`].
pub struct Windows<'s> {
    reader: Reader<'s>,
    samples: usize,
    pending: Vec<f32>,
}

impl Iterator for Windows<'_> {
    type Item = Result<Waveform>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.pending.len() < self.samples {
            match self.reader.next() {
                Some(Ok(chunk)) => self.pending.extend(chunk),
                Some(Err(error)) => return Some(Err(error)),
                None => break,
            }
        }
        let samples: Vec<f32> = self.pending.drain(..self.samples.min(self.pending.len())).collect();
        (!samples.is_empty()).then_some(Ok(Waveform { samples, rate: self.reader.rate }))
    }
}

/// Decodes everything and keeps nothing.
pub(super) fn measure(what: &str, mut packets: Box<dyn Packets + '_>) -> Result<Length> {
    let (mut mono, mut seconds, mut decoded) = (Vec::new(), 0.0, false);
    while let Some(rate) = packets.next(&mut mono)? {
        all_finite(what, &mono, rate, &mut seconds)?;
        decoded = true;
    }
    match decoded {
        true => Ok(Length::new(packets.declared(), seconds, packets.faults().clone())),
        false => Err(nothing(what, &*packets)),
    }
}

/// Refuse samples that are no numbers; `seconds` of the file came before them, and go on by their length.
fn all_finite(what: &str, mono: &[f32], rate: u32, seconds: &mut f64) -> Result<()> {
    if let Some(at) = mono.iter().position(|sample| !sample.is_finite()) {
        let at = *seconds + at as f64 / f64::from(rate);
        let why = format!("its sample at {at:.3} s is NaN or infinite; write it anew with numbers alone");
        return Err(Error::Decode { what: what.to_owned(), why });
    }
    *seconds += mono.len() as f64 / f64::from(rate);
    Ok(())
}

/// The error of a file from which nothing decoded.
fn nothing(what: &str, packets: &(dyn Packets + '_)) -> Error {
    let why = packets.faults().first.as_ref().map_or_else(
        || "it holds not one sample of audio".to_owned(),
        |fault| format!("not one sample of it decodes: {fault}"),
    );
    Error::Decode { what: what.to_owned(), why }
}

/// The resampler does not know the file.
fn named(error: Error, file: &str) -> Error {
    match error {
        Error::Decode { why, .. } => Error::Decode { what: file.to_owned(), why },
        error => error,
    }
}
