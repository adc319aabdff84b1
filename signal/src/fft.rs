//! Plans of Fourier transforms of real signals.

use std::sync::Arc;

pub use realfft::RealToComplex;
pub use realfft::num_complex::Complex;

/// The transform of `n` real samples to `n / 2 + 1` bins, in single precision.
pub fn real_fft_f32(n: usize) -> Arc<dyn RealToComplex<f32>> {
    realfft::RealFftPlanner::new().plan_fft_forward(n)
}

/// The transform of `n` real samples to `n / 2 + 1` bins, in double precision.
pub fn real_fft_f64(n: usize) -> Arc<dyn RealToComplex<f64>> {
    realfft::RealFftPlanner::new().plan_fft_forward(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_precisions_are_the_sum_over_the_samples() {
        for n in [2, 7, 16, 400, 557] {
            let signal: Vec<f64> = (0..n).map(|i| ((i * i) as f64 * 0.37).sin()).collect();
            let (double, single) = (real_fft_f64(n), real_fft_f32(n));
            let (mut doubles, mut singles) = (double.make_output_vec(), single.make_output_vec());
            double.process(&mut signal.clone(), &mut doubles).unwrap();
            single.process(&mut signal.iter().map(|&x| x as f32).collect::<Vec<_>>(), &mut singles).unwrap();
            assert_eq!(doubles.len(), n / 2 + 1);
            for (k, (double, single)) in doubles.iter().zip(&singles).enumerate() {
                let turn = |i: usize| {
                    Complex::from_polar(1.0, -std::f64::consts::TAU * (i * k % n) as f64 / n as f64)
                };
                let sum: Complex<f64> = signal.iter().enumerate().map(|(i, &x)| turn(i) * x).sum();
                assert!((double - sum).norm() < 1e-10, "{n}, {k}: {double} is not {sum}");
                let single = Complex::new(f64::from(single.re), f64::from(single.im));
                assert!((single - sum).norm() < 1e-4, "{n}, {k}: {single} is not {sum}");
            }
        }
    }
}
