//! Conversion between sample rates.

use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _, WindowFunction};

/// A sample rate that is not resampled, or a block that the converter refused, which would be a fault of this code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResampleError(String);

type Result<T> = std::result::Result<T, ResampleError>;

/// The least frames of a block on either side. The filter is as long as a block, and 2048 put its transition
/// within the top percent of the band.
const BLOCK: usize = 2048;

/// A band-limited converter from one sample rate to another that takes its input piece by piece.
///
/// It convolves with a windowed sinc (Blackman-Harris squared) by FFT, in double precision since a block of
/// two rates with no common divisor has tens of thousands of samples. The result is aligned with the input:
/// sample `n` of the output stands where sample `n * from / to` of the input stood. `m` input samples give
/// `ceil(m * to / from)` output samples, as librosa and torchaudio count them.
pub struct Resampler {
    from: u32,
    to: u32,
    /// `None` when the rates are equal.
    fft: Option<Fft<f64>>,
    pending: Vec<f64>,
    block: Vec<f64>,
    /// Output samples that are still the filter's delay.
    delay: usize,
    taken: u64,
    given: u64,
}

impl Resampler {
    /// A converter between two rates in samples per second.
    ///
    /// # Errors
    /// When a rate is outside 1 kHz to 1 MHz.
    pub fn new(from: u32, to: u32) -> Result<Self> {
        for rate in [from, to] {
            if !(1_000..=1_000_000).contains(&rate) {
                let why = format!("a sample rate of {rate} Hz; rates from 1000 to 1000000 Hz are resampled");
                return Err(ResampleError(why));
            }
        }
        let fft = if from == to { None } else { Some(converter(from as usize, to as usize)?) };
        let delay = fft.as_ref().map_or(0, |fft| fft.output_delay());
        let block = fft.as_ref().map_or(0, |fft| fft.fft_size_out());
        Ok(Self { from, to, fft, pending: Vec::new(), block: vec![0.0; block], delay, taken: 0, given: 0 })
    }

    /// Converts more samples; appends to `output` what is final so far.
    ///
    /// # Errors
    /// When the underlying converter refuses a block, which would be a fault of this code.
    pub fn push(&mut self, input: &[f32], output: &mut Vec<f32>) -> Result<()> {
        self.taken += input.len() as u64;
        let Some(fft) = &self.fft else {
            output.extend_from_slice(input);
            return Ok(());
        };
        let size = fft.fft_size_in();
        self.pending.extend(input.iter().map(|&sample| f64::from(sample)));
        let whole = self.pending.len() / size * size;
        for start in (0..whole).step_by(size) {
            self.convert(start, size, output)?;
        }
        self.pending.drain(..whole);
        Ok(())
    }

    /// Appends the rest, as if silence followed, and gets ready for a new signal.
    ///
    /// # Errors
    /// As [`Resampler::push`].
    pub fn finish(&mut self, output: &mut Vec<f32>) -> Result<()> {
        if let Some(fft) = &self.fft {
            let (size, delay) = (fft.fft_size_in(), fft.output_delay());
            let total = (self.taken * u64::from(self.to)).div_ceil(u64::from(self.from));
            while self.given < total {
                self.pending.resize(size, 0.0);
                self.convert(0, size, output)?;
                self.pending.clear();
            }
            output.truncate(output.len() - (self.given - total) as usize);
            self.delay = delay;
        }
        if let Some(fft) = &mut self.fft {
            fft.reset();
        }
        (self.taken, self.given) = (0, 0);
        Ok(())
    }

    /// Converts the block of pending samples at `start`.
    fn convert(&mut self, start: usize, size: usize, output: &mut Vec<f32>) -> Result<()> {
        let Some(fft) = &mut self.fft else { return Ok(()) };
        let frames = self.block.len();
        let input = SequentialSlice::new(&self.pending[start..start + size], 1, size).map_err(refused)?;
        let mut block = SequentialSlice::new_mut(&mut self.block, 1, frames).map_err(refused)?;
        fft.process_into_buffer(&input, &mut block, None).map_err(refused)?;
        let skipped = self.delay.min(frames);
        self.delay -= skipped;
        self.given += (frames - skipped) as u64;
        output.extend(self.block[skipped..].iter().map(|&sample| sample as f32));
        Ok(())
    }
}

fn converter(from: usize, to: usize) -> Result<Fft<f64>> {
    let divisor = gcd(from, to);
    // Even blocks, so that the filter's delay is whole on both sides.
    let (unit_from, unit_to) = (2 * from / divisor, 2 * to / divisor);
    let units = BLOCK.div_ceil(unit_from.min(unit_to));
    Fft::new_custom(from, to, units * unit_from, 1, 1, WindowFunction::BlackmanHarris2, FixedSync::Both)
        .map_err(refused)
}

fn refused(error: impl std::fmt::Display) -> ResampleError {
    ResampleError(error.to_string())
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resample(input: &[f32], from: u32, to: u32) -> Vec<f32> {
        let mut resampler = Resampler::new(from, to).unwrap();
        let mut output = Vec::new();
        for piece in input.chunks(777) {
            resampler.push(piece, &mut output).unwrap();
        }
        resampler.finish(&mut output).unwrap();
        output
    }

    /// One second of a tone that swells and fades, so that it has no edges whose spectrum is wide.
    fn tone(frequency: f64, rate: u32) -> Vec<f32> {
        let turn = std::f64::consts::TAU / f64::from(rate);
        let value =
            |n: u32| (frequency * turn * f64::from(n)).sin() * (0.5 - 0.5 * (turn * f64::from(n)).cos());
        (0..rate).map(|n| value(n) as f32).collect()
    }

    /// Root of the mean square in decibels.
    fn level(signal: impl Iterator<Item = f32>, samples: u32) -> f64 {
        let sum: f64 = signal.map(|x| f64::from(x).powi(2)).sum();
        10.0 * (sum / f64::from(samples)).max(1e-30).log10()
    }

    const RATES: [(u32, u32); 8] = [
        (44_100, 16_000),
        (48_000, 16_000),
        (22_050, 16_000),
        (8_000, 16_000),
        (11_025, 16_000),
        (96_000, 16_000),
        (16_000, 48_000),
        (44_101, 16_000),
    ];

    #[test]
    fn what_is_below_both_halves_of_the_rates_stays_as_it_was() {
        for (from, to) in RATES {
            let nyquist = f64::from(from.min(to)) / 2.0;
            for share in [0.01, 0.1, 0.5, 0.9, 0.95] {
                let frequency = nyquist * share;
                let output = resample(&tone(frequency, from), from, to);
                let expected = tone(frequency, to);
                let error = output.iter().zip(&expected).map(|(a, b)| a - b);
                let decibels = level(error, to);
                assert!(decibels < -100.0, "{from} to {to}, {frequency} Hz: error of {decibels} dB");
            }
        }
    }

    #[test]
    fn what_is_above_half_the_new_rate_is_gone() {
        for (from, to) in RATES.into_iter().filter(|(from, to)| from > to) {
            let (new, old) = (f64::from(to) / 2.0, f64::from(from) / 2.0);
            for share in [0.02, 0.2, 0.6, 0.95] {
                let frequency = new + (old - new) * share;
                let output = resample(&tone(frequency, from), from, to);
                let decibels = level(output.iter().copied(), to);
                assert!(decibels < -100.0, "{from} to {to}, {frequency} Hz: {decibels} dB are left");
            }
        }
    }

    #[test]
    fn lengths_round_up_and_edges_are_kept() {
        for (from, to) in RATES {
            for samples in [0, 1, 2, 100, 4_567, 44_100] {
                let expected = (samples as u64 * u64::from(to)).div_ceil(u64::from(from));
                assert_eq!(resample(&vec![0.5; samples], from, to).len() as u64, expected);
            }
            // A click in the first and in the last input sample is found at the first and the last of the
            // output.
            let mut input = vec![0.0; from as usize];
            input[0] = 1.0;
            input[from as usize - 1] = -1.0;
            let output = resample(&input, from, to);
            let loudest = |range: std::ops::Range<usize>| {
                range.max_by(|&a, &b| output[a].abs().total_cmp(&output[b].abs())).unwrap()
            };
            assert_eq!(loudest(0..to as usize / 2), 0, "{from} to {to}");
            let last = f64::from(from - 1) * f64::from(to) / f64::from(from);
            let distance = (loudest(to as usize / 2..to as usize) as f64 - last).abs();
            assert!(distance <= 1.0, "{from} to {to}: the last click is {distance} samples away");
        }
    }

    #[test]
    fn equal_rates_change_nothing_and_odd_rates_are_refused() {
        let input = tone(440.0, 16_000);
        assert_eq!(resample(&input, 16_000, 16_000), input);
        for rate in [0, 999, u32::MAX] {
            assert!(Resampler::new(rate, 16_000).is_err());
        }
    }
}
