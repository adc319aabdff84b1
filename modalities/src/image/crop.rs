//! Cutting and padding.

use super::{Image, check_size};
use crate::error::{Error, Result};

/// The rectangle of `width` x `height` pixels whose first pixel is at (`left`, `top`).
///
/// # Errors
/// When the rectangle is empty or leaves the image.
pub fn crop(image: &Image, left: usize, top: usize, width: usize, height: usize) -> Result<Image> {
    let inside = |start: usize, length: usize, extent: usize| {
        length > 0 && start.checked_add(length).is_some_and(|end| end <= extent)
    };
    if !inside(left, width, image.width) || !inside(top, height, image.height) {
        return Err(Error::Decode {
            what: format!("crop of {width}x{height} at ({left}, {top})"),
            why: format!("it must be inside the image of {}x{}", image.width, image.height),
        });
    }
    let mut rgb = Vec::with_capacity(3 * width * height);
    for y in top..top + height {
        rgb.extend_from_slice(&image.row(y)[3 * left..3 * (left + width)]);
    }
    Ok(Image { width, height, rgb })
}

/// The middle `width` x `height` pixels. Where the image is smaller it is padded with zeros, by the rule of
/// `center_crop` in transformers' `image_transforms.py`: a cut rounds its offset down, padding rounds it up.
///
/// # Errors
/// When the size is empty or beyond any image's.
pub fn center_crop(image: &Image, width: usize, height: usize) -> Result<Image> {
    let mut out = Image::filled(width, height, [0; 3])?;
    let (from_x, to_x, columns) = middle(image.width, width);
    let (from_y, to_y, rows) = middle(image.height, height);
    for y in 0..rows {
        let source = &image.row(from_y + y)[3 * from_x..3 * (from_x + columns)];
        let start = 3 * (width * (to_y + y) + to_x);
        out.rgb[start..start + source.len()].copy_from_slice(source);
    }
    Ok(out)
}

/// Where the middle `wanted` of `have` pixels starts in the source and in the result, and how many are
/// copied.
fn middle(have: usize, wanted: usize) -> (usize, usize, usize) {
    if wanted <= have { ((have - wanted) / 2, 0, wanted) } else { (0, (wanted - have).div_ceil(2), have) }
}

/// The image with a border of `colour`, each side given in pixels.
///
/// # Errors
/// When the result is beyond any image's size.
pub fn pad(
    image: &Image,
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    colour: [u8; 3],
) -> Result<Image> {
    let width = image.width.saturating_add(left).saturating_add(right);
    let height = image.height.saturating_add(top).saturating_add(bottom);
    check_size("padded image", width, height)?;
    let mut out = Image::filled(width, height, colour)?;
    for y in 0..image.height {
        let start = 3 * (width * (top + y) + left);
        out.rgb[start..start + 3 * image.width].copy_from_slice(image.row(y));
    }
    Ok(out)
}
