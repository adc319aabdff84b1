//! Mel filters: triangles over the bins of a spectrum.

use percept_signal::Complex;

/// A triangle over the bins from `first` on.
#[derive(Clone)]
pub(super) struct Filter {
    first: usize,
    weights: Vec<f32>,
}

impl Filter {
    /// The power of a spectrum under the triangle.
    pub(super) fn of(&self, spectrum: &[Complex<f32>]) -> f32 {
        self.weights.iter().zip(&spectrum[self.first..]).map(|(w, bin)| w * bin.norm_sqr()).sum()
    }
}

/// Triangles whose corners are equally spaced on Slaney's mel scale from 0 to `highest` Hz, each of area one, over
/// the `bins` of a spectrum (librosa's `filters.mel` with its defaults).
pub(super) fn filters(bands: usize, bins: usize, rate: u32, highest: f64) -> Vec<Filter> {
    let top = to_mel(highest);
    let corners: Vec<f64> = (0..bands + 2).map(|i| to_hertz(top * i as f64 / (bands + 1) as f64)).collect();
    let frequency = |bin: usize| f64::from(rate / 2) * bin as f64 / (bins - 1) as f64;
    let triangle = |band: usize| {
        let [low, centre, high] = [corners[band], corners[band + 1], corners[band + 2]];
        let weight = |bin: usize| {
            let f = frequency(bin);
            let height = ((f - low) / (centre - low)).min((high - f) / (high - centre)).max(0.0);
            (height * 2.0 / (high - low)) as f32
        };
        let within: Vec<usize> = (0..bins).filter(|&bin| weight(bin) > 0.0).collect();
        Filter {
            first: within.first().copied().unwrap_or(0),
            weights: within.iter().map(|&bin| weight(bin)).collect(),
        }
    };
    (0..bands).map(triangle).collect()
}

/// Slaney's scale: linear up to 1 kHz at 15 mel, then 27 steps per factor of 6.4.
fn to_mel(hertz: f64) -> f64 {
    if hertz < 1_000.0 { 3.0 * hertz / 200.0 } else { 15.0 + (hertz / 1_000.0).ln() * 27.0 / 6.4_f64.ln() }
}

fn to_hertz(mel: f64) -> f64 {
    if mel < 15.0 { 200.0 * mel / 3.0 } else { 1_000.0 * ((mel - 15.0) * 6.4_f64.ln() / 27.0).exp() }
}
