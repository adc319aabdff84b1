//! Resizing, to the bit as PIL's `Image.resize` does it on 8-bit channels.
//!
//! The rules are those of `Resample.c` in Pillow 13: weights in double precision, normalized, rounded to
//! 22-bit fixed point; two passes, of which the first rounds its result to bytes before the second reads it.

use std::f64::consts::PI;

use rayon::prelude::*;

use super::{Image, check_size};
use crate::error::Result;

/// How pixels are weighted; PIL's `Image.Resampling`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Filter {
    Nearest,
    Box,
    Bilinear,
    Hamming,
    Bicubic,
    Lanczos,
}

impl Filter {
    /// The filter that PIL, and so `resample` in a processor's file, gives this number.
    pub fn from_pil(number: u64) -> Option<Filter> {
        Some(match number {
            0 => Filter::Nearest,
            1 => Filter::Lanczos,
            2 => Filter::Bilinear,
            3 => Filter::Bicubic,
            4 => Filter::Box,
            5 => Filter::Hamming,
            _ => return None,
        })
    }

    /// Radius in source pixels when enlarging.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear | Filter::Hamming => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        match self {
            Filter::Nearest | Filter::Box => f64::from(x > -0.5 && x <= 0.5),
            Filter::Bilinear => (1.0 - x.abs()).max(0.0),
            Filter::Hamming if x == 0.0 => 1.0,
            Filter::Hamming if x.abs() >= 1.0 => 0.0,
            Filter::Hamming => {
                // Pillow writes these two constants in single precision.
                sinc(x) * (f64::from(0.54f32) + f64::from(0.46f32) * (x * PI).cos())
            }
            Filter::Bicubic => match x.abs() {
                x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
                x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
                _ => 0.0,
            },
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos => 0.0,
        }
    }
}

/// The image at `width` x `height`, bit for bit what `PIL.Image.resize((width, height), filter)` gives.
///
/// # Errors
/// When the size is empty or beyond any image's.
pub fn resize(image: &Image, width: usize, height: usize, filter: Filter) -> Result<Image> {
    check_size("resized image", width, height)?;
    check_size("image", image.width, image.height)?;
    if (width, height) == (image.width, image.height) {
        return Ok(image.clone());
    }
    if filter == Filter::Nearest {
        return Ok(nearest(image, width, height));
    }
    if height == image.height {
        return Ok(across(image, &Taps::new(filter, image.width, width)));
    }
    if width == image.width {
        return Ok(down(image, &Taps::new(filter, image.height, height)));
    }
    let (columns, rows) = (Taps::new(filter, image.width, width), Taps::new(filter, image.height, height));
    // Pillow 13 goes down first when more than twice as many rows as columns are lost. Older ones always go
    // across first, which may differ in the last bit.
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    let lost_rows = lost(image.height, height);
    if lost_rows > 0 && lost_rows > 2 * lost(image.width, width) {
        check_size("image between the passes of resizing", image.width, height)?;
        Ok(across(&down(image, &rows), &columns))
    } else {
        check_size("image between the passes of resizing", width, image.height)?;
        Ok(down(&across(image, &columns), &rows))
    }
}

/// The image at `width` x `height`, bit for bit what torchvision makes of a tensor of bytes on a CPU with
/// antialiasing: the arithmetic of [`resize`] with coarser weights, always across first. Video processors of
/// transformers resize so. For the bilinear, bicubic and Lanczos filters.
///
/// # Errors
/// When the size is empty or beyond any image's.
pub fn resize_tensor(image: &Image, width: usize, height: usize, filter: Filter) -> Result<Image> {
    check_size("resized image", width, height)?;
    check_size("image", image.width, image.height)?;
    check_size("image between the passes of resizing", width, image.height)?;
    let across = match width == image.width {
        true => image.clone(),
        false => across(image, &Taps::coarse(filter, image.width, width)),
    };
    Ok(match height == image.height {
        true => across,
        false => down(&across, &Taps::coarse(filter, image.height, height)),
    })
}

/// The image at `width` x `height` as channels-first floats [3, height, width], 0 to 255: the antialiased weights of
/// [`resize`] with nothing rounded between. This is what torchvision makes of a tensor of floats.
///
/// # Errors
/// When the size is empty or beyond any image's.
pub fn resize_floats(image: &Image, width: usize, height: usize, filter: Filter) -> Result<Vec<f32>> {
    check_size("resized image", width, height)?;
    check_size("image", image.width, image.height)?;
    check_size("image between the passes of resizing", width, image.height)?;
    let (columns, rows) = (windows(filter, image.width, width), windows(filter, image.height, height));
    let mut planes = vec![0.0; 3 * width * height];
    planes.par_chunks_mut(width * height).enumerate().for_each(|(c, plane)| {
        let mut across = Vec::with_capacity(width * image.height);
        for y in 0..image.height {
            let row = image.row(y);
            across.extend(columns.iter().map(|(start, weights)| -> f64 {
                let sources = row[3 * start..].chunks_exact(3);
                sources.zip(weights).map(|(pixel, weight)| f64::from(pixel[c]) * weight).sum()
            }));
        }
        for (out, (start, weights)) in plane.chunks_exact_mut(width).zip(&rows) {
            for (x, value) in out.iter_mut().enumerate() {
                let sum = |(i, weight): (usize, &f64)| across[(start + i) * width + x] * weight;
                *value = weights.iter().enumerate().map(sum).sum::<f64>() as f32;
            }
        }
    });
    Ok(planes)
}

/// How `to` positions along one direction are made of `from` with antialiasing: for each, the first source position of
/// its window, and the window's weights, which add up to one. Pillow's `precompute_coeffs`; torch has the same weights.
pub fn windows(filter: Filter, from: usize, to: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let window = |position: usize| {
        let centre = (position as f64 + 0.5) * scale;
        let start = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let inverse = 1.0 / stretch;
        let weight = |x: usize| filter.weight((x as f64 - centre + 0.5) * inverse);
        let mut weights: Vec<f64> = (start..end).map(weight).collect();
        let total: f64 = weights.iter().sum();
        if total != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
        (start, weights)
    };
    (0..to).map(window).collect()
}

/// Nearest neighbour; positions accumulate like in Pillow's `ImagingScaleAffine`, so that they round alike.
fn nearest(image: &Image, width: usize, height: usize) -> Image {
    let positions = |from: usize, to: usize| -> Vec<usize> {
        let step = from as f64 / to as f64;
        let mut at = step * 0.5;
        let mut next = || {
            let position = at as usize;
            at += step;
            position.min(from - 1)
        };
        (0..to).map(|_| next()).collect()
    };
    let columns = positions(image.width, width);
    let mut rgb = Vec::with_capacity(3 * width * height);
    for y in positions(image.height, height) {
        let row = image.row(y);
        rgb.extend(columns.iter().flat_map(|&x| [row[3 * x], row[3 * x + 1], row[3 * x + 2]]));
    }
    Image { width, height, rgb }
}

/// Fractional bits of a weight: 32 less 8 of the value and 2 for overshoot.
const PRECISION: u32 = 22;
/// One half, so that a sum rounds to nearest when its fraction is dropped.
const HALF: i32 = 1 << (PRECISION - 1);

/// The byte of a fixed-point sum.
#[inline(always)]
fn byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// For every output position, where its window starts in the source and the weights of the window.
struct Taps {
    starts: Vec<usize>,
    /// Every window's weights one after another.
    weights: Vec<i32>,
    /// Where each window begins in `weights`, and the end.
    offsets: Vec<usize>,
}

impl Taps {
    /// [`windows`] and `normalize_coeffs_8bpc` of Pillow.
    fn new(filter: Filter, from: usize, to: usize) -> Taps {
        Self::rounded(filter, from, to, |_| PRECISION)
    }

    /// The same with the weights that torch makes of them (`compute_indices_int16_weights_aa`): of as many
    /// bits as let the largest fit 16 of them. Zeros behind these bits change no sum.
    fn coarse(filter: Filter, from: usize, to: usize) -> Taps {
        let fits = |largest: f64, bits: u32| (0.5 + largest * f64::from(1 << bits)) < f64::from(1 << 15);
        Self::rounded(filter, from, to, |largest| {
            (1..PRECISION).take_while(|b| fits(largest, *b)).last().unwrap_or(0)
        })
    }

    /// Windows whose weights are rounded to the bits that `bits` gives for the largest of them.
    fn rounded(filter: Filter, from: usize, to: usize, bits: impl Fn(f64) -> u32) -> Taps {
        let mut taps = Taps { starts: Vec::with_capacity(to), weights: Vec::new(), offsets: vec![0] };
        let mut weights: Vec<f64> = Vec::new();
        for (start, window) in windows(filter, from, to) {
            weights.extend(window);
            taps.starts.push(start);
            taps.offsets.push(weights.len());
        }
        let bits = bits(weights.iter().copied().fold(0.0, f64::max));
        let round = |weight: &f64| {
            let scaled = weight * f64::from(1 << bits);
            (if *weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 } as i32) << (PRECISION - bits)
        };
        taps.weights = weights.iter().map(round).collect();
        taps
    }

    /// Start and weights of one window.
    fn window(&self, position: usize) -> (usize, &[i32]) {
        (self.starts[position], &self.weights[self.offsets[position]..self.offsets[position + 1]])
    }
}

/// The horizontal pass.
fn across(image: &Image, taps: &Taps) -> Image {
    let width = taps.starts.len();
    let mut rgb = vec![0; 3 * width * image.height];
    let rows = rgb.par_chunks_mut(3 * width).enumerate();
    match Grouped::new(taps) {
        Some(grouped) => rows.for_each_init(
            // Groups may reach beyond the row, where their weights are zeros.
            || vec![0; 3 * image.width + 3 * GROUP * grouped.per_window],
            |padded, (y, out)| {
                padded[..3 * image.width].copy_from_slice(image.row(y));
                lanes::across(padded, &taps.starts, &grouped, out);
            },
        ),
        None => rows.for_each(|(y, out)| {
            let row = image.row(y);
            for (x, pixel) in out.chunks_exact_mut(3).enumerate() {
                let (start, weights) = taps.window(x);
                let mut sums = [HALF; 3];
                for (source, weight) in row[3 * start..].chunks_exact(3).zip(weights) {
                    for c in 0..3 {
                        sums[c] += i32::from(source[c]) * weight;
                    }
                }
                for c in 0..3 {
                    pixel[c] = byte(sums[c]);
                }
            }
        }),
    }
    Image { width, height: image.height, rgb }
}

/// The vertical pass.
fn down(image: &Image, taps: &Taps) -> Image {
    let stride = 3 * image.width;
    let height = taps.starts.len();
    let mut rgb = vec![0; stride * height];
    rgb.par_chunks_mut(stride).enumerate().for_each_init(
        || vec![0; stride],
        |sums, (y, out)| {
            let (start, weights) = taps.window(y);
            sums.fill(HALF);
            for (i, weight) in weights.iter().enumerate() {
                lanes::add_scaled(sums, image.row(start + i), *weight);
            }
            for (out, sum) in out.iter_mut().zip(sums.iter()) {
                *out = byte(*sum);
            }
        },
    );
    Image { width: image.width, height, rgb }
}

/// Pixels whose products are summed side by side: 24 numbers, whole vectors on every machine.
const GROUP: usize = 8;
/// Longest window that is laid out in groups, which takes thrice its memory.
const LONGEST_GROUPED: usize = 1 << 12;

/// Weights of windows for sums side by side: each stands there once per channel, and zeros fill up the last
/// group.
struct Grouped {
    per_window: usize,
    weights: Vec<[i32; 3 * GROUP]>,
}

impl Grouped {
    /// `None` where windows are too long.
    fn new(taps: &Taps) -> Option<Grouped> {
        let longest = taps.offsets.windows(2).map(|ends| ends[1] - ends[0]).max().unwrap_or(0);
        if longest > LONGEST_GROUPED {
            return None;
        }
        let per_window = longest.div_ceil(GROUP);
        let mut weights = vec![[0; 3 * GROUP]; per_window * taps.starts.len()];
        for (x, groups) in weights.chunks_exact_mut(per_window.max(1)).enumerate() {
            let triples = groups.as_flattened_mut().chunks_exact_mut(3);
            for (triple, weight) in triples.zip(taps.window(x).1) {
                triple.fill(*weight);
            }
        }
        Some(Grouped { per_window, weights })
    }
}

/// The inner loops, compiled once for every machine and once for AVX2, which has the product of eight
/// integers that they live on. Integer sums are the same in any order.
mod lanes {
    use super::{GROUP, Grouped, HALF, byte};

    macro_rules! for_avx2_too {
        ($name:ident, $any:ident, $avx2:ident, ($($argument:ident: $kind:ty),*)) => {
            pub(super) fn $name($($argument: $kind),*) {
                #[cfg(target_arch = "x86_64")]
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the machine has AVX2, as the line above found, and that is all the function
                    // needs.
                    return unsafe { $avx2($($argument),*) };
                }
                $any($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn $avx2($($argument: $kind),*) {
                $any($($argument),*)
            }
        };
    }
    for_avx2_too!(across, across_any, across_avx2, (row: &[u8], starts: &[usize], grouped: &Grouped, out: &mut [u8]));
    for_avx2_too!(add_scaled, add_scaled_any, add_scaled_avx2, (sums: &mut [i32], row: &[u8], weight: i32));

    /// One row of the horizontal pass.
    #[inline(always)]
    fn across_any(row: &[u8], starts: &[usize], grouped: &Grouped, out: &mut [u8]) {
        let windows = starts.iter().zip(grouped.weights.chunks_exact(grouped.per_window));
        for (pixel, (start, weights)) in out.chunks_exact_mut(3).zip(windows) {
            let mut sums = [0; 3 * GROUP];
            for (source, weights) in row[3 * start..].chunks_exact(3 * GROUP).zip(weights) {
                for i in 0..3 * GROUP {
                    sums[i] += i32::from(source[i]) * weights[i];
                }
            }
            for c in 0..3 {
                pixel[c] = byte((0..GROUP).fold(HALF, |sum, i| sum + sums[3 * i + c]));
            }
        }
    }

    /// Adds one row, weighted, to the sums of the vertical pass.
    #[inline(always)]
    fn add_scaled_any(sums: &mut [i32], row: &[u8], weight: i32) {
        for (sum, source) in sums.iter_mut().zip(row) {
            *sum += i32::from(*source) * weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // torch.nn.functional.interpolate with antialiasing, torch 2.15, on a picture of 5x4 whose channels are planes of
    // (37 i) mod 251.
    #[test]
    fn floats_are_those_of_torch() {
        let rgb = (0..20).flat_map(|i| [0, 20, 40].map(|c| ((c + i) * 37 % 251) as u8)).collect();
        let image = Image { width: 5, height: 4, rgb };
        let smaller = resize_floats(&image, 2, 3, Filter::Bilinear).unwrap();
        let first = [71.963_64, 94.622_73, 154.772_74, 103.272_72, 109.8, 159.840_91];
        let larger = resize_floats(&image, 7, 5, Filter::Bicubic).unwrap();
        let row = [135.930_83, 166.021_82, 207.518_57, 228.687_5, 158.384_1, 71.684_745, 14.243_327];
        let near = |found: &[f32], expected: &[f32]| {
            found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3)
        };
        assert!(near(&smaller[..6], &first), "{:?}", &smaller[..6]);
        assert!(near(&larger[35 + 14..35 + 21], &row), "{:?}", &larger[35 + 14..35 + 21]);
    }
}
