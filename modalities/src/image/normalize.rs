//! From bytes to the numbers that a vision tower reads.

use rayon::prelude::*;

use super::Image;

/// Scaling and normalization of pixel values: `(x * rescale_factor - mean) / std`. `None` leaves that step
/// out.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalize {
    /// What a byte is multiplied by; 1/255 unless the processor's file says otherwise.
    pub rescale_factor: Option<f64>,
    /// Subtracted, a channel each.
    pub mean: [f64; 3],
    /// Divided by, a channel each.
    pub std: [f64; 3],
}

impl Normalize {
    /// Rescaling alone: mean 0, deviation 1.
    pub fn rescale_only(factor: f64) -> Normalize {
        Normalize { rescale_factor: Some(factor), mean: [0.0; 3], std: [1.0; 3] }
    }

    /// The byte of channel `c` that becomes this value, or the nearest one.
    pub fn byte(&self, value: f32, c: usize) -> u8 {
        let rescaled = f64::from(value) * self.std[c] + self.mean[c];
        // Casting keeps within a byte's range.
        (rescaled / self.rescale_factor.unwrap_or(1.0)).round() as u8
    }

    /// The values that unrounded ones of channel `c`, 0 to 255, become.
    pub fn values(&self, c: usize, unrounded: &[f32]) -> Vec<f32> {
        let factor = self.rescale_factor.unwrap_or(1.0);
        let value = |v: &f32| ((f64::from(*v) * factor - self.mean[c]) / self.std[c]) as f32;
        unrounded.iter().map(value).collect()
    }

    /// The value that each byte becomes in channel `c`. The product is rounded from double to single
    /// precision, then single precision is kept, like the PIL image processors of transformers do
    /// (`image_transforms.py`: `rescale`, `normalize`). With mean 0 and deviation 1 the second step changes
    /// nothing.
    fn table(&self, c: usize) -> [f32; 256] {
        let (mean, std) = (self.mean[c] as f32, self.std[c] as f32);
        std::array::from_fn(|byte| {
            let value = self.rescale_factor.map_or(byte as f32, |factor| (byte as f64 * factor) as f32);
            (value - mean) / std
        })
    }
}

/// Channels-first values, f32[3, height, width].
pub fn normalize(image: &Image, settings: &Normalize) -> Vec<f32> {
    let plane = image.width * image.height;
    let mut out = vec![0.0; 3 * plane];
    if plane == 0 {
        return out;
    }
    out.par_chunks_mut(plane).enumerate().for_each(|(c, values)| {
        let table = settings.table(c);
        for (value, pixel) in values.iter_mut().zip(image.rgb.chunks_exact(3)) {
            *value = table[usize::from(pixel[c])];
        }
    });
    out
}
