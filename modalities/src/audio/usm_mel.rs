//! The features of Universal Speech Models: the logarithm of a mel spectrogram of magnitudes, frame by frame.

use std::sync::Arc;

use percept_signal::{RealToComplex, real_fft_f64};
use rayon::prelude::*;
use serde::Deserialize;

use super::Waveform;
use crate::error::{Error, Result};

/// The spectrogram of Hugging Face's `Gemma4AudioFeatureExtractor`.
///
/// Half a frame of silence goes before a clip. Each frame is weighted with a periodic Hann window, filled up to a power
/// of two and transformed; magnitudes are summed under triangles of the HTK's mel scale, and of each sum and a small
/// number the natural logarithm is taken.
#[derive(Clone)]
pub struct UsmMel {
    settings: Settings,
    frame: usize,
    hop: usize,
    window: Vec<f64>,
    filters: Vec<Triangle>,
    fft: Arc<dyn RealToComplex<f64>>,
}

/// A triangle over the bins from `first` on.
#[derive(Clone)]
struct Triangle {
    first: usize,
    weights: Vec<f64>,
}

/// The keys that matter of a feature extractor's settings. Lengths in samples, which files have too, follow from those in
/// milliseconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
struct Settings {
    feature_size: usize,
    sampling_rate: u32,
    frame_length_ms: f64,
    hop_length_ms: f64,
    min_frequency: f64,
    max_frequency: f64,
    preemphasis: f32,
    preemphasis_htk_flavor: bool,
    fft_overdrive: bool,
    dither: f64,
    input_scale_factor: f32,
    mel_floor: f64,
    padding_value: f32,
    padding_side: String,
    per_bin_mean: Option<Vec<f64>>,
    per_bin_stddev: Option<Vec<f64>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            feature_size: 128,
            sampling_rate: 16_000,
            frame_length_ms: 20.0,
            hop_length_ms: 10.0,
            min_frequency: 0.0,
            max_frequency: 8_000.0,
            preemphasis: 0.0,
            preemphasis_htk_flavor: true,
            fft_overdrive: false,
            dither: 0.0,
            input_scale_factor: 1.0,
            mel_floor: 1e-3,
            padding_value: 0.0,
            padding_side: "right".into(),
            per_bin_mean: None,
            per_bin_stddev: None,
        }
    }
}

/// Samples of a clip at most; what is beyond them is cut off.
const MOST_SAMPLES: usize = 480_000;

/// Clips are filled up to a multiple of so many samples.
const MULTIPLE: usize = 128;

impl UsmMel {
    /// Reads a feature extractor's settings; `file` names them in errors.
    ///
    /// # Errors
    /// When a value has the wrong type, is out of range or asks for random dithering.
    pub fn from_json(file: &str, json: &serde_json::Value) -> Result<Self> {
        let fault = |why: String| Error::Config { file: file.to_owned(), why };
        let settings = Settings::deserialize(json).map_err(|error| fault(error.to_string()))?;
        let s = &settings;
        if !(1..=1_024).contains(&s.feature_size) || !(1_000..=1_000_000).contains(&s.sampling_rate) {
            let why = format!(
                "`feature_size` is {} and `sampling_rate` {}; at most 1024 bands, and from 1000 to 1000000 Hz",
                s.feature_size, s.sampling_rate
            );
            return Err(fault(why));
        }
        let samples = |key: &str, ms: f64| -> Result<usize> {
            let samples = (f64::from(s.sampling_rate) * ms / 1_000.0).round_ties_even();
            if (2.0..=65_536.0).contains(&samples) {
                return Ok(samples as usize);
            }
            Err(fault(format!("`{key}` is {ms}; it must be a length of 2 to 65536 samples")))
        };
        let (frame, hop) =
            (samples("frame_length_ms", s.frame_length_ms)?, samples("hop_length_ms", s.hop_length_ms)?);
        let range = 0.0..=f64::from(s.sampling_rate) / 2.0;
        if !range.contains(&s.min_frequency)
            || !range.contains(&s.max_frequency)
            || s.min_frequency >= s.max_frequency
        {
            let why = format!(
                "`min_frequency` is {} and `max_frequency` {}; they must rise within {} Hz",
                s.min_frequency,
                s.max_frequency,
                range.end()
            );
            return Err(fault(why));
        }
        if s.dither != 0.0 || s.padding_side != "right" || s.padding_value != 0.0 {
            let why = "only `dither` 0, `padding_side` \"right\" and `padding_value` 0 are supported";
            return Err(fault(why.into()));
        }
        if !(s.mel_floor > 0.0 && s.input_scale_factor.is_finite() && s.preemphasis.is_finite()) {
            return Err(fault(format!("`mel_floor` is {}; it must be positive", s.mel_floor)));
        }
        for (key, values) in [("per_bin_mean", &s.per_bin_mean), ("per_bin_stddev", &s.per_bin_stddev)] {
            if values.as_ref().is_some_and(|values| values.len() != s.feature_size) {
                return Err(fault(format!(
                    "`{key}` must have a number for each of {} bands",
                    s.feature_size
                )));
            }
        }
        let fft = frame.next_power_of_two() * if s.fft_overdrive { 2 } else { 1 };
        let hann = |i: usize| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / frame as f64).cos();
        Ok(Self {
            // The oracle's window is f32.
            window: (0..frame).map(|i| f64::from(hann(i) as f32)).collect(),
            filters: triangles(s, fft / 2 + 1),
            fft: real_fft_f64(fft),
            frame,
            hop,
            settings,
        })
    }

    /// Samples per second that a clip must have.
    pub fn rate(&self) -> u32 {
        self.settings.sampling_rate
    }

    /// Mel bands.
    pub fn bands(&self) -> usize {
        self.settings.feature_size
    }

    /// Frames of a batch whose longest clip has so many samples.
    pub fn frames(&self, samples: usize) -> usize {
        self.whole_frames(samples.min(MOST_SAMPLES).next_multiple_of(MULTIPLE))
    }

    /// Frames of a clip of so many samples that have no padding behind the clip.
    pub fn heard(&self, samples: usize) -> usize {
        self.whole_frames(samples.min(MOST_SAMPLES))
    }

    /// Frames, of which each reaches one sample beyond what is transformed.
    fn whole_frames(&self, samples: usize) -> usize {
        match (samples + self.frame / 2).checked_sub(self.frame + 1) {
            Some(rest) => rest / self.hop + 1,
            None => 0,
        }
    }

    /// The frames of a clip without padding: f32\[heard, bands\].
    ///
    /// # Errors
    /// When the audio has another rate.
    pub fn features(&self, audio: &Waveform) -> Result<Vec<f32>> {
        if audio.rate != self.rate() {
            return Err(Error::Prompt(format!(
                "the audio has {} Hz and the model expects {} Hz; resample it",
                audio.rate,
                self.rate()
            )));
        }
        let bands = self.bands();
        let mut rows = vec![0.0; self.heard(audio.samples.len()) * bands];
        let scratch = || (self.fft.make_input_vec(), self.fft.make_output_vec(), self.fft.make_scratch_vec());
        rows.par_chunks_mut(bands).enumerate().with_min_len(64).for_each_init(
            scratch,
            |scratch, (t, row)| {
                let (frame, spectrum, scratch) = scratch;
                self.fill(frame, &audio.samples, t);
                // Its only error is a buffer of the wrong length, and these were made for it.
                let done = self.fft.process_with_scratch(frame, spectrum, scratch);
                debug_assert!(done.is_ok());
                for (band, (value, filter)) in row.iter_mut().zip(&self.filters).enumerate() {
                    let bins = filter.weights.iter().zip(&spectrum[filter.first..]);
                    let sum: f64 = bins.map(|(w, bin)| w * bin.norm()).sum();
                    let of =
                        |values: &Option<Vec<f64>>, usual: f64| values.as_ref().map_or(usual, |v| v[band]);
                    let log = (sum + self.settings.mel_floor).ln() - of(&self.settings.per_bin_mean, 0.0);
                    *value = (log / of(&self.settings.per_bin_stddev, 1.0)) as f32;
                }
            },
        );
        Ok(rows)
    }

    /// The windowed samples of frame `t`, the first of which stands half a frame before sample `t * hop`.
    fn fill(&self, frame: &mut [f64], samples: &[f32], t: usize) {
        let s = &self.settings;
        let sample = |i: usize| {
            let at = (t * self.hop + i).checked_sub(self.frame / 2);
            at.and_then(|at| samples.get(at)).map_or(0.0, |sample| sample * s.input_scale_factor)
        };
        frame.fill(0.0);
        for (i, (value, weight)) in frame.iter_mut().zip(&self.window).enumerate() {
            let emphasized = match (s.preemphasis > 0.0, s.preemphasis_htk_flavor, i) {
                (false, ..) => sample(i),
                (true, true, 0) => sample(0) * (1.0 - s.preemphasis),
                (true, true, i) => sample(i) - s.preemphasis * sample(i - 1),
                (true, false, i) => sample(i + 1) - s.preemphasis * sample(i),
            };
            *value = f64::from(emphasized) * weight;
        }
    }
}

/// Triangles of height one whose corners are equally spaced on the HTK's mel scale, over the `bins` of a spectrum.
fn triangles(s: &Settings, bins: usize) -> Vec<Triangle> {
    let to_mel = |hertz: f64| 2_595.0 * (1.0 + hertz / 700.0).log10();
    let to_hertz = |mel: f64| 700.0 * (10f64.powf(mel / 2_595.0) - 1.0);
    let (low, high) = (to_mel(s.min_frequency), to_mel(s.max_frequency));
    let corner = |i: usize| to_hertz(low + (high - low) * i as f64 / (s.feature_size + 1) as f64);
    let frequency = |bin: usize| f64::from(s.sampling_rate / 2) * bin as f64 / (bins - 1) as f64;
    let triangle = |band: usize| {
        let [low, centre, high] = [0, 1, 2].map(|i| corner(band + i));
        let weight = |bin: usize| {
            let f = frequency(bin);
            ((f - low) / (centre - low)).min((high - f) / (high - centre)).max(0.0)
        };
        let within: Vec<usize> = (0..bins).filter(|&bin| weight(bin) > 0.0).collect();
        Triangle {
            first: within.first().copied().unwrap_or(0),
            weights: within.iter().map(|&bin| weight(bin)).collect(),
        }
    };
    (0..s.feature_size).map(triangle).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    // Values of Gemma4AudioFeatureExtractor, transformers 5.24.
    #[test]
    fn features_are_those_of_the_original() {
        let sample = |i: i32| {
            let i = f64::from(i);
            ((i * 0.05).sin() * 0.5 + (i * i * 0.0003).sin() * 0.25) as f32
        };
        let audio = Waveform { samples: (0..1000).map(sample).collect(), rate: 16_000 };
        let of = |settings: serde_json::Value, frames: [usize; 2], first: [f32; 5], third: [f32; 4]| {
            let mel = UsmMel::from_json("f.json", &settings).unwrap();
            let found = mel.features(&audio).unwrap();
            assert_eq!([mel.frames(1000), mel.heard(1000)], frames, "{settings}");
            assert_eq!(found.len(), frames[1] * mel.bands());
            let third_found = &found[3 * mel.bands() + 2..];
            for (f, e) in found.iter().zip(&first).chain(third_found.iter().zip(&third)) {
                assert!((f - e).abs() < 3e-5, "{settings}: {f}, expected {e}");
            }
        };
        of(
            json!({ "frame_length": 320 }),
            [6, 6],
            [-6.90776, 2.70641, 1.52066, 2.62081, 2.11272],
            [-1.71291, 1.98571, 1.47767, 2.82102],
        );
        of(
            json!({ "preemphasis": 0.9, "feature_size": 8, "min_frequency": 100.0, "max_frequency": 7000.0,
                "input_scale_factor": 2.0 }),
            [6, 6],
            [1.98107, 0.90126, 0.57216, 0.40052, 0.30269],
            [3.06839, -1.86321, -5.02543, -6.15103],
        );
        of(
            json!({ "preemphasis": 0.9, "preemphasis_htk_flavor": false, "fft_overdrive": true, "feature_size": 8,
                "per_bin_mean": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
                "per_bin_stddev": [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0], "frame_length_ms": 25.0 }),
            [6, 5],
            [0.93525, 0.10481, -0.13621, -0.24055, -0.29614],
            [1.37238, -0.60904, -2.97819, -3.58986],
        );
    }

    #[test]
    fn settings_that_are_not_honoured_are_refused_by_name() {
        for (key, value) in [
            ("dither", json!(0.1)),
            ("mel_floor", json!(0.0)),
            ("frame_length_ms", json!(0.0)),
            ("max_frequency", json!(9_000.0)),
            ("per_bin_mean", json!([1.0])),
            ("feature_size", json!(0)),
        ] {
            let settings = json!({ key: value });
            let e = UsmMel::from_json("f.json", &settings).map(|_| ()).unwrap_err().to_string();
            assert!(e.contains(key), "{e}");
        }
    }
}
