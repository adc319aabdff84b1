//! Parakeet's features: the logarithm of a mel spectrogram, each band with mean 0 and deviation 1.

use std::sync::Arc;

use percept_signal::{RealToComplex, real_fft_f32};
use rayon::prelude::*;
use serde::Deserialize;

use super::Waveform;
use super::mel::{Filter, filters};
use crate::error::{Error, Result};
use crate::inputs::{Array, Values};

/// The spectrogram of Hugging Face's `ParakeetFeatureExtractor`.
///
/// Of each sample but the first a share of the one before is taken away. Frames, `hop` samples apart and centred among
/// zeros, are weighted with a symmetric Hann window and transformed. Powers are summed under Slaney's mel triangles up to
/// half the rate, and each band of `ln(p + 2^-24)` is normalized over the frames of the clip.
#[derive(Clone)]
pub struct NormalizedMel {
    settings: Settings,
    /// As long as the transform, with zeros on both sides.
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
    n_fft: usize,
    win_length: usize,
    preemphasis: Option<f32>,
    padding_side: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            feature_size: 80,
            sampling_rate: 16_000,
            hop_length: 160,
            n_fft: 512,
            win_length: 400,
            preemphasis: Some(0.97),
            padding_side: "right".into(),
        }
    }
}

impl NormalizedMel {
    /// Reads a feature extractor's settings: a `preprocessor_config.json`, or the `feature_extractor` of a
    /// `processor_config.json`. `file` names it in errors.
    ///
    /// # Errors
    /// When a value has the wrong type or is out of range.
    pub fn from_json(file: &str, json: &serde_json::Value) -> Result<Self> {
        let fault = |why: String| Error::Config { file: file.to_owned(), why };
        let settings = Settings::deserialize(json).map_err(|error| fault(error.to_string()))?;
        let s = &settings;
        let bounds = [
            ("feature_size", s.feature_size, 1, 1_024),
            ("sampling_rate", s.sampling_rate as usize, 1_000, 1_000_000),
            ("n_fft", s.n_fft, 2, 1 << 16),
            ("win_length", s.win_length, 2, s.n_fft),
            ("hop_length", s.hop_length, 1, 1 << 16),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(fault(format!("{key} is {value}; it must be from {least} to {most}")));
            }
        }
        if s.n_fft % 2 != 0 {
            return Err(fault(format!("n_fft is {}; it must be even", s.n_fft)));
        }
        if s.padding_side != "right" {
            return Err(fault("only `padding_side` \"right\" is supported".into()));
        }
        let before = (s.n_fft - s.win_length) / 2;
        let hann = |i: usize| {
            let inside = i.checked_sub(before).filter(|i| *i < s.win_length);
            let angle = |i: usize| std::f64::consts::TAU * i as f64 / (s.win_length - 1) as f64;
            inside.map_or(0.0, |i| 0.5 - 0.5 * angle(i).cos()) as f32
        };
        Ok(Self {
            window: (0..s.n_fft).map(hann).collect(),
            filters: filters(
                s.feature_size,
                s.n_fft / 2 + 1,
                s.sampling_rate,
                f64::from(s.sampling_rate) / 2.0,
            ),
            fft: real_fft_f32(s.n_fft),
            settings,
        })
    }

    /// Samples per second that a clip must have.
    pub fn rate(&self) -> u32 {
        self.settings.sampling_rate
    }

    /// Samples from one frame to the next.
    pub fn hop(&self) -> usize {
        self.settings.hop_length
    }

    /// Mel bands.
    pub fn bands(&self) -> usize {
        self.settings.feature_size
    }

    /// Frames of a clip that count. One more is made, which is zero.
    pub fn heard(&self, samples: usize) -> usize {
        samples / self.settings.hop_length
    }

    /// `input_features` of one clip, f32\[1, frames, bands\]: as many frames as [`NormalizedMel::heard`], and one of zeros.
    ///
    /// # Errors
    /// When the audio has another rate, or less than two frames.
    pub fn features(&self, audio: &Waveform) -> Result<Array> {
        if audio.rate != self.rate() {
            let why = format!(
                "the audio has {} Hz and the model expects {} Hz; resample it",
                audio.rate,
                self.rate()
            );
            return Err(Error::Prompt(why));
        }
        let (bands, heard) = (self.bands(), self.heard(audio.samples.len()));
        if heard < 2 {
            return Err(Error::Prompt(format!(
                "an audio clip of {} samples is too short: this model needs {}",
                audio.samples.len(),
                2 * self.settings.hop_length
            )));
        }
        let share = self.settings.preemphasis.unwrap_or(0.0);
        let before = std::iter::once(0.0).chain(audio.samples.iter().copied());
        let sharp: Vec<f32> =
            audio.samples.iter().zip(before).map(|(x, before)| x - share * before).collect();
        let mut values = vec![0.0; (heard + 1) * bands];
        let scratch = || (self.fft.make_input_vec(), self.fft.make_output_vec(), self.fft.make_scratch_vec());
        values[..heard * bands].par_chunks_mut(bands).enumerate().with_min_len(64).for_each_init(
            scratch,
            |(frame, spectrum, scratch), (t, row)| {
                let start = (t * self.settings.hop_length) as isize - self.settings.n_fft as isize / 2;
                for (i, (value, weight)) in frame.iter_mut().zip(&self.window).enumerate() {
                    let at = usize::try_from(start + i as isize).ok();
                    *value = at.and_then(|at| sharp.get(at)).copied().unwrap_or(0.0) * weight;
                }
                // Its only error is a buffer of the wrong length, and these were made for it.
                let done = self.fft.process_with_scratch(frame, spectrum, scratch);
                debug_assert!(done.is_ok());
                for (value, filter) in row.iter_mut().zip(&self.filters) {
                    *value = (filter.of(spectrum) + 2f32.powi(-24)).ln();
                }
            },
        );
        for band in 0..bands {
            let of_band = || values[band..heard * bands].iter().step_by(bands).map(|&v| f64::from(v));
            let mean = of_band().sum::<f64>() / heard as f64;
            let variance = of_band().map(|v| (v - mean).powi(2)).sum::<f64>() / (heard - 1) as f64;
            let deviation = variance.sqrt() + 1e-5;
            for value in values[band..heard * bands].iter_mut().step_by(bands) {
                *value = ((f64::from(*value) - mean) / deviation) as f32;
            }
        }
        Ok(Array { dims: vec![1, heard + 1, bands], values: Values::F32(values) })
    }
}
