//! Audio: decoding, resampling and features.
//!
//! Files are decoded to mono at the rate that a model expects, either whole ([`decode`]) or piece by piece
//! ([`Reader`]). [`LogMel`] turns samples into Whisper's features, [`NormalizedMel`] into
//! Parakeet's.

mod log_mel;
mod mel;
mod normalized_mel;
mod packets;
mod reader;
mod usm_mel;

use std::path::Path;

use crate::error::{Error, Result};
use crate::measure::Length;

pub use log_mel::LogMel;
pub use normalized_mel::NormalizedMel;
pub use percept_signal::Resampler;
pub use reader::{Reader, Windows};
pub use usm_mel::UsmMel;

/// Mono samples between -1 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Waveform {
    /// The samples of the one channel.
    pub samples: Vec<f32>,
    /// The sample rate, in samples per second.
    pub rate: u32,
}

/// How much [`decode`] may keep in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Decoded samples at the target rate.
    pub samples: usize,
}

impl Default for Limits {
    /// 2^28 samples: 1 GiB, 4.6 hours at 16 kHz.
    fn default() -> Self {
        Self { samples: 1 << 28 }
    }
}

/// Decodes a whole file to mono at `rate` samples per second.
///
/// What decodes of a damaged file is returned.
///
/// # Errors
/// When the file cannot be read, holds no audio that decodes, or is longer than the limits allow.
pub fn decode(path: &Path, rate: u32, limits: &Limits) -> Result<Waveform> {
    collect(Reader::open(path, rate)?, limits)
}

/// [`decode`] for a file in memory; `what` names it in errors.
///
/// # Errors
/// As [`decode`].
pub fn decode_bytes(what: &str, bytes: &[u8], rate: u32, limits: &Limits) -> Result<Waveform> {
    collect(Reader::from_bytes(what, bytes, rate)?, limits)
}

/// Decodes a whole file and keeps none of it: how long it is and what is damaged.
///
/// # Errors
/// As [`decode`].
pub fn measure(path: &Path) -> Result<Length> {
    reader::measure(&path.display().to_string(), packets::open(path)?)
}

/// [`measure`] for a file in memory; `what` names it in errors.
///
/// # Errors
/// As [`decode`].
pub fn measure_bytes(what: &str, bytes: &[u8]) -> Result<Length> {
    reader::measure(what, packets::open_bytes(what, bytes)?)
}

fn collect(reader: Reader<'_>, limits: &Limits) -> Result<Waveform> {
    let (what, rate) = (reader.what().to_owned(), reader.rate());
    let mut samples = Vec::new();
    for chunk in reader {
        let chunk = chunk?;
        // The header's length is not used: recordings that were piped claim gigabytes.
        if samples.len() + chunk.len() > limits.samples {
            let why =
                format!("it gives more than {} samples at {rate} Hz; read it in windows", limits.samples);
            return Err(Error::TooLarge { what, why });
        }
        samples.extend_from_slice(&chunk);
    }
    Ok(Waveform { samples, rate })
}
