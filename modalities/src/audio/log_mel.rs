//! Whisper's features: the logarithm of a mel spectrogram.

use std::sync::Arc;

use percept_signal::{RealToComplex, real_fft_f32};
use rayon::prelude::*;
use serde::Deserialize;

use super::Waveform;
use super::mel::{Filter, filters};
use crate::error::{Error, Result};
use crate::inputs::{Array, Values};

/// The log-mel spectrogram of Hugging Face's `WhisperFeatureExtractor`, the input of Whisper and Qwen2-Audio.
///
/// A clip is cut or padded to [`LogMel::samples`]. Its frames, `hop` samples apart and centred by reflection
/// at the edges, are weighted with a periodic Hann window and transformed; the last one is dropped. Powers
/// are summed under Slaney's mel triangles between 0 and 8 kHz, and each value becomes `(max(log10(max(p,
/// 1e-10)), m - 8) + 4) / 4`, where `m` is the largest logarithm of the clip.
#[derive(Clone)]
pub struct LogMel {
    settings: Settings,
    window: Vec<f32>,
    filters: Vec<Filter>,
    fft: Arc<dyn RealToComplex<f32>>,
}

/// The keys that matter of a feature extractor's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct Settings {
    feature_size: usize,
    sampling_rate: u32,
    hop_length: usize,
    chunk_length: u32,
    n_fft: usize,
    padding_value: f32,
    padding_side: String,
    dither: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            feature_size: 80,
            sampling_rate: 16_000,
            hop_length: 160,
            chunk_length: 30,
            n_fft: 400,
            padding_value: 0.0,
            padding_side: "right".into(),
            dither: 0.0,
        }
    }
}

impl LogMel {
    /// Reads a feature extractor's settings: a `preprocessor_config.json`, or the `feature_extractor` of a
    /// `processor_config.json`. `file` names it in errors.
    ///
    /// # Errors
    /// When a value has the wrong type, is out of range or requests random dithering.
    pub fn from_json(file: &str, json: &serde_json::Value) -> Result<Self> {
        let fault = |why: String| Error::Config { file: file.to_owned(), why };
        let settings = Settings::deserialize(json).map_err(|error| fault(error.to_string()))?;
        let s = &settings;
        let bounds = [
            ("feature_size", s.feature_size, 1, 1_024),
            ("sampling_rate", s.sampling_rate as usize, 1_000, 1_000_000),
            ("n_fft", s.n_fft, 2, 1 << 16),
            ("hop_length", s.hop_length, 1, 1 << 16),
            ("chunk_length", s.chunk_length as usize, 1, 3_600),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(fault(format!("{key} is {value}; it must be from {least} to {most}")));
            }
        }
        if s.n_fft % 2 != 0 || s.n_fft / 2 >= s.samples() || s.hop_length > s.samples() {
            return Err(fault(format!("n_fft is {}; it must be even and shorter than a chunk", s.n_fft)));
        }
        if s.dither != 0.0 || s.padding_side != "right" {
            return Err(fault("only `dither` 0 and `padding_side` \"right\" are supported".into()));
        }
        Ok(Self::new(settings))
    }

    fn new(settings: Settings) -> Self {
        let n = settings.n_fft;
        let hann = |i: usize| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / n as f64).cos();
        Self {
            window: (0..n).map(|i| hann(i) as f32).collect(),
            filters: filters(settings.feature_size, n / 2 + 1, settings.sampling_rate, 8_000.0),
            fft: real_fft_f32(n),
            settings,
        }
    }

    /// Samples per second that a clip must have.
    pub fn rate(&self) -> u32 {
        self.settings.sampling_rate
    }

    /// Seconds of a clip.
    pub fn seconds(&self) -> u32 {
        self.settings.chunk_length
    }

    /// Samples of a clip after padding.
    pub fn samples(&self) -> usize {
        self.settings.samples()
    }

    /// Mel bands.
    pub fn bands(&self) -> usize {
        self.settings.feature_size
    }

    /// Frames of a clip.
    pub fn frames(&self) -> usize {
        self.samples() / self.settings.hop_length
    }

    /// `input_features` of one clip: f32\[1, bands, frames\]. What is beyond [`LogMel::samples`] is cut off.
    ///
    /// # Errors
    /// When the audio has another rate.
    pub fn features(&self, audio: &Waveform) -> Result<Array> {
        self.windows(audio, 1)
    }

    /// `input_features` of a clip as windows of [`LogMel::samples`], the last one padded: f32\[n, bands, frames\]. They are
    /// cut from one spectrogram, whose largest logarithm counts in all of them (Voxtral).
    ///
    /// # Errors
    /// When the audio has another rate.
    pub fn all_windows(&self, audio: &Waveform) -> Result<Array> {
        self.windows(audio, audio.samples.len().div_ceil(self.samples()).max(1))
    }

    fn windows(&self, audio: &Waveform, count: usize) -> Result<Array> {
        let (bands, frames) = (self.bands(), self.frames());
        let rows = self.rows(audio, count * self.samples())?;
        let values =
            rows.chunks_exact((frames * bands).max(1)).flat_map(|rows| by_band(rows, bands)).collect();
        Ok(Array { dims: vec![count, bands, frames], values: Values::F32(values) })
    }

    /// `input_features` of a clip that is padded to so many samples and no further: f32\[1, bands, samples / hop\] (Qwen3's
    /// audio towers).
    ///
    /// # Errors
    /// When the audio has another rate, or there are fewer samples than the reflection at its edges takes.
    pub fn whole(&self, audio: &Waveform, samples: usize) -> Result<Array> {
        let least = self.settings.n_fft / 2 + 1;
        if samples < least {
            let why = format!("an audio clip of {samples} samples is too short: this model needs {least}");
            return Err(Error::Prompt(why));
        }
        let rows = self.rows(audio, samples)?;
        let dims = vec![1, self.bands(), samples / self.settings.hop_length];
        Ok(Array { dims, values: Values::F32(by_band(&rows, self.bands())) })
    }

    /// The spectrogram of a clip padded or cut to `length` samples, frame by frame.
    fn rows(&self, audio: &Waveform, length: usize) -> Result<Vec<f32>> {
        if audio.rate != self.rate() {
            let why = format!(
                "the audio has {} Hz and the model expects {} Hz; resample it",
                audio.rate,
                self.rate()
            );
            return Err(Error::Prompt(why));
        }
        let samples = &audio.samples[..audio.samples.len().min(length)];
        let bands = self.bands();
        // Frames are independent.
        let mut rows = vec![0.0; length / self.settings.hop_length * bands];
        let scratch = || (self.fft.make_input_vec(), self.fft.make_output_vec(), self.fft.make_scratch_vec());
        rows.par_chunks_mut(bands).enumerate().with_min_len(64).for_each_init(
            scratch,
            |scratch, (t, row)| {
                let (frame, spectrum, scratch) = scratch;
                self.fill(frame, samples, length, t);
                // Its only error is a buffer of the wrong length, and these were made for it.
                let done = self.fft.process_with_scratch(frame, spectrum, scratch);
                debug_assert!(done.is_ok());
                for (value, filter) in row.iter_mut().zip(&self.filters) {
                    *value = filter.of(spectrum).max(1e-10).log10();
                }
            },
        );
        let floor = rows.iter().copied().fold(f32::NEG_INFINITY, f32::max) - 8.0;
        rows.iter_mut().for_each(|value| *value = (value.max(floor) + 4.0) / 4.0);
        Ok(rows)
    }

    /// The frames whose first sample is among so many.
    pub fn heard(&self, samples: usize) -> usize {
        samples.div_ceil(self.settings.hop_length)
    }

    /// The windowed samples of frame `t`, which is centred on sample `t * hop` of a clip padded to `length`.
    fn fill(&self, frame: &mut [f32], samples: &[f32], length: usize, t: usize) {
        let (length, half) = (length as isize, self.settings.n_fft as isize / 2);
        let start = (t * self.settings.hop_length) as isize - half;
        let inside = start >= 0 && start + frame.len() as isize <= samples.len() as isize;
        if inside {
            for ((value, sample), weight) in
                frame.iter_mut().zip(&samples[start as usize..]).zip(&self.window)
            {
                *value = sample * weight;
            }
            return;
        }
        for (i, (value, weight)) in frame.iter_mut().zip(&self.window).enumerate() {
            let at = (start + i as isize).abs();
            let at = if at < length { at } else { 2 * (length - 1) - at };
            *value = samples.get(at as usize).copied().unwrap_or(self.settings.padding_value) * weight;
        }
    }
}

impl Settings {
    fn samples(&self) -> usize {
        self.sampling_rate as usize * self.chunk_length as usize
    }
}

/// Frames of `bands` values each, as bands of frames.
fn by_band(rows: &[f32], bands: usize) -> Vec<f32> {
    (0..bands).flat_map(|band| rows.iter().skip(band).step_by(bands.max(1)).copied()).collect()
}
