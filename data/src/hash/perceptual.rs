//! The perceptual hash of an image.

use std::f64::consts::PI;
use std::sync::LazyLock;

use percept_modalities::image::{Filter, Image, resize};

/// Pixels of each side of what is transformed.
const SIDE: usize = 32;
/// Lowest frequencies of each direction that are kept.
const KEPT: usize = 8;
/// Standard deviation of gray levels below which an image shows nothing that could be recognized.
const FLAT: f64 = 2.0;

/// The 64-bit perceptual hash of an image, or `None` for one that is nearly of one gray: whether each of the
/// 8 x 8 lowest frequencies of the cosine transform of its 32 x 32 gray thumbnail is above their median, row
/// by row from the highest bit (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions,
/// 2010). It is the `phash` of Python's imagehash.
pub fn perceptual_hash(image: &Image) -> Option<u64> {
    let luma = |rgb: &[u8; 3]| {
        // PIL's weights of red, green and blue, in sixteenths of bits.
        let sum = 19595 * u32::from(rgb[0]) + 38470 * u32::from(rgb[1]) + 7471 * u32::from(rgb[2]) + 0x8000;
        [(sum >> 16) as u8; 3]
    };
    let (pixels, _) = image.rgb.as_chunks();
    let gray =
        Image { width: image.width, height: image.height, rgb: pixels.iter().flat_map(luma).collect() };
    let thumbnail = resize(&gray, SIDE, SIDE, Filter::Lanczos).ok()?;
    let levels: Vec<f64> = thumbnail.rgb.iter().step_by(3).map(|level| f64::from(*level)).collect();
    let count = levels.len() as f64;
    let mean = levels.iter().sum::<f64>() / count;
    let variance = levels.iter().map(|level| (level - mean).powi(2)).sum::<f64>() / count;
    if variance < FLAT * FLAT {
        return None;
    }
    let frequencies = lowest(&levels);
    let mut sorted = frequencies;
    sorted.sort_by(f64::total_cmp);
    let median = f64::midpoint(sorted[KEPT * KEPT / 2 - 1], sorted[KEPT * KEPT / 2]);
    Some(frequencies.iter().fold(0, |hash, frequency| hash << 1 | u64::from(*frequency > median)))
}

/// Cosines of the transform: those of a frequency in a row.
static COSINES: LazyLock<[[f64; SIDE]; KEPT]> = LazyLock::new(|| {
    let cosine = |k: usize, x: usize| (PI * k as f64 * (2 * x + 1) as f64 / (2 * SIDE) as f64).cos();
    std::array::from_fn(|k| std::array::from_fn(|x| cosine(k, x)))
});

/// The lowest frequencies of a square of levels, by the second cosine transform.
fn lowest(levels: &[f64]) -> [f64; KEPT * KEPT] {
    let dot = |a: &[f64; SIDE], b: &[f64; SIDE]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (rows, _) = levels.as_chunks::<SIDE>();
    let mut columns = [[0.0; SIDE]; KEPT];
    for (y, row) in rows.iter().enumerate() {
        for k in 0..KEPT {
            columns[k][y] = dot(row, &COSINES[k]);
        }
    }
    std::array::from_fn(|at| dot(&columns[at % KEPT], &COSINES[at / KEPT]))
}
