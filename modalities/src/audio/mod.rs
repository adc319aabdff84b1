//! Sound: decoding, resampling and features.

/// Mono samples between -1 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Waveform {
    /// The samples.
    pub samples: Vec<f32>,
    /// Samples per second.
    pub rate: u32,
}
